/* SPDX-License-Identifier: MIT */
/*
 * cmd_chat.c - kvrun chat: a conversation in one space
 *
 * Each turn renders the whole conversation by the model's template and hands
 * it to the same request: what it has in common with the last turn from the
 * start stays in the space, so only the new message is computed. When the
 * conversation no longer fits, its oldest question and answer go.
 *
 * ^C stops the answer that is being given; at the prompt, and at the end of
 * input, the chat ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "runtime/model/chat_template.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "runtime/model/unicode.h"
#include "tools/kvrun/answer.h"
#include "tools/kvrun/cmd.h"
#include "tools/kvrun/session.h"

#define MAX_NEW_DEFAULT 1024

struct turn {
	const char *role;
	char *text;
};

struct chat {
	struct session_opts so;
	struct session s;
	struct chat_template tmpl;
	struct request_params p;
	struct request *req; /* NULL before the first turn */
	const char *system;
	struct turn *turns;
	size_t nr_turns;
	struct answer_stream out;
	bool tty, has_seed;
	int rc; /* of an event */
};

enum { OPT_SYSTEM = 256, OPT_TEMP, OPT_TOP_P, OPT_TOP_K, OPT_SEED };

static const struct option long_options[] = {
	{ "system", required_argument, NULL, OPT_SYSTEM },
	{ "temp", required_argument, NULL, OPT_TEMP },
	{ "top-p", required_argument, NULL, OPT_TOP_P },
	{ "top-k", required_argument, NULL, OPT_TOP_K },
	{ "seed", required_argument, NULL, OPT_SEED },
	SESSION_LONG_OPTIONS,
	{ 0 },
};

static void usage(FILE *out)
{
	fputs("usage: kvrun chat -m FILE [OPTION]...\n\n"
	      "      --system TEXT    instructions before the first turn\n"
	      "  -n N                 tokens of an answer, at most (1024)\n"
	      "      --temp T (0.7), --top-p P (0.9), --top-k K, --seed N\n",
	      out);
	session_usage(out);
	fputs("\nIn the chat: /new begins again, /stats counts, ^C stops an "
	      "answer, ^D ends.\n",
	      out);
}

static int no_number(int opt, const char *arg, int rc, char *err)
{
	const struct option *l;

	for (l = long_options; l->name; l++)
		if (l->val == opt)
			return err_set(err, rc, "--%s '%s' is no number",
				       l->name, arg);
	return err_set(err, rc, "-%c '%s' is no number", opt, arg);
}

static int take_option(struct chat *c, int opt, const char *arg, char *err)
{
	u32 seed;
	int rc;

	switch (opt) {
	case OPT_SYSTEM:
		c->system = arg;
		return 0;
	case 'n':
		rc = parse_count(arg, &c->p.max_new);
		break;
	case OPT_TEMP:
		rc = parse_real(arg, &c->p.sampling.temperature);
		break;
	case OPT_TOP_P:
		rc = parse_real(arg, &c->p.sampling.top_p);
		break;
	case OPT_TOP_K:
		rc = parse_count(arg, &c->p.sampling.top_k);
		break;
	case OPT_SEED:
		rc = parse_count(arg, &seed);
		c->p.sampling.seed = rc ? 0 : seed;
		c->has_seed = true;
		break;
	default:
		return session_option(&c->so, opt, arg, err);
	}
	return rc ? no_number(opt, arg, rc, err) : 0;
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct chat *c, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "m:t:n:h", long_options, NULL)) !=
	       -1) {
		if (opt == 'h') {
			usage(stdout);
			return EXIT_OK;
		}
		if (opt == '?') {
			usage(stderr);
			return EXIT_USAGE;
		}
		if (take_option(c, opt, optarg, c->s.err))
			goto bad;
	}
	if (optind == argc && c->so.model)
		return -1;
	if (optind != argc)
		err_set(c->s.err, 0, "'%s' is no option", argv[optind]);
	else
		err_set(c->s.err, 0, "-m FILE is needed");
