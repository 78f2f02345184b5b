/* SPDX-License-Identifier: MIT */
/* timeout: 240 */
/* quick: no */
/*
 * test_faults_kvmd.c - whatever kvmd calls may fail, once, anywhere
 *
 * A run without faults finds the sites (shim.h) that kvmd passes while it
 * starts, while two clients do everything (fault_client.c), and while it ends.
 * Then each of them fails once:
 *
 *	at the start	kvmd says why and ends, leaving nothing; or works
 *	while it works	a client may be refused something, with a sentence, or
 *			be ended; kvmd lives, its books are in order, no
 *			descriptor, allocation or page is left, and the next
 *			client is served; what was read was right
 *	at the end	it ends all the same, leaving nothing
 *
 * `make check` takes a sample of the sites, another one each time; with KV_LONG
 * all of them fail, at their first, a middle and their last passing, and eight
 * times in a row.
 */
#include "selftests/faults/sample.h"
#include "selftests/harness.h"
#include "selftests/faults/sites.h"
#include "selftests/lib_kvmd.h"
#include <dirent.h>
#include <kv.h>
#include <sys/stat.h>

#define SAMPLE_START 50u
#define SAMPLE_WORK  40u
#define SAMPLE_END   15u
#define SETTLE_MS    8000

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

struct daemon_run {
	struct test_kvmd d;
	int status; /* of waitpid, once it ended */
	char swap[256];
};

static struct sites sites;
static uint64_t seen[SHIM_SITES];
static char exe[600];

/* Run kvmd until it takes clients; false: it has ended instead. */
static bool kvmd_begin(struct daemon_run *k)
{
	static unsigned int nr;
	char ready[16], byte;
	int fds[2], log;

	memset(k, 0, sizeof(*k));
	snprintf(k->d.socket, sizeof(k->d.socket), "%.80s/f%u.sock",
		 test_tmpdir(), nr);
	snprintf(k->d.log, sizeof(k->d.log), "%.200s/f%u.log", test_tmpdir(),
		 nr);
	snprintf(k->swap, sizeof(k->swap), "%.200s/f%u.swap", test_tmpdir(),
		 nr);
	nr++;
	ASSERT_EQ(0, pipe(fds));
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	fflush(stdout);
	k->d.pid = fork();
	if (!k->d.pid) {
		log = open(k->d.log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		close(log);
		sites_preload(&sites);
		execl(exe, exe, "--socket", k->d.socket, "--ready-fd", ready,
		      "--exit-with-parent", "--size", "32M", "--swap-ram", "4M",
		      "--swap-file", k->swap, "--swap-size", "64M", "--drain",
		      "20", "--log-level", "warn", NULL);
		_exit(127);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1) {
		close(fds[0]);
		return true;
	}
	close(fds[0]);
	/* it has ended, or the call that failed was the one that says ready */
	usleep(20000);
	if (waitpid(k->d.pid, &k->status, WNOHANG) != k->d.pid)
		return !access(k->d.socket, F_OK);
	k->d.pid = 0;
	return false;
}

static void kvmd_wait(struct daemon_run *k)
{
	double end = th_now() + 10;

	if (k->d.pid <= 0)
		return;
	while (th_now() < end) {
		if (waitpid(k->d.pid, &k->status, WNOHANG) == k->d.pid) {
			k->d.pid = 0;
			return;
		}
		usleep(1000);
	}
	k->status = -1;
	test_kvmd_kill(&k->d);
}

static void kvmd_end(struct daemon_run *k)
{
	kill(k->d.pid, SIGTERM);
	kvmd_wait(k);
}

static bool log_has(const struct daemon_run *k, const char *text)
{
	char line[1024];
	bool yes = false;
	FILE *f = fopen(k->d.log, "re");

	while (f && !yes && fgets(line, sizeof(line), f))
		yes = strstr(line, text);
	if (f)
		fclose(f);
	return yes;
}

static void log_show(const struct daemon_run *k)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "tail -5 '%s'", k->d.log);
	fflush(stdout);
	if (system(cmd))
		printf("no log\n");
}

