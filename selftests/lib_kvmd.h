/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_LIB_KVMD_H
#define SELFTESTS_LIB_KVMD_H
/*
 * lib_kvmd.h - a private kvmd for a test, and what its clients hold
 *
 *	struct test_kvmd d;
 *
 *	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
 *	... kv_attach() with d.socket ...
 *	EXPECT_EQ(0, test_kvmd_stop(&d));
 *
 * The daemon ends with the process that started it, so a test that fails
 * half-way leaves nothing behind. Its log lies in KV_LOG_DIR where run.sh
 * gives one, else in the test's folder.
 */
#include <stdint.h>
#include <sys/types.h>

struct test_kvmd {
	pid_t pid;
	char socket[108];
	char log[256];
};

/**
 * test_kvmd_start - run BUILD/bin/kvmd until it takes clients
 * @d: filled in
 * @dir: for the socket, and the log
 * @...: further options, NULL at the end
 *
 * Return: 0 or -errno; the reason is printed.
 */
int test_kvmd_start(struct test_kvmd *d, const char *dir, ...)
	__attribute__((sentinel));
/*
 * test_kvmd_before - what the child does before it becomes the next kvmd: into
 * a namespace, under a filter; NULL: nothing
 */
extern void (*test_kvmd_before)(void);
/* test_kvmd_stop - SIGTERM, and wait; 0 if it ended well, and in 10 s */
int test_kvmd_stop(struct test_kvmd *d);
/* test_kvmd_kill - SIGKILL, and wait */
void test_kvmd_kill(struct test_kvmd *d);
/* test_kvmd_kill_kept - SIGKILL to who serves under the keeper; 0 or -errno */
int test_kvmd_kill_kept(const struct test_kvmd *d);
/* test_kvmd_path - BUILD, from the environment or this program's path */
const char *test_build_dir(void);

/**
 * test_kvmd_ctl - one request to the control interface
 * @d: daemon
 * @request: "OBJECT VERB [ARGS]"; admin rights are asked for
 *
 * A kvmd that is late, or gone with the connection, is asked again for 30 s.
 *
 * Return: JSON to free(), or NULL; the reason is printed.
 */
char *test_kvmd_ctl(const struct test_kvmd *d, const char *request);
/* test_cpu_s - processor time of a process so far; it is there */
double test_cpu_s(pid_t pid);
/**
 * test_json_u64 - the first number under a key, wherever it stands
 * @json: text
 * @key: without quotes
 * @out: the number
 *
 * Return: 0, or -ENOENT.
 */
int test_json_u64(const char *json, const char *key, uint64_t *out);
/* test_kvmd_u64 - a number of the answer to @request; ~0: there is none */
uint64_t test_kvmd_u64(const struct test_kvmd *d, const char *request,
		       const char *key);
/**
 * test_kvmd_check - are the books of kvmd in order?
 * @d: daemon
 *
 * Asks for kvmd's fsck, and runs the audit program where there is one.
 * Return: number of faults found, each printed; negative: cannot ask.
 */
int test_kvmd_check(const struct test_kvmd *d);
/**
 * test_kvmd_settle - wait until no memory is held but the clients' that live
 * @d: daemon
 * @held: bytes that may stay held
 * @timeout_ms: how long
 *
 * Return: bytes held above @held in the end, 0 at best.
 */
uint64_t test_kvmd_settle(const struct test_kvmd *d, uint64_t held,
			  int timeout_ms);

#endif
