#!/bin/bash
# SPDX-License-Identifier: MIT
#
# load.sh - kvbench serve against a server whose pace is known
#
# load/server.py sends a token each so many ms. Counts have to be exact;
# times are judged from below only: a busy machine makes them longer.
#
# timeout: 400
. selftests/tap.sh

nr_servers=0
# serve_fake [OPTION=VALUE]... - its URL is $url
serve_fake() {
	nr_servers=$((nr_servers + 1))
	python3 selftests/e2e/load/server.py "$T/port$nr_servers" "$@" \
		>"$T/server.err" 2>&1 &
	tap_pids+=("$!")
	server_pid=$!
	wait_for 10 test -f "$T/port$nr_servers" || {
		diag "$(cat "$T/server.err")"
		exit 1
	}
	url=http://127.0.0.1:$(cat "$T/port$nr_servers")
}
# load OPTION... - kvbench serve --json into $T/r; its exit status
load() { kvbench serve --url "$url" --json "$@" >"$T/r" 2>"$T/err"; }
figure() { jq -c "$1" "$T/r"; }
ask() { # PATH - of the server
	exec 3<>"/dev/tcp/127.0.0.1/${url##*:}"
	printf 'GET %s HTTP/1.1\r\nConnection: close\r\n\r\n' "$1" >&3
	sed '1,/^\r$/d' <&3
	exec 3<&-
}
count() { ask /count | jq -c "$1"; }
holds() { # SENTENCE JQ-FILTER: it is true of $T/r
	expect "$1" true "$(figure "$2")"
}

# ---- figures of a server that behaves ----
serve_fake pace=0.01 first=0.05
check "ids, an open loop at 80/s" load --num-prompts 40 --request-rate 80 \
	--input-len 30 --output-len 8 --ignore-eos --warmup 3 \
	--goodput ttft:100000 tpot:100000 --save-result "$T/saved"
expect "counts are exact" '[40,0,0,1200,320]' "$(figure '[.completed, .failed,
	.not_sent, .total_input_tokens, .total_output_tokens]')"
expect "the server saw them, and the warm-up" '[43,30,8]' \
	"$(count '[.streamed, (.prompt_tokens|min), (.output|max)]')"
holds "first tokens take what they take" '.p50_ttft_ms >= 50'
# A token that is read late is nearer to the next one.
holds "the time between tokens is about the pace, on average" \
	'.mean_itl_ms >= 7 and .mean_tpot_ms >= 7'
holds "the whole is first token and seven more" \
	'.median_e2el_ms >= 119 and .median_norm_ms >= 14.8'
holds "percentiles rise" '.median_itl_ms <= .p90_itl_ms and
	.p90_itl_ms <= .p99_itl_ms and .p99_itl_ms <= .["p99.9_itl_ms"] and
	.["p99.9_itl_ms"] <= .max_itl_ms and .median_ttft_ms == .p50_ttft_ms'
holds "throughput is count over duration" '(.output_throughput*.duration-320|
	fabs) < 0.01 and (.request_throughput*.duration-40|fabs) < 0.01 and
	(.total_token_throughput*.duration-1520|fabs) < 0.01'
holds "all were good, and the cache had nothing" \
	'.request_goodput == .request_throughput and .cached_tokens == 0'
holds "it took as long as the last one was due, at least" \
	'.duration >= 0.25 and .drain_s > 0.1'
expect "the saved result has each request" '[40,true]' "$(jq -c '[
	(.requests|length), ([.requests[]|.ok and .due<=.sent and .sent<.first
	and .first<.end and .output==8]|all)]' "$T/saved")"

sent() { jq -c '[.requests[]|.due*1e6|round]' "$1"; }
check "again" load --num-prompts 40 --request-rate 80 --input-len 30 \
	--output-len 8 --save-result "$T/saved2"
expect "the same seed is due at the same times" "$(sent "$T/saved")" \
	"$(sent "$T/saved2")"
