/* SPDX-License-Identifier: MIT */
/*
 * cmd_score.c - kvrun score: how likely is each token of a text?
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvrun/cmd.h"
#include "tools/kvrun/json_text.h"
#include "tools/kvrun/read_file.h"
#include "tools/kvrun/session.h"

struct score {
	struct session_opts so;
	struct session s;
	const char *ids_file;
	bool json, best;
	u32 *ids;
	size_t nr_ids;
	double *lp; /* [nr_ids - 1] */
	u32 *top; /* [nr_ids - 1] the most likely token there */
};

enum { OPT_IDS_FILE = 256, OPT_JSON, OPT_BEST };

static const struct option long_options[] = {
	{ "ids-file", required_argument, NULL, OPT_IDS_FILE },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "best", no_argument, NULL, OPT_BEST },
	SESSION_LONG_OPTIONS,
	{ 0 },
};

static void usage(FILE *out)
{
	fputs("usage: kvrun score -m FILE --ids-file FILE [OPTION]...\n\n"
	      "      --ids-file FILE  token ids between white space, - is "
	      "standard input\n"
	      "      --json           print {\"lp\":[...]}\n"
	      "      --best           print the most likely token of each "
	      "position too\n",
	      out);
	session_usage(out);
}

static int take_option(struct score *c, int opt, const char *arg, char *err)
{
	switch (opt) {
	case OPT_IDS_FILE:
		c->ids_file = arg;
		return 0;
	case OPT_JSON:
		c->json = true;
		return 0;
	case OPT_BEST:
		c->best = true;
		return 0;
	}
	return session_option(&c->so, opt, arg, err);
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct score *c, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "m:t:h", long_options, NULL)) !=
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
	if (optind != argc)
		err_set(c->s.err, 0, "'%s' is no option", argv[optind]);
	else if (!c->so.model || !c->ids_file)
		err_set(c->s.err, 0, "%s FILE is needed",
			c->so.model ? "--ids-file" : "-m");
	else
		return -1;
bad:
	fprintf(stderr, "kvrun score: %s\n", c->s.err);
	return EXIT_USAGE;
}

static void on_score(struct request *r, u32 pos, double lp, u32 best, void *ctx)
{
	struct score *c = ctx;

	c->lp[pos - 1] = lp;
	c->top[pos - 1] = best;
}

static void print_json(const struct score *c)
{
	size_t i, nr = c->nr_ids - 1;

	printf("{\"lp\":[");
	for (i = 0; i < nr; i++) {
		/* JSON has no word for what a broken weight would give */
		if (isfinite(c->lp[i]))
			printf("%s%.17g", i ? "," : "", c->lp[i]);
		else
			printf("%snull", i ? "," : "");
	}
	printf("]");
	if (c->best) {
		printf(",\"best\":");
		json_put_ids(stdout, c->top, nr);
	}
	printf("}\n");
}

static void print_text(const struct score *c)
{
	size_t i, nr = c->nr_ids - 1;
	double sum = 0.0;

	for (i = 0; i < nr; i++) {
		sum += c->lp[i];
		printf("%u %.6f", c->ids[i + 1], c->lp[i]);
		if (c->best)
			printf(" %u", c->top[i]);
		putchar('\n');
	}
	printf("mean %.6f perplexity %.4f\n", sum / (double)nr,
	       exp(-sum / (double)nr));
}

static int run(struct score *c)
{
	static const struct request_events events = { .score = on_score };
	const struct request_params p = {
		.kind = REQUEST_SCORE,
		.prompt = c->ids,
		.nr_prompt = (u32)min(c->nr_ids, (size_t)0x7fffffff),
		.n = 1,
		.sampling = SAMPLING_GREEDY,
		.events = &events,
		.ctx = c,
	};
	struct request *r;
	int rc = engine_submit(c->s.engine, &p, &r, c->s.err);

	if (rc)
		return rc;
	do
		rc = session_step(&c->s);
	while (rc == 1);
	if (rc)
		return rc;
	if (r->error)
		return err_set(c->s.err, r->error, "%s",
			       r->message ? r->message : strerror(-r->error));
	if (c->json)
		print_json(c);
	else
		print_text(c);
	if (fflush(stdout) || ferror(stdout))
		return err_set(c->s.err, -EIO, "standard output: %s",
			       strerror(errno));
	return 0;
}

int cmd_score(int argc, char **argv)
{
	struct score c = { .s.fd = -1 };
	int status = parse(&c, argc, argv);

	if (status >= 0)
		return status;
	status = EXIT_FAILED;
	if (read_ids(c.ids_file, &c.ids, &c.nr_ids, c.s.err))
		goto out;
	c.lp = calloc(max(c.nr_ids, (size_t)1), sizeof(*c.lp));
	c.top = calloc(max(c.nr_ids, (size_t)1), sizeof(*c.top));
	if (!c.lp || !c.top) {
		err_set(c.s.err, 0, "%s: no memory", c.ids_file);
		goto out;
	}
	status = session_open(&c.s, &c.so);
	session_catch_signals();
	if (status == EXIT_OK)
		status = session_exit_status(run(&c));
out:
	if (status != EXIT_OK)
		fprintf(stderr, "kvrun score: %s\n", c.s.err);
	session_close(&c.s);
	free(c.ids);
	free(c.lp);
	free(c.top);
	return status;
}
