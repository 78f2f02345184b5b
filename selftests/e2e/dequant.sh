#!/bin/bash
# SPDX-License-Identifier: MIT
#
# dequant.sh - every block type as PyPI's gguf reads it
#
# quick: no
# timeout: 720
#
# The package comes into BUILD/venv-gguf, once.
. selftests/tap.sh

here=selftests/e2e/dequant
venv=$BUILD/venv-gguf
stamp=$venv/stamp-$(cksum <$here/requirements.txt | tr ' ' -)
if [ ! -e "$stamp" ]; then
	rm -rf "$venv"
	{ python3 -m venv "$venv" && "$venv/bin/pip" install -q --no-deps \
		--disable-pip-version-check -r $here/requirements.txt; } \
		>"$KV_LOG_DIR/pip-gguf.log" 2>&1 && touch "$stamp"
fi
[ -e "$stamp" ] || skip_all "the package gguf could not be installed"
for type in F32 F16 BF16 Q4_0 Q5_0 Q8_0 Q4_K Q5_K Q6_K; do
	check "$type: values equal those of gguf" "$venv/bin/python" -B \
		$here/compare.py $type "$BUILD/selftests/kernels/dequant_dump"
done
tap_done
