/* SPDX-License-Identifier: MIT */
/*
 * cmd_tokenize.c - kvrun tokenize and kvrun detokenize
 *
 * Both read all of standard input. With --batch each line is a case of its
 * own (a JSON string, or a list of ids) and gives one line of JSON, so that
 * a test can run thousands of texts through one process.
 *
 * detokenize undoes tokenize: a BOS that tokenize adds in front is left out
 * of the text, other control tokens appear by name; --no-special leaves all
 * of them out.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "runtime/model/vocab.h"
#include "tools/kvrun/cmd.h"
#include "tools/kvrun/json_text.h"

struct options {
	const char *cmd;
	const char *model;
	bool no_special, json, batch;
	struct vocab *vocab;
	char err[KV_ERRLEN];
};

enum { OPT_NO_SPECIAL = 256, OPT_JSON, OPT_BATCH };

static const struct option long_options[] = {
	{ "model", required_argument, NULL, 'm' },
	{ "no-special", no_argument, NULL, OPT_NO_SPECIAL },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "batch", no_argument, NULL, OPT_BATCH },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

static void usage(FILE *out, const char *cmd)
{
	bool to_ids = !strcmp(cmd, "tokenize");

	fprintf(out,
		"usage: kvrun %s -m FILE [--no-special] [--json] [--batch]\n\n"
		"  -m, --model FILE  the model, a GGUF file\n"
		"      --no-special  %s\n"
		"      --json        print %s\n"
		"      --batch       a %s per line of input, JSON per line\n",
		cmd,
		to_ids ? "read names like <|im_start|> as plain text"
		       : "leave control tokens out of the text",
		to_ids ? "{\"ids\":[...]}" : "{\"text\":\"...\"}",
		to_ids ? "JSON string" : "list of ids");
}

/* Return: -1 to go on, else the exit status. */
static int parse(struct options *o, int argc, char **argv)
{
	int c;

	o->cmd = argv[0];
	while ((c = getopt_long(argc, argv, "m:h", long_options, NULL)) != -1) {
		switch (c) {
		case 'm':
			o->model = optarg;
			break;
		case OPT_NO_SPECIAL:
			o->no_special = true;
			break;
		case OPT_JSON:
			o->json = true;
			break;
		case OPT_BATCH:
			o->batch = true;
			break;
		case 'h':
			usage(stdout, o->cmd);
			return EXIT_OK;
		default:
			usage(stderr, o->cmd);
			return EXIT_USAGE;
		}
	}
	if (!o->model || optind != argc) {
		fprintf(stderr, "kvrun %s: %s\n", o->cmd,
			o->model ? "the input is read from standard input"
				 : "-m FILE is needed");
		usage(stderr, o->cmd);
		return EXIT_USAGE;
	}
	return -1;
}

static int read_all(char **buf, size_t *len, char *err)
{
	size_t cap = 1 << 16, n = 0, got;
	char *p = malloc(cap);

	while (p && (got = fread(p + n, 1, cap - n, stdin)) > 0) {
		char *q = p;

		n += got;
		if (n == cap) {
			cap *= 2;
			q = realloc(p, cap);
			if (!q)
				free(p);
		}
		p = q;
	}
	if (!p)
		return err_set(err, -ENOMEM,
			       "standard input: %zu bytes do not fit in memory",
			       n);
	if (ferror(stdin)) {
		free(p);
		return err_set(err, -EIO, "standard input: %s",
			       strerror(errno));
	}
	*buf = p;
	*len = n;
	return 0;
}

static int print_ids(struct options *o, const char *text, size_t len)
{
	unsigned int flags = VOCAB_ADD_SPECIAL;
	size_t nr;
	u32 *ids = NULL;
	int rc;

	if (!o->no_special)
		flags |= VOCAB_PARSE_SPECIAL;
	rc = vocab_tokenize(o->vocab, text, len, flags, &ids, &nr);
	if (rc == -E2BIG)
		return err_set(o->err, rc,
			       "standard input: a text of %zu bytes is longer "
			       "than %zu MiB",
			       len, VOCAB_TEXT_MAX >> 20);
	if (rc)
		return err_set(o->err, rc,
			       "standard input: a text of %zu bytes: %s", len,
			       strerror(-rc));
	if (o->json || o->batch) {
		printf("{\"ids\":");
		json_put_ids(stdout, ids, nr);
		printf("}\n");
	} else {
		for (size_t i = 0; i < nr; i++)
			printf("%s%u", i ? " " : "", ids[i]);
		printf("\n");
	}
	free(ids);
	return 0;
}

