#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kvrun_tokenize.sh - kvrun tokenize and detokenize: formats, refusals
. selftests/tap.sh

sample=$BUILD/selftests/runtime/model/write_sample
for kind in values llama gpt2 bert; do
	"$sample" $kind "$T/$kind" || exit 1
done

# out SENTENCE WANT INPUT COMMAND... - standard output for an input
out() {
	# shellcheck disable=SC2059 # escapes in the input are meant
	expect "$1" "$2" "$(printf "$3" | "${@:4}" 2>"$T/err")"
}

# refused SENTENCE STATUS WORDS INPUT COMMAND... - one sentence, no output
refused() {
	local rc
	# shellcheck disable=SC2059
	printf "$4" | "${@:5}" >"$T/out" 2>"$T/err"
	rc=$?
	if [ $rc = "$2" ] && [ ! -s "$T/out" ] && grep -qF -- "$3" "$T/err" &&
		{ [ "$2" = 2 ] || [ "$(wc -l <"$T/err")" = 1 ]; }; then
		ok "$1"
	else
		not_ok "$1" "exit status $rc" "$(cat "$T/out" "$T/err")"
	fi
}

tok() { kvrun tokenize -m "$T/$1" "${@:2}"; }
detok() { kvrun detokenize -m "$T/$1" "${@:2}"; }

out "ids as JSON" '{"ids":[1,10,12]}' 'hello hello' tok llama --json
out "ids for people" '259 260' 'hello hello' tok gpt2
out "no text, no ids" '{"ids":[]}' '' tok gpt2 --json
out "control tokens by name" '261 259' '<|im_start|>hello' tok gpt2
out "control tokens as text" '1 76 131 78 3' '<s>h' tok llama --no-special
out "invalid UTF-8 is bytes" '{"ids":[255,104]}' '\xffh' tok gpt2 --json
out "a case per line" '{"ids":[10,259]}
{"ids":[]}' '"\\nhello"\n""\n' tok gpt2 --batch
out "text as JSON" '{"text":"hello <s>\n"}' '1 10 11,1,26' detok llama --json
out "text without control tokens" 'hello ' '[1, 10, 2, 11]' \
	detok llama --no-special
out "text that is no UTF-8, as JSON" '{"text":"�h"}' '255 104' \
	detok gpt2 --json
out "texts, a case per line" '{"text":"he"}
{"text":""}' '256\n\n' detok gpt2 --batch

refused "no command" 2 "usage: kvrun" '' kvrun
refused "an unknown command" 2 "no command 'tokenise'" '' kvrun tokenise
refused "no model" 2 "-m FILE is needed" '' kvrun tokenize
refused "an unknown option" 2 "--what" '' tok gpt2 --what
refused "a text as argument" 2 "standard input" '' tok gpt2 hello
refused "a file that is not there" 1 "/none: No such file" '' tok none
refused "a folder" 1 "not a regular file" '' tok .
refused "a file of another kind" 1 "not a GGUF file" '' \
	kvrun tokenize -m "$0"
refused "a file without a vocabulary" 1 "tokenizer.ggml.model" '' tok values
refused "an unknown tokenizer" 1 "tokenizer model 'bert'" '' tok bert
head -c 3000 "$T/llama" >"$T/cut"
refused "a truncated file" 1 "/cut: " '' tok cut
refused "an id too large" 1 "no token 264, the last is 263" '264' detok gpt2
refused "an id that is none" 1 "'x' is no token id" 'x' detok gpt2
refused "a line that is no JSON" 1 "no JSON string" 'x\n' tok gpt2 --batch
expect_exit "a full device is told" 1 \
	bash -c "echo hello | kvrun tokenize -m '$T/gpt2' >/dev/full"
check "help is help" kvrun tokenize --help
check "a version" kvrun --version
tap_done
