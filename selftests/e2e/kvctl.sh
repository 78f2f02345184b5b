#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kvctl.sh - every object of kvctl against a real kvmd and a client that holds
#
# hold has a space of 40 tokens (3 pages of 8 KiB) and a fork of it at 24
# (2 pages, both shared).
. selftests/tap.sh

start_kvmd --size 128M || { not_ok "kvmd starts"; tap_done; }
mkfifo "$T/stdin"
"$BUILD/selftests/tools/kvctl/hold" <"$T/stdin" >"$T/hold" 2>&1 &
hold_pid=$!
tap_pids+=("$hold_pid")
exec 9>"$T/stdin"
wait_for 10 grep -q holding "$T/hold" || diag "$(cat "$T/hold")"

cols() { kvctl -H --bytes -o "$@"; }

expect "status names the daemon" "$kvmd_pid ok OK" \
	"$(kvctl -j status | jq -r '[.pid,.state,.health]|join(" ")')"
expect "status has a line per device" "cpu:0	134217728" \
	"$(cols device,total status)"
check "health is OK" kvctl health
expect "client list shows the client" "hold	$hold_pid	live	2	8388608" \
	"$(cols name,pid,state,spaces,held client list)"
expect "ps is client list" "hold" "$(cols name ps)"
id=$(cols client ps)
expect "space list has both, the fork below its parent" \
	"40	3	2	- 24	2	2	0 " \
	"$(cols tokens,pages,shared,parent space list | tr '\n' ' ')"
parent=$(cols client,space -s tokens spaces | tr '\t' : | head -1)
expect "PSS halves what two share, USS leaves it out" "24576	16384	8192" \
	"$(cols rss,pss,uss -s tokens spaces | head -1)"
expect "space show has the area" "3 pages" \
	"$(kvctl -j space show "$parent" | jq -r '"\(.space.area[0].pages) pages"')"
expect "and the namespace, and the rank of its client" "- 2a - - 1 2 " \
	"$(kvctl space show "$parent" | awk '/^ns|^rank.tp/ { print $2 }' | tr '\n' ' ')"
expect "space dump lists the pages" "0 1 2 " \
	"$(cols page space dump "$parent" | tr '\n' ' ')"
entry=$(cols entry space dump "$parent" | head -1)
expect "who finds both spaces behind a shared page" "2" \
	"$(kvctl -H who "$id:0:$entry" | wc -l)"
offset=$(cols offset space dump "$parent" | head -1)
expect "who knows the place by its offset" "$id" \
	"$(kvctl -j who "$offset" | jq .client)"
expect "who says that nobody has the end" "null" \
	"$(kvctl -j who 134217727 | jq .client)"
check "client show" kvctl client show "$id"
expect "meminfo and the device list agree" \
	"$(kvctl -j meminfo | jq .held_bytes)" "$(cols held device list)"
expect "vmstat counts the fork" 1 "$(kvctl -j vmstat | jq .counters.forks)"
expect "vmstat has rates when watched" 2 \
	"$(kvctl vmstat -w 0.05 -n 2 | grep -c '^forks ')"
tenant=$(cols tenant tenant list)
expect_exit "tenant limit sets a limit" 0 kvctl tenant limit "$tenant" max=64M
expect "and tenant list shows it" "67108864" "$(cols max tenant list)"
expect_exit "high is a limit of its own" 0 \
	kvctl tenant limit "$tenant" high=32M
expect "and is shown" "33554432" "$(cols high tenant list)"
expect_exit "which max takes away" 0 kvctl tenant limit "$tenant" high=max
expect "pressure has the device and the tenant" "-	N $tenant	N " \
	"$(cols tenant,some10 pressure | sed 's/[0-9]*\.[0-9][0-9]$/N/' | tr '\n' ' ')"
expect_exit "a limit that is no number is a usage error" 2 \
	kvctl tenant limit "$tenant" max=lots
expect_exit "limit is short for it" 0 kvctl limit "$tenant" max=max
expect "max takes it away" "max" "$(cols max tenant list)"
expect "events tell of the attach" "client_attach" \
	"$(kvctl -j events | jq -r '.events[]|select(.client!=null).event' | head -1)"
