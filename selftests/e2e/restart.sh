#!/bin/bash
# SPDX-License-Identifier: MIT
#
# restart.sh - kvmd is killed, replaced or broken under runtimes that work
#
# timeout: 600
# quick: no
#
# The model is one of our own writing: 16 tokens take 512 KiB, 256 an extent.
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
model=$T/large.gguf
python3 selftests/e2e/bad_gguf.py --large "$model" || exit 1
gen=(kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos
	--json)
ids() { grep -o '"ids": *\[[0-9,]*\]' "$1" | tr -d ' '; }
status() { kvctl status --json | grep -o "\"$1\":[a-z0-9]*" | cut -d: -f2; }
serving() { status pid 2>/dev/null; }
events() { kvctl events --json | grep -c "\"$1\""; }
# Another kvmd than PID answers
other_than() {
	local now
	now=$(serving) && [ -n "$now" ] && [ "$now" != "$1" ]
}
kill_kvmd() { # and wait for the next one
	local was
	was=$(serving)
	kill -KILL "$was"
	wait_for 10 other_than "$was"
}

# kvmd lies where it can be replaced: by itself, or by a build whose state is
# laid out in another way
builds=("$BUILD/bin/kvmd" "$BUILD/selftests/e2e/kvmd_other")
mkdir "$T/bin"
PATH=$T/bin:$PATH
install_build() { # N - of them is the next to be started
	cp "${builds[$1]}" "$T/kvmd.new" && mv "$T/kvmd.new" "$T/bin/kvmd"
}
converted() { grep -c 'core of another build' "$KV_LOG_DIR/kvmd.log"; }
install_build 0

"${gen[@]}" -n 400 --kv contig >"$T/want" || exit 1

# Room for the weights (9.4 MB) and little else: pages go to memory and the disk
# and back, and none is lost there
start_kvmd --size 40M --keeper --swap-ram 4M --swap-file "$T/swap" \
	--swap-size 64M || exit 1
"${gen[@]}" -n 400 --no-prefix-cache >"$T/one" 2>"$T/err1" &
one=$!
"${gen[@]}" -n 400 --no-prefix-cache >"$T/two" 2>"$T/err2" &
two=$!
tap_pids+=("$one" "$two")
(while :; do
	kvctl -q status || echo refused
	sleep 0.02
done) >"$T/asked" 2>/dev/null &
asker=$!
tap_pids+=("$asker")
kills=0
while kill -0 $one 2>/dev/null || kill -0 $two 2>/dev/null; do
	install_build $(((kills + 1) % 2))
	kill_kvmd && kills=$((kills + 1))
	sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
done
wait $one
expect "a runtime whose kvmd is killed again and again ends well" 0 $?
wait $two
expect "so does another" 0 $?
expect "it says what it says alone" "$(ids "$T/want")" "$(ids "$T/one")"
expect "so does the other" "$(ids "$T/want")" "$(ids "$T/two")"
check "kvmd was killed meanwhile" [ "$kills" -ge 3 ]
kill $asker
wait $asker
expect "kvctl was answered all the while" "" "$(cat "$T/asked")"
expect "each time another one went on" "$kills" "$(status restarts)"
expect "of another build, which read what was left" "$kills" "$(converted)"
check "the books are in order" kvctl check
expect "no page of swap was lost" 0 \
	"$(kvctl vmstat --json | grep -o '"swap_lost":[0-9]*' | cut -d: -f2)"
kvctl -q cache drop
wait_for 5 eval '[ "$(kvctl --json meminfo | grep -o "\"held_bytes\":[0-9]*")" \
	= "\"held_bytes\":0" ]'
expect "nothing is held any more" 0 $?
diag "figure: $kills kvmd killed under two runtimes, answers unchanged"

# What was published stays published; there is room for it twice
stop_kvmd
install_build 0
start_kvmd --size 96M --keeper --swap-file "$T/swap" --swap-size 64M || exit 1
long=(kvrun generate -t 1 -m "$model" --prompt "$(printf 'word %.0s' {1..60})"
	--temp 0 --ignore-eos --stats -n 40)
found() { grep -o '[0-9]* found' "$1"; }
look() { "${long[@]}" >/dev/null 2>"$T/$1"; }
for _ in 1 2 3; do
	look before || diag "$(cat "$T/before")"
