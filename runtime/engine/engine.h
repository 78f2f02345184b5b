/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_ENGINE_H
#define RUNTIME_ENGINE_ENGINE_H
/*
 * engine.h - continuous batching of requests over one model
 *
 * engine_step() runs one step: it takes one token of every decoding sequence
 * and fills the rest of the step with chunks of prompts, in order of priority
 * and arrival; reserves the pages of all of them at once; computes; and decides
 * the next tokens. Requests come and go between steps. One thread owns an
 * engine.
 */
#include <stdio.h>

#include "kv/errbuf.h"
#include "runtime/engine/kv_backend.h"
#include "runtime/engine/law.h"
#include "runtime/engine/request.h"
#include "runtime/model/forward.h"

struct vocab;

/* What becomes of the pages of a request that gives way. */
enum engine_preempt {
	/* they stay, idle, as long as there is room for them in swap */
	ENGINE_PREEMPT_SWAP,
	/* they are freed, and computed again later */
	ENGINE_PREEMPT_RECOMPUTE,
	/*
	 * Nobody gives way: who finds no page waits for one, with its own. With
	 * ENGINE_ADMIT_STRICT that is never for ever.
	 */
	ENGINE_PREEMPT_NONE,
};

/* When requests join and leave. */
enum engine_batching {
	ENGINE_BATCH_ITERATION, /* between any two steps */
	/*
	 * As engines did before Orca, to compare with: a batch is formed when
	 * there is none, and is done when the last of it is.
	 */
	ENGINE_BATCH_REQUEST,
};

/* How prompts come into steps; all but the first to compare with. */
enum engine_prefill {
	ENGINE_PREFILL_CHUNKED, /* what decodes leave of the budget */
	/* one whose rest does not fit into the step waits for the next */
	ENGINE_PREFILL_WHOLE,
	/* chunks and decodes take turns: no step has both */
	ENGINE_PREFILL_APART,
};

/* What an admitted request is counted for: see commit.c. */
enum engine_admit {
	ENGINE_ADMIT_OVERCOMMIT, /* nothing, and who is short gives way */
	ENGINE_ADMIT_PEAK, /* what all hold when they hold most */
	ENGINE_ADMIT_STRICT, /* the longest that it may become */
};

/* In which order those that wait come in; see order.c. */
enum engine_order {
	ENGINE_ORDER_LPM, /* who finds most of its prompt published */
	ENGINE_ORDER_DFS, /* a subtree of the prompts at a time */
	ENGINE_ORDER_FCFS, /* by arrival; without prefix_cache always */
	ENGINE_ORDER_NR
};

/* Where pages come from that have left the device meanwhile. */
enum engine_back {
	ENGINE_BACK_CHEAPER, /* by the measured rates, or in part from both */
	ENGINE_BACK_READ,
	ENGINE_BACK_COMPUTE,
};

/**
 * struct engine_machine - what computes instead of kernels, in its own time
 * @now: seconds, never less than before
 * @run: computes a step; 0 or -errno
 * @token: the one that follows the last of @s
 * @nap: some time passes, until others may have published something; NULL:
 *	others live in real time
 * @ctx: theirs
 *
 * A simulator's: the engine decides all but what the numbers are, of requests
 * that are greedy, are neither scored nor beams, and want no alternatives.
 */
struct engine_machine {
	double (*now)(void *ctx);
	int (*run)(void *ctx, const struct forward_batch *b);
	u32 (*token)(void *ctx, const struct seq *s);
	void (*nap)(void *ctx);
	void *ctx;
};

struct engine_opts {
	u32 step_tokens; /* most tokens of a step; 0: 512 */
	/*
	 * Milliseconds from one token of a sequence to its next: the budget of
	 * a step is found and kept for that (budget.h). 0: it is step_tokens.
	 */
	u32 tbt_slo_ms;
	u32 max_seqs; /* sequences with a space; 0: 256 */
	u32 logit_rows; /* rows of logits held at a time; 0: 64 */
	u32 context; /* 0: the model's */
	/* how long a request alone waits for memory; 0: 30000 */
	u32 wait_ms;
	/*
	 * A request that waited so long for memory has its turn, and one that
	 * runs waits; 0: 700. Only where its pages can go to swap.
	 */
	u32 slice_ms;
	enum engine_preempt preempt;
	enum engine_batching batching;
	enum engine_prefill prefill;
	enum engine_admit admit;
	bool prefix_cache; /* map what is published, publish what is computed */
	/*
	 * A prefix is mapped up to a multiple of so many tokens, as a cache of
	 * hashed blocks would; 0: to the token.
	 */
	u32 prefix_unit;
	enum engine_order order;
	/* later arrivals that may be admitted before a request; 0: 256 */
	u32 overtake_max;
	/* a request waits so long for one that does not get on; 0: 2000 */
	u32 twin_ms;
	const struct vocab *vocab; /* for end tokens; NULL: there are none */
	const struct engine_machine *machine; /* NULL: the kernels */
	bool one_by_one; /* nothing is done beside a step; to compare with */
	FILE *steps; /* the caller's: a line of JSON for each; or NULL */
};

