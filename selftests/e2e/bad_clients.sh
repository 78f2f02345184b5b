#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bad_clients.sh - clients that keep no rule, beside one that does
#
# quick: no
#
# Where this is root, the bad ones are another user's: nothing that they do
# may reach kvmd or the runtime beside them, whose answer is compared with the
# one it gives without kvmd.
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model (make fetch)"
start_kvmd --size 1G --drain 100 || exit 1
seconds=${KV_LONG:+20}
seconds=${seconds:-2}

cp "$BUILD/selftests/e2e/rude" "$T/rude" || exit 1
stranger=()
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	chmod 755 "$T" "$T/rude"
	chmod 666 "$KVMD_SOCKET"
	stranger=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	if ! "${stranger[@]}" test -x "$T/rude"; then
		diag "another user cannot reach $T"
		stranger=()
	fi
fi
rude() { "${stranger[@]}" "$T/rude" "$@"; }

answer() { # [OPTION]... -> what the honest runtime says
	kvrun generate -m "$KV_GEMMA" --prompt 'The capital of France is' \
		-n 16 --temp 0 --ignore-eos "$@" 2>&1
}
want=$(answer --kv contig)
expect "the answer before anything happens" "$want" "$(answer)"

# By whoever is there; what was published stays.
held() {
	kvctl meminfo --json | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(d["held_bytes"] - d["cached_held_bytes"])'
}
nr_spaces_is() { [ "$(kvctl space list -H | wc -l)" = "$1" ]; }
nothing_held() { [ "$(held)" = 0 ]; }

# aftermath WHAT - kvmd lives, its books are right, nothing is held
aftermath() {
	wait_for 6 nothing_held
	expect "after $1: nothing is held" 0 "$(held)"
	check "after $1: the books are clean" kvctl check
}

# beside WHAT MODE... - the mode twice, and the honest runtime meanwhile
beside() {
	local pid pid2 rc
	rude "${@:2}" 1 >"$T/rude1" 2>&1 &
	pid=$!
	rude "${@:2}" 2 >"$T/rude2" 2>&1 &
	pid2=$!
	expect "beside $1 the answer is the same" "$want" "$(answer)"
	wait $pid
	rc=$?
	wait $pid2
	rc="$rc $?"
	# what lies about its steps may lose memory under its hands: touching
	# that again is answered with SIGKILL
	[ "$2" = scribble ] && rc=${rc//137/0}
	expect "$1: both did as told" "0 0" "$rc"
	diag "$(cat "$T/rude1" "$T/rude2")"
	aftermath "$1"
}

beside "random bytes all over" scribble "$seconds"
beside "packets of garbage" garbage "$seconds"
beside "questions without reading answers" spam "$seconds"

if [ ${#stranger[@]} = 0 ]; then
	skip "descriptors give nothing more" "not root"
else
	check "descriptors give nothing more" rude reopen
fi

# background MODE... - until it says that it is there
background() {
	: >"$T/said"
	"${stranger[@]}" "$T/rude" "$@" >"$T/said" 2>"$T/rude.err" &
	bad=$!
	tap_pids+=("$bad")
	wait_for 10 test -s "$T/said" || diag "$(cat "$T/rude.err")"
	diag "$(cat "$T/said")"
}
end_bad() { # SIGNAL
	kill "-$1" $bad
	wait $bad 2>/dev/null
}

background punch
expect "beside memory with holes the answer is the same" "$want" "$(answer)"
check "and the books are clean" kvctl check
end_bad KILL
aftermath "holes in its own memory"

background idle 1000
t0=${EPOCHREALTIME/./}
check "kvctl answers beside 1,000 idle connections" kvctl status
expect "in less than half a minute" yes \
	"$([ $((${EPOCHREALTIME/./} - t0)) -lt 30000000 ] && echo yes)"
expect "and the answer is the same" "$want" "$(answer)"
end_bad KILL
aftermath "1,000 idle connections"

background hold
end_bad STOP &
sleep 0.1
expect "beside a stopped client the answer is the same" "$want" "$(answer)"
check "and kvctl sees it" grep -q '^ *[0-9].*rude' <(kvctl client list)
kill -KILL $bad
wait $bad 2>/dev/null
aftermath "a stopped client's death"

# The honest one, stopped in mid step and let go, and killed in mid step
answer -n 60 >"$T/long" 2>&1 &
long=$!
answer -n 60 >"$T/long2" 2>&1 &
long2=$!
wait_for 10 nr_spaces_is 2
pids=$(pgrep -P "$long,$long2" -f 'kvrun generate')
[ -n "$pids" ] || pids="$long $long2"
sleep 0.3
# shellcheck disable=SC2086 # one or two
kill -STOP $pids
expect "beside stopped runtimes the answer is the same" "$want" "$(answer)"
# shellcheck disable=SC2086
kill -CONT $pids
expect "meanwhile" "$want" "$(answer)"
kill -KILL "$(echo "$pids" | tail -1)"
expect "beside one killed in mid step the answer is the same" "$want" \
	"$(answer)"
wait $long $long2 2>/dev/null
expect "what was stopped ends with its answer" yes "$(
	w=$(answer -n 60 --kv contig)
	[ "$w" = "$(cat "$T/long")" ] || [ "$w" = "$(cat "$T/long2")" ] &&
		echo yes)"
aftermath "a runtime killed in mid step"
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
