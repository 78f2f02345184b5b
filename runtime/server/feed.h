/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_FEED_H
#define RUNTIME_SERVER_FEED_H
/*
 * feed.h - between the thread that talks to clients and the engine's
 *
 *	clients' thread			the engine's
 *	feed_submit()	-- jobs -->	engine_submit(), between two steps
 *	feed_cancel()	-- a flag -->	engine_cancel(), likewise
 *	feed_take()	<-- batches --	the tokens of a step, all at once
 *			<-- jobs --	those that are done
 *
 * A job belongs to the engine's thread from feed_submit() until feed_take()
 * returns it; the clients' thread takes one back only that the engine has not
 * taken. Neither side ever waits for the other: both put into piles (pile.h),
 * and wake the other one through an eventfd, the engine's side once a step. The
 * engine's thread sleeps when there is no job.
 */
#include "runtime/engine/engine.h"
#include "runtime/server/pile.h"

struct feed;
struct job_seq;

struct job {
	/* set before feed_submit() */
	struct request_params p; /* events and ctx are set by it */
	u32 *prompt; /* [p.nr_prompt] the job's, free()d with it */
	u32 *ends; /* or NULL; the job's: what p.sampling.ends points at */
	void *owner;
	/*
	 * With p.scores: of each token of the prompt but the first; written
	 * until the first token of the answer comes.
	 */
	double *score; /* [p.nr_prompt] */
	struct token_logprob *score_top; /* [p.nr_prompt][p.nr_logprobs] */

	/* after feed_take() has returned it */
	int error; /* -errno, and */
	char *message; /* its sentence, or NULL */
	u32 nr_cached; /* tokens of the prompt that were found */
	double submitted_s, started_s; /* 0: it never ran */

	/* the engine's side */
	struct pile_link link;
	struct feed *feed;
	struct request *req;
	struct job_seq *seqs; /* [p.n] */
	_Atomic bool cancel; /* set by the clients' side: look at the others */
	_Atomic bool cancel_all;
	_Atomic bool begun; /* it has pages, or may be what a step waits for */
	bool done, lost, answers;
};

/* One token. */
struct feed_event {
	struct job *job;
	u32 seq, id;
	enum finish_reason finish; /* of the sequence, with this token */
	double lp; /* its logarithm, if p.nr_logprobs */
	u32 top; /* index in the batch's list: [p.nr_logprobs] */
};

/* What a step has brought. */
struct feed_batch {
	struct pile_link link;
	double made_s; /* CLOCK_MONOTONIC */
	struct feed_event *ev; /* [nr] in order */
	u32 nr, cap;
	struct token_logprob *top;
	u32 nr_top, cap_top;
};

/* A look at the engine, of the end of its last step. */
struct feed_state {
	struct engine_stats stats;
	u32 nr_running, nr_waiting; /* requests */
	u64 nr_busy; /* steps that computed */
	double busy_s; /* their time, from one's start to the next's */
	double host_s; /* the part of it that no kernel ran */
};

struct feed_engine {
	struct engine *e;
	/*
	 * Between two steps, and some times a second: -errno and a sentence if
	 * the engine has to end.
	 */
	int (*attend)(void *ctx, char *err);
	/* It has failed: feed_end() will be called. */
	void (*failed)(void *ctx);
	void *ctx;
};

int __must_check feed_create(struct feed **out);
/* No thread uses it any more. */
void feed_destroy(struct feed *f);

/* ---- the engine's thread ---- */

/* What ends a wait for memory: the stop word of struct kv_attach_opts. */
const volatile int *feed_stop_word(const struct feed *f);

/**
 * feed_run - compute what comes until feed_end()
 * @err: KV_ERRLEN bytes
 *
 * Return: 0; or -errno, the engine cannot go on: every job has failed with
 * the sentence, and so will each that comes.
 */
int __must_check feed_run(struct feed *f, const struct feed_engine *fe,
			  char *err);

/* ---- the clients' thread ---- */

/* With p.n samples; 0 or -ENOMEM. feed_job_free() it. */
struct job *feed_job(u32 n);
/* Room for the scores of its prompt, when p is set. 0 or -ENOMEM. */
int __must_check feed_job_scores(struct job *j);
void feed_job_free(struct job *j);

void feed_submit(struct feed *f, struct job *j);
/*
 * End one of its samples, or all of it; it will come back all the same: what
 * the engine has not taken yet at once, however long a step waits for memory.
 */
void feed_cancel_seq(struct feed *f, struct job *j, u32 seq);
void feed_cancel(struct feed *f, struct job *j);

/* Readable when there is something to take. */
int feed_fd(const struct feed *f);
/*
 * All batches and all jobs that are done; the tokens of those are in these
 * batches or earlier ones. Chained by link.next; feed_batch_free() each.
 */
void feed_take(struct feed *f, struct pile_link **batches,
	       struct pile_link **jobs);
void feed_batch_free(struct feed_batch *b);

void feed_state(struct feed *f, struct feed_state *out);

/* feed_run() returns when no job is left; nothing is submitted after this. */
void feed_end(struct feed *f);

#endif
