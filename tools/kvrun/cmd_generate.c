/* SPDX-License-Identifier: MIT */
/*
 * cmd_generate.c - kvrun generate
 *
 * One prompt, one or several continuations. As text they appear as they are
 * made: the first live, then what the second has so far and its rest live,
 * and so on; beams at the end. As JSON one object at the end, with --stream
 * preceded by one object per token.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "runtime/model/unicode.h"
#include "tools/kvrun/answer.h"
#include "tools/kvrun/cmd.h"
#include "tools/kvrun/json_text.h"
#include "tools/kvrun/read_file.h"
#include "tools/kvrun/session.h"

#define MAX_NEW_DEFAULT	    128
#define TEMPERATURE_DEFAULT 0.8f

struct generate {
	struct session_opts so;
	struct session s;
	struct request_params p;
	const char *prompt, *prompt_file, *prompt_ids;
	bool json, stream, hold, has_seed, no_special;
	char *text; /* of the prompt */
	size_t text_len;
	u32 *ids;
	size_t nr_ids;
	struct answer_stream *streams; /* [p.n] */
	u32 nr_shown; /* samples that are printed to their end */
	int rc; /* of an event */
};

enum {
	OPT_PROMPT = 256,
	OPT_PROMPT_FILE,
	OPT_PROMPT_IDS,
	OPT_TEMP,
	OPT_TOP_K,
	OPT_TOP_P,
	OPT_MIN_P,
	OPT_REPETITION,
	OPT_PRESENCE,
	OPT_FREQUENCY,
	OPT_SEED,
	OPT_N_SAMPLES,
	OPT_BEAM,
	OPT_LOGPROBS,
	OPT_JSON,
	OPT_STREAM,
	OPT_HOLD,
	OPT_IGNORE_EOS,
	OPT_NO_SPECIAL,
};

static const struct option long_options[] = {
	{ "prompt", required_argument, NULL, OPT_PROMPT },
	{ "prompt-file", required_argument, NULL, OPT_PROMPT_FILE },
	{ "prompt-ids", required_argument, NULL, OPT_PROMPT_IDS },
	{ "no-special", no_argument, NULL, OPT_NO_SPECIAL },
	{ "temp", required_argument, NULL, OPT_TEMP },
	{ "top-k", required_argument, NULL, OPT_TOP_K },
	{ "top-p", required_argument, NULL, OPT_TOP_P },
	{ "min-p", required_argument, NULL, OPT_MIN_P },
	{ "repetition-penalty", required_argument, NULL, OPT_REPETITION },
	{ "presence-penalty", required_argument, NULL, OPT_PRESENCE },
	{ "frequency-penalty", required_argument, NULL, OPT_FREQUENCY },
	{ "seed", required_argument, NULL, OPT_SEED },
	{ "n-samples", required_argument, NULL, OPT_N_SAMPLES },
	{ "beam", required_argument, NULL, OPT_BEAM },
	{ "logprobs", required_argument, NULL, OPT_LOGPROBS },
	{ "ignore-eos", no_argument, NULL, OPT_IGNORE_EOS },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "stream", no_argument, NULL, OPT_STREAM },
	{ "hold", no_argument, NULL, OPT_HOLD },
	SESSION_LONG_OPTIONS,
	{ 0 },
};

static void usage(FILE *out)
{
	fputs("usage: kvrun generate -m FILE --prompt TEXT [OPTION]...\n\n"
	      "      --prompt TEXT, --prompt-file FILE, --prompt-ids 1,2,3\n"
	      "      --no-special     names like <|im_start|> are plain text\n"
	      "  -n N                 tokens to generate (128)\n"
	      "      --temp T         0: the most likely token (0.8)\n"
	      "      --top-k K, --top-p P, --min-p P\n"
	      "      --repetition-penalty R, --presence-penalty P,\n"
	      "      --frequency-penalty P\n"
	      "      --seed N         random numbers (chosen, and printed)\n"
	      "      --n-samples K    K samples that share the prompt's pages\n"
	      "      --beam K         beam search\n"
	      "      --logprobs K     the K most likely of each position\n"
	      "      --ignore-eos     go on after an end token\n"
	      "      --json           one JSON object\n"
	      "      --stream         with --json: an object per token first\n"
	      "      --hold           then stay attached until SIGTERM or end "
	      "of input\n",
	      out);
	session_usage(out);
}

