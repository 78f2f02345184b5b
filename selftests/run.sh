#!/bin/bash
# SPDX-License-Identifier: MIT
#
# run.sh - run the tests and judge them by their TAP
#
#	run.sh [-b BUILD] [-S SAN]... [-q | -l] [-j N] [PATTERN]...
#
#   -b  build folder; its test programs are selftests/**/test_*
#   -S  also run the tests marked "san: NAME" from BUILD/san-NAME
#   -q  quick: no models, nothing marked "quick: no"
#   -l  long: what is marked "long: yes" too, limits times ten
#   -j  unit tests at a time (default: one per core)
#
# A test is a program selftests/**/test_*.c or a script selftests/e2e/*.sh.
# Markers in its first 30 lines: "timeout: SECONDS" (default 400), "alone: yes"
# (nothing runs beside it; scripts: unless "alone: no"), "quick: no",
# "long: yes", "san: address thread".
#
# What makes a test pass is its TAP: one plan, every number of the plan once
# and in order, an exit status that agrees. Whatever is missing counts as one
# failure more. So do a process it leaves behind, found by the token in its
# environment, and a BUG, WARN or level=err line in a log under KV_LOG_DIR.
# Logs stay in BUILD/test-logs. Output ends with "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")/.." || exit 1

build=build sans=() quick=0 long=0 jobs=$(nproc) patterns=()
while getopts 'b:S:qlj:h' c; do
	case $c in
	b) build=$OPTARG ;;
	S) sans+=("$OPTARG") ;;
	q) quick=1 ;;
	l) long=1 ;;
	j) jobs=$OPTARG ;;
	*) sed -n '4,24s/^# \?//p' "$0"; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
patterns=("$@")
[ -d "$build" ] || { echo "run.sh: no build folder $build"; exit 1; }
build=$(cd "$build" && pwd)
logs=$build/test-logs
token=kvtest-$$-$RANDOM
rm -rf "$logs"
mkdir -p "$logs"

models=${XDG_CACHE_HOME:-$HOME/.cache}/kvmd/models
if [ "$quick" = 0 ]; then
	f=$models/gemma-3-270m-q4_k_m.gguf
	[ -f "$f" ] && export KV_GEMMA="$f"
	f=$models/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf
	[ -f "$f" ] && export KV_QWEN="$f"
else
	unset KV_GEMMA KV_QWEN
	export KV_QUICK=1
fi
[ "$long" = 1 ] && export KV_LONG=1

marker() { # FILE WORD -> its value
	sed -n "1,30s/^[ #*/]*$2: *\([a-z0-9 ]*[a-z0-9]\).*/\1/p;30q" "$1" |
		head -1
}