holds "without --ignore-eos answers end where the server says" \
	'.total_output_tokens == 200'
check "another seed" load --num-prompts 40 --request-rate 80 --seed 2 \
	--input-len 30 --output-len 2 --save-result "$T/saved3"
expect "at other times" different "$([ "$(sent "$T/saved")" = \
	"$(sent "$T/saved3")" ] && echo same || echo different)"
check "all at once, two at a time" load --num-prompts 10 --output-len 2 \
	--max-concurrency 2 --input-len 20
expect "were two at a time" 2 "$(figure .max_concurrent_requests)"
holds "and the wait for a place counts, not as lateness" \
	'.max_queue_ms >= 200 and .max_ttft_ms >= 240 and
	.max_lag_ms < .max_queue_ms/2'
check "a time that is over" load --request-rate 50 --seconds 0.5 \
	--output-len 2
holds "sends no more" '.completed > 5 and .completed < 60 and .failed == 0'

ask /set/mute=1 >/dev/null
for endpoint in completions chat; do
	check "answers without text, $endpoint" load --num-prompts 5 \
		--request-rate 100 --endpoint $endpoint --save-result "$T/mute"
	holds "have a first token too" '.completed == 5 and
		.total_output_tokens == 5 and .mean_ttft_ms >= 50 and
		.max_ttft_ms < 60000 and .max_ttft_ms == .max_e2el_ms'
done
ask /set/mute=0 >/dev/null
ask /set/tail=0.5 >/dev/null
check "a stream that stays open" load --num-prompts 4 --output-len 2 \
	--input-len 16 --save-result "$T/tail"
expect "ends with its last token, the run with its last byte" true \
	"$(jq '(.duration as $d|[.requests[]|.end + 0.4 < $d]|all) and
	.duration > 0.5' "$T/tail")"
ask /set/tail=0 >/dev/null

check "300 at once" load --num-prompts 300 --output-len 1 --input-len 16 \
	--save-result "$T/burst"
expect "are all answered" 300 "$(figure .completed)"
expect "and are late by when they are sent" true "$(jq '(.max_lag_ms/1e3) as $l|
	[.requests[]|.sent-.due]|max-$l|fabs < 1e-6' "$T/burst")"
holds "what has no samples is null" '.p99_itl_ms == null and
	.mean_tpot_ms == null and .p99_ttft_ms > 0 and
	has("request_goodput") == false'
check "turns that do not come" load --workload chat --endpoint chat --turns 2 \
	--think 50 --seconds 0.5 --num-prompts 20 --input-len 10 --output-len 2
holds "are not waited for" '.not_sent > 5 and .drain_s > 0.05'
kvbench serve --url "$url" --request-rate 200 --num-prompts 5 --output-len 1 \
	--max-lag 0 >"$T/out" 2>&1
check "a client that is late says so" grep -q 'could not keep up' "$T/out"

# ---- prefixes ----
check "one shared prefix" load --workload shared-prefix --shared-prefixes 1 \
	--prefix-len 160 --input-len 40 --output-len 1 --num-prompts 8 \
	--max-concurrency 1 --ignore-eos --plot-dir "$T/plots"
holds "is a hit in all but the first" '.cached_tokens == 7*160 and
	(.cache_hit_rate - 0.7|fabs) < 1e-6'
ask /set/details=1 >/dev/null
check "a server that leaves out the hits of none" load \
	--workload shared-prefix --shared-prefixes 1 --prefix-len 160 --seed 9 \
	--input-len 40 --output-len 1 --num-prompts 8 --max-concurrency 1
holds "has as many" '.cached_tokens == 7*160 and
	(.cache_hit_rate - 0.7|fabs) < 1e-6'
ask /set/details=0 >/dev/null
echo '{"t":1,"dur_ms":2,"prefill":0,"decode":1}' >"$T/step"
expect_exit "there is no plot of hits that are never said" 1 load \
	--num-prompts 4 --output-len 1 --plot-dir "$T/none" --step-log "$T/step"