static int set_count(const char *name, const char *arg, u32 *out, char *err)
{
	if (parse_count(arg, out))
		return err_set(err, -EINVAL, "--%s '%s' is no count", name,
			       arg);
	return 0;
}

static int set_real(const char *name, const char *arg, float *out, char *err)
{
	if (parse_real(arg, out))
		return err_set(err, -EINVAL, "--%s '%s' is no number", name,
			       arg);
	return 0;
}

static int set_seed(struct generate *g, const char *arg, char *err)
{
	char *end;

	errno = 0;
	g->p.sampling.seed = strtoull(arg, &end, 0);
	g->has_seed = true;
	if (*arg < '0' || *arg > '9' || *end || errno)
		return err_set(err, -EINVAL, "--seed '%s' is no number", arg);
	return 0;
}

static int sampling_option(struct generate *g, int c, const char *arg,
			   char *err)
{
	struct sampling *s = &g->p.sampling;

	switch (c) {
	case OPT_TEMP:
		return set_real("temp", arg, &s->temperature, err);
	case OPT_TOP_K:
		return set_count("top-k", arg, &s->top_k, err);
	case OPT_TOP_P:
		return set_real("top-p", arg, &s->top_p, err);
	case OPT_MIN_P:
		return set_real("min-p", arg, &s->min_p, err);
	case OPT_REPETITION:
		return set_real("repetition-penalty", arg, &s->repetition, err);
	case OPT_PRESENCE:
		return set_real("presence-penalty", arg, &s->presence, err);
	case OPT_FREQUENCY:
		return set_real("frequency-penalty", arg, &s->frequency, err);
	case OPT_SEED:
		return set_seed(g, arg, err);
	}
	return session_option(&g->so, c, arg, err);
}

static int take_option(struct generate *g, int c, const char *arg, char *err)
{
	switch (c) {
	case OPT_PROMPT:
		g->prompt = arg;
		return 0;
	case OPT_PROMPT_FILE:
		g->prompt_file = arg;
		return 0;
	case OPT_PROMPT_IDS:
		g->prompt_ids = arg;
		return 0;
	case OPT_NO_SPECIAL:
		g->no_special = true;
		return 0;
	case 'n':
		return set_count("n", arg, &g->p.max_new, err);
	case OPT_N_SAMPLES:
		return set_count("n-samples", arg, &g->p.n, err);
	case OPT_BEAM:
		g->p.kind = REQUEST_BEAM;
		return set_count("beam", arg, &g->p.n, err);
	case OPT_LOGPROBS:
		return set_count("logprobs", arg, &g->p.nr_logprobs, err);
	case OPT_IGNORE_EOS:
		g->p.ignore_eog = true;
		return 0;
	case OPT_JSON:
		g->json = true;
		return 0;
	case OPT_STREAM:
		g->stream = true;
		return 0;
	case OPT_HOLD:
		g->hold = true;
		return 0;
	}
	return sampling_option(g, c, arg, err);
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct generate *g, int argc, char **argv)
{
	char *err = g->s.err;
	int c, nr;

	while ((c = getopt_long(argc, argv, "m:t:n:h", long_options, NULL)) !=
	       -1) {
		if (c == 'h') {
			usage(stdout);
			return EXIT_OK;
		}
		if (c == '?') {
			usage(stderr);
			return EXIT_USAGE;
		}
		if (take_option(g, c, optarg, err))
			goto bad;
	}
	nr = !!g->prompt + !!g->prompt_file + !!g->prompt_ids;
	if (optind != argc)
		err_set(err, 0, "'%s' is no option", argv[optind]);
	else if (!g->so.model)
		err_set(err, 0, "-m FILE is needed");
	else if (nr != 1)
		err_set(err, 0,
			"one of --prompt, --prompt-file and "
			"--prompt-ids is needed");
	else
		return -1;
bad:
	fprintf(stderr, "kvrun generate: %s\n", err);
	return EXIT_USAGE;
}

