#!/bin/bash
# SPDX-License-Identifier: MIT
#
# spdx.sh - each source file names its licence in its first two lines
set -u
bad=0
while IFS= read -r f; do
	head -2 "$f" | grep -q 'SPDX-License-Identifier: MIT' && continue
	echo "$f: no SPDX-License-Identifier: MIT on the first line"
	bad=1
done < <(git ls-files '*.c' '*.h' '*.sh' '*.py' '*.awk' '*.mk' '*.map' \
	'*.pml' '*.[1-8]' '*.rst' '*.md' Makefile .ci/run)
exit $bad
