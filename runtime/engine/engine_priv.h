/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_ENGINE_PRIV_H
#define RUNTIME_ENGINE_ENGINE_PRIV_H
/*
 * engine_priv.h - the engine's state, shared by the files of its folder
 */
#include <errno.h>

#include "lib/clock.h"
#include "runtime/engine/budget.h"
#include "runtime/engine/commit.h"
#include "runtime/engine/cost.h"
#include "runtime/engine/engine.h"

/* A row that wants logits: position @pos of @seq, which is at ids[pos]. */
struct out_row {
	struct seq *seq;
	u32 pos;
};

/* The flat batch of a step, see batch.c. */
struct batch {
	struct forward_seq *seqs; /* [nr_seqs of max_seqs] */
	u32 *ids; /* [nr_rows of step_tokens] */
	struct out_row *out; /* [nr_out of step_tokens] */
	u32 *out_rows; /* [nr_out] which row each is */
	u32 nr_seqs, nr_rows, nr_out;
};

/* A sequence when the step at hand has ended. */
struct seq_after {
	u32 pos; /* it computes from there */
	u32 need; /* tokens that it could compute; 0: it has ended */
	u32 len; /* tokens that it has */
	bool again;
};

/* A sequence of the step after this one. */
struct plan_row {
	struct request *req; /* NULL: it has been freed */
	u32 k; /* which of its sequences it is then */
	u32 need; /* tokens that it could compute */
	bool late; /* it, or its space, is not there yet */
	u32 fork; /* the space that it will have, if that is there already */
};

/* The step after this one, see plan.c. */
struct plan {
	bool made;
	bool full; /* of those that decode, for want of room */
	u64 nr_joined; /* the engine's when it was made */
	struct plan_row *rows; /* [nr of max_seqs] */
	struct seq **seqs; /* [nr] when it is taken */
	struct kv_resv_item *items; /* [nr]; late: of the parent's space */
	u32 nr, nr_decodes; /* these come first, then chunks */
	u32 nr_taken; /* of nr_decodes, by plan_take() */
	u32 nr_tokens, nr_late;
	u32 nr_parting; /* that can be forked before they are decided */
	u32 nr_forks; /* spaces of rows: from plan_part() to plan_rest() */
	struct batch batch;
};

/* What is known of a row of logits, valid until the next block. */
struct row_info {
	const float *logits; /* [vocab], if it is kept */
	u32 argmax;
	u32 drawn; /* by the row's own sequence, unless it is argmax */
	double lse; /* only where row_wants_lse() */
	const u32 *top_ids; /* [k of the row] in falling order */
	const float *top;
};

/* The @i-th likeliest of a row. */
static inline struct token_logprob row_token(const struct row_info *row, u32 i)
{
	return (struct token_logprob){
		row->top_ids[i],
		(float)((double)row->top[i] - row->lse),
	};
}

#define ORDER_WINDOW 128u /* of those that wait, ordered and looked at */

/* A prompt, and how many tokens it shares with the one before it. */
struct index_entry {
	struct request *r;
	u32 shared;
};

struct engine {
	const struct model *m;
	struct kern_exec *x;
	struct kv_backend *b;
	struct forward *f;
	struct sampler **samplers; /* [nr_samplers] one for each that draws */
	u32 nr_samplers;
	struct engine_opts o;
	struct engine_stats stats;
	u64 next_arrival;

	/* reqs.c; each has room for max_reqs */
	struct request **reqs; /* [nr_reqs] by priority and arrival */
	struct request **run; /* [nr_run] those of them that run */
	struct request **done; /* [nr_done] */
	u32 nr_reqs, nr_run, nr_done, max_reqs;
	u32 nr_comers; /* of reqs: they wait, and are in the next step */
	bool has_ended; /* somebody in reqs may be done */
	struct request **queue; /* [nr_queue of max_reqs] see order.c */
	u32 nr_queue;
	u64 nr_sorts; /* times that a part of it was put in order */
	struct index_entry *index; /* [nr_index of max_reqs] see index.c */
	u32 nr_index;
	u32 probe; /* a space without pages, to ask with */
	u64 probe_salt;
	bool naps; /* somebody waits for what is done elsewhere */
	u32 nr_asks; /* of the pager, for those that wait for it */
	u64 nr_looks; /* at the queue */
	bool admit_hold; /* after a preemption, until somebody finishes */
	u32 admit_cap; /* sequences that memory seems to be enough for */
	struct commit_item *commit; /* [max_seqs + 1] */
	struct commit_event *commit_ev; /* [max_seqs + 1] */
	struct budget budget; /* with a target of time only */
	bool is_profiled;
	bool turn_of_decodes; /* ENGINE_PREFILL_APART: the last had chunks */
	struct cost cost;
	enum engine_back back;
	bool has_come; /* somebody is in the step who waited */
	u64 back_bytes; /* that the next reservation has to have read */
	double asked_s; /* when they were asked for; 0: not yet */

