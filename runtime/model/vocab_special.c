/* SPDX-License-Identifier: MIT */
/*
 * vocab_special.c - finding control and user tokens in a text
 *
 * The keys of all of them lie sorted in one table. A match narrows a range
 * of that table byte by byte, by binary search: the entries of the range
 * begin with the bytes seen so far, and if one ends there it is the first of
 * them. The longest that ended wins. A bitmap of first bytes keeps ordinary
 * text out of it.
 *
 * So a place in a text costs as many steps as the longest key has bytes, and
 * that is bounded; of one key at most one token of either class is kept.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"
#include "runtime/model/vocab_priv.h"

/* The longest of Gemma, 31 spaces as U+2581, has 93. */
#define KEY_MAX 256u

static bool is_special(const struct token *t)
{
	return (t->class == VOCAB_CONTROL || t->class == VOCAB_USER) &&
	       t->key_len;
}

/* By bytes, a prefix before what continues it. */
static int cmp_key(const void *a, const void *b, void *arg)
{
	const struct vocab *v = arg;
	u32 x = *(const u32 *)a, y = *(const u32 *)b;
	u32 nx = v->tokens[x].key_len, ny = v->tokens[y].key_len;
	int c = memcmp(token_key(v, x), token_key(v, y), min(nx, ny));

	if (c)
		return c;
	if (nx != ny)
		return nx < ny ? -1 : 1;
	return x < y ? -1 : x > y; /* the lower id is found first */
}

/* Of equal keys the lowest id of each class stays. */
static void drop_twins(struct vocab *v)
{
	u32 nr = 0;

	for (u32 i = 0; i < v->nr_special; i++) {
		const struct token *t = &v->tokens[v->special[i]];
		bool twin = false;

		for (u32 k = nr; k-- && !twin;) {
			const struct token *o = &v->tokens[v->special[k]];

			if (o->key_len != t->key_len ||
			    memcmp(v->arena + o->key, v->arena + t->key,
				   t->key_len))
				break;
			twin = o->class == t->class;
		}
		if (!twin)
			v->special[nr++] = v->special[i];
	}
	v->nr_special = nr;
}

int vocab_special_build(struct vocab *v, const struct gguf *g, char *err)
{
	u32 nr = 0;

	for (u32 id = 0; id < v->nr; id++) {
		const struct token *t = &v->tokens[id];

		nr += is_special(t);
		if (is_special(t) && t->key_len > KEY_MAX)
			return err_set(err, -EINVAL,
				       "%s: the special token %u has a name "
				       "of %u bytes: %u at most",
				       gguf_name(g), id, t->key_len, KEY_MAX);
	}
	v->special = calloc(nr ? nr : 1, sizeof(*v->special));
	if (!v->special)
		return err_set(err, -ENOMEM, "%s: out of memory", gguf_name(g));
	for (u32 id = 0; id < v->nr; id++) {
		if (!is_special(&v->tokens[id]))
			continue;
		v->special[v->nr_special++] = id;
		v->special_first[(u8)*token_key(v, id)] = true;
	}
	qsort_r(v->special, nr, sizeof(*v->special), cmp_key, v);
	drop_twins(v);
	return 0;
}

/* The first entry in [lo, hi) whose byte at @depth is at least @b. */
static u32 lower(const struct vocab *v, u32 lo, u32 hi, u32 depth, int b)
{
	while (lo < hi) {
		u32 mid = lo + (hi - lo) / 2, id = v->special[mid];
		int c = v->tokens[id].key_len > depth
				? (u8)token_key(v, id)[depth]
				: -1;

		if (c < b)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

u32 vocab_special_match(const struct vocab *v, const char *text, size_t len,
			size_t nr_control)
{
	u32 lo = 0, hi = v->nr_special, best = VOCAB_NONE;

	if (!v->special_first[(u8)text[0]])
		return VOCAB_NONE;
	for (u32 depth = 0; depth < len; depth++) {
		int b = (u8)text[depth];
		u32 end = depth + 1;

		lo = lower(v, lo, hi, depth, b);
		hi = lower(v, lo, hi, depth, b + 1);
		if (lo == hi)
			break;
		/* entries that end here are the first of the range */
		for (u32 i = lo; i < hi; i++) {
			u32 id = v->special[i];

			if (v->tokens[id].key_len != end)
				break;
			if (v->tokens[id].class == VOCAB_USER ||
			    end <= nr_control) {
				best = id;
				break;
			}
		}
	}
	return best;
}
