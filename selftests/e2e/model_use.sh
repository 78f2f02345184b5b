#!/bin/bash
# SPDX-License-Identifier: MIT
#
# model_use.sh - kvrun as a person uses and misuses it
#
# timeout: 540
. selftests/tap.sh

[ -n "${KV_GEMMA:-}" ] || skip_all "no model (make fetch)"
export TMPDIR=$T/tmp
mkdir "$TMPDIR"
chmod 755 "$T"
chmod 1777 "$TMPDIR"
gen=(kvrun generate -m "$KV_GEMMA" --prompt "The capital of France is")

# says SENTENCE STATUS PART COMMAND... - it fails with one clear sentence
says() {
	local rc
	"${@:4}" >"$T/out" 2>"$T/err" </dev/null
	rc=$?
	if [ $rc = "$2" ] && [ "$(wc -l <"$T/err")" = 1 ] &&
		grep -q -- "$3" "$T/err"; then
		ok "$1"
	else
		not_ok "$1" "exit status $rc, wanted $2 and: $3" \
			"$(head -5 "$T/err")"
	fi
}

# ---- no kvmd, bad files, bad arguments ----

says "without kvmd" 3 "$KVMD_SOCKET" "${gen[@]}"
says "no such file" 1 "nosuch.gguf" \
	kvrun generate -m "$T/nosuch.gguf" --prompt x --private
head -c 5000 /dev/urandom >"$T/noise.gguf"
says "a file of noise" 1 "noise.gguf" \
	kvrun generate -m "$T/noise.gguf" --prompt x --private
head -c 200000000 "$KV_GEMMA" >"$T/short.gguf"
says "a truncated file" 1 "short.gguf" \
	kvrun generate -m "$T/short.gguf" --prompt x --private
rm -f "$T/short.gguf"
says "invalid UTF-8" 1 "UTF-8" \
	kvrun generate -m "$KV_GEMMA" --prompt $'a\xff' --kv contig
says "a prompt longer than the context" 1 "the context 16" \
	kvrun generate -m "$KV_GEMMA" --kv contig --context 16 \
	--prompt "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"
says "an empty list of ids" 1 "empty" \
	kvrun generate -m "$KV_GEMMA" --kv contig --prompt-ids ""
says "a token that is none" 1 "262144" \
	kvrun generate -m "$KV_GEMMA" --kv contig --prompt-ids 1,262144
says "an impossible top-p" 1 "top-p" "${gen[@]}" --kv contig --top-p 2
says "no prompt" 2 "prompt" kvrun generate -m "$KV_GEMMA"
says "no model" 2 "-m FILE" kvrun generate --prompt x
says "no number" 2 "--temp" "${gen[@]}" --temp warm
says "no such kernels" 1 "sse9" "${gen[@]}" --kv contig --isa sse9
says "nothing to score" 1 "score" \
	kvrun score -m "$KV_GEMMA" --kv contig --ids-file /dev/null
echo "1 two 3" >"$T/words"
says "words for ids" 1 "two" \
	kvrun score -m "$KV_GEMMA" --kv contig --ids-file "$T/words"
says "a base model has no chat" 1 "template" \
	kvrun chat -m "$KV_GEMMA" --kv contig
says "a full device" 1 "." "${gen[@]}" --private --size 64M
if [ "$(id -u)" = 0 ]; then
	says "no such user" 1 "nosuchuser" "${gen[@]}" --kv contig \
		--user nosuchuser
fi

# ---- the output ----

check "--private answers" "${gen[@]}" --private -n 12 --temp 0
text=$(cat "$T/check.out")
check "--json too" "${gen[@]}" --private -n 12 --temp 0 --json --logprobs 3
mv "$T/check.out" "$T/json"
expect "with the same text" "$text" "$(jq -r '.sequences[0].text' "$T/json")"
expect "its ids, alternatives and finish" '[6,12,12,3,"length"]' \
	"$(jq -c '[(.prompt_ids | length), (.sequences[0] |
		(.ids | length), (.logprobs | length),
		(.logprobs[0] | length), .finish)]' "$T/json")"
expect "greedy takes the first alternative" true \
	"$(jq '.sequences[0] | .ids == [.logprobs[][0].id]' "$T/json")"
ids=$(jq -r '.prompt_ids | map(tostring) | join(",")' "$T/json")
check "--prompt-ids gives the same" kvrun generate -m "$KV_GEMMA" --private \
	--prompt-ids "$ids" -n 12 --temp 0
