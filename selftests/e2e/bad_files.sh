#!/bin/bash
# SPDX-License-Identifier: MIT
#
# bad_files.sh - files, prompts and options that cannot be: one sentence each
#
# quick: no
. selftests/tap.sh

command -v python3 >/dev/null || skip_all "no python3 here"
start_kvmd --size 128M || exit 1
selftests/e2e/bad_gguf.py "$T" "${FLIPS:-60}" "${SEED:-1}" || exit 1
run=(kvrun generate -t 1 -n 3 --temp 0)

# refused SENTENCE STATUS WORD COMMAND... - no output, one sentence with WORD
refused() {
	local rc
	timeout 20 "${@:4}" >"$T/out" 2>"$T/err" </dev/null
	rc=$?
	if [ $rc = "$2" ] && [ ! -s "$T/out" ] &&
		[ "$(wc -l <"$T/err")" = 1 ] && grep -q -- "$3" "$T/err"; then
		ok "$1"
	else
		not_ok "$1" "exit status $rc, wanted $2 and \"$3\"" \
			"$(head -c 600 "$T/out" "$T/err")"
	fi
}

check "a tiny model of our own writing answers" \
	"${run[@]}" -m "$T/good.gguf" --prompt abc
for f in "$T"/bad/*.gguf; do
	name=$(basename "$f" .gguf)
	refused "a file: ${name#*__}" 1 "$(basename "$f").*${name%%__*}" \
		"${run[@]}" -m "$f" --prompt abc
done

# Turned bits: an answer or a sentence, never a crash
wild=()
answers=0
for f in "$T"/flip/*.gguf; do
	timeout 20 "${run[@]}" -m "$f" --prompt abc >"$T/out" 2>"$T/err"
	rc=$?
	case $rc in
	0) answers=$((answers + 1)) ;;
	1) [ "$(wc -l <"$T/err")" = 1 ] || wild+=("$f: $(cat "$T/err")") ;;
	*) wild+=("$f: exit status $rc: $(tail -3 "$T/err")") ;;
	esac
done
expect "turned bits are answered or refused, by one sentence" "" "${wild[*]}"
diag "$answers of $(find "$T/flip" -type f | wc -l) still answer"

m=(-m "$T/good.gguf")
refused "a prompt longer than the context" 1 'the prompt has 12 tokens.*8' \
	"${run[@]}" "${m[@]}" --context 8 --prompt abcdefghijkl
refused "a prompt longer than the model's context" 1 \
	'the prompt has 600 tokens.*512' \
	"${run[@]}" "${m[@]}" --prompt "$(printf 'a%.0s' {1..600})"
refused "a prompt that is no UTF-8" 1 'prompt.*UTF-8 at byte 2' \
	"${run[@]}" "${m[@]}" --prompt $'ab\xff'
printf 'abc\xc3' >"$T/prompt"
refused "a prompt file that is no UTF-8" 1 'UTF-8 at byte 3' \
	"${run[@]}" "${m[@]}" --prompt-file "$T/prompt"
refused "a prompt file that is not there" 1 '/none: No such file' \
	"${run[@]}" "${m[@]}" --prompt-file "$T/none"
refused "an id that the model has not" 1 '999999' \
	"${run[@]}" "${m[@]}" --prompt-ids 1,999999
refused "ids that are none" 1 "'x' is no token id" "${run[@]}" "${m[@]}" --prompt-ids 1,x
refused "no token wanted" 1 'no token' "${run[@]}" "${m[@]}" --prompt a -n 0
refused "too many samples" 1 '100000 sequences' \
	"${run[@]}" "${m[@]}" --prompt a --n-samples 100000
refused "a temperature below zero" 1 'temperature' \
	"${run[@]}" "${m[@]}" --prompt a --temp -1
refused "a model that is not there" 1 '/none.gguf: No such file' \
	"${run[@]}" -m "$T/none.gguf" --prompt a
refused "a model that may not be read" 1 'bad: not a regular file' \
	"${run[@]}" -m "$T/bad" --prompt a
mkfifo "$T/fifo"
refused "a model that is a FIFO nobody writes" 1 'fifo: not a regular file' \
	"${run[@]}" -m "$T/fifo" --prompt a
echo '1 2 999999' >"$T/ids"
refused "a score of ids that the model has not" 1 '999999' \
	kvrun score "${m[@]}" --ids-file "$T/ids" --json
refused "a chat with a model that has no template" 1 'chat template' \
	kvrun chat "${m[@]}"
expect_exit "an answer into a full device" 1 bash -c \
	"${run[*]} -m $T/good.gguf --prompt abc >/dev/full"
refused "standard output closed" 1 'standard output' \
	bash -c '"$@" >&-' - "${run[@]}" "${m[@]}" --prompt abc
# What is printed must not land in a file or socket opened later
expect_exit "all three closed" 1 bash -c '"$@" <&- >&- 2>&-' - \
	"${run[@]}" "${m[@]}" --prompt abc
expect_exit "kvctl with all three closed" 1 bash -c \
	'kvctl status <&- >&- 2>&-'
refused "too few descriptors" 1 'too many open files' \
	bash -c 'ulimit -n 8; "$@"' - "${run[@]}" "${m[@]}" --prompt abc
refused "too little address space" 1 'cannot map' \
	bash -c 'ulimit -v 300000; "$@"' - "${run[@]}" "${m[@]}" --prompt abc

check "kvmd's books are clean after all of it" kvctl check
expect "nobody is attached" 0 \
	"$(kvctl client list --json | python3 -c \
		'import json, sys; print(len(json.load(sys.stdin)["clients"]))')"
stop_kvmd
expect "kvmd ends well" 0 $?
tap_done
