/* SPDX-License-Identifier: MIT */
/*
 * cmd_serve.c - kvrun serve: a model behind HTTP
 *
 * The server listens before the model is loaded, so that whoever waits for it
 * can ask; then this thread is the engine's. The first SIGTERM or SIGINT lets
 * the requests there are end, a second one ends at once. While the model is
 * being loaded there are none, and the first one ends: what a process holds
 * when it dies is kvmd's care anyway, in the midst of a load too.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/chat_template.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "runtime/server/feed.h"
#include "runtime/server/server.h"
#include "tools/kvrun/cmd.h"
#include "tools/kvrun/session.h"

#define MAX_SEQS_DEFAULT 256u /* the engine's */
#define FAN_OUT_MAX	 128u

struct serve {
	struct session_opts so;
	struct session s;
	struct server_opts o;
	struct chat_template tmpl;
	struct feed *feed;
	struct server *server;
	bool has_template;
};

/* What a signal does. */
enum phase { LOADING, SERVING, ENDING };
static _Atomic int phase;
static struct server *to_drain; /* set before SERVING */

enum {
	OPT_HOST = 256,
	OPT_PORT,
	OPT_API_KEY,
	OPT_NAME,
	OPT_MAX_QUEUE,
	OPT_MAX_BODY,
	OPT_MAX_UNREAD,
	OPT_DRAIN,
	OPT_STEP_LOG,
	OPT_PING,
};

static const struct option long_options[] = {
	{ "host", required_argument, NULL, OPT_HOST },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "api-key", required_argument, NULL, OPT_API_KEY },
	{ "served-model-name", required_argument, NULL, OPT_NAME },
	{ "alias", required_argument, NULL, OPT_NAME },
	{ "max-queue", required_argument, NULL, OPT_MAX_QUEUE },
	{ "max-body", required_argument, NULL, OPT_MAX_BODY },
	{ "max-unread", required_argument, NULL, OPT_MAX_UNREAD },
	{ "drain-timeout", required_argument, NULL, OPT_DRAIN },
	{ "step-log", required_argument, NULL, OPT_STEP_LOG },
	{ "sse-ping-interval", required_argument, NULL, OPT_PING },
	/* vLLM's names of what all commands have */
	{ "max-model-len", required_argument, NULL, SESSION_OPT_CONTEXT },
	{ "max-num-batched-tokens", required_argument, NULL,
	  SESSION_OPT_CHUNK },
	{ "no-enable-prefix-caching", no_argument, NULL,
	  SESSION_OPT_NO_PREFIX_CACHE },
	SESSION_LONG_OPTIONS,
	{ 0 },
};

static void usage(FILE *out)
{
	fputs("usage: kvrun serve -m FILE [OPTION]...\n\n"
	      "      --host NAME      address to listen at (127.0.0.1)\n"
	      "      --port N         0: any, it is printed (8000)\n"
	      "      --api-key KEY    what clients have to show (KVRUN_API_KEY)\n"
	      "      --served-model-name NAME, --alias NAME\n"
	      "                       of the model (the file's)\n"
	      "      --max-queue N    sequences that may wait (512)\n"
	      "      --max-body N     bytes of a request (8388608)\n"
	      "      --max-unread N   bytes of a stream that its client does "
	      "not\n"
	      "                       read; then it is ended (262144)\n"
	      "      --drain-timeout N  seconds for running requests at the "
	      "end (30)\n"
	      "      --sse-ping-interval N  seconds after which a stream that "
	      "says\n"
	      "                       nothing sends a comment; 0: never (15)\n"
	      "      --step-log FILE  a line of JSON for each step "
	      "(kvbench plot)\n"
	      "      --max-model-len, --max-num-batched-tokens: --context, "
	      "--chunk\n",
	      out);
	session_usage(out);
}

static int set_count(const char *name, const char *arg, u32 lowest, u32 highest,
		     u32 *out, char *err)
{
	if (parse_count(arg, out) || *out < lowest || *out > highest)
		return err_set(err, -EINVAL, "--%s '%s' is not from %u to %u",
			       name, arg, lowest, highest);
	return 0;
}

/* Lines are whole when somebody looks at them. */
static int open_step_log(struct serve *v, const char *path, char *err)
{
	if (v->so.steps)
		fclose(v->so.steps);
	v->so.steps = fopen(path, "we");
	if (!v->so.steps)
		return err_set(err, -errno, "--step-log %s: %s", path,
			       strerror(errno));
	setvbuf(v->so.steps, NULL, _IOLBF, 0);
	return 0;
}

