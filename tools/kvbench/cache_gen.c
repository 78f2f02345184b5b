/* SPDX-License-Identifier: MIT */
/*
 * cache_gen.c - made up traces, each a habit of those who use prefixes
 *
 * Lengths are geometric, popularity is as 1/rank where it is not even; both
 * without a function whose last bits differ between machines.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"
#include "tools/kvbench/cache_trace.h"

#define RANKS_MAX 1000u
#define ROOTS_MAX 1000u

struct gen {
	struct cache_trace *t;
	u64 rng;
	u32 nr_requests;
	double rank[RANKS_MAX]; /* sums of 1/rank */
	u32 root[ROOTS_MAX]; /* last blocks of what is shared */
	u32 act[ROOTS_MAX], left[ROOTS_MAX], nr_act; /* what goes on */
	int rc;
};

static u32 below(struct gen *g, u32 n)
{
	return (u32)(hash_random(&g->rng) % n);
}

/* True @percent times in a hundred. */
static bool chance(struct gen *g, u32 percent)
{
	return below(g, 100) < percent;
}

/* 1 and more, @mean on average. */
static u32 about(struct gen *g, u32 mean)
{
	u32 n = 1;

	while (below(g, mean))
		n++;
	return n;
}

static u32 popular(struct gen *g, u32 n)
{
	double x = (double)(hash_random(&g->rng) >> 11) / 9007199254740992.0;
	u32 i = 0;

	x *= g->rank[n - 1];
	while (i < n - 1 && g->rank[i] < x)
		i++;
	return i;
}

static u32 grow(struct gen *g, u32 b, u32 nr)
{
	while (nr-- && !g->rc) {
		b = cache_trace_block(g->t, b);
		if (b == CACHE_NO_BLOCK)
			g->rc = -ENOMEM;
	}
	return b;
}

static void ask(struct gen *g, u32 b)
{
	if (!g->rc)
		g->rc = cache_trace_request(g->t, b);
}

static bool more(const struct gen *g)
{
	return !g->rc && g->t->nr_requests < g->nr_requests;
}

static void roots(struct gen *g, u32 nr, u32 least, u32 mean)
{
	u32 i;

	for (i = 0; i < nr; i++)
		g->root[i] = grow(g, CACHE_NO_BLOCK, least + about(g, mean));
}

static void act_end(struct gen *g, u32 i)
{
	g->act[i] = g->act[--g->nr_act];
	g->left[i] = g->left[g->nr_act];
}

/* Conversations below popular system prompts; half go on where one did. */
static void gen_chat(struct gen *g)
{
	u32 i, b;

	roots(g, 40, 1, 4);
	while (more(g)) {
		if (g->nr_act < 150 || (chance(g, 15) && g->nr_act < 900)) {
			i = g->nr_act++;
			b = grow(g, g->root[popular(g, 40)], about(g, 5));
		} else {
			i = below(g, g->nr_act);
			if (chance(g, 50))
				i = g->nr_act - min(g->nr_act, about(g, 12));
			b = grow(g, g->act[i], about(g, 2));
		}
		ask(g, b);
		g->act[i] = grow(g, b, about(g, 2));
		if (chance(g, 15))
			act_end(g, i);
	}
}

/* Agents: long common prompts, many short steps, some at a time. */
static void gen_agents(struct gen *g)
{
	u32 i;

	roots(g, 12, 10, 15);
	while (more(g)) {
		if (g->nr_act < 40) {
			i = g->nr_act++;
			g->act[i] = g->root[popular(g, 12)];
			g->left[i] = about(g, 15);
		} else {
			i = below(g, g->nr_act);
		}
		g->act[i] = grow(g, g->act[i], about(g, 3));
		ask(g, g->act[i]);
		if (!--g->left[i])
			act_end(g, i);
	}
}

/* The same documents again and again, in order: an evaluation. */
static void gen_loop(struct gen *g)
{
	u32 i = 0;

	roots(g, 200, 10, 10);
	while (more(g))
		ask(g, g->root[i++ % 200]);
}

/* With another question each time. */
static void gen_loop_ask(struct gen *g)
{
	u32 i = 0;

	roots(g, 200, 10, 10);
	while (more(g))
		ask(g, grow(g, g->root[i++ % 200], about(g, 2)));
}

/* Popular documents, others from time to time. */
static void gen_shift(struct gen *g)
{
	u32 per = max(1u, g->nr_requests / 6), k;

	roots(g, 600, 0, 12);
	while (more(g)) {
		k = popular(g, 600) + g->t->nr_requests / per * 97;
		ask(g, grow(g, g->root[k % 600], 1));
	}
}