expect_exit "the books are clean" 0 kvctl check
expect_exit "an unknown client is exit status 6" 6 kvctl client show 99
expect_exit "an unknown space is exit status 6" 6 kvctl space show "$id:99"
expect_exit "wait idle gives up after its timeout" 5 kvctl -t 0.2 wait idle
expect_exit "wait usage<90% holds at once" 0 kvctl wait 'usage<90%'
check "top prints a batch" kvctl top -b -n 1

for what in status health meminfo vmstat "device list" "device show 0" \
	"client list" "client show $id" "tenant list" "tenant show $tenant" \
	pressure oom "oom 3" \
	"space list" "space show $parent" "space dump $parent" "weights list" \
	"events list" "swap list" "config show" check "who 0" "top -n 1"; do
	# shellcheck disable=SC2086 # words of a command
	expect "--json $what" kvctl/1 "$(kvctl --json $what | jq -r .schema)"
done

bash_completes() {
	bash -c "eval \"\$(kvctl completion bash)\"; COMP_WORDS=($1); \
		COMP_CWORD=$2; _kvctl; echo \${COMPREPLY[*]}"
}
expect "completion knows the objects" "status space swap" \
	"$(bash_completes 'kvctl s' 1)"
expect "and the verbs" "list show dump" "$(bash_completes 'kvctl space' 2)"
expect "and asks for the tenants" "$tenant" \
	"$(bash_completes 'kvctl tenant show' 3 | tr -d \\)"
expect "NO_COLOR and a pipe have no escapes" 0 \
	"$(NO_COLOR=1 kvctl status | grep -c "$(printf '\033')")"

device() { kvctl -j device show 0 | jq -c ".device.$1"; }
expect_exit "device watermarks sets them" 0 \
	kvctl device watermarks 0 8M,16M,24M
expect "and device show has them" 8388608,16777216,25165824 \
	"$(device watermark_min_bytes),$(device watermark_low_bytes),$(device \
		watermark_high_bytes)"
expect_exit "not if they fall" 2 kvctl device watermarks 0 8M,4M,24M
expect_exit "or are more than the device" 2 kvctl device watermarks 0 0,0,1T
expect_exit "or two" 2 kvctl device watermarks 0 8M,16M
expect_exit "of a device that there is" 6 kvctl device watermarks 1 0,0,0
expect_exit "device reclaim begins" 0 kvctl device reclaim 0 1G
# It is given up after a second, which may be over: then it is asked for again
goal=$(device reclaim_goal_bytes) asked=1
while [ "$goal" = 0 ] && [ $asked -lt 10 ]; do
	kvctl -q device reclaim 0 1G
	goal=$(device reclaim_goal_bytes) asked=$((asked + 1))
done
expect "until all is free" 134217728 "$goal"
wait_for 10 eval '[ "$(device reclaim_goal_bytes)" = 0 ]'
expect "which a client in its memory prevents: it is given up" 0 \
	"$(device reclaim_goal_bytes)"
expect "and is an event" $asked \
	"$(kvctl -j events list | jq '[.events[].event] |
		map(select(. == "device_reclaim")) | length')"
expect_exit "device reclaim takes a size" 2 kvctl device reclaim 0 much

expect "swap has its settings" "deadline 10000 ms, demote 10,20 %, discard off" \
	"$(kvctl swap | head -1)"
expect_exit "swap deadline sets one" 0 kvctl swap deadline 250
expect "and shows it at once" "deadline 250 ms, demote 10,20 %, discard off" \
	"$(head -1 "$T/out")"
expect_exit "swap demote sets two" 0 kvctl swap demote 90,95
expect_exit "swap discard is switched on" 0 kvctl swap discard on
expect "all three are shown" "250 90 95 true" \
	"$(kvctl -j swap | jq -r '[.deadline_ms,.demote_low,.demote_high,
		.discard] | join(" ")')"
