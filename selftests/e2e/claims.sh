#!/bin/bash
# SPDX-License-Identifier: MIT
#
# claims.sh - kvbench claims has every figure
#
# Tiny sizes, as in kvbench.sh.
#
# timeout: 240
# quick: no
. selftests/tap.sh

list=$(kvbench list --json | jq -r '.figures[].name')
expect "list names figures" true "$(kvbench list -j |
	jq "[.figures[]|has(\"name\",\"what\",\"unit\",\"target\")]|all")"
expect "no target is one that nothing can miss" "" \
	"$(kvbench list -j | jq -r '.figures[]|
		select(.cmp==">=" and .target<=0)|.name')"
kvbench claims --tiny --json >"$T/claims" 2>"$T/err"
expect "claims exits with 0" 0 $?
expect "claims has every figure" "$(echo "$list" | sort)" \
	"$(jq -r '.figures[].name' "$T/claims" | sort)"
expect "each with what, target, measured, unit and command" true \
	"$(jq '[.figures[]|has("what","target","measured","unit","command")]|all' \
		"$T/claims")"
expect "and the machine" true \
	"$(jq '.machine|[has("cpu","cpus","kernel","isa","date")]|all' "$T/claims")"
expect "a figure by its name" "util.frames" \
	"$(kvbench claims util.frames --tiny -j 2>/dev/null |
	jq -r '.figures[].name')"
theirs='^(load|margin|score|tokens|weights)[.]'
expect "the models' figures are among them" "load.attach load.cold \
load.second margin.bf16 margin.bf16attn margin.gemma margin.int16 margin.int8 margin.qwen \
score.bf16 score.bf16attn score.gemma score.int16 score.int8 score.qwen tokens.differ weights.once \
weights.told" \
	"$(echo "$list" | grep -E "$theirs" | sort | xargs)"
if [ -n "${KV_GEMMA:-}" ] && [ -n "${KV_QWEN:-}" ]; then
	expect "with both models here each of them is measured" true \
		"$(jq --arg re "$theirs" '[.figures[]|select(.name|test($re))|
			.measured|type=="number"]|all' "$T/claims")"
else
	skip "with both models here each of them is measured" "no models here"
fi
expect "without the reference they are skipped and say why" "0 true" \
	"$(kvbench claims margin score tokens --data /nonexistent --tiny -j \
		2>/dev/null >"$T/skipped"
	echo $? "$(jq '[.figures[]|.skipped|test("--data|make fetch")]|all' \
		"$T/skipped")")"
echo '{"machine": {"cpu": "old"}, "figures": [
	{"name": "util.frames", "measured": 1}, {"name": "x.y", "measured": 2}]}' \
	>"$T/record.json"
check "figures.sh measures by name" scripts/figures.sh "$BUILD" \
	"$T/record.json" util.frames
expect "it keeps what it measured, and each figure's machine" \
	'[["util.frames",true,false],["x.y",false,true]]' \
	"$(jq -c '[.figures[]|[.name, .measured>90, .machine.cpu=="old"]]' \
		"$T/record.json")"
expect_exit "figures.sh keeps nothing of --tiny" 2 scripts/figures.sh "$BUILD" \
	"$T/record.json" util.frames --tiny
expect_exit "an unknown figure is a usage error" 2 kvbench claims no.such
tap_done
