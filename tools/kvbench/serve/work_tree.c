/* SPDX-License-Identifier: MIT */
/*
 * work_tree.c - prompts that share in trees: examples, thoughts, turns
 *
 *	fewshot		preamble - examples of a task - question
 *	tot		problem - step - answer - step - answer ...
 *	chat		system prompt - turn - answer - turn - answer ...
 *
 * A step of tot is asked for when the step before it has answered; a turn of
 * chat, after some time that its user thinks.
 */
#include <math.h>
#include "tools/kvbench/serve/work.h"

#define SHOTS	 5
#define SHOT_LEN 60
#define STEP_LEN 8 /* what tells the branches of a thought apart */

void work_fewshot(const struct work_opts *o, struct work *w)
{
	struct bench_rng r = { .s = o->seed ^ 0xa54ff53au };
	u64 top = work_name(&r), task;
	u32 i, k;

	for (i = 0; i < o->nr && !w->failed; i++) {
		work_add(w, i, WORK_NONE, 0, dist_draw(&o->output, &r));
		work_say(w, SEGMENT_SYSTEM, top, o->prefix_len);
		task = top + 1 + bench_rand(&r) % o->nr_prefixes * SHOTS;
		for (k = 0; k < SHOTS; k++)
			work_say(w, SEGMENT_SYSTEM, task + k, SHOT_LEN);
		work_say(w, SEGMENT_USER, work_name(&r),
			 dist_draw(&o->input, &r));
	}
}

/* The requests of one tree, level by level; the last level's begin at @from. */
static void tot_tree(const struct work_opts *o, struct work *w, u32 session,
		     struct bench_rng *r)
{
	u64 problem = work_name(r);
	u32 len = dist_draw(&o->input, r), from = w->nr, to, parent, level, b;

	for (b = 0; b < o->branch && w->nr < o->nr && !w->failed; b++) {
		work_add(w, session, WORK_NONE, 0, dist_draw(&o->output, r));
		work_say(w, SEGMENT_USER, problem, len);
		work_say(w, SEGMENT_USER, work_name(r), STEP_LEN);
	}
	for (level = 1; level < o->depth; level++) {
		to = w->nr;
		for (parent = from; parent < to; parent++) {
			for (b = 0; b < o->branch && w->nr < o->nr; b++) {
				work_add(w, session, parent, 0,
					 dist_draw(&o->output, r));
				work_quote(w, parent);
				work_say(w, SEGMENT_USER, work_name(r),
					 STEP_LEN);
				if (w->failed)
					return;
			}
		}
		from = to;
	}
}

void work_tot(const struct work_opts *o, struct work *w)
{
	struct bench_rng r = { .s = o->seed ^ 0x510e527fu };
	u32 session = 0;

	while (w->nr < o->nr && !w->failed)
		tot_tree(o, w, session++, &r);
}

void work_chat(const struct work_opts *o, struct work *w)
{
	struct bench_rng r = { .s = o->seed ^ 0x9b05688cu };
	u64 system = work_name(&r);
	u32 session, turn, last = WORK_NONE;

	for (session = 0; w->nr < o->nr && !w->failed; session++) {
		for (turn = 0; turn < o->turns && w->nr < o->nr; turn++) {
			double think = -log(1 - bench_uniform(&r)) * o->think;
			u32 output = dist_draw(&o->output, &r);

			if (turn) {
				work_add(w, session, last, think, output);
				work_quote(w, last);
			} else {
				work_add(w, session, WORK_NONE, 0, output);
				work_say(w, SEGMENT_SYSTEM,
					 system + bench_rand(&r) %
							  o->nr_prefixes,
					 o->prefix_len);
			}
			work_say(w, SEGMENT_USER, work_name(&r),
				 dist_draw(&o->input, &r));
			if (w->failed)
				return;
			last = w->nr - 1;
		}
	}
}
