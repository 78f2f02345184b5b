#!/bin/bash
# SPDX-License-Identifier: MIT
#
# doc-paths.sh - the files and folders that documents name exist
#
# A path counts when it starts with one of our top folders and stands in
# quotes, backticks or white space. Patterns (*, {, N, <) are left alone, and
# so is build/, which is not there until it is built.
set -u
tops='\.ci|include|lib|kvmd|libkv|runtime|kernels|tools|Documentation|selftests|scripts'
bad=0
while IFS=: read -r doc line path; do
	path=${path%%[.,:;\)]}
	[ -e "$path" ] && continue
	# "kvmd/mm" may be a name, "kvmd/mm/fork.c" is a file
	case $path in
	*.[chS] | *.sh | *.rst | *.md | *.py | *.mk | *.txt | *.map | */) ;;
	*) continue ;;
	esac
	echo "$doc:$line: there is no $path"
	bad=1
done < <(git grep -noE "(^|[\`\"' (])($tops)/[A-Za-z0-9_./-]+(\$|[\`\"' ).,:;])" \
	-- README.md 'Documentation/*' 'libkv/man/*' ':!*.txt' |
	sed -E "s/^([^:]*:[0-9]+:)[\`\"' (]?/\1/; s/[\`\"' ).,:;]+\$//")
exit $bad
