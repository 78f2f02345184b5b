#!/bin/bash
# SPDX-License-Identifier: MIT
#
# spelling.sh - codespell; words that are none stand in codespell.txt
set -u
git ls-files -z ':!selftests/data/*' ':!scripts/codespell.txt' |
	xargs -0 codespell -q 3 -I scripts/codespell.txt