/* Nothing comes twice. */
static void gen_once(struct gen *g)
{
	while (more(g))
		ask(g, grow(g, CACHE_NO_BLOCK, about(g, 20)));
}

/* All documents alike. */
static void gen_even(struct gen *g)
{
	roots(g, 400, 0, 12);
	while (more(g))
		ask(g, g->root[below(g, 400)]);
}

/* A few questions about a document, then never again. */
static void gen_document(struct gen *g)
{
	u32 i;

	while (more(g)) {
		while (g->nr_act < 100) {
			i = g->nr_act++;
			g->act[i] = grow(g, CACHE_NO_BLOCK, 10 + about(g, 30));
			g->left[i] = about(g, 5);
		}
		i = below(g, g->nr_act);
		ask(g, grow(g, g->act[i], about(g, 2)));
		if (!--g->left[i])
			act_end(g, i);
	}
}

/* Popular documents, and long ones that come once. */
static void gen_scan(struct gen *g)
{
	roots(g, 800, 0, 10);
	while (more(g)) {
		if (chance(g, 30))
			ask(g, grow(g, CACHE_NO_BLOCK, 20 + about(g, 40)));
		else
			ask(g, grow(g, g->root[popular(g, 800)], about(g, 2)));
	}
}

static void gen_popular(struct gen *g)
{
	roots(g, 1000, 0, 8);
	while (more(g))
		ask(g, g->root[popular(g, 1000)]);
}

/* Trees of thought: four, each twice, each twice; one after the other. */
static void gen_thought(struct gen *g)
{
	u32 a, b, c, top, one, two;

	while (more(g)) {
		top = grow(g, CACHE_NO_BLOCK, 3 + about(g, 6));
		for (a = 0; a < 4 && more(g); a++) {
			ask(g, one = grow(g, top, about(g, 2)));
			for (b = 0; b < 2 && more(g); b++) {
				ask(g, two = grow(g, one, about(g, 2)));
				for (c = 0; c < 2 && more(g); c++)
					ask(g, grow(g, two, about(g, 2)));
			}
		}
	}
}

/* Whoever spoke last speaks again: LRU is right, and nothing else counts. */
static void gen_recent(struct gen *g)
{
	u32 i, b;

	while (more(g)) {
		if (!g->nr_act || (chance(g, 10) && g->nr_act < ROOTS_MAX)) {
			b = grow(g, CACHE_NO_BLOCK, about(g, 15));
			i = g->nr_act++;
		} else {
			i = chance(g, 70) ? about(g, 20) : about(g, 200);
			i = g->nr_act - min(i, g->nr_act);
			b = grow(g, g->act[i], chance(g, 50));
		}
		memmove(g->act + i, g->act + i + 1,
			(g->nr_act - i - 1) * sizeof(*g->act));
		g->act[g->nr_act - 1] = b;
		ask(g, b);
	}
}

/* A loop and conversations beside each other. */
static void gen_both(struct gen *g)
{
	u32 i, at = 0;

	roots(g, 80, 10, 10);
	while (more(g)) {
		if (chance(g, 40)) {
			ask(g, g->root[at++ % 80]);
			continue;
		}
		i = below(g, max(g->nr_act, 1u));
		if (g->nr_act < 60) {
			i = g->nr_act++;
			g->act[i] = CACHE_NO_BLOCK;
		}
		g->act[i] = grow(g, g->act[i], about(g, 5));
		ask(g, g->act[i]);
		if (chance(g, 15))
			act_end(g, i);
	}
}

/* One prompt with examples, then one of many tasks, then a question. */
static void gen_examples(struct gen *g)
{
	u32 top = grow(g, CACHE_NO_BLOCK, 20), i;

	for (i = 0; i < 300; i++)
		g->root[i] = grow(g, top, about(g, 5));
	while (more(g))
		ask(g, grow(g, g->root[below(g, 300)], about(g, 3)));
}

/* Everything comes exactly twice, the second time after a while. */
static void gen_twice(struct gen *g)
{
	while (more(g)) {
		if (g->nr_act < 60 || chance(g, 50)) {
			if (g->nr_act == 90)
				continue;
			g->act[g->nr_act] =
				grow(g, CACHE_NO_BLOCK, about(g, 20));
			ask(g, g->act[g->nr_act++]);
		} else {
			ask(g, g->act[0]);
			g->nr_act--;
			memmove(g->act, g->act + 1,
				g->nr_act * sizeof(*g->act));
		}
	}
}

/*
 * Agents that call tools: most answers come soon, some late, and some agents
 * try again from an earlier step.
 */