done
kill_kvmd
"${long[@]}" >/dev/null 2>"$T/after"
check "a prefix is found" grep -q '[1-9][0-9]* found' "$T/before"
expect "as much of it after a kill" "$(found "$T/before")" "$(found "$T/after")"

# SIGHUP to the keeper: replaced by what lies where it was started from
install_build 1
was=$(serving)
kill -HUP "$kvmd_pid"
check "SIGHUP replaces kvmd" wait_for 10 other_than "$was"
look after
expect "prefixes are found" "$(found "$T/before")" "$(found "$T/after")"

# Killed before it has taken over, whatever it was reading: the next one does
reads=$(converted)
for i in {1..12}; do
	install_build $(((i + 1) % 2))
	was=$(serving)
	kill -KILL "$was"
	sleep "0.0$((RANDOM % 6))$((RANDOM % 10))"
	read -ra heirs <"/proc/$kvmd_pid/task/$kvmd_pid/children"
	kill -KILL "${heirs[@]}" 2>/dev/null
	wait_for 10 other_than "$was"
done
check "the other build's state was read meanwhile" \
	[ "$(converted)" -ge $((reads + 12)) ]
look after
expect "prefixes are found after that" "$(found "$T/before")" \
	"$(found "$T/after")"
check "and the books are in order" kvctl check

# A limit that was set stays, whichever build is next
kvctl tenant limit "uid:$(id -u)" max=24M >/dev/null
for build in 0 1 0; do
	install_build $build
	kill_kvmd
	check "a limit outlives kvmd" grep -q 24.0M <(kvctl tenant list)
done
kvctl tenant limit "uid:$(id -u)" max=max >/dev/null

# So does what was set of swap, and of the device
low() { kvctl --json device show 0 | grep -o '"watermark_low_bytes":[0-9]*'; }
kvctl -q swap deadline 1234 && kvctl -q swap demote 5,55 &&
	kvctl -q swap discard on && kvctl -q device watermarks 0 1M,3M,4M
kill_kvmd
expect "watermarks outlive kvmd" '"watermark_low_bytes":3145728' "$(low)"
expect "what was set of swap outlives it" \
	"deadline 1234 ms, demote 5,55 %, discard on" "$(kvctl swap | head -1)"

# State of another version: /proc shows the memory that is kept
fd=$(find "/proc/$(serving)/fd" -lname '/memfd:kvmd-state*' | head -1)
printf '\377' | dd of="$fd" bs=1 seek=8 conv=notrunc status=none
kill_kvmd
check "what a successor does not know it does not use" \
	grep -q 'cannot be used.*version' "$KV_LOG_DIR/kvmd.log"
check "it begins anew" look after
expect "with an empty cache" "0 found" "$(found "$T/after")"
check "the books are in order" kvctl check

# A kvmd that crashes by itself is not tried for ever with the same state; it is
# not waited for, as its life has to be a short one. The first one has worked,
# which may have taken long, and may not count.
other_child() {
	read -r child _ <"/proc/$kvmd_pid/task/$kvmd_pid/children"
	[ -n "$child" ] && [ "$child" != "$was" ]
}
was=
for _ in 1 2 3 4 5 6; do
	wait_for 10 other_child
	kill -SEGV "$child"
	was=$child
done
wait_for 10 other_than "$was"
check "after five crashes in a row it begins with nothing" \
	grep -q 'begins with nothing' "$KV_LOG_DIR/kvmd.log"
check "and serves" kvctl -q status

# Without the keeper kvmd goes on
was=$(serving)
kill -KILL "$kvmd_pid"
wait "$kvmd_pid" 2>/dev/null
wait_for 5 eval '[ "$(events keeper_gone)" = 1 ]'
expect "that the keeper has gone is an event" 0 $?
expect "kvmd lives on" "$was" "$(serving)"
expect "and says that it is not kept" false "$(status kept)"
check "runtimes work" look after
kill "$was"
wait_for 10 eval '! kill -0 '"$was"' 2>/dev/null'

# The end
start_kvmd --size 32M --keeper --pid-file "$T/pid" --swap-file "$T/swap2" \
	--swap-size 8M || exit 1
kill_kvmd
expect "the pid file names the keeper" "$kvmd_pid" "$(cat "$T/pid")"
stop_kvmd
expect "told to end, both end well" 0 $?
check "no socket is left" [ ! -e "$KVMD_SOCKET" ]
check "no pid file is left" [ ! -e "$T/pid" ]
check "no swap file is left" [ ! -e "$T/swap2" ]
tap_done