bad:
	fprintf(stderr, "kvrun chat: %s\n", c->s.err);
	return EXIT_USAGE;
}

static int add_turn(struct chat *c, const char *role, const char *text)
{
	struct turn *more =
		realloc(c->turns, (c->nr_turns + 1) * sizeof(*more));
	char *copy = strdup(text);

	if (more)
		c->turns = more;
	if (!more || !copy) {
		free(copy);
		return err_set(c->s.err, -ENOMEM, "no memory");
	}
	c->turns[c->nr_turns++] = (struct turn){ role, copy };
	return 0;
}

static void drop_turns(struct chat *c, size_t from, size_t nr)
{
	size_t i;

	for (i = from; i < from + nr; i++)
		free(c->turns[i].text);
	memmove(c->turns + from, c->turns + from + nr,
		(c->nr_turns - from - nr) * sizeof(*c->turns));
	c->nr_turns -= nr;
}

static size_t nr_system(const struct chat *c)
{
	return c->nr_turns && !strcmp(c->turns[0].role, "system");
}

static int start_over(struct chat *c)
{
	drop_turns(c, 0, c->nr_turns);
	return c->system ? add_turn(c, "system", c->system) : 0;
}

static int render(struct chat *c, u32 **ids, size_t *nr)
{
	struct chat_msg *msgs = calloc(c->nr_turns, sizeof(*msgs));
	size_t i;
	int rc;

	if (!msgs)
		return err_set(c->s.err, -ENOMEM, "no memory");
	for (i = 0; i < c->nr_turns; i++)
		msgs[i] = (struct chat_msg){ c->turns[i].role, c->turns[i].text,
					     strlen(c->turns[i].text) };
	rc = chat_template_tokenize(&c->tmpl, c->s.vocab, msgs, c->nr_turns,
				    true, ids, nr, c->s.err);
	free(msgs);
	return rc;
}

/* The conversation's ids, without as many old turns as do not fit. */
static int fit(struct chat *c, u32 **ids, size_t *nr)
{
	u32 context = c->s.model->hp.context, want;
	size_t from;
	int rc;

	if (c->so.context)
		context = min(context, c->so.context);
	want = min(c->p.max_new, context / 4);
	for (;;) {
		rc = render(c, ids, nr);
		if (rc || *nr + want <= context)
			return rc;
		from = nr_system(c);
		if (c->nr_turns < from + 3)
			break;
		free(*ids);
		drop_turns(c, from, 2);
		fprintf(stderr, "kvrun chat: the oldest question and answer no "
				"longer fit and are left out\n");
	}
	if (*nr < context)
		return 0;
	rc = err_set(c->s.err, -E2BIG,
		     "the message has %zu tokens with its template, the "
		     "context %u",
		     *nr, context);
	free(*ids);
	return rc;
}

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct chat *c = ctx;

	if (!c->rc)
		c->rc = answer_push(&c->out, id);
	answer_show(&c->out, stdout);
}

static int submit(struct chat *c, const u32 *ids, size_t nr)
{
	static const struct request_events events = { .token = on_token };

	if (c->req)
		return engine_extend(c->s.engine, c->req, ids, (u32)nr,
				     c->p.max_new, c->s.err);
	c->p.prompt = ids;
	c->p.nr_prompt = (u32)nr;
	c->p.events = &events;
	c->p.ctx = c;
	return engine_submit(c->s.engine, &c->p, &c->req, c->s.err);
}

/* Compute the answer; ^C ends it early. */
static int answer(struct chat *c)
{
	int rc;

	do {
		rc = session_step(&c->s);
		if (rc == -EINTR && session_signal() == SIGINT) {
			session_clear_signal();
			engine_cancel(c->s.engine, c->req);
			rc = 0;
		}
	} while (rc == 1 && !c->rc);
	if (!rc && c->rc)
		rc = err_set(c->s.err, c->rc, "the answer's text: %s",
			     strerror(-c->rc));
	if (!rc && c->req->error)
		rc = err_set(c->s.err, c->req->error, "%s",
			     c->req->message ? c->req->message
					     : strerror(-c->req->error));
	return rc;
}

