#!/bin/bash
# SPDX-License-Identifier: MIT
#
# lint.sh - the style rules of scripts/checks, one test each
#
# alone: no
# timeout: 180
# quick: no
. selftests/tap.sh

git rev-parse --is-inside-work-tree >/dev/null 2>&1 ||
	skip_all "no git checkout: tracked files are unknown"
export BUILD
for rule in scripts/checks/*.sh; do
	name=${rule##*/}
	check "${name%.sh}: $(sed -n '4s/^# [^ ]* - //p' "$rule")" "$rule"
done
tap_done