check "which is said" grep -q 'hits.svg: the server did not say' "$T/err"
expect "but one of its steps" steps.svg "$(ls "$T/none")"
holds "nor a rate of them" '.cached_tokens == null and .cache_hit_rate == null'
ask /set/details=2 >/dev/null
check "tree of thought" load --workload tot --branch 2 --depth 3 \
	--input-len 64 --output-len 24 --num-prompts 14 --ignore-eos
holds "has its requests, and the answers in its prompts" '.completed == 14 and
	.total_input_tokens == 2*72 + 4*(72+24+8) + 8*(72+2*(24+8)) and
	.prompts == "token ids 1000 to 20999"'
check "examples" load --workload fewshot --num-prompts 6 --request-rate 100
check "chat" load --workload chat --endpoint chat --num-prompts 6 --think 0 \
	--turns 3 --output-len 4 --ignore-eos --input-len 10
holds "whose turns follow" '.completed == 6 and .total_output_tokens == 24'
expect "quotes the answer that came" true "$(count '.prompts|map(join(" "))|
	any(test("<assistant> w0 w1 w2 w3 ?<user>"))')"
for i in 0 1 2 3; do
	echo "{\"timestamp\": $((i * 100)), \"input_length\": 600, \
\"output_length\": 3, \"hash_ids\": [7, $i]}"
done >"$T/trace"
check "a trace" load --trace "$T/trace" --ignore-eos
holds "comes at its times with its lengths" '.duration >= 0.3 and
	.total_input_tokens == 2400 and .total_output_tokens == 12 and
	.cached_tokens == 3*512'

# ---- text ----
check "prompts as text" load --prompts text --num-prompts 10 \
	--input-len 100 --output-len 1
holds "are as long as they should be" \
	'.total_input_tokens > 980 and .total_input_tokens < 1020'
kill "$server_pid"
serve_fake ids=0 usage=0 say_ids=0 split=1 pace=0
check "a server that takes no ids and counts nothing, a byte a time" load \
	--num-prompts 10 --input-len 100 --output-len 3 --ignore-eos \
	--header 'X-KV-Tenant: a'
holds "is sized by /tokenize" '.total_output_tokens == 30 and
	(.prompts|test("tokenize"))'
expect "the header was sent" true \
	"$(count '.headers|any(.=="X-KV-Tenant: a")')"
expect "text of a hundred tokens is eighty words" true \
	"$(count '.prompts|all(length==80)')"
expect "a key of the environment is sent, whole" true "$(
	key=$(printf 'k%.0s' {1..1500})
	OPENAI_API_KEY=$key load --num-prompts 1 --output-len 1 --input-len 16
	count ".headers|any(.==\"Authorization: Bearer $key\")")"
expect "or refused by its name" "2 1 0" "$(
	OPENAI_API_KEY=$'SEC\nRET' load --num-prompts 1
	echo $? "$(grep -c OPENAI_API_KEY "$T/err")" "$(grep -c SEC "$T/err")")"

# ---- a server that does not behave ----
kill "$server_pid"
serve_fake pace=0 first=0
bad() { # KIND COUNTED-AS MESSAGE [TIMEOUT]
	ask "/set/bad=$1:4" >/dev/null
	expect_exit "$1: some failed, status 1" 1 load --num-prompts 20 \
		--output-len 2 --input-len 16 --timeout "${4:-600}"
	expect "$1: five are counted as $2, with the first message" \
		"[15,5,5,true]" "$(jq -c --arg k "$2" --arg m "$3" '[.completed,
			.failed, .errors[$k].count,
			(.errors[$k].first|test($m))]' "$T/r")"
}
bad 429 http_429 'told to say 429'
bad 503 http_503 'told to say 503'
bad garbage bad_http 'status line'
bad nostream no_stream choices
bad cut broken_stream 'ended within'
bad short broken_stream 'without a reason'
bad json bad_json choices
bad error error_event 'out of  pages'
bad hang timeout 'nothing for' 5
kvbench serve --url "$url" --num-prompts 4 --output-len 2 --timeout 0.3 \
	>"$T/out" 2>&1
