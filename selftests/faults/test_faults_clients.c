/* SPDX-License-Identifier: MIT */
/* timeout: 900 */
/* quick: no */
/*
 * test_faults_clients.c - whatever libkv and the engine call may fail, anywhere
 *
 * fault_client (libkv) and fault_engine (the runtime) run against a kvmd that
 * is well, first to find the sites (shim.h) that they pass, then with one of
 * them failing. Either all is as if nothing had been, tokens included, or a
 * call answers with a sentence; then the program gives back what it has: no
 * descriptor, mapping or allocation is left in it, no memory in kvmd, whose
 * books are in order. `make check` takes a sample, KV_LONG all sites, each at
 * its first, a middle and its last passing.
 */
#include "selftests/faults/sample.h"
#include "selftests/harness.h"
#include "selftests/faults/sites.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/tiny_model.h"
#include <kv.h>

#define NR_REQUESTS 16u
#define SETTLE_MS   8000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

FIXTURE(client)
{
	struct test_kvmd d;
	char exe[600], model[300], out[300];
	char hashes[NR_REQUESTS][80]; /* what the requests say undisturbed */
	int64_t live; /* allocations at its end, undisturbed */
	uint32_t nr, fired, good, refused, absent;
};

FIXTURE_VARIANT(client)
{
	const char *program;
	const char *limit;
	bool engine;
	uint32_t sample;
};

FIXTURE_VARIANT_ADD(client, libkv){ .program = "fault_client",
				    .limit = "32M",
				    .sample = 30 };
FIXTURE_VARIANT_ADD(client, engine){
	.program = "fault_engine", .limit = "10M", .engine = true, .sample = 24
};

static struct sites sites;
static uint64_t seen[SHIM_SITES];

static void write_model(const char *path)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct tiny t;
	FILE *f;

	tiny_build(&t, &c);
	f = fopen(path, "we");
	ASSERT_TRUE(f != NULL);
	ASSERT_EQ(1, fwrite(t.buf, t.len, 1, f));
	ASSERT_EQ(0, fclose(f));
	tiny_free(&t);
}

FIXTURE_SETUP(client)
{
	char swap[300];

	if (SANITIZED)
		SKIP("the allocator is the sanitizer's");
	snprintf(self->exe, sizeof(self->exe), "%s/selftests/faults/%s",
		 test_build_dir(), variant->program);
	snprintf(self->model, sizeof(self->model), "%.200s/model",
		 test_tmpdir());
	snprintf(self->out, sizeof(self->out), "%.200s/out", test_tmpdir());
	snprintf(swap, sizeof(swap), "%.200s/swap", test_tmpdir());
	if (variant->engine)
		write_model(self->model);
	memset(seen, 0, sizeof(seen));
	ASSERT_EQ(0, sites_open(&sites, test_tmpdir()));
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "32M",
				     "--limit", variant->limit, "--swap-ram",
				     "4M", "--swap-file", swap, "--swap-size",
				     "64M", "--drain", "20", NULL));
}

FIXTURE_TEARDOWN(client)
{
	sites_close(&sites);
	if (self->d.pid <= 0)
		return;
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* Run the program. Return: its exit status, 200 + a signal. */
static int run(struct client_self *self, bool engine)
{
	int status, fd;
	pid_t pid;

	sites.map->live = 0;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fd = open(self->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		close(fd);
		sites_preload(&sites);
		setenv("KV_SHIM_LATE", "1", 1);
		execl(self->exe, self->exe, self->d.socket,
		      engine ? self->model : NULL, NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return 199;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
}

static void show(const struct client_self *self)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "head -8 '%s'", self->out);
	fflush(stdout);
	if (system(cmd))
		printf("no output\n");
}

/* The same again in a debugger, where it ended by a signal. */
static void look_into(const struct client_self *self, bool engine)
{
	char cmd[3000];

	snprintf(
		cmd, sizeof(cmd),
		"gdb -batch -ex 'set environment LD_PRELOAD "
		"%s/selftests/faults/shim.so' -ex 'set environment KV_SHIM_MAP "
		"%s' -ex 'set environment KV_SHIM_LATE 1' -ex run -ex 'bt 12' "
		"--args %s %s %s 2>/dev/null | grep '^#\\|signal'",
		test_build_dir(), sites.path, self->exe, self->d.socket,
		engine ? self->model : "");
	fflush(stdout);
	if (system(cmd))
		printf("no debugger\n");
}

/* The tokens of the requests that ended well are the undisturbed ones? */
static bool same_tokens(struct client_self *self, bool learn)
{
	char line[600];
	bool same = true;
	unsigned int i;
	FILE *f = fopen(self->out, "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "request %u: ", &i) != 1 ||
		    !strchr(line, ':') || strstr(line, "failed") ||
		    i >= NR_REQUESTS)
			continue;
		if (learn)
			snprintf(self->hashes[i], sizeof(self->hashes[i]),
				 "%.79s", line);
		else if (strcmp(self->hashes[i], line))
			same = false;
	}
	if (f)
		fclose(f);
	return same;
}