/* Two clients that do everything. Return: the exit status, 200 + a signal. */
static int clients_run(const struct daemon_run *k)
{
	char bin[600], out[300];
	int status, fd;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/faults/fault_client",
		 test_build_dir());
	snprintf(out, sizeof(out), "%.200s/client.out", test_tmpdir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		execl(bin, bin, k->d.socket, NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return 199;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
}

static void clients_show(void)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "head -5 '%.200s/client.out'",
		 test_tmpdir());
	fflush(stdout);
	if (system(cmd))
		printf("no output\n");
}

/* Descriptors that do not come and go with memory. */
static int nr_fds(const struct daemon_run *k)
{
	char dir[64], path[400], to[256];
	struct dirent *e;
	ssize_t n;
	int nr = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)k->d.pid);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		n = readlink(path, to, sizeof(to) - 1);
		to[n > 0 ? n : 0] = '\0';
		nr += n > 0 && !strstr(to, "kvmd-extent");
	}
	if (d)
		closedir(d);
	return nr;
}

/* What is left when nobody is attached. */
struct rest {
	int fds;
	int64_t live;
};

static struct rest rest_now(const struct daemon_run *k)
{
	return (struct rest){ nr_fds(k), sites.map->live };
}

/* A kvmd that does not answer is looked into, and ended. */
static void look_into(const struct daemon_run *k)
{
	char cmd[300];

	snprintf(cmd, sizeof(cmd),
		 "gdb -p %d -batch -ex 'thread apply all bt 12' 2>/dev/null | "
		 "grep '^#\\|^Thread'",
		 (int)k->d.pid);
	fflush(stdout);
	if (system(cmd))
		printf("it does not answer\n");
	kill(k->d.pid, SIGKILL);
}

static uint64_t held(const struct daemon_run *k)
{
	char *json = NULL;
	uint64_t n = ~0ull;

	double from = th_now();

	if (!kv_ctl(k->d.socket, KV_HELLO_ADMIN, "meminfo", &json))
		test_json_u64(json, "held_bytes", &n);
	else if (th_now() - from > 5)
		look_into(k);
	free(json);
	return n;
}

static void show(const struct daemon_run *k, const char *request)
{
	char *json = NULL;

	kv_ctl(k->d.socket, KV_HELLO_ADMIN, request, &json);
	printf("%s: %.600s\n", request, json ? json : "no answer");
	free(json);
}

/* The clients ask for that at their end, and may have been refused. */
static void drop_cache(const struct daemon_run *k)
{
	char *json = NULL;

	kv_ctl(k->d.socket, KV_HELLO_ADMIN, "cache drop", &json);
	free(json);
}

/* Wait until no more is left than @base. */
static bool rest_is(const struct daemon_run *k, const struct rest *base,
		    bool loud)
{
	double end = th_now() + SETTLE_MS * (loud ? 1e-3 : 1e-4);
	struct rest now;
	uint64_t bytes;

	do {
		bytes = held(k);
		usleep(500); /* what answered it is given back */
		now = rest_now(k);
		if (!bytes && now.fds <= base->fds && now.live <= base->live)
			return true;
		usleep(2000);
	} while (th_now() < end);
	if (!loud && !bytes)
		return false;
	printf("left: %llu bytes held, %d descriptors more, %lld allocations "
	       "more\n",
	       (unsigned long long)bytes, now.fds - base->fds,
	       (long long)(now.live - base->live));
	show(k, "client list");
	show(k, "cache list");
	show(k, "device show 0");
	return false;
}

static bool in_order(const struct daemon_run *k)
{
	char *json = NULL;
	bool ok = !kv_ctl(k->d.socket, KV_HELLO_ADMIN, "check", &json) &&
		  strstr(json, "\"faults\":[]");

	if (!ok)
		printf("check: %.300s\n", json ? json : "no answer");
	free(json);
	return ok;
}

static bool nothing_left(const struct daemon_run *k)
{
	char lock[128];

	snprintf(lock, sizeof(lock), "%s.lock", k->d.socket);
	return access(k->d.socket, F_OK) && access(lock, F_OK) &&
	       access(k->swap, F_OK);
}

static bool ended_by_itself(const struct daemon_run *k)
{
	return WIFEXITED(k->status) && WEXITSTATUS(k->status) < 100;
}

struct tally {
	uint32_t nr, fired, good, refused, absent;
};

static void judge(struct tally *t, uint32_t i, bool ok,
		  const struct daemon_run *k, const char *what)
{
	t->good += ok;
	if (ok)
		return;
	th_fail(__FILE__, __LINE__, "%s: a failing call was not borne", what);
	sites_print(&sites, i, exe);
	log_show(k);
}

