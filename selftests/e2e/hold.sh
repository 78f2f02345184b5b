#!/bin/bash
# SPDX-License-Identifier: MIT
#
# hold.sh - two clients wait for each other's memory (selftests/spin/hold.pml),
# kvmd waits for a client whose page it takes (revoke.pml): nobody waits for
# ever, unless they break a rule
#
# alone: no
. selftests/tap.sh

command -v spin >/dev/null || skip_all "no spin here"

# verify MODEL FLAG... - "errors: N" of an exhaustive search
verify() {
	local model=$PWD/selftests/spin/$1
	(
		cd "$T" || exit
		spin -a "${@:2}" "$model" >/dev/null 2>&1
		gcc -O2 -w pan.c -o pan
		./pan | grep -oE 'errors: [0-9]+'
	)
}

expect "nobody waits for ever" "errors: 0" "$(verify hold.pml)"
expect "found when it is missing: C5, no wait while marked" \
	"errors: 1" "$(verify hold.pml -DMARKWAIT)"
expect "a revoke ends, and no step runs on what it took" \
	"errors: 0" "$(verify revoke.pml)"
expect "found: who is held waits with a step open" \
	"errors: 1" "$(verify revoke.pml -DOPENWAIT)"
expect "found: who is held keeps what it asked for ahead" \
	"errors: 1" "$(verify revoke.pml -DAHEADKEPT)"
expect "found: kvmd does not look before it takes" \
	"errors: 1" "$(verify revoke.pml -DNOCHECK)"
tap_done
