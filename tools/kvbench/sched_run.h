/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SCHED_RUN_H
#define TOOLS_KVBENCH_SCHED_RUN_H
/*
 * sched_run.h - an open loop of requests through the engine's scheduler
 *
 * The same loop drives the real model in real time, and the scheduler alone in
 * the time that steps of that model were measured to take: the law that the
 * engine's own budget learns (runtime/engine/budget.h). Searches for a rate or
 * a batch size run on the law, and say so.
 *
 * Where the products of a second sequence take as long as reading the weights,
 * batches gain nothing, nor does scheduling them. So figures of the law have
 * beside them what they are by SCHED_TILES, which multiplies fast enough: the
 * same model at Q8_0 on two cores with AMX, reckoned as 10.6 ms to read the
 * weights, 0.13 ms a token and 0.36 ms one with logits. It is a prediction.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvrun/session.h"

/* Seconds of a step; a token; a row of logits; a thousand rows attended to. */
struct sched_law {
	double step_s, token_s, row_s, work_s;
};

#define SCHED_TILES ((struct sched_law){ 0.0106, 0.00013, 0.00023, 0.00001 })

struct sched_req {
	double at; /* seconds after the start */
	u32 in, out; /* tokens */
};

struct sched_result {
	double seconds, tps; /* output tokens/s from the first arrival on */
	double norm_p50; /* seconds from arrival to end, an output token */
	double tbt_p50, tbt_p99, tbt_p999, tbt_max; /* between two tokens */
	double ttft_p50, queue_p50; /* to the first token; to the first step */
	bool ended; /* false: it was given up, as it could not keep up */
};

/**
 * sched_session - the model, for runs in real time
 *
 * One at a time; session_close() it in any case. Return: 0, -EOPNOTSUPP or
 * -errno; @note says why.
 */
int __must_check sched_session(const struct bench_opts *o, struct session *s,
			       char *note);
/* sched_engine - give the session another engine, without requests */
int __must_check sched_engine(struct session *s, const struct engine_opts *eo,
			      char *note);

/* sched_law_of - the law of the model's steps; measured once */
int __must_check sched_law_of(const struct bench_opts *o, struct sched_law *law,
			      char *note);

/* sched_real - serve @req in real time; prompts are random */
int __must_check sched_real(struct session *s, const struct sched_req *req,
			    u32 nr, u64 seed, struct sched_result *r);

/**
 * sched_simulated - serve @req in the time of @law
 * @give_up_s: end when a request has waited so long to begin; 0: never
 */
int __must_check sched_simulated(const struct sched_law *law,
				 const struct engine_opts *eo,
				 const struct sched_req *req, u32 nr,
				 double give_up_s, struct sched_result *r,
				 char *note);

/* sched_most_rate - the largest rate that @keeps, to a 300th or so */
double sched_most_rate(bool (*keeps)(double rate, const void *ctx),
		       const void *ctx);

/* Poisson arrivals at @rate a second; 0: all at once. */
void sched_arrivals(struct sched_req *req, u32 nr, double rate, u64 seed);

#endif