/* ---- start ---- */

static void fail_at_start(uint32_t i, struct tally *t)
{
	struct daemon_run k;
	bool up, ok;
	int ms;

	sites_arm(&sites, i, 1, 1);
	up = kvmd_begin(&k);
	t->nr++;
	/* a worker of it may still be on its way to it */
	for (ms = 0; up && ms < 1000 && !sites_fired(&sites); ms++)
		usleep(1000);
	t->fired += sites_fired(&sites) > 0;
	sites_mode(&sites, SHIM_OFF);
	if (up) {
		ok = in_order(&k) && !clients_run(&k);
		if (!ok)
			clients_show();
		kvmd_end(&k);
		ok = ok && !k.status;
	} else {
		t->refused++;
		kvmd_wait(&k);
		/* who cannot say ready takes its parent for dead, and ends */
		ok = ended_by_itself(&k) &&
		     (k.status ? log_has(&k, "kvmd: ")
			       : log_has(&k, "ready descriptor"));
		if (!ok)
			printf("status %#x\n", (unsigned int)k.status);
	}
	if (!nothing_left(&k)) {
		printf("files are left\n");
		ok = false;
	}
	judge(t, i, ok, &k, "at the start");
}

/* ---- work ---- */

static bool work_with_fault(struct daemon_run *k, uint32_t i, uint64_t nth,
			    uint64_t burst, struct tally *t)
{
	int rc;
	bool ok;

	sites_arm(&sites, i, nth, burst);
	rc = clients_run(k);
	t->fired += sites_fired(&sites) > 0;
	t->absent += !sites_fired(&sites);
	sites_mode(&sites, SHIM_OFF);
	drop_cache(k);
	t->refused += rc == 10;
	ok = rc == 0 || rc == 10;
	if (!ok) {
		printf("clients: exit %d\n", rc);
		sites_print(&sites, i, exe);
		clients_show();
		fflush(stdout);
	}
	if (waitpid(k->d.pid, &k->status, WNOHANG) == k->d.pid) {
		printf("kvmd has ended, status %#x\n", (unsigned int)k->status);
		k->d.pid = 0;
		return false;
	}
	return in_order(k) && ok;
}

/*
 * Is more left than there was? Buffers may have been made for more requests at
 * a time than ever before: what grows with each repetition is a leak.
 */
static bool leaves_nothing(struct daemon_run *k, uint32_t i, uint64_t nth,
			   uint64_t burst, struct rest *base, struct tally *t)
{
	uint32_t again;

	if (rest_is(k, base, false))
		return true;
	for (again = 0; again < 3; again++) {
		*base = rest_now(k);
		if (!work_with_fault(k, i, nth, burst, t))
			return false;
		if (rest_is(k, base, again == 2))
			return true;
	}
	return false;
}

/* A kvmd whose clients have done everything once, and what is left of them. */
static void work_begin(struct daemon_run *k, struct rest *base)
{
	int i;

	sites_mode(&sites, SHIM_OFF);
	ASSERT_TRUE(kvmd_begin(k));
	for (i = 0; i < 2; i++) {
		if (!EXPECT_EQ(0, clients_run(k)))
			clients_show();
	}
	*base = (struct rest){ .fds = 1 << 20, .live = INT64_MAX };
	EXPECT_TRUE(rest_is(k, base, true));
	usleep(100000);
	*base = rest_now(k);
}

static void fail_at_work(struct daemon_run *k, uint32_t i, struct rest *base,
			 struct tally *t)
{
	const uint64_t n = sites.list[i].count / 2; /* two runs found it */
	const uint64_t nth[4] = { 1, n / 2 + 1, n, 1 };
	uint32_t j, nr = getenv("KV_LONG") ? 4 : 1;
	bool ok = true;

	t->nr++;
	for (j = 0; j < nr && ok; j++) {
		if (j && nth[j] <= nth[j - 1] && j < 3)
			continue;
		ok = work_with_fault(k, i, nth[j] ? nth[j] : 1, j == 3 ? 8 : 1,
				     t) &&
		     leaves_nothing(k, i, nth[j] ? nth[j] : 1, j == 3 ? 8 : 1,
				    base, t);
	}
	/* the next client */
	if (ok && t->nr % 8 == 0)
		ok = clients_run(k) == 0;
	judge(t, i, ok, k, "at work");
	if (!ok) {
		test_kvmd_kill(&k->d);
		work_begin(k, base);
	}
}

