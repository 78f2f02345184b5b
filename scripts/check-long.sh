#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check-long.sh BUILD - the long tests; leaves the record that is committed
#
# Documentation/dev/check-long.txt: date, commit, machine, verdicts, the
# figures that tests printed ("figure: ...") and what kvbench measured.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
record=Documentation/dev/check-long.txt
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

selftests/run.sh -l -b "$build" -S address -S thread | tee "$out"
rc=${PIPESTATUS[0]}
[ "$rc" -lt 128 ] || exit "$rc"
{
	echo "date    $(date -u +%Y-%m-%dT%H:%MZ)"
	echo "commit  $(git rev-parse --short HEAD)$(
		git diff --quiet HEAD -- . ":!$record" || echo ' and changes')"
	echo "machine $(nproc) cores, $(sed -n 's/^model name.*: //p' \
		/proc/cpuinfo | head -1), Linux $(uname -r)"
	echo
	grep -E '^(ok|FAIL|skip) ' "$out"
	echo
	grep -rhoE 'figure: .*' "$build/test-logs" | LC_ALL=C sort -u
	echo
	"$build/bin/kvbench" claims || rc=1
	echo
	tail -1 "$out"
} >"$record.tmp"
mv "$record.tmp" "$record"
echo "record in $record"
tail -1 "$out"
exit "$rc"
