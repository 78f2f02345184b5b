#!/bin/bash
# SPDX-License-Identifier: MIT
#
# abi-entries.sh - every counter, request, trace point has its abi entry
set -u
bad=0
need() { # PAGE WHAT NAME...: each NAME stands in Documentation/abi/PAGE
	local page=Documentation/abi/$1 what=$2 name
	shift 2
	[ $# -gt 0 ] || { echo "$page: no $what found in the source" && bad=1; }
	for name; do
		grep -qE "(^|[^A-Za-z0-9_])${name}([^A-Za-z0-9_]|\$)" "$page" &&
			continue
		echo "$page: no entry for $what $name"
		bad=1
	done
}
# X(name) of one list macro: from its #define to the first line that goes on
# no further
list() { # MACRO FILE
	sed -n "/define $1(X)/,/[^\\\\]\$/p" "$2" |
		grep -oE 'X\([a-z_]+\)' | sed 's/X(\(.*\))/\1/'
}
points() { # FILE
	grep -oE 'X\([0-9]+, [A-Z_]+, "[a-z_]+"|X\([0-9]+, [A-Z_]+,' "$1" |
		sed -E 's/X\([0-9]+, ([A-Z_]+),.*/\L\1/'
}
members() { # STRUCT FILE
	sed -n "/^struct $1 {/,/^};/p" "$2" | sed 's@/\*.*\*/@@' |
		grep -E '^\s*uint64_t ' | grep -oE '[a-z_]+[,;]' |
		tr -d ',;' | grep -v reserved
}
stats=include/uapi/kv/stats.h
# shellcheck disable=SC2046 # one word each
{
	need ctl.rst counter $(list MM_COUNTERS kvmd/ctl/system.c) \
		$(list KVMD_COUNTERS kvmd/kvmd.h)
	need ctl.rst request $(grep -ohE '\.object = "[a-z]+"' kvmd/ctl/*.c |
		sed 's/.*"\(.*\)"/\1/' | sort -u)
	need libkv.rst counter $(members kv_counters libkv/include/kv.h)
	need libkv.rst "trace point" $(points libkv/src/point.h)
	need trace.rst "trace point" $(points include/uapi/kv/trace.h)
	need ring.rst opcode $(sed -n 's/^\tKV_OP_\([A-Z_]*\) = .*/\1/p' \
		include/uapi/kv/ops.h)
	need ring.rst event $(sed -n 's/^\tKV_EVENT_\([A-Z]*\) = [1-9].*/\1/p' \
		include/uapi/kv/ring.h)
	need socket.rst message $(sed -n 's/^\tKV_MSG_\([A-Z_]*\) = .*/\1/p' \
		include/uapi/kv/msg.h)
	need table.rst word $(for s in stats device_stats tenant_stats \
		client_stats; do members kv_$s $stats; done)
}
exit $bad