	/* the step at hand */
	struct seq **step; /* [nr_step] */
	struct kv_resv_item *items; /* [nr_step] */
	u32 nr_step, nr_tokens, nr_chunks;
	double begun_s; /* when its computing began */
	u32 step_limit; /* tokens that prompts may fill the step up to */
	struct batch batch; /* of the first of them, until it is complete */

	/* the step after it; an errand's while is_beside */
	struct plan plan;
	u64 nr_joined; /* requests that others could not foresee */
	struct kv_resv_item *asks; /* [max_seqs] asked for ahead */
	bool is_beside; /* an errand may be under way */
	bool has_rival; /* another process had the turn before this step */

	/* one block of logits */
	struct kern_best *best; /* [step_tokens] */
	bool *keep; /* [step_tokens] */
	u32 *argmax; /* [logit_rows] of those that are kept */
	u32 *drawn; /* [logit_rows] */
	double *lse; /* [logit_rows] */
	u32 *top_ids; /* [logit_rows][max_top] */
	float *top; /* [logit_rows][max_top] */
	struct token_logprob *lps; /* [max_top] */
	u32 max_top;
	double logits_s; /* of the step at hand: not the engine's own time */
};

static inline double engine_now(const struct engine *e)
{
	if (e->o.machine)
		return e->o.machine->now(e->o.machine->ctx);

	return clock_s();
}

/* The time since @from is part of @sum; the time now. */
static inline double host_lap(double *sum, double from)
{
	double now = clock_s();

	*sum += now - from;
	return now;
}

/* The most that a sequence of it has computed: the first may have ended. */
static inline u32 request_computed(const struct request *r)
{
	u32 i, nr = 0;

	for (i = 0; i < r->nr_seqs; i++)
		nr = max(nr, r->seqs[i]->nr_computed);
	return nr;
}

/* Has a sequence of it a space, which may hold pages? */
static inline bool request_has_pages(const struct request *r)
{
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->space != KV_SPACE_NONE)
			return true;
	return false;
}

/* ---- reqs.c ---- */

/* Room for one request more. */
int __must_check reqs_reserve(struct engine *e);
/* List one that is not done; there is room. */
void reqs_add(struct engine *e, struct request *r);
/* Take one out of whichever list it is in. */
bool reqs_remove(struct engine *e, const struct request *r);
/* Between two steps: who is done leaves the list of the others. */
void reqs_tidy(struct engine *e);
/* What becomes of a listed one; nobody else sets its state. */
void reqs_set_state(struct engine *e, struct request *r,
		    enum request_state state);
/* One that waits is in the next step, or is not any more. */
void reqs_set_comes(struct engine *e, struct request *r, bool comes);

/* ---- sched.c ---- */

/* Fill step and items; a nr_step of 0 means that nobody has work. */
void sched_pick(struct engine *e);
/* What is in the step at hand. */
void sched_load(const struct engine *e, struct law_load *l);
/* Ask for the pages of the step after this one, of which there is no plan. */
void sched_prefetch(struct engine *e);
/* Tokens that a sequence could compute now. */
u32 sched_need(const struct seq *s);
/* The same when the step at hand has ended, if it ends as can be foreseen. */
struct seq_after sched_after(const struct engine *e, const struct seq *s);
/* Let others find what a sequence has computed; @resume: and go on there. */
void sched_publish(struct engine *e, const struct seq *s, bool resume);
/* Give back a sequence's space, if it has one. */
void sched_drop_space(struct engine *e, struct seq *s);
/*
 * The request is done; spaces are freed but for what it keeps. As a member of a
 * batch that others are in it is held until sched_finish_batch().
 */
void sched_finish(struct engine *e, struct request *r);
/* Around a step: if all members of a batch have ended, they are done. */
void sched_finish_batch(struct engine *e);
void __printf(4, 5) sched_fail(struct engine *e, struct request *r, int rc,
			       const char *fmt, ...);
/* After a resumed prompt: fork it for the sequences without a space. */
void sched_share_prompt(struct engine *e, struct request *r);

/*
 * What a step with @taken tokens takes of @s, which misses @a; @is_first: there
 * is no other chunk in it. What is computed again is taken up to a page's end;
 * if that is too far, not at all but as the first chunk.
 */