static void gen_tools(struct gen *g)
{
	u32 i, k;

	roots(g, 8, 8, 12);
	while (more(g)) {
		if (g->nr_act < 30) {
			i = g->nr_act++;
			g->act[i] = g->root[popular(g, 8)];
			g->left[i] = 1 + about(g, 20);
		} else {
			i = chance(g, 70) ? below(g, 5) : below(g, 30);
		}
		for (k = chance(g, 10) ? about(g, 6) : 0; k; k--)
			if (g->t->parent[g->act[i]] != CACHE_NO_BLOCK)
				g->act[i] = g->t->parent[g->act[i]];
		k = chance(g, 10) ? about(g, 30) : about(g, 3);
		g->act[i] = grow(g, g->act[i], k);
		ask(g, g->act[i]);
		if (!--g->left[i])
			act_end(g, i);
	}
}

/* Two tasks at a time, each with its examples before all of its questions. */
static void gen_fewshot(struct gen *g)
{
	u32 i;

	while (more(g)) {
		while (g->nr_act < 2) {
			i = g->nr_act++;
			g->act[i] = grow(g, CACHE_NO_BLOCK, 4 + about(g, 20));
			g->left[i] = 10 + about(g, 40);
		}
		i = below(g, 2);
		ask(g, grow(g, g->act[i], about(g, 2)));
		if (!--g->left[i])
			act_end(g, i);
	}
}

/* Two popular passages, in their order, and a question about them. */
static void gen_rag(struct gen *g)
{
	u32 top = grow(g, CACHE_NO_BLOCK, 2), first, i;

	for (i = 0; i < 60; i++)
		g->root[i] = grow(g, top, about(g, 4));
	while (more(g)) {
		first = popular(g, 60);
		i = first * 16 + popular(g, 16);
		if (!g->left[i]++)
			g->act[i] = grow(g, g->root[first], about(g, 4));
		ask(g, grow(g, g->act[i], about(g, 2)));
	}
}

/* By day conversations, by night the same documents in order. */
static void gen_day(struct gen *g)
{
	u32 i, at = 0;

	roots(g, 120, 8, 8);
	while (more(g)) {
		if (g->t->nr_requests / 400 % 2) {
			ask(g, grow(g, g->root[at++ % 120], about(g, 2)));
			continue;
		}
		i = below(g, max(g->nr_act, 1u));
		if (g->nr_act < 80) {
			i = g->nr_act++;
			g->act[i] = g->root[popular(g, 20)];
		}
		g->act[i] = grow(g, g->act[i], about(g, 4));
		ask(g, g->act[i]);
		if (chance(g, 20))
			act_end(g, i);
	}
}

/* Documents of some questions each, in any order, among what comes once. */
static void gen_pool(struct gen *g)
{
	u32 i;

	while (more(g)) {
		if (chance(g, 45)) {
			i = chance(g, 30) ? 20 + about(g, 30) : about(g, 2);
			ask(g, grow(g, CACHE_NO_BLOCK, i));
			continue;
		}
		while (g->nr_act < 200) {
			i = g->nr_act++;
			g->act[i] = grow(g, CACHE_NO_BLOCK, 4 + about(g, 40));
			g->left[i] = 3 + about(g, 3);
		}
		i = below(g, g->nr_act);
		ask(g, grow(g, g->act[i], 1));
		if (!--g->left[i])
			act_end(g, i);
	}
}

static const struct {
	const char *name;
	void (*make)(struct gen *g);
} kinds[] = {
	{ "chat", gen_chat },	    { "agents", gen_agents },
	{ "loop", gen_loop },	    { "loop-ask", gen_loop_ask },
	{ "shift", gen_shift },	    { "once", gen_once },
	{ "even", gen_even },	    { "document", gen_document },
	{ "scan", gen_scan },	    { "popular", gen_popular },
	{ "thought", gen_thought }, { "recent", gen_recent },
	{ "both", gen_both },	    { "examples", gen_examples },
	{ "twice", gen_twice },	    { "tools", gen_tools },
	{ "fewshot", gen_fewshot }, { "rag", gen_rag },
	{ "day", gen_day },	    { "pool", gen_pool },
};

const char *cache_gen_name(u32 i)
{
	return i < ARRAY_SIZE(kinds) ? kinds[i].name : NULL;
}

int cache_gen(u32 i, u64 seed, u32 nr_requests, struct cache_trace *t)
{
	struct gen *g = calloc(1, sizeof(*g));
	u32 k;
	int rc;

	memset(t, 0, sizeof(*t));
	if (!g)
		return -ENOMEM;
	g->t = t;
	g->rng = hash_mix(seed + 1) + i;
	g->nr_requests = nr_requests;
	for (k = 0; k < RANKS_MAX; k++)
		g->rank[k] = (k ? g->rank[k - 1] : 0) + 1.0 / (k + 1);
	kinds[i].make(g);
	rc = g->rc;
	free(g);
	return rc;
}
