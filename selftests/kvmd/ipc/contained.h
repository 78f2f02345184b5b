/* SPDX-License-Identifier: MIT */
/*
 * contained.h - clients and kvmds that live in containers, for their tests
 */
#ifndef SELFTESTS_KVMD_IPC_CONTAINED_H
#define SELFTESTS_KVMD_IPC_CONTAINED_H

#include "selftests/kvmd/ipc/raw.h"
#include <grp.h>
#include <kv.h>
#include <sched.h>

#define STRANGER 4001u /* uids of nobody else */
#define ANOTHER	 4002u

/* What a test needs of the kernel; SKIP says what it forbids. */
static inline bool may_unshare(int flags)
{
	int status = 1;
	pid_t pid = fork();

	if (!pid)
		_exit(unshare(flags) ? 1 : 0);
	return waitpid(pid, &status, 0) == pid && !status;
}

#define NEED(flags, what)                                                       \
	do {                                                                    \
		if (geteuid() || !may_unshare(flags))                           \
			SKIP("may not make " what                               \
			     " (root, and a kernel that lets it, are needed)"); \
	} while (0)

static inline void start(struct test_kvmd *d, const char *key)
{
	ASSERT_EQ(0, test_kvmd_start(d, test_tmpdir(), "--size", "64M",
				     "--tenant-key", key, "--drain", "20",
				     "--revoke-ask", "0", "--revoke-fence",
				     "50", NULL));
	/* for who is not root */
	ASSERT_EQ(0, chmod(test_tmpdir(), 0755));
	ASSERT_EQ(0, chmod(d->socket, 0666));
}

static inline void finish(struct test_kvmd *d)
{
	EXPECT_EQ(0, test_kvmd_settle(d, 0, RAW_WAIT_MS));
	EXPECT_EQ(0, test_kvmd_check(d));
	EXPECT_EQ(0, test_kvmd_stop(d));
}

/* ---- clients ---- */

struct client {
	pid_t pid;
	int ready, go; /* pipes */
};

/* In the client: hold memory, say so, and wait to be ended. */
static inline void hold(const char *path, int ready, int go)
{
	struct raw r;
	char x;

	raw_attach(&r, path);
	if (raw_reserve(&r, (uint32_t)raw_space(&r, raw_geom(&r), 0), 0, 64)
		    .res)
		_exit(3);
	raw_commit(&r, 0, 64);
	if (write(ready, "x", 1) != 1 || read(go, &x, 1) != 1)
		_exit(4);
	/* told to go on: is kvmd's word still good? */
	_exit(raw_reserve(&r, 0, 64, 64).res ? 5 : 0);
}

/* A client that became what @become makes of it, and holds memory. */
static inline void client_start(struct client *c, const char *path,
				void (*become)(void))
{
	int ready[2], go[2];
	char x = 0;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(go));
	fflush(stdout);
	c->pid = fork();
	if (!c->pid) {
		close(go[1]);
		close(ready[0]);
		become();
		hold(path, ready[1], go[0]);
	}
	close(ready[1]);
	close(go[0]);
	c->ready = ready[0];
	c->go = go[1];
	ASSERT_EQ(1, read(c->ready, &x, 1));
}

static inline int client_end(struct client *c)
{
	int status = -1;

	close(c->ready);
	close(c->go);
	waitpid(c->pid, &status, 0);
	return status;
}

static inline void as_it_is(void)
{
}

static inline void as_uid(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
	    setresuid(uid, uid, uid))
		_exit(6);
}

static inline void as_stranger(void)
{
	as_uid(STRANGER);
}

/* The first process of a pid namespace: a child of one that goes along. */
static inline void in_pid_ns(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		_exit(7);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return;
	}
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
}

/* What kvmd refuses a process of @uid with; its sentence in 512 bytes @text. */
static inline int try_attach(const char *path, uid_t uid, uint32_t flags,
			     char *text)
{
	int fds[2], status;
	pid_t pid;
	ssize_t n;

	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		const struct kv_msg_hello h = raw_hello(flags);
		struct raw r = { 0 };
		int rc;

		if (uid)
			as_uid(uid);
		r.sock = raw_connect(path);
		if (r.sock < 0)
			_exit(100);
		raw_send(&r, KV_MSG_HELLO, &h, sizeof(h));
		rc = raw_reply(&r);
		if (rc && write(fds[1], r.body, strlen(r.body)) < 0)
			_exit(101);
		_exit(-rc);
	}
	close(fds[1]);
	n = read(fds[0], text, 511);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static inline uint64_t count(const struct test_kvmd *d, const char *key)
{
	char *json = test_kvmd_ctl(d, "vmstat");
	uint64_t n = 0;

	EXPECT_EQ(0, test_json_u64(json, key, &n));
	free(json);
	return n;
}

static inline uint64_t pid_of_client(const struct test_kvmd *d)
{
	char *json = test_kvmd_ctl(d, "client list");
	uint64_t pid = ~0ull;

	EXPECT_EQ(0, test_json_u64(json, "pid", &pid));
	free(json);
	return pid;
}

#endif
