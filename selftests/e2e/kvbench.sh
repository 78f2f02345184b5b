#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kvbench.sh - every subject runs and prints its JSON
#
# Tiny sizes: no number means anything here, and none is judged. make figures
# measures and judges. The figures are in claims.sh.
#
# timeout: 540
# quick: no
. selftests/tap.sh

for subject in attention bw cache fault fork gemm pages revoke swap util; do
	expect "kvbench $subject" "$subject true" \
		"$(kvbench $subject --tiny --json 2>"$T/err" |
		jq -r '[.bench, (.results|length>0 and (.[0]|type)=="object")]|
			join(" ")')"
	check "kvbench $subject as a table" kvbench "$subject" --tiny
done
for subject in attention gemm; do
	kvbench $subject --tiny -j >"$T/record"
	expect "kvbench $subject has each row cold and warm" true \
		"$(jq '[.results[].cache]|(length/2) as $n|
			[.[range(0; length; 2)], .[range(1; length; 2)]]==
			[range($n)|"cold"]+[range($n)|"warm"]' "$T/record")"
	jq -c '.results|=(.[1:]|.[0].us=1e9|.[0].paged_us=1e9)' "$T/record" \
		>"$T/older"
	kvbench $subject --tiny -j --against "$T/older" >"$T/compared"
	expect "its --against divides each row by the one of the same name" \
		'[false,true,true]' "$(jq -c '.results|[(.[0]|has("over_before")),
			(.[1]|.before==1e9 and .over_before<0.1),
			([.[2:][]|.over_before>0]|all)]' "$T/compared")"
	check "and prints them" grep -q '^before: .* version' \
		<(kvbench $subject --tiny --against "$T/older")
done
kvbench gemm --tiny -j -t 2 --peer onednn >"$T/peer" 2>"$T/err"
rc=$?
if grep -q 'apt-get install libdnnl2' "$T/err"; then
	expect "without oneDNN --peer fails" 1 $rc
	skip "kvbench gemm has oneDNN beside each row" "no libdnnl2 here"
	skip "that oneDNN has as many threads is looked at" "no libdnnl2 here"
else
	expect "kvbench gemm has oneDNN beside each row" '0 true' \
		"$rc $(jq '.onednn[:2]=="2." and ([.results[]|
			.onednn_f32_us>0 and .over_onednn_f32>0]|all)' "$T/peer")"
	expect "that oneDNN has as many threads is looked at" \
		"kvbench: gemm: oneDNN computes on 1 threads, not on 2" \
		"$(OMP_THREAD_LIMIT=1 kvbench gemm --tiny -t 2 --peer onednn 2>&1)"
fi
expect_exit "of a peer that there is" 1 kvbench gemm --tiny --peer mkl
expect_exit "and for products" 2 kvbench bw --tiny --peer onednn
expect_exit "and beside no record" 2 kvbench gemm --tiny --peer onednn \
	--against "$T/record"
printf '{"hash_ids": [%s]}\n' 1 2 1 3 2 1 >"$T/trace"
expect "kvbench cache replays a trace" '[0,2,"lru"]' \
	"$(kvbench cache --trace "$T/trace" --blocks 1 --policy lru --json |
		jq -c '[.hit_rate*6, (.optimum*6|round), .policy]')"
expect_exit "of a policy that there is" 1 kvbench cache --policy fifo
expect_exit "and of sizes" 1 kvbench cache --trace "$T/trace" --blocks x
expect_exit "what is no trace is refused" 1 kvbench cache --trace "$0"
expect_exit "a record of another subject is refused" 1 \
	kvbench attention --tiny --against "$T/record"
expect_exit "a record of other sizes too" 1 kvbench gemm --against "$T/record"
expect_exit "and of other threads" 1 kvbench gemm --tiny -t 77 \
	--against "$T/record"
expect_exit "and what is no record" 1 kvbench gemm --against "$0"
expect_exit "bw is held against nothing" 1 kvbench bw --against "$T/record"
expect_exit "nor are claims" 2 kvbench claims --against "$T/record"
expect_exit "an unknown subject is a usage error" 2 kvbench nosuch
expect_exit "and no subject" 2 kvbench
expect_exit "a model that is not there fails" 1 kvbench model -m /nonexistent
if [ -n "${KV_GEMMA:-}" ]; then
	expect "kvbench model has issue 4's form" '["pp16",1] ["tg2",1] ' \
		"$(kvbench model -m "$KV_GEMMA" -p 16 -n 2 -b 1 --tiny -j |
		jq -c '.results[]|select(.tps>0)|[.test,.batch]' | tr '\n' ' ')"
else
	skip "kvbench model has issue 4's form" "no model here"
fi
tap_done
