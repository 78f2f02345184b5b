#!/bin/bash
# SPDX-License-Identifier: MIT
#
# mm-pure.sh - the mm core makes no system call
# What libmm-int.a leaves undefined is in lib/ or stands in the list below.
set -u
mm=$BUILD/lib/libmm-int.a lib=$BUILD/lib/liblib-int.a
allowed='memcpy|memset|memmove|memcmp|memchr|bcmp|strlen|strnlen|strcmp|strncmp'
allowed+='|snprintf|vsnprintf|qsort|bsearch|abort|__assert_fail'
allowed+='|_GLOBAL_OFFSET_TABLE_|__stack_chk_fail|__[a-z]*_chk|__(asan|ubsan|tsan)_.*'
# gcc's own helpers for what the processor may lack
allowed+='|__(popcount|ctz|clz|ffs)[sdt]i2|__u?(div|mod)[dt]i3'
# The hooks that whoever links the core provides (include/kv, kvmd/mm/mm.h).
allowed+='|kv_bug|kv_warn|kv_crash_point|mm_(bug|warn|trace|log|emit)[a-z_]*'

[ -f "$mm" ] || { echo "no $mm: build first"; exit 1; }
names() { nm "$@" 2>/dev/null | awk 'NF { print $NF }' | sort -u; }
left=$(comm -23 <(names -u "$mm") <(names --defined-only "$mm" "$lib") |
	grep -vxE "$allowed|.*:")
for s in $left; do
	echo "kvmd/mm uses $s: $(nm -A -u "$mm" 2>/dev/null |
		awk -v s="$s" '$NF == s { split($1, p, ":"); print p[2] }' |
		sort -u | paste -sd' ')"
done
includes=$(git grep -nE '^ *# *include *<' -- kvmd/mm | grep -vE \
	'<(kv/[a-z_]+|stdint|stddef|stdbool|string|errno|limits|stdarg|stdio|stdlib)\.h>')
[ -z "$includes" ] || echo "$includes"
[ -z "$left$includes" ]
