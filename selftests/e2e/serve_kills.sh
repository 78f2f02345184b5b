#!/bin/bash
# SPDX-License-Identifier: MIT
#
# serve_kills.sh - kvmd and two servers are killed while both are under load
#
# timeout: 1200
# quick: no
#
# Two models share a device that has half of what their requests need; the
# rest is in host memory and in a file. kvmd is killed, also while it takes
# over, and so is either server, at moments that a seed decides. Only requests
# of a server that is killed may fail; every other text is the one that servers
# with all the memory they want say undisturbed. With KV_LONG=1 there are many
# more kills; SEED=N replays those of a run, as far as time is the same.
. selftests/tap.sh

if [ -z "${KV_GEMMA:-}" ] || [ -z "${KV_QWEN:-}" ]; then
	skip_all "no models (make fetch)"
fi
command -v python3 >/dev/null || skip_all "no python3 here"
kills=6
[ -n "${KV_LONG:-}" ] && kills=240
seed=${SEED:-$RANDOM}

run() { results "$1" python3 selftests/e2e/serve_kills.py "$@"; }
meminfo() { kvctl --json meminfo | jq ".$1"; }
counter() { kvctl --json vmstat | jq ".counters.$1"; }
held_is() { [ "$(meminfo "$1")" = "$2" ]; }

start_kvmd --size 4G || exit 1
run want "$T/want"
weights=$(meminfo weights_bytes)
stop_kvmd
[ -s "$T/want" ] || { tap_done; exit; }
need=$(jq .need "$T/want")
# whole extents of 8 MiB
size=$((((weights + need / 2) / (8 << 20) + 1) * (8 << 20)))
diag "pages of all requests take $((need >> 20)) MiB, the device has" \
	"$(((size - weights) >> 20)) MiB beside the weights"

start_kvmd --size "$size" --keeper --swap-ram 16M --swap-file "$T/swap" \
	--swap-size 1G || exit 1
run kills "$T/want" "$kvmd_pid" "$kills" "$seed"
read -r killed <"$T/want.killed"
check "the books are in order" kvctl check
check "pages went to swap" [ "$(counter swap_out)" -gt 0 ]
restarts=$(kvctl --json status | jq .restarts)
check "kvmd went on each time" eval \
	"[ $restarts -ge 1 ] && [ $restarts -le $killed ]"
check "with what its predecessor left" eval \
	"! grep -E 'begins with nothing|cannot be used' '$KV_LOG_DIR/kvmd.log'"
expect "no page of swap was lost" 0 "$(counter swap_lost)"
wait_for 5 eval '[ "$(meminfo held_bytes)" = "$(meminfo cached_held_bytes)" ]'
expect "nothing is held beyond the cache" "$(meminfo cached_held_bytes)" \
	"$(meminfo held_bytes)"
kvctl -q cache drop
wait_for 5 held_is held_bytes 0
expect "without it nothing is held" "0 0" \
	"$(meminfo held_bytes) $(meminfo swap_used_bytes)"
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
