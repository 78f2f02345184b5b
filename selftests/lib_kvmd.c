/* SPDX-License-Identifier: MIT */
/*
 * lib_kvmd.c - a private kvmd for a test
 *
 * The daemon says through a pipe that it takes clients; it is started with
 * --exit-with-parent and lives at most as long as the test. What it says goes
 * to its log, which run.sh reads for warnings.
 */
#include "selftests/lib_kvmd.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <kv.h>
#include "include/kv/types.h"

#define ARGS_MAX 40

void (*test_kvmd_before)(void);

const char *test_build_dir(void)
{
	static char dir[512];
	const char *env = getenv("BUILD");
	ssize_t n;
	char *end;

	if (dir[0])
		return dir;
	if (env && *env) {
		snprintf(dir, sizeof(dir), "%s", env);
		return dir;
	}
	n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	dir[n > 0 ? n : 0] = '\0';
	end = strstr(dir, "/selftests/");
	if (end)
		*end = '\0';
	else
		snprintf(dir, sizeof(dir), "build");
	return dir;
}

static void nap_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000,
				      .tv_nsec = ms % 1000 * 1000000 },
		  NULL);
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* In the child: become kvmd. */
static void __attribute__((noreturn))
run_kvmd(const struct test_kvmd *d, char **argv)
{
	int log = open(d->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (log >= 0) {
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
	}
	if (test_kvmd_before)
		test_kvmd_before();
	execv(argv[0], argv);
	dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static void show_log(const struct test_kvmd *d)
{
	char line[512];
	FILE *f = fopen(d->log, "re");

	while (f && fgets(line, sizeof(line), f))
		printf("kvmd: %s", line);
	if (f)
		fclose(f);
}

/* The byte of --ready-fd, or the end of the daemon. */
static int wait_ready(struct test_kvmd *d, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;
	int rc;

	do {
		rc = poll(&p, 1, 20000);
	} while (rc < 0 && errno == EINTR);
	if (rc == 1 && read(fd, &byte, 1) == 1)
		return 0;
	printf("kvmd did not come up\n");
	show_log(d);
	test_kvmd_kill(d);
	return -EIO;
}

int test_kvmd_start(struct test_kvmd *d, const char *dir, ...)
{
	static unsigned int nr;
	const char *logs = getenv("KV_LOG_DIR");
	char bin[600], ready[16], *argv[ARGS_MAX + 1];
	int fds[2], i = 0, rc;
	va_list ap;

	memset(d, 0, sizeof(*d));
	snprintf(bin, sizeof(bin), "%s/bin/kvmd", test_build_dir());
	snprintf(d->socket, sizeof(d->socket), "%s/kvmd%u.sock", dir, nr);
	if (logs && (!mkdir(logs, 0700) || errno == EEXIST))
		snprintf(d->log, sizeof(d->log), "%s/kvmd.%d.%u.log", logs,
			 (int)getpid(), nr);
	else
		snprintf(d->log, sizeof(d->log), "%s/kvmd%u.log", dir, nr);
	nr++;
	if (pipe(fds))
		return -errno;
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	argv[i++] = bin;
	argv[i++] = (char *)(uintptr_t) "--socket";
	argv[i++] = d->socket;
	argv[i++] = (char *)(uintptr_t) "--exit-with-parent";
	argv[i++] = (char *)(uintptr_t) "--ready-fd";
	argv[i++] = ready;
	va_start(ap, dir);
	do {
		argv[i] = va_arg(ap, char *);
	} while (argv[i++] && i < ARGS_MAX);
	va_end(ap);
	argv[ARGS_MAX] = NULL;
	fflush(stdout);
	d->pid = fork();
	if (!d->pid)
		run_kvmd(d, argv);
	close(fds[1]);
	rc = d->pid < 0 ? -errno : wait_ready(d, fds[0]);
	close(fds[0]);
	return rc;
}

int test_kvmd_stop(struct test_kvmd *d)
{
	int status, i;

	if (d->pid <= 0)
		return -ESRCH;
	kill(d->pid, SIGTERM);
	for (i = 0; i < 10000; i++) {
		if (waitpid(d->pid, &status, WNOHANG) == d->pid) {
			d->pid = 0;
			if (WIFEXITED(status) && !WEXITSTATUS(status))
				return 0;
			printf("kvmd ended with status %#x\n", status);
			show_log(d);
			return -EIO;
		}
		nap_ms(1);
	}
	printf("kvmd did not end\n");
	show_log(d);
	test_kvmd_kill(d);
	return -ETIMEDOUT;
}

void test_kvmd_kill(struct test_kvmd *d)
{
	if (d->pid <= 0)
		return;
	kill(d->pid, SIGKILL);
	while (waitpid(d->pid, NULL, 0) < 0 && errno == EINTR)
		;
	d->pid = 0;
}

double test_cpu_s(pid_t pid)
{
	struct timespec ts = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &ts)) {
		printf("kvmd: process %d has no clock\n", (int)pid);
		abort();
	}
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

int test_kvmd_kill_kept(const struct test_kvmd *d)
{
	uint64_t pid = test_kvmd_u64(d, "status", "pid");

	/* -1, which no answer would be, is everybody */
	if (pid <= 1 || pid > INT_MAX)
		return -ESRCH;
	return kill((pid_t)pid, SIGKILL) ? -errno : 0;
}

char *test_kvmd_ctl(const struct test_kvmd *d, const char *request)
{
	uint64_t end = now_ms() + 30000;
	char *json;
	int rc;

	for (;;) {
		rc = kv_ctl(d->socket, KV_HELLO_ADMIN, request, &json);
		if ((rc != -ETIMEDOUT && rc != -ECONNRESET &&
		     rc != -ESHUTDOWN) ||
		    now_ms() >= end)
			break;
		free(json);
		nap_ms(5);
	}
	if (!rc)
		return json;
	printf("kvmd: %s: %s (%s)\n", request, json ? json : "", strerror(-rc));
	free(json);
	return NULL;
}

int test_json_u64(const char *json, const char *key, uint64_t *out)
{
	char want[64];
	const char *at;

	snprintf(want, sizeof(want), "\"%s\":", key);
	at = json ? strstr(json, want) : NULL;
	if (!at)
		return -ENOENT;
	*out = strtoull(at + strlen(want), NULL, 10);
	return 0;
}

/* The second opinion: a program that shares layout headers with kvmd only. */
static int run_audit(const struct test_kvmd *d)
{
	char bin[600];
	int status;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/audit/audit",
		 test_build_dir());
	if (access(bin, X_OK))
		return 0;
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl(bin, bin, d->socket, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EIO;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	printf("the audit finds faults\n");
	return 1;
}

int test_kvmd_check(const struct test_kvmd *d)
{
	char *json = test_kvmd_ctl(d, "check");
	const char *faults = json ? strstr(json, "\"faults\":[") : NULL;
	int rc = 0;

	if (!faults) {
		free(json);
		return -EIO;
	}
	if (faults[strlen("\"faults\":[")] != ']') {
		printf("%s\n", json);
		rc = 1;
	}
	free(json);
	return rc + run_audit(d);
}

uint64_t test_kvmd_u64(const struct test_kvmd *d, const char *request,
		       const char *key)
{
	char *json = test_kvmd_ctl(d, request);
	uint64_t n = ~0ull;

	if (json)
		test_json_u64(json, key, &n);
	free(json);
	return n;
}

uint64_t test_kvmd_settle(const struct test_kvmd *d, uint64_t held,
			  int timeout_ms)
{
	uint64_t now = 0;
	char *json;
	int ms = 0;

	do {
		json = test_kvmd_ctl(d, "meminfo");
		if (!json || test_json_u64(json, "held_bytes", &now))
			now = ~0ull;
		free(json);
		if (now <= held)
			return 0;
		nap_ms(5);
		ms += 5;
	} while (ms < timeout_ms);
	return now - held;
}
