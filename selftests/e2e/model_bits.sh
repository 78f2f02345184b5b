#!/bin/bash
# SPDX-License-Identifier: MIT
#
# model_bits.sh - the same bits over pages, contiguous memory, in any chunks,
# on any number of threads; the window's frames; samples, beams, weights once
#
# timeout: 720
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model (make fetch)"
start_kvmd --size 3G || exit 1

ids() { # KEY NR - the first ids of the first text
	jq -r ".\"$1\".texts[0].ids[:$2] | map(tostring) | join(\" \")" \
		selftests/data/reference.json >"$T/ids"
}

# same SENTENCE MODEL OPTION... - the same scores, to the last bit
same() {
	if ! kvrun score -m "$2" --ids-file "$T/ids" --json "${@:3}" \
		>"$T/other" 2>"$T/err"; then
		not_ok "$1" "$(cat "$T/err")"
		return
	fi
	check "$1" cmp "$T/paged" "$T/other"
}

bits() { # TITLE MODEL KEY NR
	ids "$3" "$4"
	check "$1: scores" kvrun score -m "$2" --ids-file "$T/ids" --json
	mv "$T/check.out" "$T/paged"
	same "$1: contiguous memory gives the same bits" "$2" --kv contig
	same "$1: chunks of 100 tokens do" "$2" --chunk 100
	same "$1: one thread does" "$2" -t 1
	same "$1: three threads do" "$2" -t 3
}

bits "Gemma" "$KV_GEMMA" gemma-3-270m 600
[ -z "${KV_QWEN:-}" ] || bits "Qwen" "$KV_QWEN" qwen2.5-coder-1.5b 70

# ---- beyond the window: the same tokens, and the frames come back ----

mkfifo "$T/hold"
exec 9<>"$T/hold"

# hold OUT OPTION... - a kvrun that has answered and stays; its pid in $held
hold() {
	: >"$T/$1.err" # or the last one's word would be taken for this one's
	kvrun generate --json --hold --no-prefix-cache "${@:2}" <"$T/hold" >"$T/$1" \
		2>"$T/$1.err" &
	held=$!
	tap_pids+=("$held")
	wait_for 100 settled "$1"
	grep -q 'kvrun: holding' "$T/$1.err"
}

settled() { # it holds, or it is gone
	grep -q 'kvrun: holding' "$T/$1.err" || ! kill -0 "$held"
}

release() { # PID
	kill "$1"
	wait "$1"
}

holding() { kvctl --json meminfo | jq ".$1"; }
# Of those who are there; what was published stays.
holding_frames() { kvctl --json meminfo | jq ".frame_bytes - .cached_bytes"; }

ids gemma-3-270m 500
long=(-m "$KV_GEMMA" --prompt-ids "$(tr ' ' , <"$T/ids")" -n 80 --temp 0
	--ignore-eos)
hold windowed "${long[@]}" || not_ok "a long generation" "$(cat "$T"/*.err)"
# 579 of 580 tokens computed: 37 pages of 48 KiB; of 240 KiB only those with
# one of the 512 tokens that the last reserved row (position 576) sees
expect "past the window Gemma holds the frames of the closed form" \
	$((37 * 49152 + (37 - (577 - 512) / 16) * 245760)) \
	"$(holding_frames)"
check "SIGTERM ends a held runtime well" release $held
check "over contiguous memory it runs too" \
	kvrun generate --json "${long[@]}" --kv contig
expect "and gives the same tokens" \
	"$(jq -c '.sequences[0].ids' "$T/windowed")" \
	"$(jq -c '.sequences[0].ids' "$T/check.out")"

# ---- samples and beams: pages saved, by the lengths ----

ids gemma-3-270m 100
prompt=$(tr ' ' , <"$T/ids")
for n in 2 4 6; do
	hold samples -m "$KV_GEMMA" --prompt-ids "$prompt" -n 21 --temp 1 \
		--seed 5 --ignore-eos --n-samples $n ||
		not_ok "$n samples" "$(cat "$T/samples.err")"
	# 100 = 6 full pages, shared; 120 computed = 8 pages each
	expect "$n samples save the prompt's full pages $((n - 1)) times" \
		$(((n - 1) * 6 * (49152 + 245760))) "$(holding saved_bytes)"
	expect "and hold the others" \
		$(((6 + n * 2) * (49152 + 245760))) "$(holding_frames)"
	expect "$n sequences are printed" $n \
		"$(jq '.sequences | length' "$T/samples")"
	release $held
	check "beam search of $n runs" kvrun generate -m "$KV_GEMMA" \
		--prompt-ids "$prompt" -n 12 --beam $n --json --ignore-eos \
		--logprobs 2
	expect "and prints $n ranked sequences of 12 tokens" "[true,$n,12,12]" \
		"$(jq -c '[.sequences | ([.[].score] | . == (sort | reverse)),
			length, (.[-1].ids | length),
			(.[-1].logprobs | length)]' "$T/check.out")"
done

# ---- two runtimes, one copy of the weights ----

hold one -m "$KV_GEMMA" --prompt "One" -n 2 --temp 0 || not_ok "one holds"
first=$held
hold two -m "$KV_GEMMA" --prompt "Two" -n 2 --temp 0 || not_ok "two holds"
size=$(holding weights_open_bytes)
expect "two runtimes hold the weights once" yes "$(packed "$size" "$KV_GEMMA")"

# Of their mappings: the shares of all processes together
pss() {
	cat "/proc/$first/smaps" "/proc/$held/smaps" \
		"/proc/$kvmd_pid/smaps" 2>/dev/null |
		awk '/^[0-9a-f]+-[0-9a-f]+ / { on = /memfd:kvmd-weights/ }
			on && $1 == "Pss:" { sum += $2 }
			END { print sum * 1024 }'
}
seen=$(pss)
diag "PSS of the weights, all processes: $seen of $size bytes"
expect "the kernel's PSS counts them once" yes "$([ "$seen" -gt 0 ] &&
	[ "$seen" -le $((size + 65536)) ] && echo yes)"
release "$first"
release $held

check "the books are clean" kvctl check
check "kvmd ends well" stop_kvmd
tap_done
