/* SPDX-License-Identifier: MIT */
/*
 * main.c - kvbench: one subject, or the figures that are claimed
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/bench_sim.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/serve/plot.h"
#include "tools/kvbench/serve/serve.h"

static struct subject *subjects;

void subject_register(struct subject *s)
{
	struct subject **p = &subjects;

	while (*p && strcmp((*p)->name, s->name) < 0)
		p = &(*p)->next;
	s->next = *p;
	*p = s;
}

const struct subject *subject_first(void)
{
	return subjects;
}

static void usage(FILE *out)
{
	const struct subject *s;

	fprintf(out,
		"usage: kvbench SUBJECT [OPTIONS]\n"
		"       kvbench claims [NAME...] [OPTIONS]\n"
		"       kvbench list\n"
		"       kvbench serve --url URL [OPTIONS]   load a "
		"server over HTTP (serve --help)\n"
		"       kvbench plot sweep|hits|steps FILE... -o FILE.svg\n"
		"       kvbench sim [KEY=VALUE...] [-c KEY=V1,V2...]   the "
		"scheduler, simulated\n"
		"\nsubjects:\n");
	for (s = subjects; s; s = s->next)
		fprintf(out, "  %-12s %s\n", s->name, s->what);
	fprintf(out,
		"\noptions:\n"
		"  -j, --json         one JSON object\n"
		"      --pretty       indented JSON\n"
		"      --against FILE attention, gemm: an earlier --json to "
		"compare with\n"
		"      --peer onednn  gemm: oneDNN's products beside ours\n"
		"      --tiny         only show that it works; judge nothing\n"
		"  -t, --threads N    threads (the CPUs of this process)\n"
		"      --seconds S    length of a timed loop (1)\n"
		"      --seed N       of random lengths and orders (1)\n"
		"  -m, --model FILE   model: the GGUF file\n"
		"      --data DIR     claims: the reference's files "
		"(selftests/data)\n"
		"  -p, --prompt LIST  model: prompt lengths (128,512)\n"
		"  -n, --gen N        model: tokens to generate (64)\n"
		"  -b, --batch LIST   model: sequences at a time (1,8)\n"
		"      --trace FILE   cache: requests; made up ones if not "
		"given\n"
		"      --blocks LIST  cache: sizes (1000,3000,10000)\n"
		"      --policy NAME  cache: lru, mglru, reuse (reuse)\n"
		"\nexit status: 0 ok, 1 failed or a target missed, 2 usage\n");
}

static int list(const struct bench_opts *o)
{
	static const char *const sign[] = { ">=", "<=", "=" };
	const struct figure *f;
	json_t *v = json_array();

	for (f = figure_first(); f; f = f->next) {
		if (o->json)
			json_array_append_new(
				v,
				json_pack("{s:s, s:s, s:s, s:s, s:f}", "name",
					  f->name, "what", f->what, "unit",
					  f->unit, "cmp", sign[f->cmp],
					  "target", f->target));
		else
			printf("%-22s %s %g %s: %s\n", f->name, sign[f->cmp],
			       f->target, f->unit, f->what);
	}
	if (o->json) {
		json_t *all = json_pack("{s:s, s:s, s:O}", "schema",
					"kvbench/1", "bench", "list", "figures",
					v);

		json_dumpf(all, stdout,
			   o->pretty ? JSON_INDENT(2) : JSON_COMPACT);
		putchar('\n');
		json_decref(all);
	}
	json_decref(v);
	return 0;
}

static int run_subject(const struct bench_opts *o, const char *name)
{
	const struct subject *s;
	struct report r;
	int rc;

	for (s = subjects; s; s = s->next)
		if (!strcmp(s->name, name))
			break;
	if (!s) {
		fprintf(stderr,
			"kvbench: there is no subject \"%s\"; kvbench --help "
			"names them\n",
			name);
		return 2;
	}
	if (report_init(&r))
		return 1;
	rc = o->against ? against_load(o, s, &r) : 0;
	if (!rc)
		rc = s->run(o, &r);
	if (!rc && r.before)
		against_apply(s, &r);
	if (rc)
		fprintf(stderr, "kvbench: %s: %s\n", name,
			r.note[0] ? r.note : strerror(-rc));
	else
		rc = report_print(o, name, &r);
	report_fini(&r);
	return rc ? 1 : 0;
}

static bool parse_u64(const char *s, u64 min_v, u64 max_v, u64 *out)
{
	char *end;
	unsigned long long v;

	errno = 0;
	v = strtoull(s, &end, 10);
	if (end == s || *end || errno || *s == '-' || v < min_v || v > max_v) {
		fprintf(stderr,
			"kvbench: \"%s\" is not a number of %llu..%llu\n", s,
			(unsigned long long)min_v, (unsigned long long)max_v);
		return false;
	}
	*out = v;
	return true;
}

enum {
	OPT_TINY = 256,
	OPT_SECONDS,
	OPT_SEED,
	OPT_PRETTY,
	OPT_DATA,
	OPT_AGAINST,
	OPT_PEER,
	OPT_TRACE,
	OPT_BLOCKS,
	OPT_POLICY,
};

static const struct option longs[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "pretty", no_argument, NULL, OPT_PRETTY },
	{ "against", required_argument, NULL, OPT_AGAINST },
	{ "peer", required_argument, NULL, OPT_PEER },
	{ "tiny", no_argument, NULL, OPT_TINY },
	{ "threads", required_argument, NULL, 't' },
	{ "seconds", required_argument, NULL, OPT_SECONDS },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "model", required_argument, NULL, 'm' },
	{ "data", required_argument, NULL, OPT_DATA },
	{ "prompt", required_argument, NULL, 'p' },
	{ "gen", required_argument, NULL, 'n' },
	{ "batch", required_argument, NULL, 'b' },
	{ "trace", required_argument, NULL, OPT_TRACE },
	{ "blocks", required_argument, NULL, OPT_BLOCKS },
	{ "policy", required_argument, NULL, OPT_POLICY },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* What was said of the value is not all: here is whose it was. */