/* Return: 0 the chat goes on, or -errno. */
static int turn(struct chat *c, const char *line)
{
	u32 *ids;
	size_t nr;
	int rc = add_turn(c, "user", line);

	if (rc)
		return rc;
	rc = fit(c, &ids, &nr);
	if (rc == -E2BIG) { /* the person may try a shorter one */
		fprintf(stderr, "kvrun chat: %s\n", c->s.err);
		drop_turns(c, c->nr_turns - 1, 1);
		return 0;
	}
	if (rc)
		return rc;
	c->out = (struct answer_stream){ .vocab = c->s.vocab };
	rc = submit(c, ids, nr);
	free(ids);
	if (!rc)
		rc = answer(c);
	if (!rc)
		rc = answer_end(&c->out);
	answer_show(&c->out, stdout);
	printf("\n");
	fflush(stdout);
	if (!rc)
		rc = add_turn(c, "assistant", c->out.text ? c->out.text : "");
	free(c->out.text);
	return rc;
}

static bool is_text(const char *s, size_t len)
{
	size_t i = 0;
	u32 cp;

	while (i < len) {
		i += utf8_decode(s + i, len - i, &cp);
		if (cp == UNICODE_INVALID || !cp)
			return false;
	}
	return true;
}

static int line(struct chat *c, char *s, size_t len)
{
	const struct engine_stats *st = engine_stats(c->s.engine);

	while (len && (s[len - 1] == '\n' || s[len - 1] == '\r'))
		s[--len] = '\0';
	if (!len)
		return 0;
	if (!strcmp(s, "/new"))
		return start_over(c);
	if (!strcmp(s, "/stats")) {
		printf("%llu prompt tokens computed, %llu generated\n",
		       (unsigned long long)st->nr_prefill,
		       (unsigned long long)st->nr_decode);
		return 0;
	}
	if (!is_text(s, len)) {
		fprintf(stderr, "kvrun chat: that line is no valid UTF-8\n");
		return 0;
	}
	return turn(c, s);
}

static int talk(struct chat *c)
{
	char *s = NULL;
	size_t cap = 0;
	ssize_t n;
	int rc = start_over(c);

	while (!rc) {
		if (c->tty) {
			printf("> ");
			fflush(stdout);
		}
		errno = 0;
		n = getline(&s, &cap, stdin);
		if (n < 0)
			break;
		rc = line(c, s, (size_t)n);
		/* One that came with the last token was for that answer. */
		if (!rc && session_signal() == SIGINT)
			session_clear_signal();
	}
	if (c->tty)
		printf("\n");
	free(s);
	return rc;
}

int cmd_chat(int argc, char **argv)
{
	struct chat c = {
		.s.fd = -1,
		.p = {
			.n = 1,
			.max_new = MAX_NEW_DEFAULT,
			.keep = true,
			.sampling = SAMPLING_GREEDY,
		},
	};
	int status, rc;

	c.p.sampling.temperature = 0.7f;
	c.p.sampling.top_p = 0.9f;
	status = parse(&c, argc, argv);
	if (status >= 0)
		return status;
	if (!c.has_seed && getrandom(&c.p.sampling.seed, 4, 0) != 4)
		c.p.sampling.seed = (u64)getpid();
	c.tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	status = session_open(&c.s, &c.so);
	session_catch_signals();
	if (status == EXIT_OK) {
		rc = chat_template_detect(c.s.gguf, c.s.vocab, &c.tmpl,
					  c.s.err);
		if (!rc)
			rc = talk(&c);
		status = session_signal() == SIGINT ? 128 + SIGINT
						    : session_exit_status(rc);
	}
	if (status != EXIT_OK && status != 128 + SIGINT)
		fprintf(stderr, "kvrun chat: %s\n", c.s.err);
	drop_turns(&c, 0, c.nr_turns);
	free(c.turns);
	chat_template_fini(&c.tmpl);
	session_close(&c.s);
	return status;
}