u32 sched_room(const struct engine *e, const struct seq *s,
	       const struct seq_after *a, u32 taken, bool is_first);
/* Take a request's sequences that miss one token into the step, or more. */
void sched_take(struct engine *e, struct request *r, bool decode);
/* Sequences that a request has, or will have. */
u32 sched_nr_live(const struct request *r);
/* The sequence that computes the prompt, and whether others wait for it. */
struct seq *sched_leader(const struct request *r, bool *others_wait);
/* Sequences that run. */
u32 sched_running(const struct engine *e);
/* Free its pages, whatever becomes of it. */
void sched_drop_pages(struct engine *e, struct request *r);

/* ---- batch.c ---- */

/* -ENOMEM: batch_fini() frees what there is. */
int __must_check batch_init(struct batch *b, u32 seqs, u32 tokens);
void batch_fini(struct batch *b);
/* Rows with logits of @nr from position @pos on, of a sequence of @len. */
u32 batch_rows(const struct seq *s, u32 pos, u32 nr, u32 len);
/* @nr rows of @s at @pos, when it has @len tokens. */
void batch_add(const struct engine *e, struct batch *b, struct seq *s, u32 pos,
	       u32 nr, u32 len);
/* Only the first @nr sequences stay. */
void batch_cut(struct batch *b, u32 nr);
/* Whose rows they are is known, and where their pages are. */
void batch_seat(const struct engine *e, struct batch *b,
		struct seq *const *seqs);
/* All of the step is in it, with all ids. */
void batch_complete(const struct engine *e, struct batch *b);

/* ---- plan.c ---- */

int __must_check plan_init(struct engine *e);
void plan_fini(struct engine *e);
/* What the next step will be; false: that cannot be said. */
bool plan_make(struct engine *e);
/* Its pages are asked for. */
void plan_ask(struct engine *e);
/*
 * The step is committed: spaces are forked for those that are about to share a
 * prompt, and their pages are asked for. Until plan_rest() they are the plan's.
 */
void plan_part(struct engine *e);
/* The space that the @k-th sequence of @r is to have; false: there is none. */
bool plan_fork(struct engine *e, const struct request *r, u32 k, u32 *space);
/* All is decided: who was not forked after all has no space. */
void plan_rest(struct engine *e);
/*
 * Who decodes in the step at hand is as planned, or has ended; false: it is not
 * so, or there is no plan.
 */
bool plan_take(struct engine *e);
/* Behind them chunks have been taken: what was planned of these stays. */
void plan_keep(struct engine *e);
/* A request is freed. */
void plan_forget(struct engine *e, const struct request *r);

/* ---- ahead.c ---- */

/* The turn to compute, and what is done beside the step begins. */
void ahead_begin(struct engine *e);
/* Before anything is decided: what ahead_receive() would do is done. */
void ahead_part(struct engine *e);
/*
 * While logits are computed: memory that was asked for ahead is mapped, and who
 * will share a prompt is forked.
 */
void ahead_receive(struct engine *e);
/* What was begun has ended. */
void ahead_end(struct engine *e);

/* ---- preempt.c ---- */

/* Reserve the pages of the step, preempting as needed; 0 or -errno. */
int __must_check sched_reserve(struct engine *e, char *err);
/* It waits, with the pages that it has. */
void sched_pause(struct engine *e, struct request *r);
/* Take a request's sequences out of the step; NULL: those that have ended. */
void sched_untake(struct engine *e, const struct request *r);
/* Free the request's spaces and let it wait to be computed again. */
void sched_preempt(struct engine *e, struct request *r);
/* The same where memory is not short: what it had is lost. */
void sched_restart(struct engine *e, struct request *r);
/* A chunk of it has been computed: the next one may be larger again. */
void sched_fitted(struct engine *e, struct request *r);
/* A sequence has ended: its answer is published, its space goes. */
void sched_drop_ended(struct engine *e, struct seq *s);
/* Free requests' pages until so many bytes have been, and give them back. */
void sched_give_back(struct engine *e, u64 bytes);
/* Bytes of its pages, wherever they are. */
u64 sched_bytes_of(const struct engine *e, const struct request *r);
/* Bytes of them on the device that come free when it goes. */
u64 sched_private_of(const struct engine *e, const struct request *r);

/* ---- commit.c ---- */

/* May it come in, by what those that run are committed already? */
bool commit_allows(struct engine *e, const struct request *r);
/* What they hold and may come to hold, for the statistics. */
void commit_account(struct engine *e);

/* ---- profile.c ---- */

/* Before the first step: what steps of some sizes take. */
void profile_run(struct engine *e);

