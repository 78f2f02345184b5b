/* SPDX-License-Identifier: MIT */
/*
 * main.c - kvtrace: one view of one kvmd, report by report
 *
 * Ends with the count of reports, at SIGINT and SIGTERM, or with the kvmd;
 * then what is new is reported once more, after the probes are off, so that
 * the reports add up to all that happened in between.
 */
#include "tools/kvtrace/kvtrace.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include <kv.h>
#include "lib/stdfds.h"

static const struct view *const views[] = { &faults_view, &probes_view };

enum { OPT_VERBOSE = 256 };

static const struct option long_opts[] = {
	{ "interval", required_argument, NULL, 'i' },
	{ "count", required_argument, NULL, 'c' },
	{ "pid", required_argument, NULL, 'p' },
	{ "socket", required_argument, NULL, 'S' },
	{ "json", no_argument, NULL, 'j' },
	{ "brief", no_argument, NULL, 'b' },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

static void usage(FILE *out)
{
	unsigned int i;

	fprintf(out, "usage: kvtrace VIEW [OPTIONS]\n"
		     "       kvtrace completion bash\n\nviews:\n");
	for (i = 0; i < ARRAY_SIZE(views); i++)
		fprintf(out, "  %-8s %s\n", views[i]->name, views[i]->help);
	fprintf(out,
		"\noptions:\n"
		"  -i, --interval SEC  between reports; 0: one, at the end (1)\n"
		"  -c, --count N       so many reports, then end\n"
		"  -p, --pid PID       of the kvmd (the one behind the socket)\n"
		"  -S, --socket PATH   of the kvmd (KVMD_SOCKET)\n"
		"  -j, --json          an object a report\n"
		"  -b, --brief         no histograms\n"
		"      --verbose       what libbpf says\n"
		"  -h, --help, -V, --version\n\n"
		"exit status: 0 ok, 1 failed, 2 usage, 3 kvmd does not run,\n"
		"4 not permitted, 6 no such process, or none with the probe\n");
}

static int usage_error(const char *why, const char *what)
{
	fprintf(stderr, "kvtrace: %s \"%s\"; see kvtrace --help\n", why, what);
	return EX_KV_USAGE;
}

static int completion(const char *shell)
{
	unsigned int i;

	if (strcmp(shell, "bash"))
		return usage_error("there is completion for bash, not", shell);
	printf("complete -W '");
	for (i = 0; i < ARRAY_SIZE(views); i++)
		printf("%s ", views[i]->name);
	for (i = 0; long_opts[i].name; i++)
		printf("--%s ", long_opts[i].name);
	printf("' kvtrace\n");
	return EX_KV_OK;
}

static bool parse_number(const char *s, double most, double *out)
{
	char *end;

	errno = 0;
	*out = strtod(s, &end);
	return !errno && end != s && !*end && *out >= 0 && *out <= most;
}

static int set_option(struct trace_opts *o, int c, const char *arg)
{
	double v = 0;

	switch (c) {
	case 'i':
		if (!parse_number(arg, 1e6, &o->interval_s) ||
		    (o->interval_s > 0 && o->interval_s < 0.01))
			return usage_error("-i takes seconds, not", arg);
		break;
	case 'c':
		if (!parse_number(arg, 1e9, &v) || v < 1)
			return usage_error("-c takes a number above 0, not",
					   arg);
		o->count = (unsigned long)v;
		break;
	case 'p':
		if (!parse_number(arg, 4194304, &v) || v < 1)
			return usage_error("-p takes a process id, not", arg);
		o->pid = (pid_t)v;
		break;
	case 'S':
		o->socket = arg;
		break;
	case 'j':
		o->json = true;
		break;
	case 'b':
		o->brief = true;
		break;
	case OPT_VERBOSE:
		o->verbose = true;
		break;
	default:
		return EX_KV_USAGE; /* getopt has said why */
	}
	return EX_KV_OK;
}

/* Who serves the socket. */
static int find_kvmd(struct trace_opts *o)
{
	char *text = NULL;
	json_t *status;
	int rc = kv_ctl(o->socket, 0, "status", &text);

	if (rc) {
		fprintf(stderr, "kvtrace: kvmd does not answer: %s\n",
			text && *text ? text : strerror(-rc));
		free(text);
		return rc == -EACCES || rc == -EPERM ? EX_KV_PERMISSION
						     : EX_KV_NOT_RUNNING;
	}
	status = json_loads(text, 0, NULL);
	o->pid = (pid_t)json_integer_value(json_object_get(status, "pid"));
	json_decref(status);
	free(text);
	if (o->pid > 0)
		return EX_KV_OK;
	fprintf(stderr, "kvtrace: kvmd does not say which process it is\n");
	return EX_KV_FAILED;
}

/* Until @end, 0: for ever. Return: true if it is time to leave. */
static bool wait_until(struct pollfd fds[2], double end)
{
	double left = end ? end - clock_s() : 1;
	int n;

	while (left > 0) {
		n = poll(fds, 2, end ? (int)(left * 1e3) + 1 : -1);
		if (n > 0)
			return true;
		if (n < 0 && errno != EINTR)
			return true;
		left = end ? end - clock_s() : 1;
	}
	return false;
}

static int report(const struct view *v, struct tracer *t, struct report *r,
		  double *last)
{
	double now = clock_s();
	int rc;

	r->seconds = now - *last;
	*last = now;
	rc = v->report(t, r);
	return !rc && fflush(stdout) ? EX_KV_FAILED : rc;
}

static int trace(const struct trace_opts *o, const struct view *v,
		 struct pollfd fds[2])
{
	struct report r = { .opt = o };
	struct tracer *t;
	unsigned long nr = 0;
	double last, next;
	bool leave = false;
	int rc = tracer_open(o, v->probes, v->faults, &t);

	if (rc)
		return rc;
	fprintf(stderr, "kvtrace: counting %s of kvmd %d; ^C ends\n", v->name,
		(int)o->pid);
	last = next = clock_s();
	while (!rc && !leave && (!o->count || nr < o->count)) {
		next += o->interval_s;
		leave = wait_until(fds, o->interval_s ? next : 0);
		nr++;
		if (leave || nr == o->count)
			tracer_detach(t);
		rc = report(v, t, &r, &last);
	}
	if (fds[0].revents)
		fprintf(stderr, "kvtrace: kvmd %d has ended\n", (int)o->pid);
	v->fini(&r);
	tracer_close(t);
	return rc;
}

static int run(struct trace_opts *o, const struct view *v)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
	sigset_t set;
	int rc = o->pid ? EX_KV_OK : find_kvmd(o);

	if (rc)
		return rc;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fds[0].fd = pidfd_open(o->pid, 0);
	if (fds[0].fd < 0) {
		fprintf(stderr, "kvtrace: there is no process %d\n",
			(int)o->pid);
		return EX_KV_NO_OBJECT;
	}
	fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	rc = fds[1].fd < 0 ? EX_KV_FAILED : trace(o, v, fds);
	close(fds[0].fd);
	close(fds[1].fd);
	return rc;
}

int main(int argc, char **argv)
{
	struct trace_opts o = { .interval_s = 1 };
	unsigned int i;
	int c, rc;

	stdfds_fill();
	while ((c = getopt_long(argc, argv, "i:c:p:S:jbhV", long_opts, NULL)) !=
	       -1) {
		if (c == 'h') {
			usage(stdout);
			return EX_KV_OK;
		}
		if (c == 'V') {
			printf("kvtrace %s\n", KV_VERSION);
			return EX_KV_OK;
		}
		rc = set_option(&o, c, optarg);
		if (rc)
			return rc;
	}
	if (optind == argc) {
		usage(stderr);
		return EX_KV_USAGE;
	}
	if (argc - optind == 2 && !strcmp(argv[optind], "completion"))
		return completion(argv[optind + 1]);
	if (argc - optind > 1)
		return usage_error("one view, and then no", argv[optind + 1]);
	for (i = 0; i < ARRAY_SIZE(views); i++)
		if (!strcmp(argv[optind], views[i]->name))
			return run(&o, views[i]);
	return usage_error("there is no view", argv[optind]);
}
