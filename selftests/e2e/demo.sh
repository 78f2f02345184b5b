#!/bin/bash
# SPDX-License-Identifier: MIT
#
# demo.sh - the demonstration of `make run`, from start to nothing left
#
# timeout: 900
. selftests/tap.sh

if [ -z "${KV_GEMMA:-}" ] || [ -z "${KV_QWEN:-}" ]; then
	skip_all "no models (make fetch)"
fi
export TMPDIR=$T/tmp
mkdir "$TMPDIR"
chmod 755 "$T" "$TMPDIR"

# Processes of a demonstration, by the socket in their environment
ours() {
	grep -lzs "^KVMD_SOCKET=$TMPDIR/kvmd-run" /proc/[0-9]*/environ |
		cut -d/ -f3
}

all_gone() { [ -z "$(ours)" ]; }

nothing_left() { # SENTENCE
	wait_for 10 all_gone
	expect "$1: no process is left" "" "$(ours | while read -r pid; do
		tr '\0' ' ' <"/proc/$pid/cmdline"
	done)"
	expect "$1: no file is left" "" "$(ls "$TMPDIR")"
}

# Who runs the runtimes, asked while they hold
seen_users() {
	local pid users=''
	while ! grep -qs 'kvctl check' "$T/out"; do
		for pid in $(pgrep -f "kvrun generate"); do
			grep -qzs "$TMPDIR/kvmd-run" "/proc/$pid/environ" &&
				users+="$(stat -c %U "/proc/$pid") "
		done
		sleep 0.2
	done
	tr ' ' '\n' <<<"$users" | sort -u | paste -sd' ' >"$T/users"
}

: >"$T/out"
seen_users &
watcher=$!
start=$SECONDS
ONCE=1 scripts/run.sh "$BUILD" >"$T/out" 2>&1
expect "without a terminal it ends by itself with status 0" 0 $?
kill $watcher 2>/dev/null
diag "took $((SECONDS - start)) s" "$(tail -60 "$T/out")"
for text in '^Gemma 3 270M, four samples *| .' '^Qwen2.5-Coder 1.5B Instruct *| .' \
	'^== kvctl status' '^== kvctl space list' '^== kvctl meminfo' \
	'^== kvctl check'; do
	check "it shows \"$text\"" grep -q "$text" "$T/out"
done
if [ "$(id -u)" = 0 ]; then
	check "the runtimes ran as kvrun" grep -qw kvrun "$T/users"
	diag "users seen: $(cat "$T/users")"
else
	skip "the runtimes ran as kvrun" "not root"
fi
nothing_left "after ONCE=1"

export TOKENS=12 # how it ends does not depend on how long it takes
expect_exit "a model of one's own" 0 \
	env ONCE=1 scripts/run.sh "$BUILD" "$KV_GEMMA"
nothing_left "after MODEL="
expect_exit "a model that is not there fails" 1 \
	env ONCE=1 scripts/run.sh "$BUILD" /nonexistent.gguf
check "and is named" grep -q 'cannot read.*nonexistent.gguf' "$T/out"
nothing_left "after an error"

selftests/e2e/press.py 'chat (Ctrl-D' '\x04' scripts/run.sh "$BUILD" \
	>"$T/out" 2>&1
expect "Ctrl-D in the chat ends it with status 0" 0 $?
[ "$tap_failed" = 0 ] || diag "$(tail -20 "$T/out")"
nothing_left "after Ctrl-D"

for when in 0.1 0.6 1.7 'kvctl status'; do
	selftests/e2e/press.py "$when" '\x03' scripts/run.sh "$BUILD" \
		>"$T/out" 2>&1
	rc=$?
	[ $rc = 0 ] || [ $rc = 130 ]
	expect "Ctrl-C at $when ends it (0, or 130 before the chat)" 0 $?
	nothing_left "after Ctrl-C at $when"
done

ONCE=1 scripts/run.sh "$BUILD" >"$T/out" 2>&1 &
pid=$!
wait_for 20 test -S "$TMPDIR"/kvmd-run.*/kvmd.sock
kill -KILL $pid
wait $pid 2>/dev/null
wait_for 10 all_gone
expect "after kill -9 no process is left" "" "$(ours)"
tap_done
