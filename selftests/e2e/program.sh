#!/bin/bash
# SPDX-License-Identifier: MIT
#
# program.sh - the example of a program: forks, a join, a choice
#
# quick: no
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
three=$BUILD/examples/three_ways
selftests/e2e/bad_gguf.py "$T/files" 0 1 || exit 1
expect_exit "without a kvmd it says so" 1 \
	"$three" "$T/files/good.gguf" "$T/nobody"
expect_exit "without a model it says how it is used" 2 "$three"

start_kvmd --size 512M || exit 1
# $1: a model; three answers, one of which is the likeliest
asks() {
	check "it runs" "$three" "$1" "$KVMD_SOCKET"
	cp "$T/check.out" "$T/said"
	expect "three answers" 3 "$(grep -c '^answer [0-2]:' "$T/said")"
	local at
	at=$(sed -n 's/^likeliest, \([0-2]\) .*/\1/p' "$T/said")
	expect "one of them is the likeliest" \
		"$(grep -a "^answer $at:" "$T/said" | cut -d: -f2-)" \
		"$(grep -a ^likeliest "$T/said" | cut -d: -f2-)"
}
asks "$T/files/good.gguf"
if [ -z "${KV_GEMMA:-}" ]; then
	skip "what the branches share is found" "no model (make fetch)"
else
	asks "$KV_GEMMA"
	# shellcheck disable=SC2046 # two numbers
	set -- $(sed -n 's/^prompt tokens: \([0-9]*\).*, \([0-9]*\) .*/\1 \2/p' \
		"$T/said")
	check "what the branches share is computed once" [ "$2" -gt "$1" ]
	check "it knows the river" grep -q '^likeliest.*the Seine' "$T/said"
	cp "$T/said" "$T/first"
	asks "$KV_GEMMA"
	expect "once more: the same answers" "$(grep -v tokens "$T/first")" \
		"$(grep -v tokens "$T/said")"
	check "of which kvmd still has the pages" [ "$(sed -n \
		's/^prompt tokens: \([0-9]*\).*/\1/p' "$T/said")" -lt "$1" ]
fi
expect "it leaves no page of its own" 0 \
	"$(kvctl space list --json | python3 -c 'import json, sys
print(len(json.load(sys.stdin)["spaces"]))')"
check "the books are in order" kvctl check
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
