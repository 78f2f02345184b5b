/* SPDX-License-Identifier: MIT */
/*
 * bench_pages.c - page operations of many clients, and of a step without any
 *
 * pages	Each of the client processes reserves 32 pages in one request
 *		and gives them back in another, again and again, through libkv
 *		and a private kvmd: 32 page operations a request, no page twice
 *		in a batch. Counted are the pages reserved and those given back,
 *		over the time that all clients run.
 *
 * step		A step whose pages are all there must cost no call. A child is
 *		traced with ptrace while it runs steps inside one page: every
 *		system call between two markers counts, and so does every
 *		request that kvmd took from its ring meanwhile.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>

#define PAGES_CLIENTS 8
#define PAGES_BATCH   32u
#define STEP_STEPS    14u /* of one token, inside one page */

struct page_client {
	u64 rounds;
	double seconds;
	int rc;
	char err[200];
};

struct page_shared {
	u32 ready, go; /* atomics */
	struct page_client c[PAGES_CLIENTS];
	/* step */
	u64 requests_before, requests_after;
	int step_rc;
};

static void *map_shared(void)
{
	void *p = mmap(NULL, sizeof(struct page_shared), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int page_round(struct bench_client *c, u32 space)
{
	int rc = bench_client_step(c, space, 0, PAGES_BATCH * 16, NULL);

	return rc ? rc : kv_space_truncate(c->kv, space, 0);
}

static void page_child(const char *socket, struct page_shared *sh, u32 i,
		       double seconds)
{
	struct page_client *me = &sh->c[i];
	struct bench_client c;
	double start, end;
	u32 space = 0;
	int rc = bench_client_open(&c, socket, true);

	if (!rc)
		rc = kv_space_create(c.kv, &c.args, &space);
	if (!rc)
		rc = page_round(&c, space);
	__atomic_add_fetch(&sh->ready, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&sh->go, __ATOMIC_ACQUIRE))
		usleep(1000);
	start = clock_s();
	end = start + seconds;
	while (!rc && clock_s() < end) {
		rc = page_round(&c, space);
		me->rounds++;
	}
	me->seconds = clock_s() - start;
	me->rc = rc;
	if (rc)
		snprintf(me->err, sizeof(me->err), "%.190s",
			 c.kv ? kv_error(c.kv) : c.err);
	bench_client_close(&c);
	_exit(0);
}

struct page_result {
	double pages_s; /* reserved + given back, summed */
	double rounds_s;
	u32 clients;
};

static int pages_measure(const struct bench_opts *o, u32 clients,
			 struct page_result *r, char *err)
{
	struct page_shared *sh = map_shared();
	struct private_kvmd *d;
	pid_t pid[PAGES_CLIENTS];
	u32 i, started = 0;
	int rc;

	memset(r, 0, sizeof(*r));
	r->clients = clients;
	if (!sh)
		return -ENOMEM;
	rc = private_kvmd_start("256M", NULL, &d, err);
	if (rc)
		goto out_unmap;
	fflush(stdout);
	for (i = 0; i < clients; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			break;
		if (!pid[i])
			page_child(private_kvmd_socket(d), sh, i, o->seconds);
		started++;
	}
	while (__atomic_load_n(&sh->ready, __ATOMIC_ACQUIRE) < started)
		usleep(1000);
	__atomic_store_n(&sh->go, 1, __ATOMIC_RELEASE);
	for (i = 0; i < started; i++)
		waitpid(pid[i], NULL, 0);
	private_kvmd_stop(d);
	rc = started < clients ? -EAGAIN : 0;
	for (i = 0; i < started; i++) {
		if (sh->c[i].rc && !rc) {
			rc = sh->c[i].rc;
			snprintf(err, KV_ERRLEN, "%s", sh->c[i].err);
		}
		if (sh->c[i].seconds > 0)
			r->rounds_s +=
				(double)sh->c[i].rounds / sh->c[i].seconds;
	}
	r->pages_s = 2.0 * PAGES_BATCH * r->rounds_s;
out_unmap:
	munmap(sh, sizeof(*sh));
	return rc;
}

static int run_pages_figure(const struct bench_opts *o, struct figure_result *r)
{
	char err[KV_ERRLEN] = "";
	struct page_result p;
	int rc = pages_measure(o, PAGES_CLIENTS, &p, err);

	r->measured = p.pages_s / 1e6;
	if (rc)
		snprintf(r->note, sizeof(r->note), "%.150s", err);
	else
		snprintf(r->note, sizeof(r->note),
			 "%.2f M/s reserved and as many given back; %.0f k "
			 "requests/s",
			 p.pages_s / 2e6, 2 * p.rounds_s / 1e3);
	return rc;
}

/* ---- a step without a page ---- */

/* Between the two getppid() calls the parent counts. */
static void step_child(const char *socket, struct page_shared *sh)
{
	struct bench_client c;
	u32 space = 0, i;
	char *json = NULL;
	int rc = bench_client_open(&c, socket, false);

	if (!rc)
		rc = kv_space_create(c.kv, &c.args, &space);
	if (!rc)
		rc = bench_client_step(&c, space, 0, 1, NULL);
	raise(SIGSTOP);
	if (!rc && !kv_ctl(socket, 0, "vmstat", &json)) {
		json_t *v = json_loads(json, 0, NULL);

		sh->requests_before = (u64)json_integer_value(json_object_get(
			json_object_get(v, "counters"), "ring_requests"));
		json_decref(v);
	}
	free(json);
	json = NULL;
	syscall(SYS_getppid);
	for (i = 0; !rc && i < STEP_STEPS; i++)
		rc = bench_client_step(&c, space, 1 + i, 1, NULL);
	syscall(SYS_getppid);
	if (!rc && !kv_ctl(socket, 0, "vmstat", &json)) {
		json_t *v = json_loads(json, 0, NULL);

		sh->requests_after = (u64)json_integer_value(json_object_get(
			json_object_get(v, "counters"), "ring_requests"));
		json_decref(v);
	}
	free(json);
	sh->step_rc = rc;
	bench_client_close(&c);
	_exit(0);
}

/* System calls of @pid between its markers; -errno. */
static int count_calls(pid_t pid, int *first)
{
	struct __ptrace_syscall_info info;
	int status, calls = 0, markers = 0;

	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		return -ECHILD;
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL,
		   (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)))
		return -errno;
	for (;;) {
		long sig = 0;

		if (WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP &&
		    WSTOPSIG(status) != (SIGTRAP | 0x80))
			sig = WSTOPSIG(status);
		if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)sig) ||
		    waitpid(pid, &status, 0) < 0)
			return -errno;
		if (WIFEXITED(status) || WIFSIGNALED(status))
			return markers == 2 ? calls : -ECHILD;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80) ||
		    ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info),
			   &info) <= 0 ||
		    info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		if (info.entry.nr == SYS_getppid) {
			markers++;
		} else if (markers == 1) {
			if (!calls)
				*first = (int)info.entry.nr;
			calls++;
		}
	}
}

