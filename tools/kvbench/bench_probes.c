/* SPDX-License-Identifier: MIT */
/*
 * bench_probes.c - what it costs to look: the same load with kvtrace and
 *		    without
 *
 * One client reserves 32 pages and gives them back, again and again, as fast as
 * kvmd answers, in short runs: with nobody attached, then with `kvtrace faults`
 * attached, in turn. The quickest run of each side counts, as whatever else
 * runs on the machine only adds. What a round then takes longer, as often as
 * rounds come at a million page operations a second, is the share of that
 * second that looking costs. One of a round's two requests is a fault.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBES_BATCH	32u
#define PROBES_PAIRS	9u
#define PROBES_ROUNDS_S (1e6 / (2 * PROBES_BATCH)) /* at 1 M page ops/s */

/* Seconds a round takes, over @seconds; negative: it failed. */
static double time_rounds(struct bench_client *c, u32 space, double seconds)
{
	double start = clock_s(), now;
	u64 rounds = 0;

	do {
		if (bench_client_step(c, space, 0, PROBES_BATCH * 16, NULL) ||
		    kv_space_truncate(c->kv, space, 0))
			return -1;
		rounds++;
		now = clock_s();
	} while (now < start + seconds);
	return (now - start) / (double)rounds;
}

static pid_t kvmd_pid(const char *socket)
{
	char *text = NULL;
	json_t *v;
	pid_t pid = 0;

	if (!kv_ctl(socket, 0, "status", &text)) {
		v = json_loads(text, 0, NULL);
		pid = (pid_t)json_integer_value(json_object_get(v, "pid"));
		json_decref(v);
	}
	free(text);
	return pid;
}

/* In the child: the kvtrace beside this program, else the one in PATH. */
static void exec_kvtrace(int err, pid_t pid)
{
	char path[1024], of[16];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 16);
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	slash = strrchr(path, '/');
	snprintf(slash ? slash + 1 : path, 8, "kvtrace");
	snprintf(of, sizeof(of), "%d", (int)pid);
	dup2(err, 2);
	dup2(open("/dev/null", O_WRONLY), 1);
	execl(path, "kvtrace", "faults", "-i", "0", "-p", of, (char *)NULL);
	execlp("kvtrace", "kvtrace", "faults", "-i", "0", "-p", of,
	       (char *)NULL);
	dprintf(2, "no kvtrace beside kvbench or in PATH\n");
	_exit(4);
}

/* Start kvtrace, wait until it counts. -EOPNOTSUPP: @note says why not. */
static int look(pid_t kvmd, pid_t *tracer, char *note)
{
	char line[FIGURE_NOTE];
	size_t got = 0;
	int fds[2], status;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fflush(stdout);
	*tracer = fork();
	if (!*tracer)
		exec_kvtrace(fds[1], kvmd);
	close(fds[1]);
	while (got < sizeof(line) - 1 && !memchr(line, '\n', got)) {
		n = read(fds[0], line + got, sizeof(line) - 1 - got);
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fds[0]);
	line[got] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (*tracer > 0 && strstr(line, "counting"))
		return 0;
	snprintf(note, FIGURE_NOTE, "%s", line);
	if (*tracer < 0 || waitpid(*tracer, &status, 0) < 0)
		return -ECHILD;
	return WIFEXITED(status) && WEXITSTATUS(status) == 4 ? -EOPNOTSUPP
							     : -ECHILD;
}

static void look_away(pid_t tracer)
{
	kill(tracer, SIGINT);
	waitpid(tracer, NULL, 0);
}

struct probes_cost {
	double off, on; /* seconds a round, of the quickest run */
};

static int measure_pairs(const struct bench_opts *o, struct bench_client *c,
			 pid_t kvmd, struct probes_cost *cost, char *note)
{
	double seconds = o->tiny ? 0.01 : o->seconds / 4, off, on;
	u32 space, i, pairs = o->tiny ? 1 : PROBES_PAIRS;
	pid_t tracer = -1;
	int rc = kv_space_create(c->kv, &c->args, &space);

	cost->off = cost->on = 1e9;
	for (i = 0; !rc && i < pairs; i++) {
		off = time_rounds(c, space, seconds);
		rc = look(kvmd, &tracer, note);
		if (rc)
			break;
		on = time_rounds(c, space, seconds);
		look_away(tracer);
		if (off < 0 || on < 0)
			rc = -EIO;
		cost->off = min(cost->off, off);
		cost->on = min(cost->on, on);
	}
	return rc;
}

static int run_probes_figure(const struct bench_opts *o,
			     struct figure_result *r)
{
	struct probes_cost cost = { 0 };
	char err[KV_ERRLEN] = "";
	struct private_kvmd *d;
	struct bench_client c;
	double more;
	int rc = private_kvmd_start("256M", NULL, &d, err);

	if (rc) {
		snprintf(r->note, sizeof(r->note), "%.150s", err);
		return rc;
	}
	rc = bench_client_open(&c, private_kvmd_socket(d), true);
	if (rc)
		snprintf(r->note, sizeof(r->note), "%.150s", c.err);
	else
		rc = measure_pairs(o, &c, kvmd_pid(private_kvmd_socket(d)),
				   &cost, r->note);
	bench_client_close(&c);
	private_kvmd_stop(d);
	if (rc)
		return rc;
	more = cost.on - cost.off;
	r->measured = more * PROBES_ROUNDS_S * 100;
	snprintf(r->note, sizeof(r->note),
		 "%.0f ns more a round of 64 page operations, which takes %.2f "
		 "us without; %.1f %% at full speed",
		 more * 1e9, cost.off * 1e6, more / cost.off * 100);
	return 0;
}

FIGURE(probes_on, .name = "probes.on",
       .what = "what kvtrace faults costs at 1 M page operations/s, 32 pages a "
	       "batch",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 2, .run = run_probes_figure);
