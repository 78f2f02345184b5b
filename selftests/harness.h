/* SPDX-License-Identifier: MIT */
/*
 * harness.h - the test harness: one program, many forked tests, TAP out
 *
 *	TEST(bitmap, finds_the_first_zero_bit)
 *	{
 *		EXPECT_EQ(3, bitmap_first_zero(b, 8));
 *	}
 *	TEST_HARNESS_MAIN
 *
 * A test is named by its subject and the sentence that holds. It registers
 * itself by a constructor, in file order, and runs in a child of its own:
 *
 *	waiting -> running -> passed | failed | skipped
 *
 * The child is a process group. Its stdout and stderr come back through a
 * pipe and are printed as TAP comments, so that nothing a test prints can
 * pass for a result; only the parent prints "ok". The child reports through
 * a shared page (failures, skip reason, "reached its end"): a test that is
 * killed, that calls exit() half-way or that hangs has failed. What the
 * group leaves behind is killed when the test ends.
 *
 * ASSERT_* leave the test by longjmp, so that the fixture's teardown still
 * runs; in another thread or a forked process of the test they can only end
 * that process, which is counted all the same. EXPECT_* go on, and give
 * true when they held. Both evaluate their operands once and compare across
 * signedness by value: EXPECT_EQ(-1, 4294967295u) does not hold.
 *
 * A fixture gives each test a zeroed `self`; teardown runs after a failed
 * setup too and has to accept the zeroes. With variants, each test of the
 * fixture runs once per variant, which it sees as `variant`.
 */
#ifndef SELFTESTS_HARNESS_H
#define SELFTESTS_HARNESS_H

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TH_TIMEOUT_S 200
#define TH_EXIT_SKIP 4
#define TH_NAME_MAX  256

struct th_variant {
	const char *name;
	const void *data;
	struct th_variant *next;
};

struct th_fixture {
	void (*setup)(void *self, const void *variant);
	void (*teardown)(void *self, const void *variant);
	struct th_variant *variants;
};

struct th_test {
	const char *subject;
	const char *name;
	void (*body)(void *self, const void *variant);
	struct th_fixture *fixture;
	size_t self_size;
	unsigned int timeout_s;
	struct th_test *next;
};

/* One page shared by the parent, the test and whatever the test forks. */
struct th_shared {
	_Atomic unsigned int nr_failures;
	_Atomic bool skipped;
	_Atomic bool finished;
	char skip_reason[512];
	char tmpdir[256];
};

static struct th_test *th_tests;
static struct th_shared *th_shared;
static jmp_buf th_leave;
static pid_t th_pid, th_tid;

static inline void th_register(struct th_test *t)
{
	struct th_test **p = &th_tests;

	while (*p)
		p = &(*p)->next;
	*p = t;
}

static inline void th_add_variant(struct th_fixture *f, struct th_variant *v)
{
	struct th_variant **p = &f->variants;

	while (*p)
		p = &(*p)->next;
	*p = v;
}

/* ---- what a test says ---- */

#define TH_LOG(...) \
	(fprintf(stdout, __VA_ARGS__), fputc('\n', stdout), fflush(stdout))

static inline void __attribute__((noreturn)) th_leave_test(void)
{
	if (getpid() == th_pid && gettid() == th_tid)
		longjmp(th_leave, 1);
	_exit(1);
}

static inline void __attribute__((format(printf, 3, 4)))
th_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	th_shared->nr_failures++;
	fprintf(stdout, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stdout, fmt, ap);
	va_end(ap);
	fputc('\n', stdout);
	fflush(stdout);
}

static inline void __attribute__((format(printf, 1, 2), noreturn))
th_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(th_shared->skip_reason, sizeof(th_shared->skip_reason), fmt,
		  ap);
	va_end(ap);
	th_shared->skipped = true;
	th_leave_test();
}

/* SKIP(reason, ...) - leave the test: it cannot be judged here. */
#define SKIP(...) th_skip(__VA_ARGS__)

/**
 * test_seed - seed of a random test
 *
 * Return: SEED= from the environment if set, else a fresh number. It is
 * printed either way, so that a failure can be replayed.
 */
