#!/bin/bash
# SPDX-License-Identifier: MIT
#
# short_memory.sh - a device and a tenant with less memory than is wanted
#
# quick: no
#
# The model is one of our own writing: 16 tokens take 512 KiB, 256 an extent.
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
model=$T/large.gguf
python3 selftests/e2e/bad_gguf.py --large "$model" || exit 1
gen=(kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos
	--json)
ids() { grep -o '"ids":\[[0-9,]*\]' "$T/$1"; }
json() { # KEY of kvctl OBJECT
	kvctl "$2" --json | python3 -c '
import json, sys
print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}
tickets() { kvctl status | grep -o 'tickets [0-9]*'; }
ticket_is() { [ "$(tickets)" = "tickets $1" ]; }
refused() { # SENTENCE WORDS COMMAND...
	timeout 30 "${@:3}" >"$T/out" 2>"$T/err"
	expect "$1: status 1" 1 $?
	expect "$1: one sentence" 1 "$(wc -l <"$T/err")"
	check "$1: it says \"$2\"" grep -q "$2" "$T/err"
	grep -q "$2" "$T/err" || diag "$(cat "$T/err")"
}

"${gen[@]}" -n 400 --kv contig >"$T/want" || exit 1

# Room for the weights (9.4 MB) and two extents
# who sits on it and does nothing may: no memory is taken for a ticket
start_kvmd --size 32M --revoke admin || exit 1
refused "a sequence larger than the device" 'more device memory' \
	"${gen[@]}" -n 1000
ran_out() { kvctl vmstat --json | grep -o '"tickets_cancelled":[0-9]*'; }
before=$(ran_out)
"${gen[@]}" -n 400 >"$T/one" 2>"$T/err1" &
one=$!
"${gen[@]}" -n 400 >"$T/two" 2>"$T/err2" &
two=$!
t0=$SECONDS
wait $one
expect "two that each need all of the device: the one ends well" 0 $?
wait $two
expect "the other too" 0 $?
expect "and no wait ran out of time" "$before" "$(ran_out)"
diag "took $((SECONDS - t0)) s" "$(cat "$T/err1" "$T/err2")" \
	"$(grep -ho '"preempted":[0-9]*' "$T/one" "$T/two" | paste -sd' ')"
expect "the one says what it says alone" "$(ids want)" "$(ids one)"
expect "the other too" "$(ids want)" "$(ids two)"

# One that sits on it, one that waits
mkfifo "$T/fifo"
exec 8<>"$T/fifo"
"${gen[@]}" -n 300 --hold <"$T/fifo" >"$T/one" 2>"$T/err1" &
one=$!
tap_pids+=("$one")
wait_for 20 grep -qs holding "$T/err1"
"${gen[@]}" -n 20 >"$T/two" 2>"$T/err2" &
two=$!
wait_for 10 ticket_is 1
expect "who finds no memory waits with a ticket" "tickets 1" "$(tickets)"
"${gen[@]}" -n 20 >/dev/null 2>&1 &
three=$!
wait_for 10 ticket_is 2
kill -TERM $three
sleep 0.1
kill -TERM $three
t0=$SECONDS
wait $three 2>/dev/null
expect "who waits is ended by a second signal, before its wait is over" yes \
	"$([ $((SECONDS - t0)) -lt 20 ] && echo yes)"
kill -KILL $one
wait $one 2>/dev/null
t0=$SECONDS
wait $two
expect "when the holder is killed it goes on" 0 $?
expect "before its wait is over" yes \
	"$([ $((SECONDS - t0)) -lt 20 ] && echo yes)"
"${gen[@]}" -n 20 --kv contig >"$T/want20"
expect "with the right answer" "$(ids want20)" "$(ids two)"
expect "and nothing is held but what was published" \
	"$(json cached_held_bytes meminfo)" "$(json held_bytes meminfo)"
check "the books are clean" kvctl check
stop_kvmd
expect "kvmd ends well" 0 $?

start_kvmd --size 8M || exit 1
refused "weights larger than the device" 'weights large.gguf.*device is full' \
	"${gen[@]}" -n 4
check "the books are clean" kvctl check
stop_kvmd

start_kvmd --size 256M --limit 8M || exit 1
refused "weights over the tenant's limit" \
	"weights large.gguf.*over the tenant's limit" "${gen[@]}" -n 4
check "a limit may be raised" kvctl tenant limit \
	"uid:$(id -u)" max=24M
check "then one extent is there" "${gen[@]}" -n 200
refused "two are not" 'more device memory' "${gen[@]}" -n 400
expect "the tenant is never over its limit" 0 "$(kvctl tenant list --json |
	python3 -c 'import json, sys
print(sum(t["held_bytes"] + t.get("weights_bytes", 0) > 24 << 20
          for t in json.load(sys.stdin)["tenants"]))')"
check "the books are clean" kvctl check
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
