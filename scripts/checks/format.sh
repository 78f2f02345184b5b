#!/bin/bash
# SPDX-License-Identifier: MIT
#
# format.sh - clang-format 14 would change nothing (`make format` does it)
set -u
! git ls-files '*.c' '*.h' |
	xargs -P "$(nproc)" -n 40 clang-format-14 --dry-run -Werror 2>&1 |
	sed -n 's/^\([^:]*\):.*clang-format-violations.*/\1/p' |
	sort | uniq -c | awk '{ print $2 ": " $1 " places" }' | grep .
