#!/bin/bash
# SPDX-License-Identifier: MIT
#
# format.sh - clang-format 14 would change nothing (`make format` does it), and
# has not torn a comment: what it moves to a line of its own has no space
set -u
rc=0
git grep -nE '^ \*[a-zA-Z]' -- '*.c' '*.h' && rc=1
git ls-files '*.c' '*.h' |
	xargs -P "$(nproc)" -n 40 clang-format-14 --dry-run -Werror 2>&1 |
	sed -n 's/^\([^:]*\):.*clang-format-violations.*/\1/p' |
	sort | uniq -c | awk '{ print $2 ": " $1 " places" }' | grep . && rc=1
exit $rc