static inline uint64_t test_seed(void)
{
	const char *env = getenv("SEED");
	uint64_t seed = 0;

	if (env && *env)
		seed = strtoull(env, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = (uint64_t)time(NULL) ^ ((uint64_t)getpid() << 32);
	TH_LOG("seed: replay with SEED=%llu", (unsigned long long)seed);
	return seed;
}

/*
 * TEST_SLOWDOWN - how much slower a sanitizer build may be: the factor that a
 * test's limit of time is multiplied with
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SLOWDOWN 10
#else
#define TEST_SLOWDOWN 1
#endif

/* test_rand - next number of the generator at @state (splitmix64) */
static inline uint64_t test_rand(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* test_uniform - likewise, in [0, 1) */
static inline double test_uniform(uint64_t *state)
{
	return (double)(test_rand(state) >> 11) * 0x1p-53;
}

/* ---- comparisons ---- */

enum th_kind { TH_INT, TH_UINT, TH_REAL, TH_PTR };

struct th_val {
	enum th_kind kind;
	long long i;
	unsigned long long u;
	double r;
};

static inline struct th_val th_int(long long i)
{
	return (struct th_val){ .kind = TH_INT,
				.i = i,
				.u = (unsigned long long)i,
				.r = (double)i };
}

static inline struct th_val th_uint(unsigned long long u)
{
	return (struct th_val){ .kind = TH_UINT, .u = u, .r = (double)u };
}

static inline struct th_val th_real(double r)
{
	return (struct th_val){ .kind = TH_REAL, .r = r };
}

static inline struct th_val th_ptr(const volatile void *p)
{
	return (struct th_val){ .kind = TH_PTR,
				.u = (uintptr_t)p,
				.r = (double)(uintptr_t)p };
}

/* The conditional promotes: chars, bools, enums and bit-fields become int. */
#define TH_VAL(x)                              \
	_Generic((1 ? (x) : (x)), int          \
		 : th_int, long                \
		 : th_int, long long           \
		 : th_int, unsigned int        \
		 : th_uint, unsigned long      \
		 : th_uint, unsigned long long \
		 : th_uint, float              \
		 : th_real, double             \
		 : th_real, long double        \
		 : th_real, default            \
		 : th_ptr)(x)

enum th_op { TH_EQ, TH_NE, TH_LT, TH_LE, TH_GT, TH_GE };

static inline bool th_holds(struct th_val a, struct th_val b, enum th_op op)
{
	int c;

	if (a.kind == TH_REAL || b.kind == TH_REAL) {
		if (isnan(a.r) || isnan(b.r))
			return op == TH_NE;
		c = (a.r > b.r) - (a.r < b.r);
	} else {
		bool na = a.kind == TH_INT && a.i < 0;
		bool nb = b.kind == TH_INT && b.i < 0;

		c = na != nb ? (na ? -1 : 1) : (a.u > b.u) - (a.u < b.u);
	}
	switch (op) {
	case TH_EQ:
		return c == 0;
	case TH_NE:
		return c != 0;
	case TH_LT:
		return c < 0;
	case TH_LE:
		return c <= 0;
	case TH_GT:
		return c > 0;
	case TH_GE:
		return c >= 0;
	}
	return false;
}

static inline const char *th_show(struct th_val v, char *buf, size_t len)
{
	if (v.kind == TH_INT)
		snprintf(buf, len, "%lld", v.i);
	else if (v.kind == TH_REAL)
		snprintf(buf, len, "%.17g", v.r);
	else if (v.kind == TH_PTR)
		snprintf(buf, len, "%#llx", v.u);
	else
		snprintf(buf, len, "%llu (%#llx)", v.u, v.u);
	return buf;
}

static inline bool th_compare(struct th_val a, struct th_val b, enum th_op op,
			      const char *text, const char *file, int line)
{
	char x[64], y[64];

	if (th_holds(a, b, op))
		return true;
	th_fail(file, line, "%s does not hold: %s, %s", text,
		th_show(a, x, sizeof(x)), th_show(b, y, sizeof(y)));
	return false;
}

static inline bool th_streq(const char *a, const char *b, const char *text,
			    const char *file, int line)
{
	if (a == b || (a && b && !strcmp(a, b)))
		return true;
	th_fail(file, line, "%s does not hold: \"%s\", \"%s\"", text,
		a ? a : "(null)", b ? b : "(null)");
	return false;
}

static inline bool th_near(double a, double b, double tol, const char *text,
			   const char *file, int line)
{
	if (fabs(a - b) <= tol)
		return true;
	th_fail(file, line, "%s does not hold: %.9g, %.9g, off by %.3g", text,
		a, b, fabs(a - b));
	return false;
}

static inline bool th_bool(bool v, const char *text, const char *file, int line)
{
	if (!v)
		th_fail(file, line, "%s does not hold", text);
	return v;
}

#define TH_CMP(a, b, op, sign)                                             \
	th_compare(TH_VAL(a), TH_VAL(b), op, #a " " sign " " #b, __FILE__, \
		   __LINE__)

#define EXPECT_EQ(a, b)	   TH_CMP(a, b, TH_EQ, "==")
#define EXPECT_NE(a, b)	   TH_CMP(a, b, TH_NE, "!=")
#define EXPECT_LT(a, b)	   TH_CMP(a, b, TH_LT, "<")
#define EXPECT_LE(a, b)	   TH_CMP(a, b, TH_LE, "<=")
#define EXPECT_GT(a, b)	   TH_CMP(a, b, TH_GT, ">")
#define EXPECT_GE(a, b)	   TH_CMP(a, b, TH_GE, ">=")
#define EXPECT_TRUE(a)	   th_bool(!!(a), #a, __FILE__, __LINE__)
#define EXPECT_FALSE(a)	   th_bool(!(a), "!(" #a ")", __FILE__, __LINE__)
#define EXPECT_STREQ(a, b) th_streq(a, b, #a " equals " #b, __FILE__, __LINE__)
#define EXPECT_NEAR(a, b, tol) \
	th_near(a, b, tol, #a " is within " #tol " of " #b, __FILE__, __LINE__)

#define TH_OR_LEAVE(cond)                \
	do {                             \
		if (!(cond))             \
			th_leave_test(); \
	} while (0)

#define ASSERT_EQ(a, b)	       TH_OR_LEAVE(EXPECT_EQ(a, b))
#define ASSERT_NE(a, b)	       TH_OR_LEAVE(EXPECT_NE(a, b))
#define ASSERT_LT(a, b)	       TH_OR_LEAVE(EXPECT_LT(a, b))
#define ASSERT_LE(a, b)	       TH_OR_LEAVE(EXPECT_LE(a, b))
#define ASSERT_GT(a, b)	       TH_OR_LEAVE(EXPECT_GT(a, b))
#define ASSERT_GE(a, b)	       TH_OR_LEAVE(EXPECT_GE(a, b))
#define ASSERT_TRUE(a)	       TH_OR_LEAVE(EXPECT_TRUE(a))
#define ASSERT_FALSE(a)	       TH_OR_LEAVE(EXPECT_FALSE(a))
#define ASSERT_STREQ(a, b)     TH_OR_LEAVE(EXPECT_STREQ(a, b))
#define ASSERT_NEAR(a, b, tol) TH_OR_LEAVE(EXPECT_NEAR(a, b, tol))

/* ---- declaring tests ---- */

#define TH_DECLARE(subj, sentence, fix, size, secs)        \
	static struct th_test subj##_##sentence##_test = { \
		.subject = #subj,                          \
		.name = #sentence,                         \
		.body = subj##_##sentence##_run,           \
		.fixture = fix,                            \
		.self_size = size,                         \
		.timeout_s = secs,                         \
	};                                                 \
	static void __attribute__((constructor))           \
	subj##_##sentence##_register(void)                 \
	{                                                  \
		th_register(&subj##_##sentence##_test);    \
	}

/* TEST_TIMEOUT(subject, sentence, seconds) - a TEST with a limit of its own */
#define TEST_TIMEOUT(subj, sentence, secs)                                   \
	static void subj##_##sentence##_body(void);                          \
	static void subj##_##sentence##_run(void *self, const void *variant) \
	{                                                                    \
		(void)self;                                                  \
		(void)variant;                                               \
		subj##_##sentence##_body();                                  \
	}                                                                    \
	TH_DECLARE(subj, sentence, NULL, 0, secs)                            \
	static void subj##_##sentence##_body(void)

#define TEST(subj, sentence) TEST_TIMEOUT(subj, sentence, TH_TIMEOUT_S)

/* FIXTURE(name) { members }; */
#define FIXTURE(f)                            \
	struct f##_variant;                   \
	static struct th_fixture f##_fixture; \
	struct f##_self

#define TH_FIXTURE_HOOK(f, hook)                                             \
	static void f##_##hook##_body(struct f##_self *self,                 \
				      const struct f##_variant *variant);    \
	static void f##_##hook##_run(void *self, const void *variant)        \
	{                                                                    \
		f##_##hook##_body(self, variant);                            \
	}                                                                    \
	static void __attribute__((constructor)) f##_##hook##_register(void) \
	{                                                                    \
		f##_fixture.hook = f##_##hook##_run;                         \
	}                                                                    \
	static void f##_##hook##_body(                                       \
		struct f##_self *self __attribute__((unused)),               \
		const struct f##_variant *variant __attribute__((unused)))

#define FIXTURE_SETUP(f)    TH_FIXTURE_HOOK(f, setup)
#define FIXTURE_TEARDOWN(f) TH_FIXTURE_HOOK(f, teardown)

/* FIXTURE_VARIANT(fixture) { members }; */
#define FIXTURE_VARIANT(f) struct f##_variant

/* FIXTURE_VARIANT_ADD(fixture, name) { .member = ..., }; */
#define FIXTURE_VARIANT_ADD(f, v)                                         \
	static const struct f##_variant f##_##v##_data;                   \
	static struct th_variant f##_##v##_entry = {                      \
		.name = #v,                                               \
		.data = &f##_##v##_data,                                  \
	};                                                                \
	static void __attribute__((constructor)) f##_##v##_register(void) \
	{                                                                 \
		th_add_variant(&f##_fixture, &f##_##v##_entry);           \
	}                                                                 \
	static const struct f##_variant f##_##v##_data =

#define TEST_F_TIMEOUT(f, sentence, secs)                                     \
	static void f##_##sentence##_body(struct f##_self *self,              \
					  const struct f##_variant *variant); \
	static void f##_##sentence##_run(void *self, const void *variant)     \
	{                                                                     \
		f##_##sentence##_body(self, variant);                         \
	}                                                                     \
	TH_DECLARE(f, sentence, &f##_fixture, sizeof(struct f##_self), secs)  \
	static void f##_##sentence##_body(                                    \
		struct f##_self *self __attribute__((unused)),                \
		const struct f##_variant *variant __attribute__((unused)))

#define TEST_F(f, sentence) TEST_F_TIMEOUT(f, sentence, TH_TIMEOUT_S)

/* ---- running them ---- */

static inline int th_unlink_one(const char *path, const struct stat *st,
				int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline void th_remove_tmpdir(void)
{
	if (!th_shared->tmpdir[0])
		return;
	nftw(th_shared->tmpdir, th_unlink_one, 16, FTW_DEPTH | FTW_PHYS);
	th_shared->tmpdir[0] = '\0';
}

/**
 * test_tmpdir - a directory for this test
 *
 * Made on the first call, mode 0700, removed with all in it when the test
 * has ended, whichever way. Short enough for a socket's path.
 */
static inline const char *test_tmpdir(void)
{
	char path[sizeof(th_shared->tmpdir)];
	const char *top = getenv("TMPDIR");

	if (th_shared->tmpdir[0])
		return th_shared->tmpdir;
	snprintf(path, sizeof(path), "%s/kvtest.XXXXXX",
		 top && strlen(top) < 60 ? top : "/tmp");
	if (!mkdtemp(path)) {
		th_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
		th_leave_test();
	}
	memcpy(th_shared->tmpdir, path, sizeof(path));
	return th_shared->tmpdir;
}

/* Call @fn; an ASSERT in it comes back here. */
static inline void th_guard(void (*fn)(void *self, const void *variant),
			    void *self, const void *variant, bool *done)
{
	*done = false;
	if (setjmp(th_leave))
		return;
	if (fn)
		fn(self, variant);
	*done = true;
}

/* In the child: setup, body, teardown; each may leave by longjmp. */
static inline void th_run_body(const struct th_test *t, const void *variant)
{
	const struct th_fixture none = { 0 };
	const struct th_fixture *f = t->fixture ? t->fixture : &none;
	void *self = calloc(1, t->self_size ? t->self_size : 1);
	bool done;

	if (!self)
		_exit(1);
	th_pid = getpid();
	th_tid = gettid();
	th_guard(f->setup, self, variant, &done);
	if (done)
		th_guard(t->body, self, variant, &done);
	th_guard(f->teardown, self, variant, &done);
	free(self);
	fflush(stdout);
	th_shared->finished = true;
}

static inline void __attribute__((noreturn))
th_child(const struct th_test *t, const void *variant, int out, pid_t parent)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	setvbuf(stdout, NULL, _IOLBF, 0);
	th_run_body(t, variant);
	/* exit and not _exit: a leak checker reports from there */
	exit(th_shared->nr_failures ? 1 : 0);
}

/* Print what the test wrote since the last call, as TAP comments. */
static inline bool th_drain(int fd, bool *at_bol)
{
	char buf[1024];
	ssize_t n, i;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		for (i = 0; i < n; i++) {
			if (*at_bol)
				fputs("# ", stdout);
			fputc(buf[i], stdout);
			*at_bol = buf[i] == '\n';
		}
		fflush(stdout);
	}
	return n < 0 && errno == EAGAIN;
}

static inline double th_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Wait for the child and show its output. Return: true if it ran too long. */
static inline bool th_watch(pid_t pid, int out, unsigned int secs, int *status)
{
	int pidfd = pidfd_open(pid, 0);
	double end = th_now() + secs;
	bool at_bol = true, open = true, late = false;
	struct pollfd p[2] = { { .fd = pidfd, .events = POLLIN },
			       { .fd = out, .events = POLLIN } };

	while (!(p[0].revents & POLLIN)) {
		double left = end - th_now();

		if (left <= 0) {
			late = true;
			kill(-pid, SIGKILL);
			kill(pid, SIGKILL);
			break;
		}
		if (pidfd < 0) { /* no pidfd: look twice a second */
			siginfo_t si = { 0 };

			left = left < 0.5 ? left : 0.5;
			if (!waitid(P_PID, (id_t)pid, &si,
				    WEXITED | WNOHANG | WNOWAIT) &&
			    si.si_pid)
				break;
		}
		p[1].fd = open ? out : -1;
		if (poll(p, 2, (int)(left * 1000) + 1) < 0 && errno != EINTR)
			break;
		if (open && p[1].revents)
			open = th_drain(out, &at_bol);
	}
	kill(-pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	if (open)
		th_drain(out, &at_bol);
	if (!at_bol)
		fputc('\n', stdout);
	if (pidfd >= 0)
		close(pidfd);
	return late;
}

/* Run one test in a child. Return: 0 passed, 1 failed, 4 skipped. */
static inline int th_run_one(const struct th_test *t, const void *variant,
			     const char *name, unsigned int nr)
{
	const char *limit = getenv("TEST_TIMEOUT");
	const char *scale = getenv("TEST_SCALE");
	unsigned int secs = t->timeout_s;
	pid_t pid, parent = getpid();
	char why[96] = "";
	int fds[2], status = 0;
	bool late;

	if (scale && *scale)
		secs *= (unsigned int)strtoul(scale, NULL, 10);
	if (limit && *limit)
		secs = (unsigned int)strtoul(limit, NULL, 10);
	memset(th_shared, 0, sizeof(*th_shared));
	fflush(stdout);
	if (pipe2(fds, O_CLOEXEC) || (pid = fork()) < 0) {
		printf("not ok %u %s # cannot start: %s\n", nr, name,
		       strerror(errno));
		return 1;
	}
	if (!pid)
		th_child(t, variant, fds[1], parent);
	setpgid(pid, pid);
	close(fds[1]);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	late = th_watch(pid, fds[0], secs, &status);
	close(fds[0]);
	th_remove_tmpdir();

	if (late)
		snprintf(why, sizeof(why), "ran longer than %u s", secs);
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "killed by SIG%s",
			 sigabbrev_np(WTERMSIG(status)));
	else if (!th_shared->finished)
		snprintf(why, sizeof(why), "exited with %d before its end",
			 WEXITSTATUS(status));
	else if (th_shared->nr_failures)
		snprintf(why, sizeof(why), "%u check(s) did not hold",
			 th_shared->nr_failures);
	else if (WEXITSTATUS(status))
		snprintf(why, sizeof(why), "exit status %d after its end",
			 WEXITSTATUS(status));
	if (why[0]) {
		printf("# %s: %s\nnot ok %u %s\n", name, why, nr, name);
		return 1;
	}
	if (th_shared->skipped) {
		printf("ok %u %s # SKIP %s\n", nr, name,
		       th_shared->skip_reason);
		return TH_EXIT_SKIP;
	}
	printf("ok %u %s\n", nr, name);
	return 0;
}

struct th_options {
	const char *filters[32];
	unsigned int nr_filters;
	bool list;
	bool debug;
};

static inline bool th_selected(const struct th_options *opt, const char *name)
{
	unsigned int i;
	char base[TH_NAME_MAX];

	snprintf(base, sizeof(base), "%.*s", (int)strcspn(name, ":"), name);
	for (i = 0; i < opt->nr_filters; i++) {
		if (!fnmatch(opt->filters[i], name, 0) ||
		    !fnmatch(opt->filters[i], base, 0))
			return true;
	}
	return !opt->nr_filters;
}

struct th_totals {
	unsigned int nr, nr_passed, nr_failed, nr_skipped;
};

/* One round over all tests and variants: to count, to list or to run. */
static inline void th_round(const struct th_options *opt, bool run,
			    struct th_totals *sum)
{
	struct th_test *t;
	struct th_variant *v;
	char name[TH_NAME_MAX];
	int rc;

	for (t = th_tests; t; t = t->next) {
		v = t->fixture ? t->fixture->variants : NULL;
		do {
			snprintf(name, sizeof(name), "%s.%s%s%s", t->subject,
				 t->name, v ? ":" : "", v ? v->name : "");
			if (th_selected(opt, name)) {
				sum->nr++;
				if (opt->list)
					printf("%s\n", name);
				if (run && opt->debug) {
					th_run_body(t, v ? v->data : NULL);
				} else if (run) {
					rc = th_run_one(t, v ? v->data : NULL,
							name, sum->nr);
					sum->nr_passed += rc == 0;
					sum->nr_failed += rc == 1;
					sum->nr_skipped += rc == TH_EXIT_SKIP;
				}
			}
			v = v ? v->next : NULL;
		} while (v);
	}
}

static inline int th_usage(const char *prog)
{
	fprintf(stderr,
		"usage: %s [-l] [-d] [-t SUBJECT.SENTENCE[:VARIANT]]...\n"
		"  -t  run these only (shell patterns), -l  list,\n"
		"  -d  run in this process, for a debugger\n"
		"  SEED=N replays a random test, TEST_TIMEOUT=S sets limits,\n"
		"  TEST_SCALE=N multiplies them\n",
		prog);
	return 2;
}

static inline int th_main(int argc, char **argv)
{
	struct th_options opt = { 0 };
	struct th_totals plan = { 0 }, sum = { 0 };
	int c;

	while ((c = getopt(argc, argv, "ldt:")) != -1) {
		if (c == 'l')
			opt.list = true;
		else if (c == 'd')
			opt.debug = true;
		else if (c == 't' && opt.nr_filters < 32)
			opt.filters[opt.nr_filters++] = optarg;
		else
			return th_usage(argv[0]);
	}
	if (optind != argc)
		return th_usage(argv[0]);
	th_shared = mmap(NULL, sizeof(*th_shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (th_shared == MAP_FAILED) {
		fprintf(stderr, "%s: mmap: %s\n", argv[0], strerror(errno));
		return 1;
	}
	th_round(&opt, false, &plan);
	if (opt.list)
		return 0;
	if (opt.debug) {
		th_round(&opt, true, &sum);
		th_remove_tmpdir();
		return th_shared->nr_failures ? 1 : 0;
	}
	printf("TAP version 13\n1..%u\n", plan.nr);
	if (!plan.nr) {
		printf("# no test of that name\n");
		return 1;
	}
	th_round(&opt, true, &sum);
	printf("# passed %u, failed %u, skipped %u\n", sum.nr_passed,
	       sum.nr_failed, sum.nr_skipped);
	if (sum.nr_failed)
		return 1;
	return sum.nr_passed ? 0 : TH_EXIT_SKIP;
}

#define TEST_HARNESS_MAIN                   \
	int main(int argc, char **argv)     \
	{                                   \
		return th_main(argc, argv); \
	}

#endif