# Processes started under token $1 that still live
strays() {
	local f pid
	grep -lzs "^KV_TEST_TOKEN=$1" /proc/[0-9]*/environ | while read -r f; do
		pid=${f#/proc/}
		pid=${pid%/environ}
		grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status" ||
			echo "$pid"
	done
}

kill_all() {
	local pids
	mapfile -t pids < <(strays "$token")
	[ ${#pids[@]} = 0 ] || kill -KILL "${pids[@]}" 2>/dev/null
}
trap 'kill_all; echo; echo "interrupted"; exit 130' INT TERM

# Read TAP on stdin; print "passed failed skipped" and the complaints.
judge() { # EXIT-STATUS
	awk -v rc="$1" '
	function complain(s) { bad++; msg = msg "# " s "\n" }
	/^1\.\.[0-9]+/ {
		plans++
		plan = substr($1, 4) + 0
		whole = plan == 0 && toupper($0) ~ /# *SKIP/
	}
	/^(not )?ok( |$)/ {
		n++
		if ($(/^not/ ? 3 : 2) != n) order = 1
		if (/^not/) fail++
		else if (toupper($0) ~ /# *SKIP/) skip++
		else pass++
	}
	/^Bail out!/ { complain($0) }
	END {
		if (plans != 1) complain("no single TAP plan: " plans + 0)
		else if (n != plan)
			complain("planned " plan ", saw " n + 0 " results")
		if (order) complain("results out of order")
		if (whole && !n) skip++
		else if (plans == 1 && plan == 0) complain("an empty plan")
		if (rc == 124 || rc == 137) complain("ran out of time")
		else if (rc > 128) complain("killed by signal " rc - 128)
		else if (rc == 4 && (pass || fail))
			complain("says all skipped, and is not")
		else if (rc && rc != 4 && !fail) complain("exit status " rc)
		else if (!rc && fail) complain("exit status 0 all the same")
		printf "%d %d %d\n%s", pass, fail + bad, skip, msg
	}'
}

run_one() { # LEG SOURCE COMMAND
	local leg=$1 src=$2 cmd=$3 name log limit scale rc t0 t1 left verdict pre=()
	name=${src%.*}
	name=${name#selftests/}
	log=$logs/$leg/$name
	mkdir -p "$(dirname "$log")"
	limit=$(marker "$src" timeout)
	limit=${limit:-400}
	scale=1
	[ "$leg" = main ] || scale=3
	[ "$long" = 0 ] || scale=$((scale * 10))
	limit=$((limit * scale))
	# TSan wants the address space as it was laid out for it
	[ "$leg" = thread ] && setarch -R true 2>/dev/null && pre=(setarch -R)
	t0=${EPOCHREALTIME/./}
	env KV_TEST_TOKEN="$token.$leg.$name" KV_LOG_DIR="$log.d" \
		BUILD="$build${4:-}" TEST_SCALE=$scale "${pre[@]}" \
		timeout -k 5 "$limit" "$cmd" >"$log.tap" 2>"$log.err" </dev/null
	rc=$?
	t1=${EPOCHREALTIME/./}
	left=$(strays "$token.$leg.$name\$")
	for _ in 1 2 3 4 5 6 7 8; do
		[ -z "$left" ] && break
		sleep 0.25
		left=$(strays "$token.$leg.$name\$")
	done
	verdict=$(judge "$rc" <"$log.tap")
	extra=()
	for pid in $left; do
		extra+=("left a process behind: $pid $(
			tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)")
		kill -KILL "$pid" 2>/dev/null
	done
	while IFS= read -r line; do
		[ -n "$line" ] && extra+=("in a log: $line")
	done < <(grep -rhE '(^|[^a-z])(BUG|WARN(ING)?)[: ]|level=err ' "$log.d" \
		2>/dev/null | head -5)
	{
		read -r pass fail skip
		cat >"$log.why"
	} <<<"$verdict"
	for line in "${extra[@]}"; do
		fail=$((fail + 1))
		echo "# $line" >>"$log.why"
	done
	echo "$pass $fail $skip $(((t1 - t0) / 1000)) $leg $name" >"$log.res"
	printf '%-4s %-8s %-44s %4d passed' \
		"$([ "$fail" = 0 ] && echo ok || echo FAIL)" \
		"$([ "$leg" = main ] || echo "$leg")" "$name" "$pass"
	[ "$fail" = 0 ] || printf ' %d failed' "$fail"
	[ "$skip" = 0 ] || printf ' %d skipped' "$skip"
	printf '  %d.%02d s\n' $(((t1 - t0) / 1000000)) \
		$(((t1 - t0) / 10000 % 100))
}

wanted() { # SOURCE
	local p
	[ "$quick" = 1 ] && [ "$(marker "$1" quick)" = no ] && return 1
	[ "$long" = 0 ] && [ "$(marker "$1" long)" = yes ] && return 1
	[ ${#patterns[@]} = 0 ] && return 0
	for p in "${patterns[@]}"; do
		# shellcheck disable=SC2254 # a pattern is meant
		case ${1#selftests/} in
		$p | *"$p"*) return 0 ;;
		esac
	done
	return 1
}

together=() alone=()
while IFS= read -r src; do
	wanted "$src" || continue
	case $src in
	*.c)
		line="main $src $build/${src%.c}"
		if [ "$(marker "$src" alone)" = yes ]; then
			alone+=("$line")
		else
			together+=("$line")
		fi
		for san in "${sans[@]}"; do
			[[ " $(marker "$src" san) " == *" $san "* ]] || continue
			d=/san-$san
			together+=("$san $src $build$d/${src%.c} $d")
		done
		;;
	*)
		if [ "$(marker "$src" alone)" = no ]; then
			together+=("main $src $PWD/$src")
		else
			alone+=("main $src $PWD/$src")
		fi
		;;
	esac
done < <({
	find selftests -name 'test_*.c'
	find selftests/e2e -maxdepth 1 -name '*.sh'
} | LC_ALL=C sort)

start=$SECONDS
running=0
for line in "${together[@]}"; do
	if [ $running -ge "$jobs" ]; then
		wait -n
		running=$((running - 1))
	fi
	# shellcheck disable=SC2086 # words are meant
	run_one $line &
	running=$((running + 1))
done
wait
for line in "${alone[@]}"; do
	# In the background, so that a signal is taken at once
	# shellcheck disable=SC2086
	run_one $line &
	wait $!
done

passed=0 failed=0 skipped=0 missing=$((${#together[@]} + ${#alone[@]}))
while read -r pass fail skip _ leg name; do
	missing=$((missing - 1))
	passed=$((passed + pass))
	failed=$((failed + fail))
	skipped=$((skipped + skip))
	log=$logs/$leg/$name
	if [ "$skip" != 0 ]; then
		sed -nE "s,^(ok|1\.\.0) .*# *SKIP,skip $name:,Ip" "$log.tap" |
			sort | uniq -c | sed 's/^ *1 //; s/^ *\([0-9]*\) /\1x /'
	fi
	[ "$fail" = 0 ] && continue
	echo
	echo "==== $name${leg:+ ($leg)} ===="
	cat "$log.why"
	if [ "$(wc -l <"$log.tap")" -gt 120 ]; then
		grep -B 20 '^not ok' "$log.tap" | tail -80
		echo "... (whole: ${log#"$PWD"/}.tap)"
	else
		cat "$log.tap"
	fi
	tail -40 "$log.err"
	for f in $(find "$log.d" -type f -printf '%T@ %p\n' 2>/dev/null |
		sort -nr | head -2 | cut -d' ' -f2-); do
		echo "---- ${f##*/}"
		tail -15 "$f"
	done
done < <(find "$logs" -name '*.res' -print0 | sort -z | xargs -0r cat)

if [ "$missing" != 0 ]; then
	echo "run.sh: $missing tests have no result"
	failed=$((failed + missing))
fi
if [ $((passed + failed + skipped)) = 0 ]; then
	echo "run.sh: nothing was run"
	failed=1
fi
echo
echo "slowest:"
find "$logs" -name '*.res' -print0 | xargs -0r cat | sort -k4,4nr | head -5 |
	awk '{ printf "  %7.2f s  %s%s\n", $4 / 1000, $6,
		$5 == "main" ? "" : " (" $5 ")" }'
# Once more in few lines, where a log that is cut short still has them
while read -r _ fail _ _ leg name; do
	[ "$fail" = 0 ] && continue
	echo "failed: $name${leg:+ ($leg)}"
	{
		cat "$logs/$leg/$name.why"
		grep -B 12 '^not ok' "$logs/$leg/$name.tap" |
			grep -v '^ok'
	} | tail -12 | cut -c1-300 | sed 's/^/    /'
done < <(find "$logs" -name '*.res' -print0 | sort -z | xargs -0r cat)
echo "took $((SECONDS - start)) s, logs in ${logs#"$PWD"/}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
