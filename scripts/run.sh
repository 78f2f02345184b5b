#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh BUILD [MODEL] - the demonstration behind `make run`
#
# Starts kvmd with the cpu device and two runtimes on it, shows both answers
# as they come, then whose pages are where, then a chat. As root the
# runtimes drop to the user kvrun in group kvmem; otherwise all of it runs as
# the caller. ONCE=1, or no terminal, ends before the chat; the exit status
# is 0 only if every part worked. TOKENS=n makes the answers that long.
#
# Whatever happens, nothing stays: the runtimes are told to stop, then kvmd,
# then the folder with socket and logs goes. Should this script itself be
# killed, the runtimes see their standard input end and kvmd gets SIGTERM as
# its parent dies.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$1/bin" && pwd) || exit 1
own_model=${2:-}
models=${XDG_CACHE_HOME:-$HOME/.cache}/kvmd/models
failed=0
pids=() kvmd_pid='' columns_pid=''
once=${ONCE:-}
[ -t 1 ] || once=1

T=$(mktemp -d "${TMPDIR:-/tmp}/kvmd-run.XXXXXX") || exit 1
chmod 755 "$T"
export KVMD_SOCKET=$T/kvmd.sock

fail() {
	echo "run: $*" >&2
	failed=1
}

die() {
	fail "$@"
	exit 1
}

# stop NAME SECONDS PID - SIGTERM, wait, SIGKILL; fails if it went badly
stop() {
	local rc i
	kill "$3" 2>/dev/null
	for ((i = 0; i < $2 * 20; i++)); do
		kill -0 "$3" 2>/dev/null || break
		sleep 0.05
	done
	if kill -KILL "$3" 2>/dev/null; then
		fail "$1 did not stop within $2 s and was killed"
	fi
	wait "$3"
	rc=$?
	case $rc in
	0 | 143) ;;
	*) fail "$1 ended with exit status $rc" ;;
	esac
}

stop_runtimes() {
	local pid
	exec 8>&-	# the end of their standard input
	for pid in "${pids[@]}"; do
		stop "the runtime $pid" 5 "$pid"
	done
	pids=()
}

cleanup() {
	local rc=$?
	trap '' INT TERM HUP
	[ -z "$columns_pid" ] || kill "$columns_pid" 2>/dev/null
	stop_runtimes
	if [ -n "$kvmd_pid" ]; then
		stop kvmd 10 "$kvmd_pid"
		[ ! -e "$KVMD_SOCKET" ] || fail "kvmd left its socket behind"
	fi
	if [ "$failed" != 0 ]; then
		for log in "$T"/*.log "$T"/*.err; do
			[ -s "$log" ] || continue
			echo "---- ${log##*/}" >&2
			tail -15 "$log" >&2
		done
		[ "$rc" != 0 ] || rc=1
	fi
	rm -rf "$T"
	exit "$rc"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say() {
	if [ -t 1 ]; then
		printf '\n\033[1m%s\033[0m\n' "$*"
	else
		printf '\n== %s\n' "$*"
	fi
}

# Bytes of memory that may be used here: what is free, within the cgroup
memory() {
	local free limit used f
	free=$(($(awk '/^MemAvailable/ { print $2 }' /proc/meminfo) * 1024))
	for f in /sys/fs/cgroup/memory.max \
		/sys/fs/cgroup/memory/memory.limit_in_bytes; do
		limit=$(cat "$f" 2>/dev/null)
		[[ $limit =~ ^[0-9]{1,15}$ ]] || continue
		used=$(cat "${f%/*}"/memory.{current,usage_in_bytes} 2>/dev/null)
		limit=$((limit - ${used:-0} / 2))
		[ $limit -ge $free ] || free=$limit
	done
	echo "$free"
}

start_kvmd() {
	local size mb i
	mb=$(($(memory) * 7 / 10 / 1048576))
	[ $mb -le 6144 ] || mb=6144
	[ $mb -ge 256 ] || die "not enough memory for a device: $mb MB"
	size=${SIZE:-$((mb / 8 * 8))M}
	setsid setpriv --pdeathsig TERM "$bin/kvmd" --socket "$KVMD_SOCKET" \
		--device cpu --size "$size" --log-file "$T/kvmd.log" --keeper \
		</dev/null >"$T/kvmd.out" 2>"$T/kvmd.err" 8>&- &
	kvmd_pid=$!
	for ((i = 0; i < 400; i++)); do
		"$bin/kvctl" --socket "$KVMD_SOCKET" status >/dev/null 2>&1 &&
			return
		if ! kill -0 $kvmd_pid 2>/dev/null; then
			kvmd_pid=''
			die "kvmd did not start"
		fi
		sleep 0.05
	done
	die "kvmd did not answer within 20 s"
}

