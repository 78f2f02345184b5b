#!/bin/bash
# SPDX-License-Identifier: MIT
#
# spin.sh - the step protocol, model-checked: it holds, and no rule of it
# can be left out (selftests/protocol/step.pml, hold.pml)
#
# long: yes
. selftests/tap.sh

command -v spin >/dev/null || skip_all "no spin here"
models=$PWD/selftests/protocol

# verify MODEL FLAG... - "errors: N" of an exhaustive search
verify() {
	(
		rm -rf "$T/pan"
		mkdir "$T/pan"
		cd "$T/pan" || exit
		spin -a "${@:2}" "$models/$1.pml" >/dev/null 2>&1
		gcc -O2 -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 pan.c -o pan
		./pan -m2000000 >out 2>&1
		# A search that was cut short proves nothing
		if grep -qE 'max search depth too small|out of memory' out; then
			echo "not exhaustive"
		else
			grep -oE 'errors: [0-9]+' out
		fi
	)
}

small=(-DSTEPS=2 -DMOVES=1)
expect "two steps and a move: each step reads its space's content" \
	"errors: 0" "$(verify step "${small[@]}")"
expect "a client that dies at any point" \
	"errors: 0" "$(verify step "${small[@]}" -DCRASH)"
expect "two steps and two moves" \
	"errors: 0" "$(verify step -DSTEPS=2 -DMOVES=2)"
while read -r flag rule; do
	# shellcheck disable=SC2086 # words are meant
	expect "found when it is missing: $rule" \
		"errors: 1" "$(verify step "${small[@]}" ${flag//+/ })"
done <<'RULES'
-DNOCF C2, the client's barrier
-DLEAFFIRST C3, the generation before the leaf
-DUNMARK0 C5, the previous mark put back
-DONEMAP K1 and K4, every mapper
-DGENFIRST K2, the entry before the generation
-DNOKF K3, kvmd's barrier
-DUNBUMP K5, generations that never go down
-DNORESV K6, the reservation is the mark
-DNOPIN K7, the source of a copy is pinned
-DNODPIN K7, what was unmapped is pinned
-DLATE K8, a fresh array for each attach
-DCRASH+-DCRASHEARLY K8, quarantine until the stream is gone
RULES
expect "nobody waits for ever: no wait for memory while marked" \
	"errors: 0" "$(verify hold)"
expect "found when it is missing: C5, never wait while marked" \
	"errors: 1" "$(verify hold -DMARKWAIT)"
tap_done
