/* SPDX-License-Identifier: MIT */
/*
 * bench_tokens.c - token ids against the reference's
 *
 * Every string that the reference has ids for, of both models: those of
 * tokenize.json with and without names of control tokens being read as such,
 * and the prompts of reference.json. A string differs if one id of it does.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/model/gguf.h"
#include "runtime/model/vocab.h"

struct token_count {
	u32 nr, differ;
	u32 first; /* that differs, counted from 1 */
};

static bool ids_equal(const u32 *ids, size_t nr, const json_t *want)
{
	size_t i;

	if (!json_is_array(want) || json_array_size(want) != nr)
		return false;
	for (i = 0; i < nr; i++)
		if (json_integer_value(json_array_get(want, i)) != ids[i])
			return false;
	return true;
}

/* Return: 1 the ids are @want, 0 they are not, -errno. */
static int check_ids(const struct vocab *v, const json_t *text,
		     unsigned int flags, const json_t *want)
{
	u32 *ids;
	size_t nr;
	int rc = vocab_tokenize(v, json_string_value(text),
				json_string_length(text),
				VOCAB_ADD_SPECIAL | flags, &ids, &nr);

	if (rc)
		return rc;
	rc = ids_equal(ids, nr, want);
	free(ids);
	return rc;
}

/* One string; @plain NULL: the reference has no such ids. */
static int check_string(const struct vocab *v, const json_t *text,
			const json_t *special, const json_t *plain,
			struct token_count *c)
{
	int rc;

	if (!json_is_string(text))
		return -EINVAL;
	rc = check_ids(v, text, VOCAB_PARSE_SPECIAL, special);
	if (rc > 0 && plain)
		rc = check_ids(v, text, 0, plain);
	if (rc < 0)
		return rc;
	c->nr++;
	if (!rc && !c->differ++)
		c->first = c->nr;
	return 0;
}

static int check_strings(const struct vocab *v, const json_t *cases,
			 const json_t *greedy, struct token_count *c)
{
	const json_t *one;
	size_t i;
	int rc = 0;

	for (i = 0; !rc && (one = json_array_get(cases, i)); i++)
		rc = check_string(v, json_object_get(one, "text"),
				  json_object_get(one, "special"),
				  json_object_get(one, "plain"), c);
	for (i = 0; !rc && (one = json_array_get(greedy, i)); i++)
		rc = check_string(v, json_object_get(one, "prompt"),
				  json_object_get(one, "ids"), NULL, c);
	return rc;
}

static int load_vocab(const char *path, struct vocab **out, char *err)
{
	struct gguf *g;
	int rc = gguf_open(path, &g, err);

	if (rc)
		return rc;
	rc = vocab_load(g, out, err);
	gguf_close(g);
	return rc;
}

static int check_model(const struct bench_opts *o, enum model_id id,
		       struct token_count *c, char *note)
{
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	json_t *cases = NULL, *ref = NULL;
	struct vocab *v = NULL;
	int rc = model_path(id, NULL, path, note);

	if (!rc)
		rc = model_reference(o, id, "tokenize.json", &cases, note);
	if (!rc)
		rc = model_reference(o, id, "reference.json", &ref, note);
	if (rc)
		goto out;
	rc = load_vocab(path, &v, err);
	if (!rc)
		rc = check_strings(v, cases, json_object_get(ref, "greedy"), c);
	if (rc)
		snprintf(note, FIGURE_NOTE, "%.150s",
			 err[0] ? err : strerror(-rc));
out:
	vocab_free(v);
	json_decref(cases);
	json_decref(ref);
	return rc;
}

static int run_tokens(const struct bench_opts *o, struct figure_result *f)
{
	struct token_count c = { 0 };
	int rc = check_model(o, MODEL_GEMMA, &c, f->note);

	if (!rc)
		rc = check_model(o, MODEL_QWEN, &c, f->note);
	if (rc)
		return rc;
	if (!c.nr) {
		snprintf(f->note, sizeof(f->note), "the reference is empty");
		return -EINVAL;
	}
	f->measured = c.differ;
	snprintf(f->note, sizeof(f->note), "of %u strings of two models", c.nr);
	if (c.differ)
		snprintf(f->note, sizeof(f->note),
			 "of %u strings of two models; the first is number %u",
			 c.nr, c.first);
	return 0;
}

FIGURE(tokens_differ, .name = "tokens.differ",
       .what = "strings whose token ids are not the reference's",
       .unit = "strings", .cmp = CMP_EQUAL, .target = 0, .run = run_tokens);
