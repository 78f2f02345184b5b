#!/bin/bash
# SPDX-License-Identifier: MIT
#
# openai.sh - OpenAI's and Prometheus' Python packages against kvrun serve
#
# quick: no
# timeout: 400
#
# They come from PyPI into BUILD/venv-openai, once. The model is one of our own
# writing, whose tokens are bytes; what the packages are asked is in
# openai/client.py.
. selftests/tap.sh

here=selftests/e2e/openai
command -v python3 >/dev/null || skip_all "no python3 here"
venv venv-openai $here/requirements.txt
[ -n "$python" ] || skip_all "the Python packages could not be installed"
model=$T/chat.gguf
python3 selftests/e2e/bad_gguf.py --chat "$model" || exit 1

ask() {
	results "$1" "$python" -B $here/client.py "http://127.0.0.1:$port" "$1"
}

start_kvmd --size 256M || exit 1
start_serve "$model" --api-key secret || exit 1
ask forms
ask chat
ask errors
ask async
ask metrics
stop_serve
start_serve "$model" --api-key secret --max-num-seqs 1 --max-queue 1 \
	--no-prefix-cache || exit 1
ask busy
stop_serve
expect "the server ends well" 0 $?
check "the books are in order" kvctl check
tap_done
