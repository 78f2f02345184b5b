#!/bin/bash
# SPDX-License-Identifier: MIT
#
# spdx.sh - each source file names its licence in its first two lines
set -u
sources() {
	git ls-files '*.c' '*.h' '*.sh' '*.py' '*.awk' '*.mk' '*.map' '*.pml' \
		'*.[1-8]' '*.rst' '*.md' Makefile .ci/run
}
named() {
	sources | xargs awk 'FNR <= 2 && /SPDX-License-Identifier: MIT/ {
		print FILENAME }'
}
! comm -23 <(sources | sort) <(named | sort) |
	sed 's/$/: no SPDX-License-Identifier: MIT at its head/' | grep .
