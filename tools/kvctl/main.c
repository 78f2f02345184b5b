/* SPDX-License-Identifier: MIT */
/*
 * main.c - kvctl: the options, then one row of the command table
 *
 * With -w the command is run again and again: on a terminal over the same
 * place, in a pipe one answer after the other.
 */
#include "tools/kvctl/kvctl.h"
#include "lib/stdfds.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kv.h>

#define LONG_ONLY 256 /* getopt's value of a row without a letter: + index */

static int usage_error(const char *why, const char *what)
{
	fprintf(stderr, "kvctl: %s \"%s\"; see kvctl help\n", why, what);
	return EX_KV_USAGE;
}

static bool parse_seconds(const char *s, double *out)
{
	char *end;

	*out = strtod(s, &end);
	return end != s && !*end && *out > 0 && *out < 1e6;
}

static int set_color(struct options *opt, const char *when)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	if (!strcmp(when, "always"))
		opt->color = true;
	else if (!strcmp(when, "never"))
		opt->color = false;
	else if (!strcmp(when, "auto"))
		opt->color = isatty(STDOUT_FILENO) && !(no && *no) && term &&
			     strcmp(term, "dumb");
	else
		return usage_error("--color takes auto, always or never, not",
				   when);
	return EX_KV_OK;
}

/* One long-only option, by name. */
static int set_long(struct options *opt, const char *name, const char *arg)
{
	if (!strcmp(name, "bytes"))
		opt->units = UNIT_BYTES;
	else if (!strcmp(name, "si"))
		opt->units = UNIT_SI;
	else if (!strcmp(name, "dry-run"))
		opt->dry_run = true;
	else if (!strcmp(name, "color"))
		return set_color(opt, arg);
	return EX_KV_OK;
}

static int set_option(struct options *opt, int c, const char *arg)
{
	char *end;

	switch (c) {
	case 'j':
		opt->json = true;
		break;
	case 'p':
		opt->json = opt->pretty = true;
		break;
	case 'H':
		opt->no_header = true;
		break;
	case 'o':
		opt->columns = arg;
		break;
	case 's':
		opt->sort = arg;
		break;
	case 'b':
		opt->batch = true;
		break;
	case 'S':
		opt->socket = arg;
		break;
	case 'q':
		opt->quiet = true;
		break;
	case 'y':
		opt->yes = true;
		break;
	case 'w':
		if (!parse_seconds(arg, &opt->watch_s))
			return usage_error("-w takes seconds, not", arg);
		break;
	case 't':
		if (!parse_seconds(arg, &opt->timeout_s))
			return usage_error("-t takes seconds, not", arg);
		break;
	case 'n':
		opt->count = strtoul(arg, &end, 10);
		if (*arg < '0' || *arg > '9' || *end || !opt->count)
			return usage_error("-n takes a number above 0, not",
					   arg);
		break;
	default:
		return EX_KV_USAGE; /* getopt has said why */
	}
	return EX_KV_OK;
}

/* getopt's tables, from ours. */
static void build_getopt(char *letters, struct option *longs)
{
	unsigned int i;

	*letters++ = '+';
	for (i = 0; i < option_table_len; i++) {
		const struct option_row *o = &option_table[i];

		longs[i].name = o->name;
		longs[i].has_arg = o->arg ? required_argument : no_argument;
		longs[i].val = o->letter ? o->letter : LONG_ONLY + (int)i;
		if (!o->letter)
			continue;
		*letters++ = o->letter;
		if (o->arg)
			*letters++ = ':';
	}
	*letters = '\0';
}

/*
 * Options may stand anywhere, also behind the command. -1: go on, else the
 * exit status to leave with.
 */
static int parse_options(struct options *opt, int argc, char **argv,
			 char **words, int *nr_words)
{
	struct option longs[32] = { 0 }; /* option_table_len + 1 at least */
	char letters[80];
	int c, rc;

	build_getopt(letters, longs);
	*nr_words = 0;
	while (optind < argc) {
		c = getopt_long(argc, argv, letters, longs, NULL);
		if (c == -1) {
			if (optind < argc)
				words[(*nr_words)++] = argv[optind++];
			continue;
		}
		if (c == 'h') {
			cmd_usage(stdout);
			return EX_KV_OK;
		}
		if (c == 'V') {
			printf("kvctl %s\n", KV_VERSION);
			return EX_KV_OK;
		}
		if (c >= LONG_ONLY)
			rc = set_long(opt, option_table[c - LONG_ONLY].name,
				      optarg);
		else
			rc = set_option(opt, c, optarg);
		if (rc)
			return rc;
	}
	return -1;
}