static int parse_prompt_ids(struct generate *g)
{
	const char *p = g->prompt_ids;
	char *end;

	g->ids = malloc((strlen(p) / 2 + 1) * sizeof(*g->ids));
	if (!g->ids)
		return err_set(g->s.err, -ENOMEM, "no memory");
	while (*p) {
		unsigned long v = strtoul(p, &end, 10);

		if (*p < '0' || *p > '9' || v > 0xfffffffful ||
		    (*end && *end != ',' && *end != ' '))
			return err_set(g->s.err, -EINVAL,
				       "--prompt-ids: '%.16s' is no token id",
				       p);
		g->ids[g->nr_ids++] = (u32)v;
		p = end + strspn(end, ", ");
	}
	return 0;
}

static int check_utf8(struct generate *g, const char *text, size_t len)
{
	size_t i = 0;
	u32 cp;

	while (i < len) {
		size_t n = utf8_decode(text + i, len - i, &cp);

		if (cp == UNICODE_INVALID)
			return err_set(g->s.err, -EILSEQ,
				       "the prompt is no valid UTF-8 at byte "
				       "%zu",
				       i);
		i += n;
	}
	return 0;
}

/* The prompt's text or ids, as far as they can be had without the model. */
static int read_prompt(struct generate *g)
{
	int rc = 0;

	if (g->prompt_ids)
		return parse_prompt_ids(g);
	if (g->prompt_file) {
		rc = read_file(g->prompt_file, &g->text, &g->text_len,
			       g->s.err);
	} else {
		g->text = strdup(g->prompt);
		g->text_len = strlen(g->prompt);
		if (!g->text)
			rc = err_set(g->s.err, -ENOMEM, "no memory");
	}
	return rc ? rc : check_utf8(g, g->text, g->text_len);
}

static int tokenize(struct generate *g)
{
	unsigned int flags = VOCAB_ADD_SPECIAL;
	int rc;

	if (g->prompt_ids)
		return 0;
	if (!g->no_special)
		flags |= VOCAB_PARSE_SPECIAL;
	rc = vocab_tokenize(g->s.vocab, g->text, g->text_len, flags, &g->ids,
			    &g->nr_ids);
	if (rc)
		return err_set(g->s.err, rc, "the prompt: %s", strerror(-rc));
	return 0;
}

static void print_head(const struct generate *g, u32 i)
{
	if (g->p.n > 1)
		printf("--- %u ---\n", i + 1);
}

/* Text of sample @seq: live if it is its turn; then those that follow. */
static int show_token(struct generate *g, struct request *r, u32 seq, u32 id)
{
	struct answer_stream *a = &g->streams[seq];
	int rc;

	if (seq == 0 && seq_nr_new(r->seqs[0]) == 1)
		print_head(g, 0);
	rc = answer_push(a, id);
	if (!rc && r->seqs[seq]->finish != FINISH_NONE)
		rc = answer_end(a);
	while (!rc && g->nr_shown < r->nr_seqs) {
		answer_show(&g->streams[g->nr_shown], stdout);
		if (r->seqs[g->nr_shown]->finish == FINISH_NONE)
			break;
		putchar('\n');
		if (++g->nr_shown < r->nr_seqs)
			print_head(g, g->nr_shown);
	}
	return rc;
}

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct generate *g = ctx;
	size_t len;

	if (g->json && g->stream) {
		const char *piece = vocab_piece(g->s.vocab, id, &len);

		printf("{\"seq\":%u,\"id\":%u,\"piece\":", seq, id);
		json_put_str(stdout, piece, len);
		printf("}\n");
		fflush(stdout);
	} else if (!g->json && !g->rc) {
		g->rc = show_token(g, r, seq, id);
	}
}

static int print_beam(struct generate *g, const struct seq *s, u32 i)
{
	char *text = NULL;
	size_t len = 0;
	int rc = answer_text(g->s.vocab, s, &text, &len);

	if (rc)
		return rc;
	printf("--- %u (log-probability %.3f) ---\n", i + 1, s->cum);
	fwrite(text ? text : "", 1, len, stdout);
	putchar('\n');
	free(text);
	return 0;
}

