/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_SAMPLER_H
#define RUNTIME_ENGINE_SAMPLER_H
/*
 * sampler.h - from a row of logits to a token
 *
 * In this order: penalties, biases, temperature, min-p, top-k, top-p, one
 * random number. The number is a function of (seed, stream, position), so what
 * a sequence draws depends neither on the batch around it nor on how often it
 * was recomputed.
 */
#include "kv/types.h"

/* Added to a token's logit; -INFINITY: it is never chosen. */
struct sampling_bias {
	u32 id;
	float bias;
};

struct sampling {
	float temperature; /* 0: the most likely token */
	float top_p; /* in (0, 1], 1 = off */
	float min_p; /* in [0, 1), of the most likely one, 0 = off */
	float repetition; /* > 0, 1 = off: prompt and output */
	float presence, frequency; /* 0 = off: output only */
	u32 top_k; /* 0 = off */
	u64 seed;
	/* both lists are the caller's, and outlive what is sampled with them */
	const struct sampling_bias *bias; /* [nr_bias] ids < vocab */
	const u32 *ends; /* [nr_ends] not chosen below min_new of output */
	u32 nr_bias, nr_ends;
	u32 min_new;
};

#define SAMPLING_GREEDY                           \
	{                                         \
		.top_p = 1.0f, .repetition = 1.0f \
	}

/* What has been said: penalties look at it. */
struct sampler_history {
	const u32 *ids; /* [nr], each < vocab */
	u32 nr;
	u32 nr_prompt; /* the first so many are the prompt */
};

struct sampler;

/* sampler_check - NULL, or the sentence that says which value is wrong */
const char *sampler_check(const struct sampling *p);

int __must_check sampler_create(u32 vocab, struct sampler **out);
void sampler_free(struct sampler *s);

/* Does this need the row at all, or only its largest entry? */
bool sampler_is_argmax(const struct sampling *p);

/**
 * sampler_pick - choose the token at position h->nr
 * @logits: [vocab], unchanged; not finite values are never chosen
 * @stream: tells parallel samples of one seed apart
 */
u32 sampler_pick(struct sampler *s, const struct sampling *p,
		 const float *logits, const struct sampler_history *h,
		 u64 stream);

#endif
