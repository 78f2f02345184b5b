#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lint.sh [BUILD [CHECK]...] - run scripts/checks/*.sh, show what they say
#
# A check prints one line per breach and exits with 1; it looks at tracked
# files only. BUILD is where the archives lie.
set -u
cd "$(dirname "$0")/.." || exit 1
export BUILD=${1:-build}
shift
rc=0
for check in scripts/checks/*.sh; do
	name=$(basename "$check" .sh)
	[ $# = 0 ] || [[ " $* " == *" $name "* ]] || continue
	if out=$("$check" 2>&1); then
		printf '  %-7s %s\n' ok "$name"
	else
		printf '  %-7s %s\n' FAIL "$name"
		printf '%s\n' "$out" | sed 's/^/          /'
		rc=1
	fi
done
exit $rc
