#!/bin/bash
# SPDX-License-Identifier: MIT
#
# revoke.sh - runtimes that sit on memory, work slowly or hang, and another
# that wants it
#
# quick: no
# timeout: 540
#
# The model is one of our own writing: 16 tokens take 512 KiB, 256 an extent.
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
model=$T/large.gguf
python3 selftests/e2e/bad_gguf.py --large "$model" || exit 1
gen=(kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos
	--json)
ids() { grep -o '"ids":\[[0-9,]*\]' "$T/$1"; }
counter() { kvctl vmstat --json | grep -o "\"$1\":[0-9]*" | grep -o '[0-9]*$'; }
holds_two() { # extents at least
	kvctl client list --json | grep -q '"extents":[2-9],'
}
first() { kvctl client list -H | awk '{ print $1; exit }'; }

"${gen[@]}" -n 700 --kv contig >"$T/want" || exit 1
"${gen[@]}" -n 20 --kv contig >"$T/want20" || exit 1

# Room for the weights (9.4 MB) and two extents; who holds looks five times a
# second whether it is asked
start_kvmd --size 32M --revoke-ask 2000 --revoke-fence 1000 || exit 1
mkfifo "$T/fifo"
exec 8<>"$T/fifo"
"${gen[@]}" -n 300 --hold <"$T/fifo" >"$T/one" 2>"$T/err1" &
one=$!
tap_pids+=("$one")
wait_for 20 grep -qs holding "$T/err1"
"${gen[@]}" -n 20 >"$T/two" 2>"$T/err2"
expect "who sits on memory and does nothing gives it" 0 $?
expect "who wanted it says what it says alone" "$(ids want20)" "$(ids two)"
check "who gave it lives" kill -0 $one
expect "nobody was killed" 0 "$(counter revokes_killed)"
expect "it gave when it was asked" 1 "$(counter revokes_given)"
kill -TERM $one
wait $one
expect "and ends well" 0 $?

# The administrator wants it, from one that works and goes on to three extents
stop_kvmd
start_kvmd --size 64M --revoke-ask 2000 --revoke-fence 1000 || exit 1
"${gen[@]}" -n 700 >"$T/one" 2>"$T/err1" &
one=$!
wait_for 20 holds_two
check "kvctl asks for it" kvctl client revoke "$(first)" 8M
wait $one
expect "who is asked in its midst ends well" 0 $?
expect "and says what it says alone" "$(ids want)" "$(ids one)"
check "it computed something again" grep -q '"preempted":[1-9]' "$T/one"
expect "nobody was killed" 0 "$(counter revokes_killed)"
kvctl client revoke 77 8M >/dev/null 2>&1
expect "of a client that is not there: status 6" 6 $?

# No time to answer: it may begin no step until its pages are gone
stop_kvmd
start_kvmd --size 64M --revoke-ask 0 --revoke-fence 5000 || exit 1
"${gen[@]}" -n 700 >"$T/one" 2>"$T/err1" &
one=$!
wait_for 20 holds_two
kvctl client revoke "$(first)" 8M >/dev/null
wait $one
expect "who loses pages in its midst ends well" 0 $?
expect "and says what it says alone" "$(ids want)" "$(ids one)"
expect "they were taken" 1 "$(counter revokes_taken)"
stop_kvmd

# Stopped in a step, with all of the device
start_kvmd --size 32M --revoke-ask 300 --revoke-fence 1000 || exit 1
nice "${gen[@]}" -n 500 >"$T/one" 2>"$T/err1" &
one=$!
tap_pids+=("$one")
wait_for 20 holds_two
kill -STOP $one
t0=$(date +%s%N)
"${gen[@]}" -n 20 >"$T/two" 2>"$T/err2"
expect "who hangs does not keep another from working" 0 $?
t1=$(date +%s%N)
expect "which says what it says alone" "$(ids want20)" "$(ids two)"
ms=$(((t1 - t0) / 1000000))
diag "took $ms ms: looked at for 1000, asked for 300, 1000 to end a step"
check "not before the deadlines" [ $ms -ge 2000 ]
check "and soon after them" [ $ms -lt 25000 ]
wait $one 2>/dev/null >&2
expect "who hung was killed" 137 $?
expect "by kvmd" 1 "$(counter revokes_killed)"
check "the log says why" \
	sh -c 'kvctl events list | grep -q "does not give its memory back"'
check "the books are clean" kvctl check
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
