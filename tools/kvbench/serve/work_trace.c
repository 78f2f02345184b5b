/* SPDX-License-Identifier: MIT */
/*
 * work_trace.c - requests of a trace, at its times or at another rate
 *
 * A line is an object with timestamp (ms), input_length, output_length and
 * hash_ids, which name the blocks of 512 tokens that the prompt consists of,
 * the last one perhaps shorter. A block of another length scales all prompts
 * by the same factor, so that a model of a short context can be asked too;
 * what is shared stays shared.
 */
#include <errno.h>
#include <math.h>

#include "lib/hash.h"
#include "tools/kvbench/serve/lines.h"
#include "tools/kvbench/serve/work.h"

#define TRACE_BLOCK 512

static bool number(const json_t *v, const char *key, double *out)
{
	const json_t *n = json_object_get(v, key);

	*out = json_number_value(n);
	return json_is_number(n) && *out >= 0 && *out < 1e9;
}

struct load {
	const struct work_opts *o;
	struct work *w;
	double first; /* timestamp */
};

static int take_request(void *ctx, const json_t *v)
{
	struct load *l = ctx;
	const struct work_opts *o = l->o;
	struct work *w = l->w;
	json_t *ids = json_object_get(v, "hash_ids"), *id;
	double t, input, output, factor = (double)o->block_len / TRACE_BLOCK;
	struct bench_rng r = { .s = hash_add(o->seed, w->nr) };
	u32 left, n;
	size_t i;

	if (!number(v, "timestamp", &t) || !number(v, "input_length", &input) ||
	    !number(v, "output_length", &output) || !json_is_array(ids))
		return -EINVAL;
	if (!w->nr)
		l->first = t;
	left = (u32)max(1.0, floor(input * factor));
	work_add(w, w->nr, WORK_NONE, max(0.0, t - l->first) / 1000,
		 o->has_output ? dist_draw(&o->output, &r)
			       : (u32)max(1.0, output));
	json_array_foreach(ids, i, id)
	{
		n = min(left, o->block_len);
		work_say(w, SEGMENT_USER,
			 hash_add(o->seed, (u64)json_integer_value(id)), n);
		left -= n;
	}
	/* More tokens than blocks: a tail that nobody shares. */
	work_say(w, SEGMENT_USER, hash_add(~o->seed, w->nr), left);
	return w->failed || w->nr == o->nr;
}

/* Trace time is stretched so that requests come at the rate asked for. */
static void stretch(const struct work_opts *o, struct work *w)
{
	double last = w->request[w->nr - 1].due, factor = 0;
	u32 i;

	if (isfinite(o->rate) && last > 0)
		factor = w->nr / o->rate / last;
	for (i = 0; i < w->nr; i++)
		w->request[i].due *= factor;
}

int work_trace(const struct work_opts *o, struct work *w, char *err)
{
	struct load l = { .o = o, .w = w };
	int rc = lines_load(o->trace, "request of a trace", false, take_request,
			    &l, err);

	if (!rc && !w->failed && o->rate > 0)
		stretch(o, w);
	w->is_timed = true;
	return rc;
}
