#!/bin/bash
# SPDX-License-Identifier: MIT
#
# model_reference.sh - both models against the fp32 reference, over kvmd
#
# timeout: 1200
. selftests/tap.sh

[ -n "${KV_GEMMA:-}${KV_QWEN:-}" ] || skip_all "no models (make fetch)"
export T
start_kvmd --size 3G || exit 1
# all of its texts take a minute: that is for the long run
nr_qwen=200
[ -z "${KV_LONG:-}" ] || nr_qwen=600

compare() { # TITLE FILE KEY TOKENS
	local line
	[ -n "$2" ] || { skip "$1 against the reference" "no model"; return; }
	selftests/e2e/model/reference.py "$2" "$3" "$4" >"$T/lines" 2>"$T/err" ||
		not_ok "$1: the comparison runs" "$(tail -5 "$T/err")"
	while read -r line; do
		case $line in
		"ok "*) ok "$1: ${line#ok }" ;;
		"no "*) not_ok "$1: ${line#no }" ;;
		*) echo "$line" ;;
		esac
	done <"$T/lines"
}

compare "Gemma 3 270M" "${KV_GEMMA:-}" gemma-3-270m 600
compare "Qwen2.5-Coder 1.5B" "${KV_QWEN:-}" qwen2.5-coder-1.5b \
	"${nr_qwen}"
check "the books are clean" kvctl check
check "kvmd ends well" stop_kvmd
tap_done