struct engine_stats {
	u64 nr_steps;
	u64 nr_prefill; /* prompt tokens computed, again ones included */
	u64 nr_decode; /* tokens generated */
	u64 nr_preempted; /* requests */
	u64 nr_paused; /* of them with their pages left to swap */
	u64 nr_turns; /* requests that waited for others' turn */
	u64 nr_cheaper; /* requests computed again because that is cheaper */
	u64 nr_split; /* of which a part was, and the other one read */
	u64 nr_read; /* bytes of swapped pages that came back for steps */
	u64 nr_again; /* tokens computed again rather than read */
	u64 nr_lost; /* requests of which kvmd has lost pages */
	u64 nr_given; /* requests whose pages others wanted */
	u64 nr_waits; /* steps that waited for memory */
	u64 nr_stale; /* steps whose memory was revoked */
	u64 nr_copied; /* pages' runs copied on write */
	u64 nr_mapped; /* tokens that did not have to be computed */
	u64 nr_put_off; /* steps in which commit accounting let nobody in */
	u64 nr_stalled; /* steps in which nobody found a page */
	u64 nr_planned; /* steps in which who decodes is as was planned */
	u64 nr_replanned; /* that were planned otherwise */
	u64 nr_planned_chunks; /* chunks that were as planned */
	u64 nr_twins; /* requests that waited for another one's prefix */
	u32 max_overtaken; /* later arrivals that were admitted before one */
	u32 max_running; /* most sequences in one step */
	struct law_load load; /* of the last step */
	double load_s; /* that it took */
	double compute_s; /* in kernels */

	/* while the last step computed: bytes of pages */
	u64 resident; /* of the requests that run */
	u64 committed; /* that they may come to hold; see engine_admit */
	u64 limit; /* that this client may have; ~0: nothing limits it */

	/* of the budget: budget.h */
	u32 budget; /* tokens of the last step at most */
	u64 nr_budget_moves;
	struct law law; /* of steps, as far as it is known */
	double budget_noise;

	/*
	 * Seconds of the engine's own work in all steps, between what the steps
	 * compute: who is in the step; the reservation, waiting included;
	 * tables and the flat batch; the errand's begin and end, or all that it
	 * would do where there is none; the commit, and what is published; all
	 * of decide() but the logits.
	 */
	double host_pick_s, host_reserve_s, host_batch_s, host_ahead_s,
		host_commit_s, host_decide_s;
	double host_beside_s; /* while steps computed: ahead.c */
};

/**
 * engine_create - an engine without requests
 * @m: network, @x: kernels and threads, @b: pages; all outlive the engine
 * @opts: NULL for the defaults
 * @out: on success only
 * @err: KV_ERRLEN bytes
 */
int __must_check engine_create(const struct model *m, struct kern_exec *x,
			       struct kv_backend *b,
			       const struct engine_opts *opts,
			       struct engine **out, char *err);
/* Requests that are left are freed, their done event is not called. */
void engine_destroy(struct engine *e);

/**
 * engine_submit - queue a request
 * @p: copied, with the prompt
 * @out: the engine's until engine_forget()
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, -EINVAL for a token that is not in the vocabulary, a prompt that
 * is empty or longer than the context, a bad number; -ENOMEM.
 */
int __must_check engine_submit(struct engine *e, const struct request_params *p,
			       struct request **out, char *err);

/**
 * engine_extend - let a request that is done go on with another prompt
 * @r: done, of kind REQUEST_GENERATE with n = 1, submitted with keep
 * @ids: the whole new sequence; what it has in common with the old one from
 *	the start is not computed again
 * @max_new: tokens to generate
 *
 * Return: as engine_submit().
 */
int __must_check engine_extend(struct engine *e, struct request *r,
			       const u32 *ids, u32 nr, u32 max_new, char *err);

/* engine_set_back - from the next request that comes back on */
void engine_set_back(struct engine *e, enum engine_back back);

/* End a request as it is: it is done at once, spaces are freed but if it keeps
 * them.
 */
void engine_cancel(struct engine *e, struct request *r);
/* End one sample of a request that generates; the others go on. Of one whose
 * prompt is not computed yet there are none.
 */
void engine_cancel_seq(struct engine *e, struct request *r, u32 seq);
/* Free a request that is done. */
void engine_forget(struct engine *e, struct request *r);

/**
 * engine_step - run one step
 * @err: KV_ERRLEN bytes
 *
 * What concerns one request only ends that request (FINISH_FAILED) and is no
 * error here.
 *
 * Return: 1 there is more to do, 0 every request is done, -EINTR the stop word
 * is set (call again when it is not), another -errno the engine cannot go on
 * (kvmd is gone).
 */
int __must_check engine_step(struct engine *e, char *err);

/**
 * engine_give_back - memory is wanted by others
 * @e: between two steps
 * @bytes: how much
 *
 * Pages go that are kept for later, then those of requests that wait, then of
 * the latest arrivals, which are computed again; of none that has no page on
 * the device. It is asked for again if that was not enough: pages of others
 * may lie between.
 */
void engine_give_back(struct engine *e, u64 bytes);

const struct engine_stats *engine_stats(const struct engine *e);
/* engine_running - requests that run; of any length of the queue at once */
u32 engine_running(const struct engine *e);

/**
 * engine_check - is what the engine keeps right? For tests, between two steps
 * @err: KV_ERRLEN bytes; the sentence
 *
 * The lists and their order; that steps and commitments keep to their limits;
 * and that nobody was overtaken: of two requests of one priority the earlier
 * one has been in at least as many steps, if neither had to give way, came by a
 * turn or waited for another one's prefix. Where those that wait are put in
 * another order than that of their arrival (engine_order): that they stand in
 * that one, by arrival where it says nothing, and that no later arrivals than
 * overtake_max came in before one.
 *
 * Return: 0 or -EINVAL.
 */
int __must_check engine_check(const struct engine *e, char *err);

#endif
