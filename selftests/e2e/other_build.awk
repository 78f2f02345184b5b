# SPDX-License-Identifier: MIT
#
# other_build.awk - a header of kvmd as another build might have it
#
# Each struct gets a field in front, so that all others lie elsewhere, and a
# number becomes wider. What begins with a head keeps that in front.
/^struct [a-z_]+ \{$/ {
	print
	if ($2 != "mm" && $2 != "keep_block")
		print "\tu64 of_another_build;"
	in_frame = $2 == "frame"
	next
}
/^\tstruct record_head head;/ {
	print
	print "\tu64 of_another_build[3];"
	next
}
in_frame && /^\tu16 page;/ {
	sub(/u16/, "u32")
}
{ print }
