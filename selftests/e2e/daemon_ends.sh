#!/bin/bash
# SPDX-License-Identifier: MIT
#
# daemon_ends.sh - no kvmd, a kvmd that ends, a kvmd that is killed
#
# quick: no
#
# Each time the runtimes end by themselves, with one sentence and status 3,
# and nothing is left at the socket's place and in /dev/shm.
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model (make fetch)"
in_shm() { find /dev/shm -maxdepth 1 -name '*kv*' 2>/dev/null | sort; }
shm=$(in_shm)
gen=(kvrun generate -m "$KV_GEMMA" --prompt 'The capital of France is'
	--temp 0 --ignore-eos)

# said SENTENCE STATUS WORDS COMMAND... - one line with WORDS, and the status
said() {
	local rc
	timeout 30 "${@:4}" >"$T/out" 2>"$T/err" </dev/null
	rc=$?
	judge_end "$1" "$2" "$3" $rc "$T/err"
}

judge_end() { # SENTENCE STATUS WORDS GOT-STATUS FILE
	if [ "$4" = "$2" ] && [ "$(wc -l <"$5")" = 1 ] &&
		grep -q -- "$3" "$5"; then
		ok "$1"
	else
		not_ok "$1" "exit status $4, wanted $2 and \"$3\"" \
			"$(tail -5 "$5")"
	fi
}

nr_spaces_from() { [ "$(kvctl space list -H | wc -l)" -ge "$1" ]; }
left() { find "$T" -maxdepth 1 -name 'kvmd.sock*' -printf '%f '; }

said "no kvmd at all" 3 "no kvmd at $KVMD_SOCKET: there is no such socket" \
	"${gen[@]}" -n 2
echo x >"$KVMD_SOCKET"
said "a file in the socket's place" 3 "no.*$KVMD_SOCKET" "${gen[@]}" -n 2
kvmd --socket "$KVMD_SOCKET" --size 64M 2>"$T/err"
judge_end "kvmd does not take the file's place" 1 'no socket lies there' $? \
	"$T/err"
rm -f "$KVMD_SOCKET"

# Two that compute, one that only holds; each with its own standard error
start_clients() {
	local i
	: >"$T/err3"
	for i in 1 2; do
		"${gen[@]}" -n 4000 >"$T/out$i" 2>"$T/err$i" &
		client[i]=$!
	done
	"${gen[@]}" -n 2 --hold <"$T/fifo" >"$T/out3" 2>"$T/err3" &
	client[3]=$!
	tap_pids+=("${client[@]}")
	wait_for 20 grep -qs holding "$T/err3"
	wait_for 20 nr_spaces_from 2
	sleep 0.5
}

clients_end() { # SENTENCE WORDS
	local i t0=$SECONDS
	for i in 1 2 3; do
		wait "${client[i]}"
		rc=$?
		grep -v '^kvrun: holding$' "$T/err$i" >"$T/end"
		judge_end "$1: client $i" 3 "$2" $rc "$T/end"
	done
	expect "$1: all within a minute" yes \
		"$([ $((SECONDS - t0)) -lt 60 ] && echo yes)"
	[ "$(in_shm)" = "$shm" ]
	expect "$1: nothing in /dev/shm" 0 $?
}

mkfifo "$T/fifo"
exec 8<>"$T/fifo"
start_kvmd --size 1G || exit 1
start_clients
stop_kvmd
expect "SIGTERM ends kvmd with status 0" 0 $?
clients_end "after SIGTERM" 'kvmd'
expect "after SIGTERM neither socket nor lock is left" "" "$(left)"

start_kvmd --size 1G || exit 1
start_clients
kill -KILL "$kvmd_pid"
wait "$kvmd_pid" 2>/dev/null
clients_end "after kill -9" 'kvmd'
check "after kill -9 the socket lies there" test -S "$KVMD_SOCKET"
said "a socket nobody serves" 3 'nobody listens' "${gen[@]}" -n 2
expect_exit "kvctl has the same status" 3 kvctl status
start_kvmd --size 1G
expect "a new kvmd takes the dead one's place" 0 $?
check "and serves" "${gen[@]}" -n 2

# A client that is stopped does not keep kvmd from ending
"${gen[@]}" -n 4000 >/dev/null 2>"$T/err1" &
client[1]=$!
tap_pids+=("${client[1]}")
wait_for 20 nr_spaces_from 1
kill -STOP "${client[1]}"
t0=${EPOCHREALTIME/./}
stop_kvmd
expect "SIGTERM beside a stopped client: status 0" 0 $?
expect "and within half a minute" yes \
	"$([ $((${EPOCHREALTIME/./} - t0)) -lt 30000000 ] && echo yes)"
kill -CONT "${client[1]}"
wait "${client[1]}"
judge_end "the stopped one goes on, and ends" 3 kvmd $? "$T/err1"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null &&
	cp "$BUILD/bin/kvctl" "$BUILD/bin/kvrun" "$T/" && chmod 755 "$T" &&
	setpriv --reuid=65534 --regid=65534 --clear-groups \
		test -x "$T/kvrun"; then
	start_kvmd --size 64M || exit 1
	stranger=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	selftests/e2e/bad_gguf.py "$T/files" 0 1 && chmod -R a+rX "$T/files"
	said "no permission for a runtime" 4 "not allowed to use $KVMD_SOCKET" \
		"${stranger[@]}" "$T/kvrun" generate \
		-m "$T/files/good.gguf" --prompt a -n 2
	said "no permission for kvctl" 4 "$KVMD_SOCKET" \
		"${stranger[@]}" "$T/kvctl" status
	chmod 666 "$KVMD_SOCKET"
	check "with it, a runtime of another user answers" \
		"${stranger[@]}" "$T/kvrun" generate \
		-m "$T/files/good.gguf" --prompt a -n 2
	said "no permission to administer" 4 'uid 65534' \
		"${stranger[@]}" "$T/kvctl" check
	said "a model that may not be read" 4 'Permission denied' \
		"${stranger[@]}" "$T/kvrun" generate -m /etc/shadow \
		--prompt a -n 2
	stop_kvmd
	expect "kvmd ends well" 0 $?
else
	skip "no permission" "not root"
fi
tap_done
