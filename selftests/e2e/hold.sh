#!/bin/bash
# SPDX-License-Identifier: MIT
#
# hold.sh - two clients wait for each other's memory (selftests/spin/hold.pml):
# nobody waits for ever, unless they wait while marked
#
# alone: no
. selftests/tap.sh

command -v spin >/dev/null || skip_all "no spin here"
model=$PWD/selftests/spin/hold.pml

# verify FLAG... - "errors: N" of an exhaustive search
verify() {
	(
		cd "$T" || exit
		spin -a "$@" "$model" >/dev/null 2>&1
		gcc -O2 -w pan.c -o pan
		./pan | grep -oE 'errors: [0-9]+'
	)
}

expect "nobody waits for ever" "errors: 0" "$(verify)"
expect "found when it is missing: C5, no wait while marked" \
	"errors: 1" "$(verify -DMARKWAIT)"
tap_done