# start_runtime NAME OPTION... - a kvrun that answers and then stays
start_runtime() {
	setsid "$bin/kvrun" generate "${drop[@]}" "${@:2}" \
		<"$T/stdin" >"$T/$1.out" 2>"$T/$1.err" 8>&- &
	pids+=($!)
}

# show TITLE NAME TITLE NAME - both texts until both have answered
show() {
	"$top/scripts/columns.py" "$1" "$T/$2.out" "$T/$2.err" "${pids[0]}" \
		"$3" "$T/$4.out" "$T/$4.err" "${pids[1]}" 8>&- &
	columns_pid=$!
	wait $columns_pid || fail "the answers could not be shown"
	columns_pid=''
	answered "$1" "$2"
	answered "$3" "$4"
	[ $failed = 0 ] || exit 1
}

answered() { # TITLE NAME
	if ! grep -qs 'kvrun: holding' "$T/$2.err"; then
		fail "$1: the runtime did not finish its answer"
	elif ! grep -q . "$T/$2.out"; then
		fail "$1: an empty answer"
	fi
}

# ask TITLE COMMAND... - a kvctl command and its output
ask() {
	say "$*"
	"$bin/kvctl" --socket "$KVMD_SOCKET" "${@:2}" >"$T/ask" 2>&1 ||
		fail "$* failed"
	[ -s "$T/ask" ] || fail "$* said nothing"
	cat "$T/ask"
}

chatml() {
	printf '<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n' "$1"
}

drop=()
if [ "$(id -u)" = 0 ]; then
	drop=(--user kvrun)
fi
mkfifo "$T/stdin"
exec 8<>"$T/stdin"

# Long enough for the four samples to share pages of 16 tokens.
prompt_a="Once upon a time, in a small town at the foot of the mountains, \
there lived a clockmaker who never slept. Her shop was full of clocks, and no \
two of them agreed about the hour. One winter morning a stranger came in, \
shook the snow from his coat, and said:"
if [ -n "$own_model" ]; then
	[ -r "$own_model" ] || die "cannot read the model $own_model"
	a=$own_model b=$own_model chat=$own_model
	title_a="${own_model##*/}, four samples" title_b="${own_model##*/}"
	prompt_b="The three most important ideas in computer science are"
else
	a=$models/gemma-3-270m-q4_k_m.gguf
	b=$models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf
	chat=$b
	title_a="Gemma 3 270M, four samples"
	title_b="Qwen2.5-Coder 1.5B Instruct"
	prompt_b=$(chatml "Explain in three sentences what a page table does.")
fi

# Each runtime gets its share of the cores: they answer at the same time.
half=$((($(nproc) + 1) / 2))
start_kvmd
say "two models, one device memory"
start_runtime a -m "$a" --prompt "$prompt_a" -n "${TOKENS:-40}" --n-samples 4 \
	--temp 0.8 --seed 7 -t $half --hold
start_runtime b -m "$b" --prompt "$prompt_b" -n "${TOKENS:-100}" \
	--temp 0 -t $half --hold
show "$title_a" a "$title_b" b

ask kvctl status
ask kvctl space list
ask kvctl meminfo
ask kvctl check
stop_runtimes

if [ -z "$once" ] && [ $failed = 0 ]; then
	say "chat (Ctrl-D ends it)"
	echo "from another terminal: KVMD_SOCKET=$KVMD_SOCKET $bin/kvctl top"
	trap : INT	# Ctrl-C is for the chat; it ends with Ctrl-D
	"$bin/kvrun" chat "${drop[@]}" -m "$chat" 8>&-
	rc=$?
	[ $rc = 0 ] || [ $rc = 130 ] ||
		fail "the chat ended with exit status $rc"
	trap 'exit 130' INT
fi
exit $failed
