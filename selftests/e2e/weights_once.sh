#!/bin/bash
# SPDX-License-Identifier: MIT
#
# weights_once.sh - two runtimes of one model hold its weights once
#
# quick: no
#
# What kvctl says is compared with what the kernel says: st_blocks of the
# mapping, and its proportional set size (PSS) in kvmd and both runtimes. A
# runtime touches only what it computes with, so each page is touched first,
# by reading the mapping through /proc/PID/mem. Then every page has the same
# number of mappers, and the sum of PSS is the mapping in whole pages, but for
# what the kernel rounds down: less than 1 kB a process.
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model (make fetch)"
start_kvmd --size 1G || exit 1
mkfifo "$T/fifo"
exec 8<>"$T/fifo"

run() { # NUMBER
	kvrun generate -m "$KV_GEMMA" --prompt 'The capital of France is' \
		-n 8 --temp 0 --hold --json <"$T/fifo" >"$T/out$1" \
		2>"$T/err$1" &
	client[$1]=$!
	tap_pids+=("${client[$1]}")
	wait_for 20 grep -qs holding "$T/err$1"
}

json() { # KEY... of kvctl meminfo
	kvctl meminfo --json | python3 -c '
import json, sys
d = json.load(sys.stdin)
print(*(d[k] for k in sys.argv[1:]))' "$@"
}

# field PID FIELD - kB of the weights in a process, over all its mappings
field() {
	awk -v f="$2:" '/^[0-9a-f]+-[0-9a-f]+ / { on = /memfd:kvmd-weights/ }
		on && $1 == f { n += $2 } END { print n + 0 }' \
		"/proc/$1/smaps"
}

events() { # NAME - how often kvmd's log has it
	grep -c "msg=\"$1\"" "$KV_LOG_DIR/kvmd.log"
}

run 1
before=$(awk '/^rchar/ { print $2 }' "/proc/${client[1]}/io")
free_one=$(json free_bytes)
run 2
read -r size resident held free <<<"$(json weights_bytes \
	weights_resident_bytes held_bytes free_bytes)"
expect "kvctl: the weights are the file's, once" yes \
	"$(packed "$size" "$KV_GEMMA")"
expect "in whole pages" 0 $((size % 4096))
expect "the kernel's st_blocks say the same" "$size" "$resident"
expect "free, held and weights are all there is" \
	"$(json total_bytes)" "$((size + held + free))"
expect "the second runtime took no device memory for them" yes \
	"$([ $((free_one - free)) -le $((16 << 20)) ] && echo yes)"

touch_all() { # PID - every page of the weights, as the process sees them
	python3 - "$1" <<'PY'
import sys
pid = sys.argv[1]
for line in open(f"/proc/{pid}/maps"):
    if "memfd:kvmd-weights" in line:
        lo, hi = (int(x, 16) for x in line.split()[0].split("-"))
        with open(f"/proc/{pid}/mem", "rb", 0) as f:
            for at in range(lo, hi, 1 << 20):
                f.seek(at)
                f.read(min(1 << 20, hi - at))
PY
}
touch_all "${client[1]}" 2>/dev/null && touch_all "${client[2]}"
touched=$?
pss=0
for pid in "$kvmd_pid" "${client[@]}"; do
	pss=$((pss + $(field "$pid" Pss)))
done
diag "figure: weights of two runtimes = $pss kB of PSS, \
$((size / 1024)) kB by kvctl"
if [ $touched != 0 ]; then
	skip "the kernel's PSS and kvctl agree to the page" \
		"/proc/PID/mem may not be read"
else
	for i in 1 2; do
		expect "runtime $i has all of it mapped" $((size / 1024)) \
			"$(field "${client[i]}" Rss)"
	done
	expect "the kernel's PSS and kvctl agree to the page" yes "$(
		d=$((size / 1024 - pss))
		[ $d -ge 0 ] && [ $d -lt 4 ] && echo yes)"
fi
private=0
for pid in "${client[@]}"; do
	private=$((private + $(field "$pid" Private_Dirty) + \
		$(field "$pid" Private_Clean)))
done
expect "none of it is private to one of them" 0 "$private"

for i in 1 2; do
	expect "runtime $i: mapped shared and read-only" "r--s" "$(awk \
		'/memfd:kvmd-weights/ { print $2 }' \
		"/proc/${client[i]}/maps" | sort -u)"
	expect "runtime $i: no anonymous copy of it" yes "$(awk '
		/^Rss:/ { rss += $2 } /^Anonymous:/ { anon += $2 }
		END { if (anon < 120000) print "yes"; else print anon }' \
		"/proc/${client[i]}/smaps_rollup")"
done
read1=$(awk '/^rchar/ { print $2 }' "/proc/${client[1]}/io")
read2=$(awk '/^rchar/ { print $2 }' "/proc/${client[2]}/io")
diag "read by the first: $before, by the second: $read2 bytes"
expect "the first did not read again" "$before" "$read1"
expect "the second neither copied nor hashed the file" yes \
	"$([ "$read2" -lt $((16 << 20)) ] && echo yes)"
expect "kvmd had them filled once" 1 "$(events weights_fill)"
ids() { grep -o '"ids":\[[0-9,]*\]' "$T/out$1"; }
expect "both answers are the same" "$(ids 1)" "$(ids 2)"

kill "${client[1]}"
wait "${client[1]}"
expect "when one leaves they stay" "$size" "$(json weights_bytes)"
kill "${client[2]}"
wait "${client[2]}"
run 3
expect "a third, later, has them from kvmd's cache" 1 "$(events weights_fill)"
kill "${client[3]}"
wait "${client[3]}"
check "the books are clean" kvctl check
stop_kvmd

# One that is stopped while it fills; the next one waits for it
rm -f "$KV_LOG_DIR/kvmd.log"
start_kvmd --size 1G || exit 1
fills() { [ "$(events weights_fill)" = "$1" ]; }
gen=(kvrun generate -m "$KV_GEMMA" --prompt hi -n 2 --temp 0)
"${gen[@]}" >"$T/out1" 2>&1 &
client[1]=$!
wait_for 10 fills 1
kill -STOP "${client[1]}"
"${gen[@]}" >"$T/out2" 2>&1 &
client[2]=$!
"${gen[@]}" >"$T/out3" 2>&1 &
client[3]=$!
tap_pids+=("${client[@]}")
sleep 1
if [ "$(events weights_ready)" != 0 ]; then
	skip "one that waits can be ended" "it was filled too soon"
else
	kill -TERM "${client[2]}"
	wait "${client[2]}"
	expect "one that waits can be ended" 143 $?
fi
kill -KILL "${client[1]}"
wait "${client[3]}"
expect "when the filler is killed, the next one fills and answers" 0 $?
check "the books are clean" kvctl check
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