expect_exit "and off" 0 kvctl swap discard off
expect "which is shown" false "$(kvctl -j swap | jq .discard)"
expect "-H has tiers only" "" "$(kvctl -H swap)"
expect_exit "--dry-run changes nothing" 0 kvctl --dry-run swap deadline 7
expect "it does not" 250 "$(kvctl -j swap | jq .deadline_ms)"
expect_exit "a deadline is a number" 2 kvctl swap deadline soon
check "the error names it" grep -q 'swap deadline: "soon"' "$T/out"
expect_exit "of ten minutes at most" 2 kvctl swap deadline 600001
expect_exit "percent rise" 2 kvctl swap demote 20,10
check "the error names them" grep -q 'swap demote: "20,10"' "$T/out"
expect_exit "to 100" 2 kvctl swap demote 20,101
expect_exit "discard is on or off" 2 kvctl swap discard maybe
check "the error names the word" grep -q 'swap discard: "maybe"' "$T/out"
expect_exit "swap deadline wants one" 2 kvctl swap deadline

expect_exit "client kill kills" 0 kvctl -y client kill "$id"
exec 9>&-
wait "$hold_pid" 2>/dev/null
check "and its memory comes back" kvctl -t 10 wait idle
expect_exit "with clean books" 0 kvctl check
expect_exit "kvmd ends in order" 0 stop_kvmd
expect_exit "then it is not running" 3 kvctl status

# A client that holds 24 KiB until descriptor 9 is closed
hold() {
	rm -f "$T/stdin"
	mkfifo "$T/stdin"
	"$BUILD/selftests/tools/kvctl/hold" <"$T/stdin" >"$T/hold" 2>&1 &
	tap_pids+=("$!")
	exec 9>"$T/stdin"
	wait_for 10 grep -q holding "$T/hold" || diag "$(cat "$T/hold")"
}

# The same, where pages are in swap: 24 KiB leave for memory, and go on to the
# file when they are told to
start_kvmd --size 16M --swap-ram 64K --swap-file "$T/swap" --swap-size 1M ||
	not_ok "kvmd starts with swap"
hold
used() { cols tier,used swap | tr '\t\n' ': '; }
used_is() { [ "$(used)" = "$1" ]; }
kvctl -q device reclaim 0 1G
wait_for 10 used_is "ram:24576 disk:0 "
expect "pages are in memory" "ram:24576 disk:0 " "$(used)"
expect_exit "told to, they go on" 0 kvctl swap demote 100,100
wait_for 10 used_is "ram:0 disk:24576 "
expect "to the file" "ram:0 disk:24576 " "$(used)"
expect_exit "with clean books" 0 kvctl check
exec 9>&-
expect_exit "and kvmd ends in order" 0 stop_kvmd

# What is stuck is late in the end, whatever else is set of swap meanwhile
start_kvmd --size 16M --swap-file "$T/swap" --swap-size 1M --swap-deadline 600 \
	--swap-fault stuck:1 || not_ok "kvmd starts with faults"
hold
kvctl -q device reclaim 0 1G
set_and_look() {
	kvctl -q swap demote "10,$((20 + RANDOM % 50))"
	[ "$(kvctl -j vmstat | jq .counters.swap_late)" -gt 0 ]
}
check "a deadline ends although percentages change" wait_for 10 set_and_look
exec 9>&-
expect_exit "with clean books again" 0 kvctl check
expect_exit "it ends in order" 0 stop_kvmd

# Nobody names a socket. In a /run of its own: the machine may have a kvmd.
at_default() {
	# shellcheck disable=SC2016 # for the inner shell
	unshare -m sh -c 'mount -t tmpfs tmpfs /run || exit
		unset KVMD_SOCKET
		kvmd --size 64M --device cpu --log-file "$1/default.log" &
		kvctl -t 10 wait ready
		kvctl status
		"$2/selftests/tools/kvctl/hold"
		kill $!
		wait $!
		echo "ended $?: $(ls -A /run)"' sh "$KV_LOG_DIR" "$BUILD" \
		</dev/null >"$T/out" 2>&1
}
if unshare -m mount -t tmpfs tmpfs /run 2>"$T/err"; then
	at_default
	expect "kvmd and kvctl meet at the default place" \
		"socket /run/kvmd/kvmd.sock" "$(grep -o 'socket [^ ]*' "$T/out")"
	expect "and so does a client of libkv" holding "$(grep holding "$T/out")"
	expect "where nothing is left" "ended 0: " "$(tail -1 "$T/out")"
else
	skip "the default place serves" "no /run of its own: $(cat "$T/err")"
fi
tap_done
