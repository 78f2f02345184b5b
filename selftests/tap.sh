# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# tap.sh - what a script under selftests/e2e starts with
#
#	. selftests/tap.sh
#	start_kvmd --size 1G
#	check "status answers" kvctl status
#	skip "two models answer" "no model here"
#	tap_done
#
# run.sh calls a script in the top folder with BUILD (build folder), and,
# where the models are there and may be used, KV_GEMMA and KV_QWEN (paths).
# The plan is printed by tap_done: a script that dies before has no plan and
# fails. $T is a folder of its own; what it started is stopped on any exit.

BUILD=${BUILD:-$PWD/build}
PATH=$BUILD/bin:$PATH
tap_nr=0
serve_nr=0
tap_failed=0
tap_skipped=0
tap_pids=()
T=$(mktemp -d "${TMPDIR:-/tmp}/kve2e.XXXXXX")
KV_LOG_DIR=${KV_LOG_DIR:-$T/logs}
mkdir -p "$KV_LOG_DIR"
export KVMD_SOCKET=$T/kvmd.sock

tap_exit() {
	[ ${#tap_pids[@]} = 0 ] || kill "${tap_pids[@]}" 2>/dev/null
	wait
	rm -rf "$T"
}
trap tap_exit EXIT
trap 'exit 143' TERM INT

diag() { printf '%s\n' "$@" | sed 's/^/# /'; }

ok() { # SENTENCE
	tap_nr=$((tap_nr + 1))
	echo "ok $tap_nr $1"
}

not_ok() { # SENTENCE [WHY]...
	tap_nr=$((tap_nr + 1))
	tap_failed=$((tap_failed + 1))
	[ $# = 1 ] || diag "${@:2}"
	echo "not ok $tap_nr $1"
}

skip() { # SENTENCE REASON
	tap_nr=$((tap_nr + 1))
	tap_skipped=$((tap_skipped + 1))
	echo "ok $tap_nr $1 # SKIP $2"
}

skip_all() { # REASON
	echo "1..0 # SKIP $1"
	exit 4
}

# check SENTENCE COMMAND... - ok if it exits with 0; its output if not
check() {
	local rc
	"${@:2}" >"$T/check.out" 2>&1
	rc=$?
	if [ $rc = 0 ]; then
		ok "$1"
	else
		not_ok "$1" "${*:2}: exit status $rc" \
			"$(tail -20 "$T/check.out")"
	fi
}

# expect SENTENCE WANT GOT
expect() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		not_ok "$1" "wanted: $2" "got: $3"
	fi
}

# expect_exit SENTENCE STATUS COMMAND... - its output is left in $T/out
expect_exit() {
	local rc
	"${@:3}" >"$T/out" 2>&1
	rc=$?
	if [ $rc = "$2" ]; then
		ok "$1"
	else
		not_ok "$1" "${*:3}: exit status $rc, wanted $2" \
			"$(tail -20 "$T/out")"
	fi
}

# packed BYTES FILE... - yes if so many bytes of weights are the models' once:
# strips and no header, which is within 4 % of the files
packed() {
	stat -L -c %s "${@:2}" | awk -v bytes="$1" '{ sum += $1 }
		END { d = bytes < sum ? sum - bytes : bytes - sum
			print d <= sum / 25 ? "yes" : bytes " of " sum }'
}

# wait_for SECONDS COMMAND... - until it exits with 0; a minute at least, for a
# machine that does other things too
wait_for() {
	local end=$((SECONDS + ($1 < 60 ? 60 : $1) + 1))
	until "${@:2}" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# start_kvmd [OPTION]... - a kvmd on $KVMD_SOCKET; its pid is $kvmd_pid
start_kvmd() {
	kvmd --socket "$KVMD_SOCKET" --device cpu \
		--log-file "$KV_LOG_DIR/kvmd.log" "$@" 2>"$T/kvmd.err" &
	kvmd_pid=$!
	tap_pids+=("$kvmd_pid")
	wait_for 10 kvctl status && return 0
	diag "kvmd does not answer" "$(cat "$T/kvmd.err")"
	return 1
}

# stop_kvmd - end it in order; its exit status is returned
stop_kvmd() {
	kill "$kvmd_pid" 2>/dev/null
	wait "$kvmd_pid"
}

# start_serve MODEL [OPTION]... - a kvrun serve of this file; $port, $server (its
# pid), $log.out and $log.err
start_serve() {
	serve_nr=$((serve_nr + 1))
	log=$T/serve$serve_nr
	kvrun serve -t 1 --port 0 -m "$@" >"$log.out" 2>"$log.err" &
	server=$!
	tap_pids+=("$server")
	# shellcheck disable=SC2034 # port is for who calls it
	wait_for 20 grep -q ready "$log.err" && port=$(sed 's/.*://' "$log.out") &&
		return 0
	diag "no server" "$(cat "$log.err")"
	return 1
}

# stop_serve - end the last one; its exit status is returned
stop_serve() {
	kill "$server" 2>/dev/null
	wait "$server"
}

# results NAME COMMAND... - its lines "ok SENTENCE" and "not ok SENTENCE: WHY"
# become results of this test, with NAME before them; others are shown
results() {
	local line n=0
	while IFS= read -r line; do
		n=$((n + 1))
		case $line in
		'ok '*) ok "$1: ${line#ok }" ;;
		'not ok '*) not_ok "$1: ${line#not ok }" ;;
		*) diag "$line" ;;
		esac
	done < <("${@:2}" 2>&1)
	[ $n -gt 0 ] || not_ok "$1 says something"
	wait $!
	expect "$1 came to its end" 0 $?
}

# venv NAME REQUIREMENTS - BUILD/NAME with these packages from PyPI, made once;
# its interpreter is $python, empty where they cannot be installed
venv() {
	local dir=$BUILD/$1 stamp
	stamp=$dir/stamp-$(cksum <"$2" | tr ' ' -)
	if [ ! -e "$stamp" ]; then
		rm -rf "$dir"
		{ python3 -m venv "$dir" && "$dir/bin/pip" install -q --no-deps \
			--disable-pip-version-check -r "$2"; } \
			>"$KV_LOG_DIR/pip.log" 2>&1 && touch "$stamp"
	fi
	python=
	if [ -e "$stamp" ]; then
		# shellcheck disable=SC2034 # for who calls it
		python=$dir/bin/python
	else
		diag "$(tail -3 "$KV_LOG_DIR/pip.log")"
	fi
}

tap_done() {
	echo "1..$tap_nr"
	[ $tap_failed = 0 ] || exit 1
	[ $tap_nr -gt $tap_skipped ] || exit 4
	exit 0
}
