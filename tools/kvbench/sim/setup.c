/* SPDX-License-Identifier: MIT */
/*
 * setup.c - a simulation as a user describes it
 *
 * Laws are those measured on two cores with AVX2 (kvbench sim --measure): a
 * step of Gemma 3 270M and of Qwen2.5-Coder-1.5B.
 */
#include "tools/kvbench/sim/setup.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct simkv_shape shapes[] = {
	{ "gemma", 16, 2, { { 15, 1, 256, 512 }, { 3, 1, 256, 0 } } },
	{ "qwen", 16, 1, { { 28, 2, 128, 0 } } },
};

static const struct law laws[] = {
	{ { 13e-3, 0.34e-3, 0.6e-3, 22e-6 } },
	{ { 70e-3, 2.2e-3, 1.1e-3, 60e-6 } },
};

enum value { V_U32, V_BYTES, V_DIST, V_BOOL, V_TEXT, V_NAME, V_RATE };

struct key {
	const char *name, *what;
	enum value value;
	size_t at;
	const char *const *names; /* V_NAME */
	double least, most; /* V_U32, V_RATE */
};

static const char *const preempts[] = { "swap", "recompute", "none", NULL };
static const char *const batchings[] = { "iteration", "request", NULL };
static const char *const prefills[] = { "chunked", "whole", "apart", NULL };
static const char *const admits[] = { "overcommit", "peak", "strict", NULL };
static const char *const orders[] = { "lpm", "dfs", "fcfs", NULL };
static const char *const models[] = { "gemma", "qwen", NULL };

#define AT(field) offsetof(struct sim_setup, field)

