#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kvtrace.sh - kvtrace counts what happened, exactly, and says so
#
# selftests/tools/kvtrace/faults is a client that does a known number of steps.
. selftests/tap.sh

client=$BUILD/selftests/tools/kvtrace/faults

[ -x "$BUILD/bin/kvtrace" ] ||
	skip_all "kvtrace is not built: no clang, bpftool or libbpf"

# ---- without a kvmd, or the right ----
expect_exit "no view is a usage error" 2 kvtrace
expect_exit "nor is there a view of any name" 2 kvtrace frobnicate
expect_exit "an interval is a number" 2 kvtrace faults -i soon
expect_exit "without a kvmd the status is 3" 3 kvtrace faults -c 1
expect "with one sentence" 1 "$(wc -l <"$T/out")"
check "help and completion name the views" \
	eval 'kvtrace --help | grep -q faults &&
		kvtrace completion bash | grep -q -- "faults.*--json"'

start_kvmd --size 64M || { not_ok "kvmd starts"; tap_done; }
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	expect_exit "without the right to, the status is 4" 4 \
		setpriv --bounding-set=-all --inh-caps=-all --no-new-privs \
		"$BUILD/bin/kvtrace" faults -c 1 -p "$kvmd_pid"
	expect "with one sentence" 1 "$(wc -l <"$T/out")"
fi

# begin NAME VIEW [OPTION]... - its reports go to $T/NAME
begin() {
	kvtrace "${@:2}" >"$T/$1" 2>"$T/$1.err" &
	trace_pid=$!
	tap_pids+=("$trace_pid")
	wait_for 20 grep -q 'counting' "$T/$1.err"
}
end() { # SIGNAL
	kill -"${1:-INT}" "$trace_pid"
	wait "$trace_pid"
}
if ! begin try faults; then
	wait "$trace_pid"
	[ $? = 4 ] || { not_ok "it can attach" "$(cat "$T/try.err")"; tap_done; }
	skip "all the rest" "$(cat "$T/try.err")"
	tap_done
fi
end
expect "^C ends it well" 0 $?
expect_exit "a process without the probes is refused" 6 kvtrace faults -p $$
expect_exit "and one that is not there" 6 kvtrace faults -p 4194303

# ---- a known number of faults ----
# 40 fresh pages in 40 steps; 5 in one; 3 copies, one with 2 fresh ones
# behind it; a step that copies for a fork of a fork.
words=(new)
for ((i = 0; i < 40; i++)); do words+=("step:0:$((i * 16)):16"); done
words+=(step:0:640:80 fork:0:24 fork:0:40 fork:0:8)
words+=(step:1:24:1 step:2:40:1 step:3:8:40)
begin json faults -i 0 --json
begin_pid=$trace_pid
begin hits probes -i 0 --json
hits_pid=$trace_pid
check "a client does them" "$client" 8192 "${words[@]}"
trace_pid=$begin_pid
end TERM
expect "SIGTERM ends it well" 0 $?
trace_pid=$hits_pid
end
q() { jq -c "$1" "$T/${2:-json}"; }
expect "it is one report" 1 "$(wc -l <"$T/json")"
expect "of which nothing is lost" 0 "$(q .lost)"
expect "44 faults took 47 fresh pages and 3 copies" '[44,47,3,0]' \
	"$(q '.all|[.faults,.pages.fresh,.pages.cow,.pages.swap_in]')"
expect "by cause: 41 fresh, 3 cow" '[["cow",3],["fresh",41]]' \
	"$(q '[.causes|group_by(.cause)[]|
		[.[0].cause,(map(.faults)|add)]]')"
expect "every fault stands in one histogram" 44 \
	"$(q '[.causes[].latency[].faults]|add')"
expect "and no latency is outside of its slots" true \
	"$(q '[.causes[]|
		([.latency[]|.from_ns*.faults]|add) <= .latency_sum_ns and
		.latency_sum_ns < ([.latency[]|.below_ns*.faults]|add)]|all')"
expect "client and tenant are named" "[\"faults\",\"uid:$(id -u)\"]" \
	"$(q '.clients[0]|[.name,.tenant]')"