/* The request: the row's own words, then what stood on the command line. */
static int build_request(const struct invocation *inv, char *buf, size_t len)
{
	size_t n = (size_t)snprintf(buf, len, "%s", inv->cmd->request);
	int i;

	for (i = 0; i < inv->nr_args; i++) {
		if (strpbrk(inv->args[i], " \t\n") || !inv->args[i][0])
			return usage_error("not a name", inv->args[i]);
		n += (size_t)snprintf(buf + n, n < len ? len - n : 0, " %s",
				      inv->args[i]);
		if (n >= len)
			return usage_error("too long:", inv->args[i]);
	}
	return EX_KV_OK;
}

static int run_once(struct invocation *inv)
{
	const struct options *opt = inv->opt;
	json_t *answer = NULL;
	char request[512];
	int rc;

	rc = build_request(inv, request, sizeof(request));
	if (!rc)
		rc = ask(opt, inv->cmd->flags & CMD_ADMIN ? KV_HELLO_ADMIN : 0u,
			 request, &answer);
	if (rc)
		return rc;
	if (opt->json) {
		rc = print_json(opt, answer);
		/* The verdict of check and health is the same either way. */
		if (!rc && inv->cmd->show == show_check &&
		    !json_is_true(member(answer, "ok")))
			rc = EX_KV_BROKEN;
		if (!rc && inv->cmd->show == show_health &&
		    !strcmp(member_str(answer, "status"), "ERR"))
			rc = EX_KV_FAILED;
	} else {
		rc = inv->cmd->show(inv, answer);
	}
	json_decref(inv->last);
	inv->last = answer;
	if (!rc && fflush(stdout))
		rc = EX_KV_FAILED;
	return rc;
}

static int run_watched(struct invocation *inv)
{
	double s = inv->opt->watch_s;
	bool clear = isatty(STDOUT_FILENO) && !inv->opt->json &&
		     !inv->opt->no_header;
	unsigned long i;
	int rc = EX_KV_OK;

	for (i = 0; !inv->opt->count || i < inv->opt->count; i++) {
		if (i)
			clock_sleep_s(s);
		inv->last_s = s;
		if (clear)
			fputs("\033[H\033[2J", stdout);
		rc = run_once(inv);
		if (rc)
			break;
	}
	return rc;
}

static int run_command(struct invocation *inv)
{
	const struct command *c = inv->cmd;

	if (inv->nr_args < c->min_args || inv->nr_args > c->max_args) {
		fprintf(stderr, "usage: kvctl %s%s%s %s\n", c->object,
			c->verb[0] ? " " : "", c->verb, c->args);
		return EX_KV_USAGE;
	}
	if (inv->opt->watch_s && !(c->flags & CMD_WATCH) && c->request)
		return usage_error("-w does not go with", c->object);
	if (c->run) {
		int rc = c->run(inv);

		/* A run of a row with a request only asks for leave. */
		return rc == -1 ? run_once(inv) : rc;
	}
	if (inv->opt->watch_s)
		return run_watched(inv);
	return run_once(inv);
}

int main(int argc, char **argv)
{
	struct options opt = { .timeout_s = 30 };
	struct invocation inv = { .opt = &opt };
	char **words = calloc((size_t)argc + 1, sizeof(*words));
	int nr_words, used, rc;

	stdfds_fill();
	if (!words)
		return EX_KV_FAILED;
	set_color(&opt, "auto");
	rc = parse_options(&opt, argc, argv, words, &nr_words);
	if (rc >= 0)
		goto out;
	rc = EX_KV_USAGE;
	if (!nr_words) {
		cmd_usage(stderr);
		goto out;
	}
	if (opt.quiet && !freopen("/dev/null", "w", stdout))
		goto out;
	inv.cmd = cmd_find(words, nr_words, &used);
	if (inv.cmd) {
		inv.args = words + used;
		inv.nr_args = nr_words - used;
		rc = run_command(&inv);
	}
	json_decref(inv.last);
out:
	free(words);
	return rc;
}