check "the table says it too" grep -q 'timeout .*first: nothing for' "$T/out"
ask "/set/bad=reset:1" >/dev/null
expect_exit "connections that are reset" 1 load --num-prompts 5
expect "are broken" '[0,5]' "$(figure '[.completed, .errors.broken.count]')"
kill "$server_pid"
wait "$server_pid" 2>/dev/null
expect_exit "no server at all" 1 load --model m --prompts ids --num-prompts 5
expect "all are refused" '[0,5]' \
	"$(figure '[.completed, .errors.refused.count]')"
expect_exit "nor one to ask for its model" 1 load
check "which is said" grep -q 'refused' "$T/err"

# ---- interrupted ----
serve_fake pace=0.001 first=0.02
# interrupt WHEN OPTION... - kvbench serve, once its $T/err has WHEN
interrupt() {
	local when=$1 pid
	shift
	: >"$T/err"
	kvbench serve --url "$url" --json "$@" >"$T/r" 2>"$T/err" &
	pid=$!
	wait_for 10 sh -c "$when" || diag "$(cat "$T/err")"
	kill -INT "$pid"
	wait "$pid"
}
expect_exit "^C in a sweep" 1 interrupt "grep -q holds '$T/err'" --sweep \
	--slo 'p50_ttft_ms<=60000' --rates 10:10000 --point-seconds 1 \
	--num-prompts 10 --output-len 2 --input-len 16 --max-lag 10000 \
	--save-result "$T/cut"
expect "keeps the points so far" true "$(jq '.is_interrupted and
	(.points|length > 0) and (.verdict|test("interrupted"))' "$T/cut")"
ask /set/first=2 >/dev/null
expect_exit "^C in the warm-up" 1 interrupt "sleep 0.5" --warmup 3 \
	--num-prompts 5 --output-len 2 --input-len 16 --model m --prompts ids
check "is said" grep -q interrupted "$T/err"
expect "and nothing is measured" 3 "$(count .streamed)"
kill "$server_pid"

# ---- sweep and plots ----
serve_fake pace=0.001 first=0.02 slots=4
check "a sweep" load --sweep --slo 'p50_ttft_ms<=60000,completed>=20' \
	--rates 40:160 --point-seconds 0.2 --num-prompts 20 --output-len 2 \
	--input-len 16 --repeat 1 --max-points 4 --save-result "$T/sweep" \
	--plot-dir "$T/plots" --max-lag 10000
holds "that always holds says at least" \
	'.capacity == 160 and (.verdict|test("at least"))'
expect_exit "one that never holds is no success" 1 load --sweep \
	--slo 'mean_ttft_ms<=5' --rates 40:80 --point-seconds 0.1 \
	--num-prompts 4 --output-len 2 --input-len 16 --max-points 3
holds "and says so" '.capacity == 0 and (.points|length) == 3'
expect "each point has the figures" true "$(jq '[.points[].figures|
	has("p99_itl_ms", "median_norm_ms")]|all' "$T/sweep")"
expect_exit "a figure that there is not ends the sweep" 1 load --sweep \
	--slo 'p50_ttft_ms<=60000, p99_itl<=60' --rates 40:80 \
	--point-seconds 0.1 --num-prompts 4 --output-len 2 --input-len 16
check "which is said, with its name" \
	grep -q -- '--slo: there is no figure "p99_itl"' "$T/err"
expect_exit "a figure without samples does not hold" 1 load --sweep \
	--slo 'p99_itl_ms<=60000' --rates 40:80 --point-seconds 0.1 \
	--num-prompts 4 --output-len 1 --input-len 16 --max-points 2