expect "the probes are hit as often: fault, cow" '[44,3]' \
	"$(q '.hits|[.fault,.cow]' hits)"
expect "as the daemon's own counters say" '[44,47,3]' \
	"$(kvctl -j vmstat | jq -c \
		'.counters|[.reserves,.faults_fresh,.faults_cow]')"
begin text faults -i 0.2
"$client" 8192 new step:0:0:16 || not_ok "a client does one more"
wait_for 10 grep -q '^fresh' "$T/text"
end
expect "live: one line of a fresh fault, with its page" "fresh 1 1" \
	"$(awk '/^fresh / { print $1, $(NF - 7), $(NF - 6) }' "$T/text")"
check "and its client" grep -qE '^uid:[0-9]+ .* faults$' "$T/text"
check "and its bar" grep -qE '^ .* 1 \|\*{40}\|$' "$T/text"
# Four pages are published; 56 tokens of them are three and a half.
begin prefix faults -i 0 --json
check "a client that finds what it has published" "$client" 8192 \
	new step:0:0:64 publish:0:64 filled new map:1:56 step:1:56:1 new map:2:8
end
expect "maps pages of a prefix twice, and copies one that it writes to" \
	"[[\"cow\",1,0,1],[\"prefix\",2,$(kvctl -j vmstat |
		jq .counters.faults_prefix),0]]" \
	"$(q '[.causes|sort_by(.cause)[]|select(.cause!="fresh")|
		[.cause,.faults,.pages.prefix,.pages.cow]]' prefix)"
# 128 pages in all: 100, then 40 more, then 200 at once.
begin refused faults -i 0 --json
check "a client that is refused memory twice" "$client" 524288 \
	new step:0:0:1600 new try:1:0:640 try:1:0:3200
end
expect "is short once, and once asks for what can never be" \
	'[["error",1,0],["short",1,0]]' \
	"$(q '[.causes|sort_by(.cause)[]|select(.cause!="fresh")|
		[.cause,.faults,.pages.fresh]]' refused)"
check "-c ends it" timeout 20 kvtrace faults -i 0.1 -c 2
begin gone faults -i 0
stop_kvmd
wait "$trace_pid"
expect "it ends with its kvmd" 0 $?
check "and says so" grep -q 'has ended' "$T/gone.err"

# ---- swap ----
# Two extents, of 16 pages each. A space has one page, another 24: with 8 of a
# third the first one's has to leave, and more with it. When all have left it
# is wanted back, which takes the device 68 ms.
export KV_DELAY=write:68000
start_kvmd --device delay:cpu --size 16M --swap-ram 64M ||
	{ not_ok "kvmd starts again"; tap_done; }
begin swap faults -i 0 --json
begin_pid=$trace_pid
begin swaphits probes -i 0 --json
hits_pid=$trace_pid
check "a client whose pages leave and come back" "$client" 524288 \
	new step:0:0:16 new step:1:0:384 new step:2:0:128 pause:500 step:0:15:1
trace_pid=$begin_pid
end
trace_pid=$hits_pid
end
kvctl -j vmstat | jq .counters >"$T/counters"
expect "one page came back" 1 "$(q .all.pages.swap_in swap)"
expect "as many as the daemon counts" "$(q '[.swap_in,.faults_fresh]' counters)" \
	"$(q '.all.pages|[.swap_in,.fresh]' swap)"
expect "by one fault, which waited" '[1,true]' \
	"$(q '.causes[]|select(.cause=="swap_in")|[.faults,.waited]' swap)"
expect "it is in no slot below that of its delay: 68 ms in [67, 134)" true \
	"$(q '.causes[]|select(.cause=="swap_in")|.latency[].from_ns >= 67108864' swap)"
expect "each page out and in is a hit" "$(q '[.swap_out,.swap_in]' counters)" \
	"$(q '.hits|[.swap_out,.swap_in]' swaphits)"
expect "and so is each victim" true \
	"$(jq --argjson n "$(q .reclaims counters)" \
		'.hits.reclaim >= $n and $n > 0' "$T/swaphits")"

tap_done
