#!/bin/bash
# SPDX-License-Identifier: MIT
#
# kernel-doc.sh - a kernel-doc comment fits the function below it: its name,
# and only parameters that it has; in a public header, all of them
set -u
git ls-files 'libkv/include/*.h' 'include/**/*.h' 'kvmd/**/*.h' 'lib/*.h' \
	'runtime/**/*.h' 'kernels/**/*.h' | xargs awk '
function judge(   sig, args, n, i, a, name, fn, seen, k) {
	sig = proto
	gsub(/[ \t]+/, " ", sig)
	gsub(/__attribute__ *\(\([^)]*\)+\)|__must_check|__printf\([^)]*\)/, "", sig)
	if (sig !~ /\(/ || sig ~ /\(\*/) return
	fn = sig
	sub(/ *\(.*/, "", fn)
	sub(/.*[ *]/, "", fn)
	if (fn != doc) say("documents " doc ", stands before " fn)
	args = sig
	sub(/^[^(]*\(/, "", args)
	sub(/\)[^)]*$/, "", args)
	n = split(args, a, ",")
	for (i = 1; i <= n; i++) {
		name = a[i]
		gsub(/\[[^]]*\]/, "", name)
		gsub(/^[ \t]+|[ \t]+$/, "", name)
		if (name == "void" || name == "") continue
		if (name == "...") name = "..."
		else sub(/.*[ *]/, "", name)
		seen[name] = 1
		if (!(name in at) && name != "..." && public)
			say(fn ": parameter " name " is not described")
	}
	for (k in at)
		if (!(k in seen) && k != "...")
			say(fn ": describes @" k ", which it does not have")
}
function say(s) { print file ":" line ": " s; bad = 1 }
FNR == 1 { mode = 0 }
/^[ \t]*\/\*\*$/ { mode = 1; delete at; doc = ""; next }
mode == 1 && /\*\// { mode = doc == "" ? 0 : 2; proto = ""; next }
mode == 1 && doc == "" {
	if (match($0, /\* [a-z_0-9]+(\(\))? - /)) {
		doc = substr($0, RSTART + 2)
		sub(/[( ].*/, "", doc)
		file = FILENAME
		public = file ~ /^(libkv\/include|include\/uapi)\//
		line = FNR
	} else mode = 0
	next
}
mode == 1 && match($0, /^[ \t]*\* @[a-z_0-9.]+:/) {
	name = substr($0, RSTART, RLENGTH - 1)
	sub(/.*@/, "", name)
	at[name] = 1
}
mode == 2 && /^ *(struct|enum|union) [a-z_0-9]+ *\{|^#/ { mode = 0; next }
mode == 2 {
	proto = proto " " $0
	if (/[;{]/) { sub(/[;{].*/, "", proto); judge(); mode = 0 }
}
END { exit bad }'
