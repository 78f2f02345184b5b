#!/bin/bash
# SPDX-License-Identifier: MIT
#
# shell.sh - shellcheck has nothing to say; scripts can be executed
set -u
bad=0
mapfile -t scripts < <(git ls-files '*.sh' .ci/run)
shellcheck -f gcc "${scripts[@]}" || bad=1
for f in "${scripts[@]}"; do
	case $f in
	*/tap.sh) continue ;;	# is sourced
	esac
	[ -x "$f" ] || { echo "$f: not executable"; bad=1; }
done
python3 - <<'PY' || bad=1
import ast, subprocess, sys
for f in subprocess.check_output(["git", "ls-files", "*.py"], text=True).split():
    ast.parse(open(f).read(), f)
PY
exit $bad
