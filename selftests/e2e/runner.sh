#!/bin/bash
# SPDX-License-Identifier: MIT
#
# runner.sh - run.sh itself: what is no pass must not count as one
#
# It is run in a small tree of its own with tests that go wrong.
#
# alone: no
# quick: no
. selftests/tap.sh

mkdir -p "$T/selftests/e2e" "$T/build"
cp selftests/run.sh "$T/selftests/"

# verdict SCRIPT-BODY -> the last line of run.sh for that one test
verdict() {
	printf '#!/bin/bash\n%s\n' "$1" >"$T/selftests/e2e/one.sh"
	chmod +x "$T/selftests/e2e/one.sh"
	(cd "$T" && env -u KV_TEST_TOKEN selftests/run.sh) >"$T/out" 2>&1
	rc=$?
	tail -1 "$T/out"
}

judged() { # SENTENCE WANT BODY
	expect "$1" "$2" "$(verdict "$3")"
}

judged "a clean run passes" "2 passed, 0 failed, 0 skipped" \
	'echo 1..2; echo ok 1 a; echo ok 2 b'
judged "a failed test counts" "1 passed, 1 failed, 0 skipped" \
	'echo 1..2; echo ok 1 a; echo not ok 2 b; exit 1'
judged "a skip is a skip" "1 passed, 0 failed, 1 skipped" \
	'echo 1..2; echo ok 1 a; echo "ok 2 b # SKIP no b here"'
judged "a skipped program is one skip" "0 passed, 0 failed, 1 skipped" \
	'echo "1..0 # SKIP not here"; exit 4'
judged "a missing result fails" "1 passed, 1 failed, 0 skipped" \
	'echo 1..2; echo ok 1 a'
judged "a missing plan fails" "1 passed, 1 failed, 0 skipped" \
	'echo ok 1 a'
judged "no TAP at all fails" "0 passed, 1 failed, 0 skipped" \
	'echo fine'
judged "a crash after the results fails" "1 passed, 1 failed, 0 skipped" \
	'echo 1..1; echo ok 1 a; kill -SEGV $$'
judged "an exit status without a failed test fails" \
	"1 passed, 1 failed, 0 skipped" 'echo 1..1; echo ok 1 a; exit 1'
judged "a result given twice fails" "2 passed, 1 failed, 0 skipped" \
	'echo 1..2; echo ok 1 a; echo ok 1 a'
judged "an overrun limit fails" "0 passed, 2 failed, 0 skipped" \
	$'# timeout: 1\nsleep 30'
judged "a process left behind fails" "1 passed, 1 failed, 0 skipped" \
	'echo 1..1; echo ok 1 a; setsid sleep 30 >/dev/null 2>&1 &'
judged "a WARN in a daemon's log fails" "1 passed, 1 failed, 0 skipped" \
	'mkdir $KV_LOG_DIR; echo WARN: x >$KV_LOG_DIR/l; echo 1..1; echo ok 1 a'
verdict 'echo 1..1; echo not ok 1 a; exit 1' >/dev/null
expect "failures give exit status 1" 1 "$(cd "$T" &&
	env -u KV_TEST_TOKEN selftests/run.sh >/dev/null 2>&1; echo $?)"
verdict 'echo 1..1; echo "# x.c:7: 1 == 2 does not hold"; echo not ok 1 a; exit 1' \
	>/dev/null
expect "what failed is said once more at the end" "3" \
	"$(tail -6 "$T/out" | grep -cE '^failed: e2e/one|does not hold|not ok 1')"
rm "$T/selftests/e2e/one.sh"
expect "nothing run is a failure" "0 passed, 1 failed, 0 skipped" \
	"$(cd "$T" && selftests/run.sh 2>&1 | tail -1)"
tap_done
