#!/bin/bash
# SPDX-License-Identifier: MIT
#
# format.sh - clang-format 14 would change nothing (`make format` does it)
set -u
bad=0
while IFS= read -r f; do
	n=$(clang-format-14 --dry-run -Werror "$f" 2>&1 |
		grep -c 'clang-format-violations')
	[ "$n" = 0 ] || { echo "$f: $n places"; bad=1; }
done < <(git ls-files '*.c' '*.h')
exit $bad