static void say_option(int c)
{
	const struct option *l;

	for (l = longs; l->name; l++)
		if (l->val == c)
			fprintf(stderr, "kvbench: --%s does not take \"%s\"\n",
				l->name, optarg);
}

/* Return: 0 go on, else leave with the status + 1. */
static int set_option(struct bench_opts *o, int c)
{
	char *end;
	u64 v = 0;

	switch (c) {
	case 'j':
		o->json = true;
		return 0;
	case OPT_PRETTY:
		o->json = o->pretty = true;
		return 0;
	case OPT_AGAINST:
		o->against = optarg;
		return 0;
	case OPT_PEER:
		o->peer = optarg;
		return 0;
	case OPT_TINY:
		o->tiny = true;
		return 0;
	case 'm':
		o->model = optarg;
		return 0;
	case OPT_DATA:
		o->data = optarg;
		return 0;
	case 'p':
		o->prompts = optarg;
		return 0;
	case 'b':
		o->batches = optarg;
		return 0;
	case OPT_TRACE:
		o->trace = optarg;
		return 0;
	case OPT_BLOCKS:
		o->blocks = optarg;
		return 0;
	case OPT_POLICY:
		o->policy = optarg;
		return 0;
	case 't':
		if (!parse_u64(optarg, 1, 1024, &v))
			return 3;
		o->threads = (u32)v;
		return 0;
	case 'n':
		if (!parse_u64(optarg, 0, 1 << 20, &v))
			return 3;
		o->nr_tokens = (u32)v;
		return 0;
	case OPT_SEED:
		return parse_u64(optarg, 0, ~0ull, &o->seed) ? 0 : 3;
	case OPT_SECONDS:
		o->seconds = strtod(optarg, &end);
		if (end != optarg && !*end && o->seconds > 0 &&
		    o->seconds <= 3600)
			return 0;
		fprintf(stderr, "kvbench: \"%s\" is no number of seconds\n",
			optarg);
		return 3;
	case 'h':
		usage(stdout);
		return 1;
	}
	return 3;
}

int main(int argc, char **argv)
{
	struct bench_opts o = { .seconds = 1,
				.seed = 1,
				.prompts = "128,512",
				.batches = "1,8",
				.nr_tokens = 64 };
	int c, rc;

	/* These have options of their own. */
	if (argc > 1 && !strcmp(argv[1], "serve"))
		return serve_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "plot"))
		return plot_main(argc - 1, argv + 1);
	if (argc > 1 && !strcmp(argv[1], "sim"))
		return sim_main(argc - 1, argv + 1);
	while ((c = getopt_long(argc, argv, "jt:m:p:n:b:h", longs, NULL)) !=
	       -1) {
		rc = set_option(&o, c);
		if (rc == 3)
			say_option(c);
		if (rc)
			return rc - 1;
	}
	if (o.tiny)
		o.seconds = min(o.seconds, 0.02);
	if (optind == argc) {
		usage(stderr);
		return 2;
	}
	if (o.against && (!strcmp(argv[optind], "claims") ||
			  !strcasecmp(argv[optind], "list"))) {
		fprintf(stderr, "kvbench: --against is for a subject\n");
		return 2;
	}
	if (o.peer && strcmp(argv[optind], "gemm")) {
		fprintf(stderr, "kvbench: --peer is for gemm\n");
		return 2;
	}
	if (o.peer && o.against) {
		fprintf(stderr, "kvbench: --against has medians, --peer the "
				"fastest runs\n");
		return 2;
	}
	if (!strcmp(argv[optind], "claims"))
		return claims_run(&o, argv + optind + 1, argc - optind - 1);
	if (optind + 1 != argc) {
		fprintf(stderr, "kvbench: what is \"%s\"?\n", argv[optind + 1]);
		return 2;
	}
	if (!strcmp(argv[optind], "list") || !strcmp(argv[optind], "LIST"))
		return list(&o);
	return run_subject(&o, argv[optind]);
}
