# SPDX-License-Identifier: MIT
#
# compile-commands.awk - the compile lines of a dry run as JSON
BEGIN { print "[" }
/ -c -o / {
	cmd = $0
	gsub(/\\/, "\\\\", cmd)
	gsub(/"/, "\\\"", cmd)
	gsub(/^[ \t]+/, "", cmd)
	printf "%s{\"directory\": \"%s\", \"file\": \"%s\", \"command\": \"%s\"}", \
		sep, dir, $NF, cmd
	sep = ",\n"
}
END { print "\n]" }
