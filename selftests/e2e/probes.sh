#!/bin/bash
# SPDX-License-Identifier: MIT
#
# probes.sh - kvmd's static probes: what they cost while nobody looks, and
#	      that the document, the binary and kvtrace speak of the same ones
#
# Cost. Wherever a semaphore is read, the instructions from there to the branch
# that depends on it are counted in the machine code: the read itself, those
# that name the register it went to, and the jump. Then a kvmd is run instruction
# by instruction, and it is counted how often a request passes one of them.
. selftests/tap.sh

command -v objdump >/dev/null || skip_all "no binutils here"
[ "$(uname -m)" = x86_64 ] || skip_all "it reads x86-64's machine code"
bin=$BUILD/bin/kvmd

# NAME NR-OF-ARGUMENTS, of every probe in the binary
readelf -n "$bin" 2>/dev/null | awk '
	/Provider: / { provider = $2 }
	/Name: / { name = $2 }
	/Arguments: / && provider == "kvmd" { print name, NF - 1 }' |
	sort -u >"$T/binary"
# kvmd:NAME (ARGUMENT, ...), of every one in the document
grep -oE '^``kvmd:[a-z_]+\([a-z_, ]*\)``' Documentation/abi/probes.rst |
	tr -d '`' | sed 's/^kvmd://; s/[(),]/ /g' |
	awk '{ print $1, NF - 1 }' | sort -u >"$T/document"
expect "the binary has the probes that the document names, and no others" \
	"$(cat "$T/document")" "$(cat "$T/binary")"
expect "there are fault, cow, reclaim, both of swap, revoke and point" \
	"cow fault point reclaim revoke swap_in swap_out" \
	"$(cut -d' ' -f1 "$T/binary" |
		grep -xE 'cow|fault|point|reclaim|revoke|swap_in|swap_out' |
		paste -sd' ')"
readelf -n "$bin" 2>/dev/null | grep -A3 'Provider: kvmd' |
	grep -oE 'Semaphore: 0x[0-9a-f]*' | sort -u >"$T/semaphores"
expect "each has a semaphore of its own" "$(wc -l <"$T/binary")" \
	"$(grep -vc ' 0x0*$' "$T/semaphores")"

# SEMAPHORE INSTRUCTIONS ADDRESS..., of every place that looks at one
objdump -d --no-show-raw-insn "$bin" | awk '
	function one() { n++; at = at " " substr($1, 1, length($1) - 1) }
	function done() { print sem, n at; sem = at = "" }
	# Sub-registers of one register have one name here.
	function whole(r) {
		sub(/^%/, "", r)
		if (r ~ /^r[0-9]+[dwb]?$/) { sub(/[dwb]$/, "", r); return r }
		sub(/^[re]/, "", r)
		sub(/l$/, "x", r)
		return r
	}
	function names(text, reg,   t) {
		t = text
		while (match(t, /%[a-z0-9]+/)) {
			if (whole(substr(t, RSTART, RLENGTH)) == reg)
				return 1
			t = substr(t, RSTART + RLENGTH)
		}
		return 0
	}
	/^[0-9a-f]+ </ { if (sem) { n = "no branch"; done() } }
	sem {
		if ($2 ~ /^j/ && $2 != "jmp") { one(); done(); next }
		if (reg == "" || names($0, reg)) one()
		next
	}
	/# [0-9a-f]+ <kvmd_[a-z_]+_semaphore>/ && $2 !~ /^lea/ {
		sem = $0
		sub(/.*<kvmd_/, "", sem)
		sub(/_semaphore>.*/, "", sem)
		n = 0
		one()
		reg = ""
		if ($2 ~ /^mov/) {
			reg = $3
			sub(/.*,/, "", reg)
			reg = whole(reg)
		}
	}' | sort >"$T/sites"
# revoke's lies beside point's and is looked at with it
expect "every semaphore is looked at somewhere" \
	"$(cut -d' ' -f1 "$T/binary" | grep -vx revoke)" "$(cut -d' ' -f1 "$T/sites" | sort -u)"
expect "and each look takes three instructions at most" "" \
	"$(awk '$2 + 0 != $2 || $2 < 2 || $2 > 3' "$T/sites")"
diag "$(cat "$T/sites")"

# ---- as it runs ----
# One request makes a space, 40 take a page each, one forks, one copies a page
# and takes another: with what attaching and leaving need, no client asks more.
grep -v '^point' "$T/sites" | cut -d' ' -f3- | tr ' ' '\n' >"$T/addresses"
words=(new)
for ((i = 0; i < 40; i++)); do words+=("step:0:$((i * 16)):16"); done
words+=(fork:0:8 step:1:8:16)
start_kvmd --size 64M || { not_ok "kvmd starts"; tap_done; }
"$BUILD/selftests/tools/kvtrace/steps" "$kvmd_pid" <"$T/addresses" \
	>"$T/steps" 2>"$T/steps.err" &
steps_pid=$!
tap_pids+=("$steps_pid")
begun() { grep -q stepping "$T/steps" || ! kill -0 "$steps_pid"; }
wait_for 10 begun
if grep -q stepping "$T/steps"; then
	check "a client is served step by step" \
		"$BUILD/selftests/tools/kvtrace/faults" 8192 "${words[@]}"
	kill "$steps_pid"
	kvctl status >/dev/null # wakes it
	wait "$steps_pid"
	expect "it let go" 0 $?
	kvctl -j vmstat >"$T/vmstat" 2>&1 || diag "$(cat "$T/vmstat")"
	jq .counters "$T/vmstat" >"$T/counters"
	# of each semaphore: instructions run
	awk 'NR == FNR { times[$1] = $2; next }
		{ for (i = 3; i <= NF; i++) sum[$1] += times[$i] }
		END { for (s in sum) print s, sum[s] }' \
		"$T/steps" "$T/sites" >"$T/run"
	ran() { awk -v s="$1" '$1 == s { print $2 }' "$T/run"; }
	expect "43 requests took 42 pages, one of them a copy" "43 41 1" \
		"$(jq -r '"\(.ring_requests) \(.faults_fresh) \(.faults_cow)"' \
			"$T/counters")"
	expect "a request runs three instructions for its probe" $((3 * 43)) \
		"$(ran fault)"
	expect "and three more for each page that is copied" 3 "$(ran cow)"
else
	skip "what a request runs" "no ptrace here: $(cat "$T/steps.err")"
fi

if [ -x "$BUILD/bin/kvtrace" ]; then
	expect "kvtrace counts all of them but point" \
		"$(cut -d' ' -f1 "$T/binary" | grep -vx point)" \
		"$(sed -n '/names\[\] = {/,/}/p' tools/kvtrace/probes.c |
			grep -oE '"[a-z_]+"' | tr -d '"' | sort)"
fi
tap_done