/* ---- the tests ---- */

static void print(const char *when, const struct tally *t)
{
	TH_LOG("figure: %s: %u/%u sites borne (%u failed calls, %u times "
	       "refused with a sentence, %u passed otherwise this time)",
	       when, t->good, t->nr, t->fired, t->refused, t->absent);
}

static void setup(void)
{
	if (SANITIZED)
		SKIP("the allocator is the sanitizer's");
	unsetenv("KV_LOG_DIR"); /* what goes wrong here is meant to */
	snprintf(exe, sizeof(exe), "%s/bin/kvmd", test_build_dir());
	memset(seen, 0, sizeof(seen));
	ASSERT_EQ(0, sites_open(&sites, test_tmpdir()));
	sites_mode(&sites, SHIM_COUNT);
}

TEST_TIMEOUT(start, bears_each_call_that_fails, 200)
{
	struct tally t = { 0 };
	struct daemon_run k;
	uint64_t seed = sample_seed();
	uint32_t i;

	setup();
	ASSERT_TRUE(kvmd_begin(&k));
	sites_take(&sites, seen);
	sites_mode(&sites, SHIM_OFF);
	kvmd_end(&k);
	EXPECT_EQ(0, k.status);
	EXPECT_GT(sites.nr, 40);
	for (i = 0; i < sites.nr; i++) {
		if (sample_has(&sites, &seed, i, SAMPLE_START))
			fail_at_start(i, &t);
	}
	print("kvmd starts", &t);
	TH_LOG("%u sites in all", sites.nr);
	EXPECT_EQ(t.nr, t.good);
	EXPECT_GE(t.fired * 10, t.nr * 9);
	sites_close(&sites);
}

TEST_TIMEOUT(work, bears_each_call_that_fails, 200)
{
	struct tally t = { 0 };
	struct daemon_run k;
	struct rest base;
	uint64_t seed = sample_seed();
	uint32_t i;

	setup();
	ASSERT_TRUE(kvmd_begin(&k));
	sites_take(&sites, seen);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, clients_run(&k));
	EXPECT_EQ(0, sites.map->overflow);
	sites_take(&sites, seen);
	sites_mode(&sites, SHIM_OFF);
	kvmd_end(&k);
	EXPECT_GT(sites.nr, 100);
	work_begin(&k, &base);
	for (i = 0; i < sites.nr; i++) {
		if (sample_has(&sites, &seed, i, SAMPLE_WORK))
			fail_at_work(&k, i, &base, &t);
	}
	EXPECT_EQ(0, clients_run(&k));
	EXPECT_TRUE(rest_is(&k, &base, true));
	EXPECT_EQ(0, test_kvmd_check(&k.d));
	kvmd_end(&k);
	EXPECT_EQ(0, k.status);
	EXPECT_TRUE(nothing_left(&k));
	print("kvmd works", &t);
	TH_LOG("%u sites in all", sites.nr);
	EXPECT_EQ(t.nr, t.good);
	sites_close(&sites);
}

TEST_TIMEOUT(end, bears_each_call_that_fails, 200)
{
	struct tally t = { 0 };
	struct daemon_run k;
	uint64_t seed = sample_seed();
	uint32_t i;
	bool ok;

	setup();
	ASSERT_TRUE(kvmd_begin(&k));
	EXPECT_EQ(0, clients_run(&k));
	sites_take(&sites, seen);
	kvmd_end(&k);
	sites_take(&sites, seen);
	for (i = 0; i < sites.nr; i++) {
		if (!sample_has(&sites, &seed, i, SAMPLE_END))
			continue;
		sites_mode(&sites, SHIM_OFF);
		ASSERT_TRUE(kvmd_begin(&k));
		sites_arm(&sites, i, 1, 1);
		kvmd_end(&k);
		t.nr++;
		t.fired += sites_fired(&sites) > 0;
		ok = ended_by_itself(&k) && nothing_left(&k);
		judge(&t, i, ok, &k, "at the end");
	}
	print("kvmd ends", &t);
	EXPECT_EQ(t.nr, t.good);
	sites_close(&sites);
}

TEST_HARNESS_MAIN