holds "and says so" '.points|length == 2 and
	(map(.why == "p99_itl_ms: nothing was measured")|all)'
for i in $(seq 0 1999); do
	echo "{\"t\": 5.$((i + 1000)), \"dur_ms\": $((i % 7 + 1)), \"prefill\": \
$((i % 5 * 64)), \"decode\": $((i % 32)), \"running\": 3, \"waiting\": 1}"
done >"$T/steps"
head -20 "$T/steps" >"$T/few"
check "plot steps, many" kvbench plot steps "$T/steps" -o "$T/plots/a.svg"
check "plot steps, few" kvbench plot steps "$T/few" -o "$T/plots/b.svg"
check "plot sweep, two of them" kvbench plot sweep "$T/sweep" "$T/sweep" \
	-o "$T/plots/c.svg"
check "plot hits" kvbench plot hits "$T/saved" -o "$T/plots/d.svg"
check "each picture is XML, and shows something" python3 - "$T"/plots/*.svg <<'PY'
import sys
import xml.etree.ElementTree as E
NS = "{http://www.w3.org/2000/svg}"
assert len(sys.argv) == 7, sys.argv
for f in sys.argv[1:]:
    root = E.parse(f).getroot()
    assert root.tag == NS + "svg", f
    w, h = float(root.get("width")), float(root.get("height"))
    drawn = [e for e in root.iter() if (e.get("class") or "")[:1] == "s"
             and (e.get("class") or "x")[1:2].isdigit()]
    assert len(drawn) > 3, f
    for e in root.iter(NS + "rect"):
        assert -1 <= float(e.get("x")) <= w, f
        assert -1 <= float(e.get("y")) <= h, f
        assert float(e.get("width")) >= 0, f
        assert float(e.get("height")) >= 0, f
    assert "nan" not in open(f).read(), f
PY
expect_exit "what is no log of steps is refused" 1 kvbench plot steps "$0" \
	-o "$T/x.svg"
check "with its line" grep -q 'line 1 is no step' "$T/out"
expect_exit "a sweep of nothing too" 1 kvbench plot sweep "$T/saved" \
	-o "$T/x.svg"

# ---- a name with several addresses ----
printf '%s localhost\n' ::1 127.0.0.1 >"$T/hosts"
two_addresses() { # COMMAND... - where localhost has both
	# shellcheck disable=SC2016 # the inner shell's
	unshare -rm sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' \
		"$T/hosts" "$@"
}
if two_addresses true 2>/dev/null; then
	check "a server that has the second one only is found" \
		two_addresses kvbench serve --url "http://localhost:${url##*:}" \
		--num-prompts 2 --output-len 1
else
	skip "a server that has the second one only is found" "no namespaces"
fi

# ---- usage ----
for bad in "--workload x" "--input-len 0" "--request-rate 0" "--slo a" \
	"--sweep" "--goodput x:1" "--url ftp://x --x" "stray" \
	"--arrival poisson --burstiness 2" "--metric-percentiles 101" \
	"--workload trace" "--prompts ids --endpoint chat" "--rates 5:4" \
	"--goodput ttft:-5" "--percentile-metrics foo" "--timeout abc" \
	"--vocab 1.5:1.7"; do
	# shellcheck disable=SC2086 # words are meant
	expect_exit "$bad: usage" 2 kvbench serve --url "$url" $bad
done
for bad in "--timeout abc" "--vocab 1.5:1.7" "--percentile-metrics ttft,foo"; do
	# shellcheck disable=SC2086 # words are meant
	kvbench serve --url "$url" $bad 2>"$T/err"
	check "$bad: the option is named" grep -q -- "${bad% *}" "$T/err"
done
expect_exit "no URL" 2 kvbench serve
expect_exit "a URL of something else" 1 kvbench serve --url https://x
expect_exit "plot of nothing" 2 kvbench plot
tap_done
