/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_REQUEST_H
#define RUNTIME_ENGINE_REQUEST_H
/*
 * request.h - what a caller asks of the engine, and its sequences
 *
 *	waiting -> running -> done
 *	   ^          |
 *	   +----------+  gave way: with its pages, which may leave the device
 *			 and come back, or without, then it is computed again
 *
 * A request owns its sequences. A sequence knows its ids (prompt and
 * generated) and how many of them have K and V in its space; it has work as
 * long as the second number is smaller. A sequence without a space has
 * computed nothing. Parallel samples begin as one sequence and are forked
 * when the prompt is done; beams are forked and freed at every token.
 */
#include "kv/types.h"
#include "runtime/engine/sampler.h"

struct engine;
struct request;

enum request_kind {
	REQUEST_GENERATE, /* n independent samples */
	REQUEST_BEAM, /* n beams */
	REQUEST_SCORE, /* log-probability of each next prompt token */
};

enum request_state {
	REQUEST_WAITING,
	REQUEST_RUNNING,
	REQUEST_DONE,
};

enum finish_reason {
	FINISH_NONE, /* not finished */
	FINISH_STOP, /* an end token */
	FINISH_LENGTH, /* as many as asked for, or the context is full */
	FINISH_FAILED, /* request.error says why */
};

struct token_logprob {
	u32 id;
	float logprob;
};

/*
 * All optional; called from engine_step() on the engine's thread. They may
 * submit and cancel, but not forget a request. What they are shown of a token
 * is right until they submit.
 */
struct request_events {
	/* it is admitted, and has pages from now on; not again after a pause */
	void (*begun)(struct request *r, void *ctx);
	/* a token of sequence @seq was decided; never for beams */
	void (*token)(struct request *r, u32 seq, u32 id, void *ctx);
	/* @lp of the prompt's token @pos, and the most likely one there */
	void (*score)(struct request *r, u32 pos, double lp, u32 best,
		      void *ctx);
	/* of a generation with p.scores: also the alternatives there */
	void (*prompt_score)(struct request *r, u32 pos, double lp,
			     const struct token_logprob *top, void *ctx);
	void (*done)(struct request *r, void *ctx);
};

struct request_params {
	enum request_kind kind;
	const u32 *prompt; /* [nr_prompt], copied */
	u32 nr_prompt;
	u32 max_new; /* tokens to generate */
	u32 n; /* samples or beams */
	u32 nr_logprobs; /* alternatives kept per token */
	/* lower ones come first, and give way last; by arrival within one */
	s32 priority;
	bool ignore_eog;
	bool scores; /* of a generation: the prompt is scored as well */
	u32 score_from; /* of a score: the first token that wants one */
	bool keep; /* sequences keep their spaces when done */
	u64 salt; /* prefixes are shared with those of the same; 0: none */
	struct sampling sampling;
	const struct request_events *events;
	void *ctx;
};

struct seq {
	struct request *req;
	u32 index; /* which sample: the random stream */
	u32 space; /* KV_SPACE_NONE: computed nothing */
	u32 *ids; /* [nr] prompt and generated */
	u32 nr, cap;
	u32 nr_computed; /* ids with K and V in the space */
	u32 nr_mapped; /* of them, in pages of the cache when it began */
	/* [again, again_to) of them are to be computed once more */
	u32 again, again_to;
	u32 step_tokens; /* computed by the step at hand */
	enum finish_reason finish;
	double cum; /* sum of the generated ones' log-probabilities */
	struct token_logprob *lps; /* [generated][nr_logprobs] */
	/* beams: the best continuations, waiting for the other beams */
	struct token_logprob *cand; /* [2 * n] */
	bool cand_ready;
};

struct request {
	struct request_params p; /* p.prompt is not valid here */
	u64 arrival; /* order of submission */
	double since_s; /* when it began to wait, or its turn began */
	u32 far; /* most tokens that a sequence of it had computed */
	bool behind; /* it came back with less, and has not got there yet */
	double back_s; /* how long that took the last time */
	bool has_begun; /* it was admitted before */
	bool comes; /* it waits, and is in the next step */
	bool held; /* it has ended, its batch has not */
	/* others may pass it: it gave way, comes by a turn, or let them by */
	bool yields;
	u64 nr_iters, last_step; /* steps that it was in, the last of them */
	double begun_s; /* when the first of them began */
	enum request_state state;
	struct seq **seqs; /* [nr_seqs] those of beams change places */
	u32 nr_seqs, max_seqs;
	struct seq **ended; /* beams: [nr_ended] finished hypotheses */
	u32 nr_ended;
	u32 nr_cached; /* tokens of its prompt that others had computed */
	u32 nr_preempted;
	u32 fits; /* tokens of a chunk that memory had room for; 0: all */
	u32 nr_fit; /* chunks of that size since */
	/* what it would find published: see order.c and twins.c */
	bool asked;
	bool listed; /* while a queue is put in order */
	u32 match; /* tokens, at most */
	u32 crowd; /* how many wait for the token behind them */
	u32 soon, known; /* by the pager's last answer */
	u32 overtaken; /* by later arrivals: its age */
	u32 passed; /* those of them that it did not let by */
	bool lets_by; /* it could come in, and waits for another's prefix */
	/* when it was last put in order: order_check() */
	u64 sort; /* which time that was */
	u32 key, age; /* what it hoped to find; its age with those before it */
	bool twin_off; /* it waits for nobody any more */
	u64 twin_seen; /* how far the one that it waits for had got, */
	double twin_s; /* when; 0: it waits for nobody */
	bool shares; /* it has found or published a prefix */
	bool unshared; /* which left it no room: it does neither any more */
	u32 nr_restarts; /* of them because memory did not come in time */
	u64 reached; /* most tokens that it had computed then */
	int error; /* -errno of FINISH_FAILED */
	char *message; /* its sentence */
};

/* Are tokens of the prompt scored? */
static inline bool request_scores(const struct request_params *p)
{
	return p->kind == REQUEST_SCORE || p->scores;
}

/* What it said, in the order shown: samples, or beams, best first. */
static inline u32 request_nr_answers(const struct request *r)
{
	return r->p.kind == REQUEST_BEAM ? r->nr_ended : r->nr_seqs;
}

static inline const struct seq *request_answer(const struct request *r, u32 i)
{
	return r->p.kind == REQUEST_BEAM ? r->ended[i] : r->seqs[i];
}

/* Tokens generated by a sequence. */
static inline u32 seq_nr_new(const struct seq *s)
{
	return s->nr - s->req->p.nr_prompt;
}

/* The first token that it computes next. */
static inline u32 seq_pos(const struct seq *s)
{
	return s->again < s->again_to ? s->again : s->nr_computed;
}

/* Its log-probability for each token that it generated. */
static inline double seq_mean(const struct seq *s)
{
	return s->cum / max(seq_nr_new(s), 1u);
}

struct request *request_create(const struct request_params *p);
void request_destroy(struct request *r);

/* A new sequence of @r, not listed in it yet; NULL without memory. */
struct seq *seq_create(struct request *r);
/* The same ids, log-probabilities and sum; no space. */
struct seq *seq_clone(const struct seq *s);
void seq_destroy(struct seq *s);
/* Another prompt in the place of everything; -ENOMEM changes nothing. */
int __must_check seq_restart(struct seq *s, const u32 *ids, u32 nr);
/* Append a token and its alternatives ([p.nr_logprobs], or NULL). */
int __must_check seq_append(struct seq *s, u32 id,
			    const struct token_logprob *lps);

#endif
