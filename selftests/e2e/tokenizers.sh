#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tokenizers.sh - our ids against the reference's and other tokenizers'
#
# quick: no
# timeout: 720
#
# `sentencepiece` and `tokenizers` come from PyPI into BUILD/venv, once, with
# the vocabulary rebuilt from the model's file.
. selftests/tap.sh

[ -n "${KV_GEMMA:-}${KV_QWEN:-}" ] || skip_all "no model here"

here=selftests/e2e/tokenizers
kvrun=$BUILD/bin/kvrun
venv venv $here/requirements.txt

# one SENTENCE CHECK MODEL
one() {
	if [ -z "$3" ]; then
		skip "$1" "no such model here"
	elif [ -z "$python" ]; then
		skip "$1" "the Python packages could not be installed"
	else
		check "$1" "$python" -B $here/compare.py "$2" "$kvrun" "$3"
		diag "$(sed -n "s/^\(.*agree\).*/figure: $1: \1/p" \
			"$T/check.out")"
	fi
}

one "character classes equal those of tokenizers" classes \
	"${KV_GEMMA:-$KV_QWEN}"
REFERENCE=gemma-3-270m one "gemma: ids equal the reference" \
	reference "${KV_GEMMA:-}"
REFERENCE=qwen2.5-coder-1.5b one "qwen: ids equal the reference" \
	reference "${KV_QWEN:-}"
one "gemma: random texts as sentencepiece and tokenizers read them" \
	gemma "${KV_GEMMA:-}"
one "qwen: random texts as tokenizers reads them" qwen "${KV_QWEN:-}"
one "gemma: text survives the way there and back" roundtrip "${KV_GEMMA:-}"
one "qwen: text survives the way there and back" roundtrip "${KV_QWEN:-}"
tap_done
