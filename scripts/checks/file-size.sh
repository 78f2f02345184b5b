#!/bin/bash
# SPDX-License-Identifier: MIT
#
# file-size.sh - no source over 800 lines, no check script over 60
set -u
git ls-files '*.c' '*.h' '*.sh' '*.py' '*.rst' | xargs wc -l | awk '
$2 == "total" { next }
$1 > 800 { print $2 ": " $1 " lines, 800 at most"; bad = 1 }
$2 ~ /^scripts\/checks\// && $1 > 80 { print $2 ": " $1 " lines"; bad = 1 }
END { exit bad }'
