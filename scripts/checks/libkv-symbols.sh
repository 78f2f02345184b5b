#!/bin/bash
# SPDX-License-Identifier: MIT
#
# libkv-symbols.sh - header, version script, library and man pages agree
set -u
header=libkv/include/kv.h map=libkv/libkv.map so=$BUILD/lib/libkv.so
bad=0
differ() { # WHAT-IS-LEFT COMPLAINT
	[ -z "$1" ] && return
	printf '%s\n' "$1" | sed "s|\$|: $2|"
	bad=1
}
# A declaration ends in ");"; inline functions of the header are no symbols.
declared=$(gcc -E -P -Iinclude -Iinclude/uapi "$header" | tr '\n' ' ' |
	sed 's/{[^{}]*}/;/g; s/{[^{}]*}/;/g; s/[;}]/\n/g' |
	grep -v 'static\|typedef' | grep -oE '\bkv_[a-z0-9_]+ *\(' |
	tr -d ' (' | sort -u)
mapped=$(grep -oE '\bkv_[a-z0-9_]+;' "$map" | tr -d ';' | sort -u)
exported=$(nm -D --defined-only "$so" | awk '$2 == "T" { print $3 }' |
	sed 's/@.*//' | sort -u)
paged=$(find libkv/man -name 'kv_*.3' -printf '%f\n' 2>/dev/null |
	sed 's/\.3$//' | sort -u)
differ "$(comm -23 <(echo "$declared") <(echo "$mapped"))" "not in $map"
differ "$(comm -13 <(echo "$declared") <(echo "$mapped"))" "not in $header"
differ "$(comm -3 <(echo "$mapped") <(echo "$exported") | tr -d '\t')" \
	"$map and $so differ"
differ "$(comm -23 <(echo "$mapped") <(echo "$paged"))" "no man page"
differ "$(comm -13 <(echo "$mapped") <(echo "$paged"))" \
	"a man page without a call"
for page in libkv/man/*.3; do
	[ -f "$page" ] || continue
	out=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 \
		man --warnings -l "$page" 2>&1 >/dev/null)
	differ "$out" "man --warnings $page"
done
exit $bad