/* kvmd holds nothing of the program, and its books are in order. */
static bool daemon_is_well(const struct client_self *self)
{
	uint64_t held = test_kvmd_settle(&self->d, 0, SETTLE_MS);
	char *json = test_kvmd_ctl(&self->d, "check");
	bool ok = json && strstr(json, "\"faults\":[]");

	if (!ok || held)
		printf("held %llu, %.300s\n", (unsigned long long)held,
		       json ? json : "no answer");
	free(json);
	return ok && !held;
}

/* What the engine published stays for the next one; not here. */
static void drop_cache(const struct client_self *self)
{
	free(test_kvmd_ctl(&self->d, "cache drop"));
}

static bool fail(struct client_self *self, uint32_t i, uint64_t nth,
		 uint64_t burst, bool engine)
{
	int rc, try;
	bool ok;

	sites_arm(&sites, i, nth, burst);
	rc = run(self, engine);
	/* not every run sleeps at the same moments */
	for (try = 0; try < 3 && !sites_fired(&sites) && !rc; try++) {
		drop_cache(self);
		rc = run(self, engine);
	}
	self->fired += sites_fired(&sites) > 0;
	self->absent += !sites_fired(&sites);
	sites_mode(&sites, SHIM_OFF);
	self->refused += rc == 10;
	ok = rc == 0 || rc == 10;
	if (!ok)
		printf("exit %d\n", rc);
	if (rc > 200 && rc != 200 + SIGALRM) {
		sites_arm(&sites, i, nth, burst);
		look_into(self, engine);
		sites_mode(&sites, SHIM_OFF);
	}
	if (ok && sites.map->live > self->live) {
		printf("%lld allocations are left\n",
		       (long long)(sites.map->live - self->live));
		ok = false;
	}
	if (!same_tokens(self, false)) {
		printf("other tokens\n");
		ok = false;
	}
	drop_cache(self);
	return daemon_is_well(self) && ok;
}

static bool fail_all(struct client_self *self, uint32_t i, bool engine)
{
	const uint64_t n = sites.list[i].count;
	const uint64_t nth[4] = { 1, n / 2 + 1, n, 1 };
	uint32_t j, nr = getenv("KV_LONG") ? 4 : 1;

	for (j = 0; j < nr; j++) {
		if (j && j < 3 && nth[j] <= nth[j - 1])
			continue;
		if (!fail(self, i, nth[j], j == 3 ? 8 : 1, engine)) {
			th_fail(__FILE__, __LINE__,
				"a failing call was not borne");
			sites_print(&sites, i, self->exe);
			show(self);
			return false;
		}
	}
	return true;
}

TEST_F_TIMEOUT(client, bears_each_call_that_fails, 400)
{
	uint64_t seed = sample_seed();
	uint32_t i;

	sites_mode(&sites, SHIM_COUNT);
	if (!EXPECT_EQ(0, run(self, variant->engine)))
		show(self);
	drop_cache(self);
	self->live = sites.map->live;
	same_tokens(self, true);
	EXPECT_EQ(0, sites.map->overflow);
	sites_take(&sites, seen);
	EXPECT_GT(sites.nr, 30);
	EXPECT_TRUE(daemon_is_well(self));
	for (i = 0; i < sites.nr; i++) {
		if (!sample_has(&sites, &seed, i, variant->sample))
			continue;
		self->nr++;
		self->good += fail_all(self, i, variant->engine);
	}
	TH_LOG("figure: %s: %u/%u sites borne (%u failed calls, %u times "
	       "refused with a sentence, %u passed otherwise this time); %u "
	       "sites in all",
	       variant->program, self->good, self->nr, self->fired,
	       self->refused, self->absent, sites.nr);
	EXPECT_EQ(self->nr, self->good);
	/* and all is as before */
	if (!EXPECT_EQ(0, run(self, variant->engine)))
		show(self);
	EXPECT_TRUE(same_tokens(self, false));
	drop_cache(self);
}

TEST_HARNESS_MAIN
