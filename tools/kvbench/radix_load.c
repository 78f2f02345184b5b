/* SPDX-License-Identifier: MIT */
/*
 * radix_load.c - prompts that share beginnings, as programs make them
 *
 * Every prompt is made of an earlier one's first tokens and of tokens of its
 * own, so how many tokens there are is known as they are made: that is what has
 * to be computed at least. Tokens are random, so nothing is shared by chance.
 */
#include "tools/kvbench/radix_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/bench.h"

#define RADIX_MAX 8192u

struct maker {
	struct radix_load *l;
	struct bench_rng rng;
	u32 vocab, serial;
	bool failed;
};

const char *radix_name(enum radix_kind kind)
{
	static const char *const names[] = { "few-shot", "chat", "tree",
					     "agent" };

	return names[kind];
}

/* A run that begins as no other one does. */
static void own_tokens(struct maker *m, u32 *ids, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		ids[i] = (u32)(bench_rand(&m->rng) % m->vocab);
	if (nr)
		ids[0] = m->serial++ % m->vocab;
}

/* The first @keep tokens of @base, then @more; prompt number, or ~0. */
static u32 add(struct maker *m, const u32 *base, u32 keep, u32 more)
{
	struct radix_load *l = m->l;
	u32 n = l->nr, *ids;

	if (n == RADIX_MAX || m->failed)
		return ~0u;
	ids = malloc((keep + more) * sizeof(*ids));
	m->failed = !ids;
	if (!ids)
		return ~0u;
	if (keep)
		memcpy(ids, base, keep * sizeof(*ids));
	own_tokens(m, ids + keep, more);
	l->ids[n] = ids;
	l->len[n] = keep + more;
	l->nr++;
	l->longest = max(l->longest, keep + more);
	l->total += keep + more;
	l->distinct += more;
	return n;
}

static u32 between(struct maker *m, u32 lo, u32 hi)
{
	return lo + (u32)(bench_rand(&m->rng) % (hi - lo));
}

/* @nr prompts behind @len tokens that no other program has. */
static void fan(struct maker *m, u32 len, u32 nr, u32 lo, u32 hi)
{
	u32 base[1024], i;

	own_tokens(m, base, len);
	m->l->distinct += len;
	for (i = 0; i < nr; i++)
		add(m, base, len, between(m, lo, hi));
}

static void grow(struct maker *m, u32 first, u32 turns, u32 lo, u32 hi)
{
	u32 n = add(m, NULL, 0, first), i;

	for (i = 1; i < turns && n != ~0u; i++)
		n = add(m, m->l->ids[n], m->l->len[n], between(m, lo, hi));
}

static void branch(struct maker *m, u32 from, u32 depth)
{
	u32 i, n;

	for (i = 0; i < 4 && from != ~0u; i++) {
		n = add(m, m->l->ids[from], m->l->len[from], 24);
		if (depth > 1)
			branch(m, n, depth - 1);
	}
}

static void agent(struct maker *m)
{
	u32 base[400], i, n, t;

	own_tokens(m, base, 400);
	m->l->distinct += 400;
	for (i = 0; i < 8; i++) {
		n = add(m, base, 400, between(m, 20, 60));
		for (t = 0; t < 3 && n != ~0u; t++)
			n = add(m, m->l->ids[n], m->l->len[n],
				between(m, 30, 120));
	}
}

int radix_make(struct radix_load *l, enum radix_kind kind, u32 programs,
	       u32 vocab, u64 seed)
{
	struct maker m = { .l = l, .rng = { seed }, .vocab = vocab };
	u32 i;

	*l = (struct radix_load){
		.ids = calloc(RADIX_MAX, sizeof(*l->ids)),
		.len = calloc(RADIX_MAX, sizeof(*l->len)),
	};
	m.failed = !l->ids || !l->len;
	for (i = 0; i < programs && !m.failed; i++) {
		if (kind == RADIX_FEW_SHOT)
			fan(&m, 600, 32, 20, 60);
		else if (kind == RADIX_CHAT)
			grow(&m, between(&m, 40, 200), 4, 60, 260);
		else if (kind == RADIX_TREE)
			branch(&m, add(&m, NULL, 0, between(&m, 16, 48)), 3);
		else
			agent(&m);
	}
	if (m.failed)
		radix_free(l);
	return m.failed ? -ENOMEM : 0;
}

void radix_shuffle(struct radix_load *l, u32 span, u64 seed)
{
	struct bench_rng rng = { seed };
	u32 i, k, len, *ids;

	for (i = 0; i < l->nr; i++) {
		k = i + (u32)(bench_rand(&rng) % min(span, l->nr - i));
		ids = l->ids[k];
		len = l->len[k];
		l->ids[k] = l->ids[i];
		l->len[k] = l->len[i];
		l->ids[i] = ids;
		l->len[i] = len;
	}
}

void radix_free(struct radix_load *l)
{
	u32 i;

	for (i = 0; l->ids && i < l->nr; i++)
		free(l->ids[i]);
	free(l->ids);
	free(l->len);
	*l = (struct radix_load){ 0 };
}
