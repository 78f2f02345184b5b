#!/bin/bash
# SPDX-License-Identifier: MIT
#
# private.sh - kvrun --private leaves nothing behind, however it ends
#
# quick: no
. selftests/tap.sh

selftests/e2e/bad_gguf.py "$T/files" 0 1 || skip_all "no python3 here"
unset KVMD_SOCKET
export TMPDIR=$T/tmp E2E_PRIVATE=$T
mkdir "$TMPDIR"
in_shm() { find /dev/shm -maxdepth 1 -name '*kv*' 2>/dev/null | sort; }
shm=$(in_shm)
tiny=$T/files/good.gguf
gen=(kvrun generate --private --size 64M -m "$tiny" --prompt abc --temp 0
	--ignore-eos)

# The processes that this script's commands have started
ours() {
	local pid
	grep -lzs "^E2E_PRIVATE=$T\$" /proc/[0-9]*/environ | cut -d/ -f3 |
		while read -r pid; do
			case $(cat "/proc/$pid/comm" 2>/dev/null) in
			kvmd | kvrun) echo "$pid" ;;
			esac
		done
}
none_of_ours() { [ -z "$(ours)" ]; }
kvmd_of() { pgrep -x -P "$1" kvmd; }

nothing_left() {
	wait_for 5 none_of_ours
	expect "$1: no process, no file, nothing in /dev/shm" "" "$(
		ours
		ls -A "$TMPDIR"
		[ "$(in_shm)" = "$shm" ] || echo /dev/shm
	)"
}

check "it answers" "${gen[@]}" -n 5
nothing_left "after an answer"
expect_exit "a prompt that is too long" 1 "${gen[@]}" --context 2 -n 5
nothing_left "after a refusal"
expect_exit "a device that is too small" 1 \
	kvrun generate --private --size 1 -m "$tiny" --prompt abc
nothing_left "after a size that cannot be"
expect "and one sentence says so" 1 "$(wc -l <"$T/out")"
expect_exit "a file that is no model" 1 \
	kvrun generate --private -m "$0" --prompt abc
nothing_left "after a file that is no model"
"${gen[@]}" -n 5 | head -c 1 >/dev/null
nothing_left "after a reader that went away"

mkfifo "$T/fifo"
exec 8<>"$T/fifo"
hold() {
	: >"$T/err"
	"${gen[@]}" -n 2 --hold <"$T/fifo" >"$T/out" 2>"$T/err" &
	pid=$!
	tap_pids+=("$pid")
	wait_for 10 grep -qs holding "$T/err"
	wait_for 5 kvmd_of $pid
}
for sig in INT TERM HUP QUIT KILL SEGV; do
	hold
	# bash starts what is in the background deaf to SIGINT and SIGQUIT
	kill -$sig $pid
	timeout 2 tail -s 0.05 -f --pid=$pid /dev/null || kill -TERM $pid
	wait $pid 2>/dev/null
	nothing_left "after SIG$sig while it holds"
done

for sig in INT TERM KILL; do
	for after in 0.005 0.02 0.05 0.1; do
		timeout -s $sig $after "${gen[@]}" -n 400 >/dev/null 2>&1
	done
	nothing_left "after SIG$sig at four moments"
done

hold
kill -KILL "$(kvmd_of $pid)"
wait $pid
expect "when its kvmd is killed it ends with status 3" 3 $?
expect "and says so once" 1 "$(grep -vc holding "$T/err")"
nothing_left "after its kvmd's death"
hold
kill -STOP "$(kvmd_of $pid)"
kill -KILL $pid
wait $pid 2>/dev/null
for p in $(ours); do kill -CONT "$p"; done
nothing_left "after a kvmd that was stopped"

# Two at a time do not meet
"${gen[@]}" -n 50 >"$T/out1" 2>&1 &
one=$!
"${gen[@]}" -n 50 >"$T/out2" 2>&1
expect "two at a time: the one" 0 $?
wait $one
expect "two at a time: the other" 0 $?
expect "both say the same" "$(cat "$T/out1")" "$(cat "$T/out2")"
nothing_left "after two at a time"
tap_done