/* Everything that is not on standard output yet. */
static int print_rest(struct generate *g, const struct request *r,
		      double seconds)
{
	const struct answer_json a = {
		.vocab = g->s.vocab,
		.model = g->so.model,
		.req = r,
		.prompt = g->ids,
		.nr_prompt = g->nr_ids,
		.stats = engine_stats(g->s.engine),
		.seconds = seconds,
	};
	u32 i;
	int rc = 0;

	if (g->json)
		return answer_print_json(stdout, &a);
	for (i = 0;
	     r->p.kind == REQUEST_BEAM && i < request_nr_answers(r) && !rc; i++)
		rc = print_beam(g, request_answer(r, i), i);
	return rc;
}

static void print_stats(const struct generate *g, double seconds)
{
	const struct engine_stats *st = engine_stats(g->s.engine);

	fprintf(stderr,
		"kvrun: %" PRIu64 " steps, %" PRIu64 " prompt tokens, %" PRIu64
		" found, %" PRIu64 " generated, %" PRIu64 " preempted (%" PRIu64
		" to swap), %.2f s, %.1f tokens/s\n",
		st->nr_steps, st->nr_prefill, st->nr_mapped, st->nr_decode,
		st->nr_preempted, st->nr_paused, seconds,
		(double)(st->nr_prefill + st->nr_decode) / max(seconds, 1e-9));
}

/* Return: 0 or -errno; the sentence is in s.err. */
static int run(struct generate *g)
{
	static const struct request_events events = { .token = on_token };
	struct request *r;
	double start;
	u32 i;
	int rc;

	g->p.prompt = g->ids;
	g->p.nr_prompt = (u32)min(g->nr_ids, (size_t)0x7fffffff);
	g->p.events = &events;
	g->p.ctx = g;
	g->p.keep = g->hold;
	start = clock_s();
	rc = engine_submit(g->s.engine, &g->p, &r, g->s.err);
	if (rc)
		return rc;
	g->streams = calloc(g->p.n, sizeof(*g->streams));
	if (!g->streams)
		return err_set(g->s.err, -ENOMEM, "no memory");
	for (i = 0; i < g->p.n; i++)
		g->streams[i].vocab = g->s.vocab;
	do
		rc = session_step(&g->s);
	while (rc == 1 && !g->rc);
	if (g->rc)
		return err_set(g->s.err, g->rc, "the answer's text: %s",
			       strerror(-g->rc));
	if (rc)
		return rc;
	if (r->error)
		return err_set(g->s.err, r->error, "%s",
			       r->message ? r->message : strerror(-r->error));
	rc = print_rest(g, r, clock_s() - start);
	if (rc)
		return err_set(g->s.err, rc, "the answer: %s", strerror(-rc));
	if (g->so.stats)
		print_stats(g, clock_s() - start);
	if (fflush(stdout) || ferror(stdout))
		return err_set(g->s.err, -EIO, "standard output: %s",
			       strerror(errno));
	return g->hold ? session_hold(&g->s) : 0;
}

int cmd_generate(int argc, char **argv)
{
	struct generate g = {
		.p = {
			.n = 1,
			.max_new = MAX_NEW_DEFAULT,
			.sampling = SAMPLING_GREEDY,
		},
		.s.fd = -1,
	};
	int status, rc;

	g.p.sampling.temperature = TEMPERATURE_DEFAULT;
	status = parse(&g, argc, argv);
	if (status >= 0)
		return status;
	if (!g.has_seed && getrandom(&g.p.sampling.seed, 4, 0) != 4)
		g.p.sampling.seed = (u64)time(NULL);
	rc = read_prompt(&g);
	status = rc ? EXIT_FAILED : session_open(&g.s, &g.so);
	session_catch_signals();
	if (status == EXIT_OK) {
		rc = tokenize(&g);
		if (!rc)
			rc = run(&g);
		status = session_exit_status(rc);
	}
	if (status != EXIT_OK)
		fprintf(stderr, "kvrun generate: %s\n", g.s.err);
	session_close(&g.s);
	free(g.text);
	free(g.ids);
	for (u32 i = 0; g.streams && i < g.p.n; i++)
		free(g.streams[i].text);
	free(g.streams);
	return status;
}
