#!/bin/bash
# SPDX-License-Identifier: MIT
#
# serve.sh - kvrun serve: forms, refusals, cancellation, two servers, the end
#
# quick: no
# timeout: 720
#
# The model is one of our own writing: 16 tokens take 512 KiB, 256 an extent.
# What clients do is in serve_client.py; where the real model is, two servers
# of it share a prefix.
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
model=$T/chat.gguf
python3 selftests/e2e/bad_gguf.py --chat "$model" || exit 1

# ask CASE [ARG]... - what serve_client.py says becomes results of this test
ask() { results "$1" python3 selftests/e2e/serve_client.py "$port" "$@"; }
client() { python3 selftests/e2e/serve_client.py "$port" "$@"; }
field() { python3 -c 'import json, sys
print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }

# Room for everything
start_kvmd --size 512M || exit 1
start_serve "$model" --max-body 100000 --step-log "$T/steps" || exit 1
ask forms
check "each step is a line of JSON" \
	jq -se 'map(.prefill + .decode) | add > 0' "$T/steps"
check "kvbench draws the steps" \
	kvbench plot steps "$T/steps" -o "$T/steps.svg"
ask bad
ask many
ask gone
want=$(kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos \
	-n 40 --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["sequences"][0]["text"].encode())')
got=$(client text hello 40 | python3 -c '
import json, sys
print(json.load(sys.stdin)["text"].encode())')
expect "kvrun generate says the same" "$want" "$got"
ask drain "$server"
wait "$server"
expect "a drained server ends well" 0 $?

# Its weights never come
selftests/e2e/bad_gguf.py "$T/files" 0 1 || exit 1
loaded=$T/files/good.gguf
mkfifo "$T/never"
exec 9<>"$T/never"
"$BUILD/selftests/e2e/slow_fill" "$loaded" <"$T/never" >"$T/filler" 2>&1 &
filler=$!
tap_pids+=("$filler")
wait_for 20 grep -q filling "$T/filler"
for sig in TERM INT; do
	: >"$T/loads"
	kvrun serve -t 1 --port 0 -m "$loaded" >"$T/loads" 2>&1 &
	server=$!
	tap_pids+=("$server")
	wait_for 20 grep -q http: "$T/loads"
	port=$(sed 's/.*://' "$T/loads")
	expect "a server that loads says so" 503 "$(curl -s -o /dev/null \
		-w '%{http_code}' "localhost:$port/health")"
	kill -$sig "$server"
	wait "$server"
	expect "SIG$sig ends it at once, and well" 0 $?
	expect "without a word" 1 "$(wc -l <"$T/loads")"
	expect_exit "nobody listens any more" 7 curl -s "localhost:$port/health"
done
kill -KILL "$filler"
wait "$filler"

# with few descriptors, so that there are few connections
kvrun() {
	ulimit -n 128
	exec "$BUILD/bin/kvrun" "$@"
}
start_serve "$model" --api-key secret || exit 1
unset -f kvrun
ask key
ask crowd
stop_serve
expect "an idle server told to end ends well" 0 $?

start_serve "$model" --max-unread 8192 || exit 1
ask slow
stop_serve

start_serve "$model" --max-num-seqs 1 --max-queue 2 --no-prefix-cache \
	--sse-ping-interval 1 || exit 1
ask queued
client lasting 1900 >"$T/cut" &
wait_for 5 eval 'curl -s localhost:$port/metrics |
	grep -q "^vllm:num_requests_running{[^}]*} 1"'
kill "$server"
wait_for 5 eval '! curl -sf localhost:$port/health'
kill "$server"
wait "$server"
expect "a second signal ends it at once" 143 $?
wait $!

start_serve "$model" --chunk 16 --no-prefix-cache || exit 1
ask prefill
stop_serve
check "the books are in order" kvctl check
stop_kvmd

# Memory for one, swap for the rest
start_kvmd --size 32M --swap-ram 128M || exit 1
start_serve "$model" --no-prefix-cache || exit 1
ask swapped
stop_serve
expect "nothing is left in swap" 0 "$(kvctl meminfo --json | field swap_used_bytes)"
check "the books are in order" kvctl check
stop_kvmd

# Somebody holds most of it and gives nothing
start_kvmd --size 32M --revoke admin || exit 1
mkfifo "$T/fifo"
exec 8<>"$T/fifo"
kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos -n 300 \
	--no-prefix-cache --hold <"$T/fifo" >"$T/held" 2>"$T/held.err" &
holder=$!
tap_pids+=("$holder")
wait_for 20 grep -q holding "$T/held.err"
start_serve "$model" --no-prefix-cache --max-num-seqs 1 --max-queue 1 ||
	exit 1
ask starved
kill $holder
stop_serve
stop_kvmd

# kvmd is killed under a server
start_kvmd --size 256M --keeper || exit 1
start_serve "$model" || exit 1
client lasting 700 >"$T/lasting" &
lasting=$!
for _ in 1 2 3; do
	sleep 0.1
	was=$(kvctl status --json | field pid)
	kill -KILL "$was"
	wait_for 10 eval '[ "$(kvctl status --json | field pid)" != '"$was"' ]'
done
wait $lasting
expect "a stream under which kvmd is killed ends with [DONE]" "[DONE]" \
	"$(field end <"$T/lasting")"
kvrun generate -t 1 -m "$model" --prompt hello --temp 0 --ignore-eos \
	-n 700 --json >"$T/want"
expect "and says what a runtime says alone" yes "$(python3 - "$T" <<'PY'
import json, sys
t = sys.argv[1]
a = json.load(open(t + "/lasting"))["text"]
b = json.load(open(t + "/want"))["sequences"][0]["text"]
print("yes" if a == b else (a[:50], b[:50]))
PY
)"
stop_serve
expect "the server ends well" 0 $?
stop_kvmd

# Two servers on the real model
if [ -z "${KV_GEMMA:-}" ]; then
	skip "two servers share a prefix" "no model (make fetch)"
	tap_done
fi
model=$KV_GEMMA
start_kvmd --size 1G || exit 1
start_serve "$model" -t 2 || exit 1
first=$port
prompt=$(printf 'The %s page of the book is torn. ' {1..25})
client text "$prompt" 16 >"$T/first"
start_serve "$model" -t 2 || exit 1
client text "$prompt" 16 >"$T/second"
expect "the first server computes the prompt" 0 "$(field cached <"$T/first")"
check "the second one finds it" [ "$(field cached <"$T/second")" -gt 150 ]
expect "and says the same" "$(field text <"$T/first")" \
	"$(field text <"$T/second")"
kvrun generate -m "$model" --prompt "$prompt" --temp 0 --ignore-eos -n 16 \
	--no-prefix-cache --json >"$T/want"
expect "what kvrun generate says" "$(field text <"$T/first")" \
	"$(python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["sequences"][0]["text"])' "$T/want")"
check "the first one still answers" curl -sf "localhost:$first/health"
stop_kvmd
wait "$server"
expect "a server whose kvmd ends says so" 3 $?
tap_done