static int tokenize_case(struct options *o, const char *s, size_t len)
{
	char *text;
	int rc;

	if (!o->batch)
		return print_ids(o, s, len);
	rc = json_get_str(s, len, &text, &len);
	if (rc)
		return err_set(o->err, rc,
			       "standard input: a line is no JSON string");
	rc = print_ids(o, text, len);
	free(text);
	return rc;
}

/* Ids between white space, commas or brackets. */
static int parse_ids(struct options *o, const char *s, size_t len, u32 **ids,
		     size_t *nr)
{
	u32 *list = malloc((len / 2 + 1) * sizeof(*list));
	const char *end = s + len;
	size_t n = 0;

	if (!list)
		return err_set(o->err, -ENOMEM, "out of memory");
	while (s < end) {
		const char *from = s;
		u64 id = 0;

		if (memchr(" \t\r\n,[]", *s, 7)) {
			s++;
			continue;
		}
		for (; s < end && *s >= '0' && *s <= '9'; s++)
			id = min(id * 10 + (u64)(*s - '0'), (u64)1 << 40);
		if (s == from || (s < end && !memchr(" \t\r\n,[]", *s, 7))) {
			free(list);
			return err_set(
				o->err, -EINVAL,
				"standard input: '%.*s' is no token id",
				(int)min((size_t)(end - from), (size_t)16),
				from);
		}
		if (id >= vocab_size(o->vocab)) {
			free(list);
			return err_set(o->err, -ERANGE,
				       "%s: there is no token %" PRIu64
				       ", the last is %u",
				       o->model, id, vocab_size(o->vocab) - 1);
		}
		list[n++] = (u32)id;
	}
	*ids = list;
	*nr = n;
	return 0;
}

static int detokenize_case(struct options *o, const char *s, size_t len)
{
	unsigned int flags = VOCAB_STRIP_ADDED;
	size_t nr = 0, text_len;
	char *text;
	u32 *ids = NULL;
	int rc = parse_ids(o, s, len, &ids, &nr);

	if (rc)
		return rc;
	if (o->no_special)
		flags |= VOCAB_SKIP_SPECIAL;
	rc = vocab_detokenize(o->vocab, ids, nr, flags, &text, &text_len);
	free(ids);
	if (rc)
		return err_set(o->err, rc, "standard input: %s", strerror(-rc));
	if (o->json || o->batch) {
		printf("{\"text\":");
		json_put_str(stdout, text, text_len);
		printf("}\n");
	} else {
		fwrite(text, 1, text_len, stdout);
	}
	free(text);
	return 0;
}

static int each_case(struct options *o, const char *in, size_t len,
		     int (*one)(struct options *, const char *, size_t))
{
	const char *end = in + len;
	int rc = 0;

	if (!o->batch)
		return one(o, in, len);
	while (in < end && !rc) {
		const char *nl = memchr(in, '\n', (size_t)(end - in));
		const char *stop = nl ? nl : end;

		rc = one(o, in, (size_t)(stop - in));
		in = stop + 1;
	}
	return rc;
}

static int load(struct options *o)
{
	struct gguf *g;
	int rc = gguf_open(o->model, &g, o->err);

	if (rc)
		return rc;
	rc = vocab_load(g, &o->vocab, o->err);
	gguf_close(g);
	return rc;
}

static int run(int argc, char **argv,
	       int (*one)(struct options *, const char *, size_t))
{
	struct options o = { 0 };
	char *in = NULL;
	size_t len = 0;
	int rc = parse(&o, argc, argv);

	if (rc >= 0)
		return rc;
	rc = load(&o);
	if (!rc)
		rc = read_all(&in, &len, o.err);
	if (!rc)
		rc = each_case(&o, in, len, one);
	free(in);
	vocab_free(o.vocab);
	if (!rc && (fflush(stdout) || ferror(stdout)))
		rc = err_set(o.err, -EIO, "standard output: %s",
			     strerror(errno));
	if (rc)
		fprintf(stderr, "kvrun %s: %s\n", o.cmd, o.err);
	return rc ? EXIT_FAILED : EXIT_OK;
}

int cmd_tokenize(int argc, char **argv)
{
	return run(argc, argv, tokenize_case);
}

int cmd_detokenize(int argc, char **argv)
{
	return run(argc, argv, detokenize_case);
}
