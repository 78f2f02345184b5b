#!/bin/bash
# SPDX-License-Identifier: MIT
#
# forbidden.sh - calls that overflow, lose errors or leave below main()
set -u
bad=0
say() {
	[ -z "$2" ] && return
	printf '%s\n' "$2" | sed "s/\$/  <- $1/"
	bad=1
}
# Comments and strings do not call: a line that starts one is left out.
calls() { # REGEX PATH...
	git grep -nE "(^|[^a-zA-Z0-9_.>])($1)[[:space:]]*\\(" -- "${@:2}" |
		grep -vE '^[^:]*:[0-9]*:[[:space:]]*(/?\*|//)'
}
say "unbounded or loses the error" \
	"$(calls 'strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|strtok|alloca|tmpnam|mktemp' \
		'*.c' '*.h')"
say "typedef of a struct" \
	"$(git grep -nE '^[[:space:]]*typedef[[:space:]]+(struct|union)[[:space:]]+[a-z_]*[[:space:]]*\{?$' \
		-- '*.c' '*.h' | grep -vE '^include/uapi.*val')"
mapfile -t below < <(git grep -LE '^int main\(' -- 'kvmd/*.c' 'lib/*.c' \
	'libkv/src/*.c' 'runtime/*.c' 'kernels/*.c' 'tools/*.c')
say "exit() below main" "$(calls 'exit|_Exit|quick_exit' "${below[@]}")"
say "assert(): KV_BUG_ON for our own faults, -EINVAL for others'" \
	"$(calls 'assert' 'kvmd/*.c' 'libkv/src/*.c' 'lib/*.c' 'runtime/*.c')"
exit $bad
