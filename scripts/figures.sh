#!/bin/bash
# SPDX-License-Identifier: MIT
#
# figures.sh BUILD RECORD [NAME...] - measure figures again and keep them
#
# NAMEs are those of kvbench claims; all if there are none. In RECORD, which
# has what `kvbench claims --json` prints, a figure that was measured takes the
# place of the earlier one, with the machine and the date that it is of; the
# others stay, one that could not be measured here too.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1 record=$2
shift 2
new=$(mktemp) || exit 1
trap 'rm -f "$new" "$record.tmp"' EXIT

"$build/bin/kvbench" claims "$@" --json >"$new"
rc=$?
[ -s "$new" ] || exit "$rc"
if jq -e .tiny "$new" >/dev/null; then
	echo "figures.sh: --tiny measures nothing to keep" >&2
	exit 2
fi
jq -r '.figures[]|[.name, (.measured//"-"), .unit, .target,
	if .ok==null then "-" elif .ok then "yes" else "NO" end,
	.skipped//.error//.note]|@tsv' "$new" |
	awk -F '\t' '{ printf "%-20s %10s %-8s %-9s %-3s %s\n",
		$1, $2, $3, $4, $5, $6 }'
old=$record
[ -s "$old" ] || old=/dev/null
jq -s 'def all_of: .machine as $m|.figures|map(.machine//=$m);
	[.[]|all_of] as $runs|
	[$runs[-1][]|select(.measured!=null)] as $new|
	([$new[].name]|map({(.): true})|add//{}) as $has|
	{schema: "kvbench/1", bench: "claims",
	 figures: (([$runs[:-1][][]|select($has[.name]|not)]+$new)|
		sort_by(.name))}' "$old" "$new" >"$record.tmp" || exit 1
mv "$record.tmp" "$record"
echo "record in $record"
exit "$rc"
