#!/bin/bash
# SPDX-License-Identifier: MIT
#
# two_models.sh - two models on one kvmd say what each says alone
#
# quick: no
# timeout: 400
#
# Both compute at the same time out of one device; the reference is each
# model's contiguous mode, which has no kvmd. Then what kvctl shows of shared
# pages and of a window that moves on is compared with what has to be there.
. selftests/tap.sh

if [ -z "${KV_GEMMA:-}" ] || [ -z "${KV_QWEN:-}" ]; then
	skip_all "no models (make fetch)"
fi
start_kvmd --size 2G || exit 1

ids() { grep -o '"sequences":.*"seed"' "$1" | grep -o '"ids":\[[0-9,]*\]'; }
gen=(kvrun generate --temp 0 --ignore-eos --json -m)
# space CLIENT:SPACE PYTHON-EXPRESSION over d, what space show says
show() {
	kvctl space show "$1" --json | python3 -c "
import json, sys
d = json.load(sys.stdin)
print($2)"
}
spaces() { # PYTHON-EXPRESSION over s, the list of spaces
	kvctl space list --json | python3 -c "
import json, sys
s = json.load(sys.stdin)['spaces']
print($1)"
}

long=$(printf 'The %s page of the book is torn. ' {1..60})
"${gen[@]}" "$KV_GEMMA" --kv contig --prompt "$long" -n 20 >"$T/g.want" || exit 1
"${gen[@]}" "$KV_QWEN" --kv contig --prompt 'def add(a, b):' -n 4 >"$T/q.want"

mkfifo "$T/fifo"
exec 8<>"$T/fifo"
"${gen[@]}" "$KV_QWEN" --prompt 'def add(a, b):' -n 4 --hold \
	<"$T/fifo" >"$T/q.got" 2>"$T/q.err" &
qwen=$!
"${gen[@]}" "$KV_GEMMA" --prompt "$long" -n 20 --hold \
	<"$T/fifo" >"$T/g.got" 2>"$T/g.err" &
gemma=$!
tap_pids+=("$qwen" "$gemma")
wait_for 90 grep -qs holding "$T/q.err"
wait_for 90 grep -qs holding "$T/g.err"
expect "gemma says beside qwen what it says alone" \
	"$(ids "$T/g.want")" "$(ids "$T/g.got")"
expect "qwen says beside gemma what it says alone" \
	"$(ids "$T/q.want")" "$(ids "$T/q.got")"
expect "kvctl shows two clients with a space each" "2 2" \
	"$(spaces "len(s), len({x['client'] for x in s})")"
held=$(kvctl meminfo --json | python3 -c \
	'import json, sys; print(json.load(sys.stdin)["weights_bytes"])')
expect "the device holds both models' weights, once" yes \
	"$(packed "$held" "$KV_GEMMA" "$KV_QWEN")"
check "the books of both are clean" kvctl check

# The window of 512: its area lets go of pages when a page is asked for, in
# front of what the first new row sees. 16 tokens a page.
space=$(spaces "'%d:%d' % [(x['client'], x['space']) for x in s
	if 'gemma' in x['name']][0]")
len=$(show "$space" "d['space']['len']")
last=$(((len - 1) / 16))
first=$(((last * 16 - 511) / 16))
expect "the sequence is longer than the window" yes \
	"$([ "$len" -gt 600 ] && echo yes)"
expect "full attention keeps every page" "0 $((last + 1))" \
	"$(show "$space" "*[(a['page_first'], a['pages'])
	for a in d['space']['area'] if not a['window']][0]")"
expect "the window gave back what it has left behind" \
	"$first $((last + 1 - first))" \
	"$(show "$space" "*[(a['page_first'], a['pages'])
	for a in d['space']['area'] if a['window']][0]")"
kill $gemma $qwen
wait $gemma $qwen
expect "when both are gone nothing is held but what was published" 0 \
	"$(kvctl meminfo --json | python3 -c 'import json, sys
d = json.load(sys.stdin)
print(d["held_bytes"] - d["cached_held_bytes"])')"

# Four samples: the prompt's full pages once, whatever else is each one's own
prompt=$(printf 'One two three four five six seven. %.0s' {1..12})
sample=(--prompt "$prompt" --temp 0.9 --seed 7 --n-samples 4 -n 12)
"${gen[@]}" "$KV_GEMMA" --kv contig "${sample[@]}" >"$T/s.want"
"${gen[@]}" "$KV_GEMMA" "${sample[@]}" --hold <"$T/fifo" >"$T/s.got" 2>"$T/s.err" &
gemma=$!
tap_pids+=("$gemma")
wait_for 90 grep -qs holding "$T/s.err"
expect "four samples are those of the contiguous mode" \
	"$(ids "$T/s.want")" "$(ids "$T/s.got")"
expect "and differ" 4 "$(ids "$T/s.got" | sort -u | wc -l)"
full=$(python3 -c '
import json, sys
print(len(json.load(open(sys.argv[1]))["prompt_ids"]) // 16)' "$T/s.got")
expect "kvctl: four spaces of one family" "4 1" \
	"$(spaces "len(s), len({x['family'] for x in s})")"
expect "kvctl: each shares the prompt's $full full pages, in both areas" \
	"$((full * 2))" \
	"$(spaces "*{x['pages_shared'] for x in s}")"
# 48 KiB of three layers with full attention, 240 KiB of 15 with a window
expect "kvctl: three of four copies are saved" \
	"$((3 * full * 288 * 1024))" "$(kvctl meminfo --json | python3 -c \
	'import json, sys; print(json.load(sys.stdin)["saved_bytes"])')"
check "the books are clean" kvctl check
kill $gemma
wait $gemma
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
