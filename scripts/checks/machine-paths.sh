#!/bin/bash
# SPDX-License-Identifier: MIT
#
# machine-paths.sh - nothing committed knows the machine it was written on
set -u
! git grep -nIE '(^|[^A-Za-z0-9_.~}*-])/(root|home|work|mnt|Users)/[A-Za-z0-9_.]+' \
	-- ':!scripts/checks/machine-paths.sh'