static const struct key keys[] = {
	{ "model", "whose pages and costs", V_NAME, AT(fleet.shape),
	  .names = models },
	{ "engines", "how many", V_U32, AT(fleet.nr_engines), .least = 1,
	  .most = ~0u },
	{ "share-cores", "their steps take turns", V_BOOL,
	  AT(fleet.share_cores), .names = NULL },
	{ "pool", "device memory", V_BYTES, AT(fleet.world.device_bytes),
	  .names = NULL },
	{ "swap-ram", "host memory for swap", V_BYTES,
	  AT(fleet.world.swap_bytes[0]), .names = NULL },
	{ "swap-disk", "room on disk for swap", V_BYTES,
	  AT(fleet.world.swap_bytes[1]), .names = NULL },
	{ "ram-bps", "bytes a second of it", V_RATE,
	  AT(fleet.world.swap_bps[0]), .least = 1, .most = 1e15 },
	{ "disk-bps", "bytes a second of it", V_RATE,
	  AT(fleet.world.swap_bps[1]), .least = 1, .most = 1e15 },
	{ "cache-policy", "lru, mglru, reuse", V_TEXT,
	  AT(fleet.world.cache_policy), .names = NULL },
	{ "context", "tokens of a sequence, at most", V_U32, AT(fleet.context),
	  .least = 1, .most = ~0u },
	{ "cost-step", "s of a step", V_RATE, AT(fleet.law.term[LAW_STEP]),
	  .most = 1e5 },
	{ "cost-token", "s of a token", V_RATE, AT(fleet.law.term[LAW_TOKEN]),
	  .most = 1e5 },
	{ "cost-row", "s of a row of logits", V_RATE,
	  AT(fleet.law.term[LAW_ROW]), .most = 1e5 },
	{ "cost-work", "s of a thousand rows of K and V read", V_RATE,
	  AT(fleet.law.term[LAW_WORK]), .most = 1e5 },
	{ "step-tokens", "tokens of a step", V_U32,
	  AT(fleet.engine.step_tokens), .most = ~0u },
	{ "max-seqs", "sequences at a time", V_U32, AT(fleet.engine.max_seqs),
	  .most = ~0u },
	{ "slice-ms", "of a turn at short memory", V_U32,
	  AT(fleet.engine.slice_ms), .most = ~0u },
	{ "wait-ms", "for memory, before a request fails", V_U32,
	  AT(fleet.engine.wait_ms), .most = ~0u },
	{ "tbt-slo-ms", "from token to token", V_U32,
	  AT(fleet.engine.tbt_slo_ms), .most = ~0u },
	{ "batching", "iteration or request", V_NAME, AT(fleet.engine.batching),
	  .names = batchings },
	{ "prefill", "chunked, whole, apart", V_NAME, AT(fleet.engine.prefill),
	  .names = prefills },
	{ "admit", "overcommit, peak, strict", V_NAME, AT(fleet.engine.admit),
	  .names = admits },
	{ "preempt", "swap, recompute, none", V_NAME, AT(fleet.engine.preempt),
	  .names = preempts },
	{ "prefix-cache", "yes or no", V_BOOL, AT(fleet.engine.prefix_cache),
	  .names = NULL },
	{ "order", "lpm, dfs, fcfs", V_NAME, AT(fleet.engine.order),
	  .names = orders },
	{ "overtake", "how often one may be", V_U32,
	  AT(fleet.engine.overtake_max), .most = ~0u },
	{ "workload", "random, sharegpt, shared-prefix, trace, ...", V_NAME,
	  AT(work.kind), .names = work_kinds },
	{ "requests", "how many", V_U32, AT(work.nr), .least = 1, .most = ~0u },
	{ "rate", "requests a second, or inf", V_RATE, AT(work.rate),
	  .most = INFINITY },
	{ "burstiness", "1: Poisson, less: bursts", V_RATE, AT(work.burstiness),
	  .least = 0.01, .most = 1000 },
	{ "input-len", "distribution of prompts", V_DIST, AT(work.input),
	  .names = NULL },
	{ "output-len", "distribution of answers", V_DIST, AT(work.output),
	  .names = NULL },
	{ "prefixes", "shared ones", V_U32, AT(work.nr_prefixes), .most = ~0u },
	{ "prefix-len", "tokens of one", V_U32, AT(work.prefix_len),
	  .most = ~0u },
	{ "turns", "of a chat", V_U32, AT(work.turns), .least = 1,
	  .most = 1000 },
	{ "branch", "of a tree of thought", V_U32, AT(work.branch), .least = 1,
	  .most = 1000 },
	{ "depth", "of a tree of thought", V_U32, AT(work.depth), .least = 1,
	  .most = 100 },
	{ "think", "s between two turns", V_RATE, AT(work.think), .most = 1e5 },
	{ "trace", "file of requests", V_TEXT, AT(work.trace), .names = NULL },
	{ "block-len", "tokens of a block of the trace", V_U32,
	  AT(work.block_len), .least = 1, .most = 4096 },
	{ "most-s", "of simulated time", V_RATE, AT(fleet.most_s),
	  .most = 1e9 },
	{ "pad", "computed as long as the longest of so many", V_U32,
	  AT(work.pad), .most = ~0u },
	{ "seed", "of everything", V_U32, AT(work.seed), .most = ~0u },
};

const char *setup_key(u32 i, const char **what)
{
	if (i >= ARRAY_SIZE(keys))
		return NULL;
	*what = keys[i].what;
	return keys[i].name;
}

static bool to_double(const struct key *k, const char *v, double *out)
{
	char *end;

	*out = strtod(v, &end);
	return end != v && !*end && *out >= k->least && *out <= k->most;
}

static bool to_bytes(const char *v, u64 *out)
{
	static const char units[] = "KMGT";
	char *end, *unit = NULL;
	double x = strtod(v, &end);

	if (end == v || x < 0 || !isfinite(x))
		return false;
	if (*end) {
		unit = strchr(units, *end);
		if (!unit || end[1])
			return false;
		x *= (double)(1ull << (10 * (unit - units + 1)));
	}
	*out = (u64)x;
	return x < 1e18;
}

static bool to_u32(const struct key *k, const char *v, u32 *out)
{
	char *end;
	unsigned long x = strtoul(v, &end, 10);

	*out = (u32)x;
	return end != v && !*end && *v != '-' && (double)x >= k->least &&
	       (double)x <= k->most;
}

static bool to_name(const char *const *names, const char *v, u32 *out)
{
	for (*out = 0; names[*out]; ++*out)
		if (!strcmp(names[*out], v))
			return true;
	return false;
}