static int run_step_figure(const struct bench_opts *o, struct figure_result *r)
{
	struct page_shared *sh = map_shared();
	char err[KV_ERRLEN] = "";
	struct private_kvmd *d;
	int rc, calls, first = -1;
	pid_t pid;

	if (!sh)
		return -ENOMEM;
	rc = private_kvmd_start("64M", NULL, &d, err);
	if (rc) {
		snprintf(r->note, sizeof(r->note), "%.150s", err);
		goto out_unmap;
	}
	pid = fork();
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(1);
		step_child(private_kvmd_socket(d), sh);
	}
	calls = pid < 0 ? -errno : count_calls(pid, &first);
	if (calls < 0 && pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	private_kvmd_stop(d);
	rc = calls < 0 ? calls : sh->step_rc;
	if (calls == -EPERM || calls == -ECHILD) {
		rc = -EOPNOTSUPP;
		snprintf(r->note, sizeof(r->note), "ptrace is not allowed");
	}
	if (rc)
		goto out_unmap;
	r->measured =
		calls + (double)(sh->requests_after - sh->requests_before);
	snprintf(
		r->note, sizeof(r->note),
		"%u steps: %d system calls (first: %d), %llu requests",
		STEP_STEPS, calls, first,
		(unsigned long long)(sh->requests_after - sh->requests_before));
out_unmap:
	munmap(sh, sizeof(*sh));
	return rc;
}

FIGURE(pages_rings, .name = "pages.rings",
       .what = "page operations through the rings, 8 client processes, 32 "
	       "pages a batch",
       .unit = "M/s", .cmp = CMP_AT_LEAST, .target = 1,
       .run = run_pages_figure);
FIGURE(step_calls, .name = "step.calls",
       .what = "system calls and requests of steps that need no page",
       .unit = "calls", .cmp = CMP_EQUAL, .target = 0, .run = run_step_figure);

static const struct report_col pages_cols[] = {
	{ "clients", "clients", 0 },
	{ "mpages_s", "M page ops/s", 3 },
	{ "reserved_s", "M reserved/s", 3 },
	{ "requests_s", "k requests/s", 1 },
};

static int run_pages(const struct bench_opts *o, struct report *rep)
{
	static const u32 counts[] = { 1, 2, 4, 8 };
	char err[KV_ERRLEN] = "";
	unsigned int i;

	rep->cols = pages_cols;
	rep->nr_cols = ARRAY_SIZE(pages_cols);
	for (i = 0; i < ARRAY_SIZE(counts); i++) {
		struct page_result p;
		int rc = pages_measure(o, counts[i], &p, err);

		if (rc) {
			snprintf(rep->note, sizeof(rep->note), "%.200s", err);
			return rc;
		}
		report_row(rep, json_pack("{s:i, s:f, s:f, s:f}", "clients",
					  (int)p.clients, "mpages_s",
					  p.pages_s / 1e6, "reserved_s",
					  p.pages_s / 2e6, "requests_s",
					  2 * p.rounds_s / 1e3));
	}
	return 0;
}

SUBJECT(pages, .name = "pages",
	.what = "page operations through the rings, by number of clients",
	.run = run_pages);