/* ---- step_log.c ---- */

/* The step at hand has ended; so many of its tokens are of prompts. */
void step_log(const struct engine *e, u64 prefill);

/* ---- admit.c ---- */

/* Those who were asked for: their pages came while the last step computed. */
void admit_comers(struct engine *e);
/* Sequences of theirs: they have a place in the next step. */
u32 admit_coming(const struct engine *e);
/* Waiting requests, as far as the step and memory have room. */
void admit_waiting(struct engine *e);

/* ---- order.c ---- */

/* Fill the queue with those that wait, first the one to be admitted first. */
void order_waiting(struct engine *e);
/* The same for queue[from] and what follows, of which less is hoped for. */
void order_rest(struct engine *e, u32 from);
/* Ask what those that wait would find, before they are put in order. */
void order_ahead(struct engine *e);
/* It waits for another one's prefix: others come in before it. */
void order_let_by(struct request *r);
/* It came in: who arrived before it and waits has been overtaken. */
void order_admitted(struct engine *e, struct request *r, bool by_turn);
/* Is the queue of the last step in order, and nobody overtaken too often? */
int __must_check order_check(const struct engine *e, char *err);

/* ---- index.c ---- */

int __must_check index_grow(struct engine *e, u32 cap);
void index_add(struct engine *e, struct request *r);
/* Nothing happens if it is not there. */
void index_remove(struct engine *e, const struct request *r);

/* A way through those that share @least tokens or more with a request. */
struct index_walk {
	u32 at, to, least;
	u32 shared; /* with the one that was last returned */
	bool down;
};

struct index_walk index_from(const struct engine *e, const struct request *r,
			     u32 least);
struct request *index_next(const struct engine *e, struct index_walk *w);

/* ---- twins.c ---- */

/* One more than the tokens that a sequence may begin with by mapping them. */
u32 twins_nr(const struct seq *s);
/* Ask what is published of a request's prompt. */
void twins_ask(struct engine *e, struct request *r);
/*
 * May queue[*at] come in, or does it wait for another one's prefix? If others
 * should come before it after all they take its place, and *at is one less.
 */
bool twins_may_come(struct engine *e, u32 *at);
/* Tell others what @s will compute; false: somebody was faster, wait. */
bool twins_announce(struct engine *e, struct request *r, struct seq *s);
/* Nothing is kept to ask with. */
void twins_rest(struct engine *e);
/* Nobody computes: let time pass if what is waited for is elsewhere. */
void twins_nap(struct engine *e);
/* Of @nr tokens to be computed from @pos on: up to where windows are kept. */
u32 twins_cut(const struct engine *e, const struct seq *s, u32 pos, u32 nr);
/* Publish what @s has computed. */
void twins_publish(struct engine *e, const struct seq *s, bool resume);

/* ---- back.c ---- */

/* Bytes of a request that would have to be read back. */
u64 back_out_of(const struct engine *e, const struct request *r);
/* Would it cost less to read @bytes of a request's than to compute them? */
bool back_prefers_swap(struct engine *e, const struct request *r, u64 bytes);
/*
 * A request is to be in a step again: what of it has left the device is read
 * back or computed, or in part the one and in part the other.
 */
void back_plan(struct engine *e, struct request *r);
/* The step after this one wants @s at @pos: its pages are asked for now. */
void back_ask(struct engine *e, const struct seq *s, u32 pos);
/* Around the step's reservation, which took from @start_s to now. */
void back_begin(struct engine *e);
void back_end(struct engine *e, double start_s);

/* ---- turns.c ---- */

/* It is in steps from now on. */
void turns_begin(struct engine *e, struct request *r);
/* A sequence of it has been computed up to @nr tokens. */
void turns_reach(struct engine *e, struct request *r, u32 nr);
/* Whose turn is over waits, and who waited for it comes with the next step. */
void turns_pass(struct engine *e);
/* Who gives way when a step is short, if its turn is over. */
struct request *turns_victim(const struct engine *e);

/* ---- decide.c ---- */

/* Logits of the step's rows, and what follows from them. */
void decide(struct engine *e);
bool decide_is_end(const struct engine *e, const struct request *r, u32 id);

/* ---- beam.c ---- */

/* Continuations that a beam looks at: 2n, so that n are left if n end. */
u32 beam_width(const struct engine *e, const struct request *r);
/* A beam's row: remember its best continuations. */
void beam_row(struct engine *e, struct seq *s, const struct row_info *row);
/* If every beam of the request has them: the next generation. */
void beam_advance(struct engine *e, struct request *r);

#endif