static bool to_text(struct sim_setup *s, const char *v, const char **out)
{
	char *copy = strdup(v);
	u32 i;

	if (!copy)
		return false;
	/* In the place of what it was before, if that was one. */
	for (i = 0; i < s->nr_texts && s->texts[i] != *out; i++)
		;
	if (i == ARRAY_SIZE(s->texts)) {
		free(copy);
		return false;
	}
	if (i < s->nr_texts)
		free(s->texts[i]);
	else
		s->nr_texts++;
	s->texts[i] = copy;
	*out = copy;
	return true;
}

static void set_model(struct sim_setup *s, u32 i)
{
	s->fleet.shape = &shapes[i];
	s->fleet.law = laws[i];
}

static bool set(struct sim_setup *s, const struct key *k, const char *v)
{
	void *at = (char *)s + k->at;
	u32 i;

	switch (k->value) {
	case V_U32:
		return to_u32(k, v, at);
	case V_BYTES:
		return to_bytes(v, at);
	case V_RATE:
		return to_double(k, v, at);
	case V_DIST:
		if (!dist_parse(v, at))
			return false;
		*(at == &s->work.input ? &s->work.has_input
				       : &s->work.has_output) = true;
		return true;
	case V_BOOL:
		*(bool *)at = !strcmp(v, "yes");
		return *(bool *)at || !strcmp(v, "no");
	case V_TEXT:
		return to_text(s, v, at);
	case V_NAME:
		if (!to_name(k->names, v, &i))
			return false;
		if (k->names == models)
			set_model(s, i);
		else
			*(u32 *)at = i;
		return true;
	}
	return false;
}

int setup_set(struct sim_setup *s, const char *key, const char *value,
	      char *err)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(keys[i].name, key) != 0)
			continue;
		if (set(s, &keys[i], value))
			return 0;
		return err_set(err, -EINVAL, "\"%s\" is no value of %s (%s)",
			       value, key, keys[i].what);
	}
	return err_set(err, -EINVAL, "there is nothing called \"%s\" to choose",
		       key);
}

int setup_choose(struct sim_setup *s, const char *text, char *err)
{
	char *own = strdup(text), *rest = own, *word, *value;
	int rc = own ? 0 : err_set(err, -ENOMEM, "no memory");

	while (!rc && (word = strsep(&rest, " "))) {
		value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		rc = value ? setup_set(s, word, value, err)
			   : err_set(err, -EINVAL,
				     "what is \"%s\"? (KEY=VALUE)", word);
	}
	free(own);
	return rc;
}

int setup_run(const struct sim_setup *s, struct fleet_result *r, char *err)
{
	struct fleet_cfg cfg = s->fleet;
	struct work w = { 0 };
	int rc;

	memset(r, 0, sizeof(*r));
	cfg.world.seed = s->work.seed;
	if (s->work.rate < 1e-3 && s->work.kind != WORK_TRACE)
		return err_set(err, -EINVAL, "a rate of %g is too low",
			       s->work.rate);
	rc = work_make(&s->work, &w, err);
	if (!rc)
		rc = fleet_run(&cfg, &w, r, err);
	if (!rc && r->faults)
		rc = err_set(err, -EIO, "%u faults in the books", r->faults);
	work_fini(&w);
	return rc;
}

void setup_init(struct sim_setup *s)
{
	*s = (struct sim_setup){
		.fleet = {
			.world = { .device_bytes = 512ull << 20,
				   .swap_bps = { 3e9, 1e9 },
				   .swap_ns = { 20 * WORLD_US,
						150 * WORLD_US } },
			.engine = { .step_tokens = 256,
				    .max_seqs = 64,
				    .prefix_cache = true },
			.nr_engines = 1,
			.context = 8192,
			.most_s = 1e6,
		},
		.work = { .kind = WORK_SHAREGPT,
			  .nr = 1000,
			  .seed = 1,
			  .rate = 1,
			  .burstiness = 1,
			  .turns = 4,
			  .branch = 4,
			  .depth = 3,
			  .think = 5,
			  .block_len = 512 },
	};
	set_model(s, 0);
}

void setup_fini(struct sim_setup *s)
{
	while (s->nr_texts)
		free(s->texts[--s->nr_texts]);
}