expect "text" "$text" "$(cat "$T/check.out")"
check "--stream prints each token first" "${gen[@]}" --kv contig -n 5 \
	--temp 0 --json --stream
expect "and then the object" "5 1" "$(jq -s -r '
	[([.[] | select(.piece)] | length), ([.[] | select(.sequences)] |
	length)] | map(tostring) | join(" ")' "$T/check.out")"
check "samples as text" "${gen[@]}" --kv contig -n 9 --seed 4 --n-samples 3
mv "$T/check.out" "$T/text"
check "and as JSON" "${gen[@]}" --kv contig -n 9 --seed 4 --n-samples 3 --json
expect "are the same" "$(jq -r '.sequences | to_entries[] |
	"--- \(.key + 1) ---", .value.text' "$T/check.out")" "$(cat "$T/text")"
check "a seed" "${gen[@]}" --kv contig -n 10 --temp 1 --seed 9 --top-p 0.9
mv "$T/check.out" "$T/seeded"
check "once more" "${gen[@]}" --kv contig -n 10 --temp 1 --seed 9 --top-p 0.9 \
	-t 1
expect "gives the same text" "$(cat "$T/seeded")" "$(cat "$T/check.out")"

# ---- however it ends, nothing is left ----

ours() { # processes of this test that are kvmd
	for p in $(pgrep -x kvmd); do
		grep -qzs "^TMPDIR=$TMPDIR\$" "/proc/$p/environ" && echo "$p"
	done
}
gone() { [ -z "$(ours)" ]; }
for sig in TERM INT KILL; do
	"${gen[@]}" --private -n 4000 --ignore-eos >"$T/long" 2>/dev/null &
	pid=$!
	wait_for 20 test -s "$T/long" || not_ok "it answers before SIG$sig"
	kill -s $sig $pid
	wait $pid
	wait_for 10 gone
	expect "after SIG$sig no kvmd is left" "" "$(ours)"
	expect "and no file" "" "$(ls "$TMPDIR")"
done

# ---- other users, one daemon that goes ----

if [ "$(id -u)" = 0 ] && getent passwd kvrun >/dev/null &&
	getent group kvmem >/dev/null; then
	check "--user drops privileges" "${gen[@]}" --private --user kvrun \
		-n 12 --temp 0
	expect "and answers the same" "$text" "$(cat "$T/check.out")"
	start_kvmd --size 1G || exit 1
	chmod 755 "$T"
	cp "$KV_GEMMA" "$T/public.gguf"
	chmod 644 "$T/public.gguf"
	says "a user who may not attach" 4 "kvmd.sock" \
		setpriv --reuid nobody --regid nogroup --clear-groups \
		env HOME=/nonexistent "$BUILD/bin/kvrun" generate \
		-m "$T/public.gguf" --prompt x
	rm "$T/public.gguf"
else
	skip "--user and permissions" "not root, or no user kvrun (make setup)"
	start_kvmd --size 1G || exit 1
fi
mkfifo "$T/fifo"
exec 9<>"$T/fifo"
"${gen[@]}" -n 4 --temp 0 --hold <"$T/fifo" >"$T/out" 2>"$T/err" &
pid=$!
wait_for 30 grep -q holding "$T/err"
stop_kvmd
wait $pid
expect "a runtime whose kvmd goes ends with 3" 3 $?
check "and says so" grep -q "kvmd" "$T/err"

# ---- a conversation ----

if [ -n "${KV_QWEN:-}" ]; then
	printf '%s\n' "Reply with the single word: blue" /stats \
		"Repeat your last word." /stats $'bad \xff line' |
		kvrun chat -m "$KV_QWEN" --private --size 2G --temp 0 -n 12 \
			>"$T/chat" 2>"$T/err"
	expect "a chat of two turns ends well" 0 $?
	diag "$(cat "$T/chat")"
	check "it answers" grep -qi blue "$T/chat"
	check "invalid UTF-8 does not end it" grep -q UTF-8 "$T/err"
	expect "the second turn computes its own tokens only" true "$(
		awk '/prompt tokens/ { n[++i] = $1 }
			END { print (n[2] - n[1] < 40 && n[2] > n[1]) ? \
			"true" : n[1] " " n[2] }' "$T/chat")"
else
	skip "a conversation" "no instruct model"
fi
tap_done
