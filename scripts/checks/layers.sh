#!/bin/bash
# SPDX-License-Identifier: MIT
#
# layers.sh - includes point one way (the rows below say which)
#
# A row is a folder and the folders its files may include from; the longest
# folder that fits a file counts. selftests may look into everything.
set -u
git ls-files '*.c' '*.h' | xargs awk '
BEGIN {
	may["include/uapi/"] = "include/uapi/"
	may["include/"] = "include/"
	may["lib/"] = "lib/ include/"
	may["kvmd/mm/"] = "kvmd/mm/ lib/ include/"
	may["kvmd/"] = "kvmd/ lib/ include/"
	may["libkv/examples/"] = "libkv/include/ include/uapi/"
	may["libkv/include/"] = "libkv/include/ include/uapi/"
	may["libkv/"] = "libkv/ lib/ include/"
	may["kernels/"] = "kernels/ lib/ include/"
	may["runtime/"] = "runtime/ kernels/ libkv/include/ lib/ include/"
	may["tools/kvctl/"] = "tools/kvctl/ tools/lib/ libkv/include/ lib/ include/"
	may["tools/kvbench/"] = "tools/ runtime/ kernels/ libkv/include/ " \
		"kvmd/mm/ kvmd/ipc/growing lib/ include/"
	may["tools/"] = "tools/ runtime/ kernels/ libkv/include/ lib/ include/"
}
function exists(f,   line, rc) {
	if (!(f in known)) {
		rc = (getline line < f) >= 0
		close(f)
		known[f] = rc
	}
	return known[f]
}
function resolve(name, from,   dir, i, n, try) {
	dir = from
	sub(/[^\/]*$/, "", dir)
	n = split(dir " |include/|include/uapi/|libkv/include/|", try, "|")
	try[1] = dir
	try[n] = ""
	for (i = 1; i <= n; i++)
		if (exists(try[i] name))
			return try[i] name
	return ""
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
	split($0, part, /["<>]/)
	row = ""
	for (dir in may)
		if (index(FILENAME, dir) == 1 && length(dir) > length(row))
			row = dir
	if (row == "" || (to = resolve(part[2], FILENAME)) == "")
		next
	n = split(may[row], ok, " ")
	for (i = 1; i <= n; i++)
		if (index(to, ok[i]) == 1)
			next
	print FILENAME ":" FNR ": " row " must not include " to
	bad = 1
}
END { exit bad }'
