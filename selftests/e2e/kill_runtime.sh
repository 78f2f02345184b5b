#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kill_runtime.sh - runtimes die by SIGKILL, another one's answer is the same
#
# timeout: 450
# quick: no
#
# The survivor's tokens are compared with those of a run alone; the victims
# run the same model, so that they share its weights with the survivor, and
# die at a random moment: while they load, prefill or decode.
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model"
rounds=3
[ -n "${KV_LONG:-}" ] && rounds=30

# In a subshell of its own: it becomes the runtime, whose pid that is.
generate() { # N NAME [OPTION]...
	exec kvrun generate -m "$KV_GEMMA" -n "$1" --temp 0 --ignore-eos --json \
		-t 1 --prompt "The history of $2 begins" "${@:3}"
}

ids() { # FILE -> the ids of its sequences
	grep -o '"ids": *\[[^]]*\]' "$1" | tr -d ' '
}

start_kvmd --size 1G
(generate 40 bread) >"$T/alone.json" 2>"$T/err" || {
	not_ok "a runtime answers" "$(tail -5 "$T/err")"
	tap_done
	exit
}
want=$(ids "$T/alone.json")
same=0 killed=0
for ((i = 0; i < rounds; i++)); do
	generate 40 bread >"$T/out.json" 2>"$T/err" &
	survivor=$!
	for name in paper silk; do
		generate 2000 "$name" --n-samples 3 >/dev/null 2>&1 &
		victim=$!
		sleep "$((RANDOM % 2)).$((RANDOM % 10))$((RANDOM % 10))"
		kill -KILL "$victim" 2>/dev/null && killed=$((killed + 1))
		wait "$victim" 2>/dev/null
	done
	wait "$survivor"
	[ "$(ids "$T/out.json")" = "$want" ] && same=$((same + 1))
done
expect "the victims lived until they were killed" $((rounds * 2)) "$killed"
expect "the survivor's tokens are the same each time" "$rounds" "$same"
check "the books are in order" kvctl check
for _ in $(seq 100); do
	kvctl -q cache drop # what was published would stay
	held=$(kvctl --json meminfo | grep -o '"held_bytes": *[0-9]*' |
		grep -o '[0-9]*$')
	[ "$held" = 0 ] && break
	sleep 0.05
done
expect "nothing is held any more" 0 "$held"
diag "figure: $killed runtimes killed, $same of $rounds answers unchanged"
tap_done