static int take_option(struct serve *v, int c, const char *arg, char *err)
{
	u32 n = 0;
	int rc;

	switch (c) {
	case OPT_HOST:
		v->o.host = arg;
		return 0;
	case OPT_PORT:
		return set_count("port", arg, 0, 65535, &v->o.port, err);
	case OPT_API_KEY:
		v->o.api_key = arg;
		return 0;
	case OPT_NAME:
		v->o.name = arg;
		return 0;
	case OPT_MAX_QUEUE:
		return set_count("max-queue", arg, 0, 1u << 20, &v->o.max_queue,
				 err);
	case OPT_MAX_BODY:
		rc = set_count("max-body", arg, 1, 1u << 30, &n, err);
		v->o.max_body = n;
		return rc;
	case OPT_MAX_UNREAD:
		rc = set_count("max-unread", arg, 1, 1u << 30, &n, err);
		v->o.max_unread = n;
		return rc;
	case OPT_DRAIN:
		rc = set_count("drain-timeout", arg, 0, 86400, &n, err);
		v->o.drain_s = n;
		return rc;
	case OPT_PING:
		return set_count("sse-ping-interval", arg, 0, 3600,
				 &v->o.ping_s, err);
	case OPT_STEP_LOG:
		return open_step_log(v, arg, err);
	}
	return session_option(&v->so, c, arg, err);
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct serve *v, int argc, char **argv)
{
	int c;

	while ((c = getopt_long(argc, argv, "m:t:h", long_options, NULL)) !=
	       -1) {
		if (c == 'h') {
			usage(stdout);
			return EXIT_OK;
		}
		if (c == '?') {
			usage(stderr);
			return EXIT_USAGE;
		}
		if (take_option(v, c, optarg, v->s.err))
			goto bad;
	}
	if (optind == argc && v->so.model)
		return -1;
	if (optind != argc)
		err_set(v->s.err, 0, "'%s' is no option", argv[optind]);
	else
		err_set(v->s.err, 0, "-m FILE is needed");
bad:
	fprintf(stderr, "kvrun serve: %s\n", v->s.err);
	return EXIT_USAGE;
}

static void on_signal(int sig)
{
	int now = atomic_load(&phase);

	signal(sig, SIG_DFL); /* the second one ends at once */
	if (now == LOADING)
		_exit(EXIT_OK);
	if (now == SERVING)
		server_drain(to_drain);
}

static void catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_signal };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
}

static int attend(void *ctx, char *err)
{
	struct serve *v = ctx;
	int rc = session_attend(&v->s);

	if (rc && err != v->s.err)
		err_set(err, rc, "%s", v->s.err);
	return rc;
}

static void failed(void *ctx)
{
	struct serve *v = ctx;

	server_drain(v->server);
}

/* The model is there: requests are taken, and computed here. */
static int run(struct serve *v)
{
	const struct feed_engine fe = {
		.e = v->s.engine,
		.attend = attend,
		.failed = failed,
		.ctx = v,
	};
	struct server_model m = {
		.vocab = v->s.vocab,
		.context = v->s.model->hp.context,
		.kv = v->s.kv,
		.max_fan = min(FAN_OUT_MAX, v->o.max_seqs),
		.page_tokens = MODEL_PAGE_TOKENS,
	};
	int rc;

	if (v->so.context)
		m.context = min(m.context, v->so.context);
	v->has_template =
		!chat_template_detect(v->s.gguf, v->s.vocab, &v->tmpl, NULL);
	if (v->has_template)
		m.tmpl = &v->tmpl;
	to_drain = v->server;
	atomic_store(&phase, SERVING);
	rc = server_ready(v->server, &m, v->s.err);
	if (rc)
		return rc;
	fprintf(stderr, "kvrun: ready\n");
	return feed_run(v->feed, &fe, v->s.err);
}

static const char *file_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int start(struct serve *v)
{
	const char *host = v->o.host;
	bool v6 = strchr(host, ':');
	int rc = feed_create(&v->feed);

	if (rc)
		return err_set(v->s.err, rc, "no memory");
	v->so.stop = feed_stop_word(v->feed);
	catch_signals();
	rc = server_start(&v->o, v->feed, &v->server, v->s.err);
	if (rc)
		return rc;
	printf("kvrun: http://%s%s%s:%u\n", v6 ? "[" : "", host, v6 ? "]" : "",
	       server_port(v->server));
	fflush(stdout);
	return 0;
}

int cmd_serve(int argc, char **argv)
{
	struct serve v = {
		.s.fd = -1,
		.o = {
			.host = "127.0.0.1",
			.port = 8000,
			.api_key = getenv("KVRUN_API_KEY"),
			.max_queue = 512,
			.max_body = 8u << 20,
			.max_unread = 256u << 10,
			.ping_s = 15,
			.drain_s = 30.0,
		},
	};
	int status = parse(&v, argc, argv);

	if (status >= 0)
		return status;
	if (!v.o.name)
		v.o.name = file_name(v.so.model);
	v.o.root = v.so.model;
	v.o.max_seqs = v.so.max_seqs ? v.so.max_seqs : MAX_SEQS_DEFAULT;
	signal(SIGPIPE, SIG_IGN);
	status = start(&v) ? EXIT_FAILED : session_open(&v.s, &v.so);
	if (status == EXIT_OK)
		status = session_exit_status(run(&v));
	if (status != EXIT_OK)
		fprintf(stderr, "kvrun serve: %s\n", v.s.err);
	atomic_store(&phase, ENDING); /* the server goes */
	server_stop(v.server);
	if (v.has_template)
		chat_template_fini(&v.tmpl);
	session_close(&v.s);
	feed_destroy(v.feed);
	if (v.so.steps)
		fclose(v.so.steps);
	return status;
}
