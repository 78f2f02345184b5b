#!/bin/bash
# SPDX-License-Identifier: MIT
#
# public-headers.sh - each public header compiles alone, as C11 and C++17
set -u
bad=0
common=(-fsyntax-only -Wall -Wextra -Wpedantic -Werror -Iinclude/uapi
	-Ilibkv/include)
while IFS= read -r h; do
	printf '#include "%s"\nextern int not_empty;\n' "$PWD/$h" |
		gcc -std=c11 "${common[@]}" -x c - || bad=1
	printf '#include "%s"\nextern int not_empty;\n' "$PWD/$h" |
		g++ -std=c++17 "${common[@]}" -x c++ - || bad=1
done < <(git ls-files 'include/uapi/kv/*.h' 'libkv/include/*.h')
exit $bad
