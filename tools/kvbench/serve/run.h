/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_RUN_H
#define TOOLS_KVBENCH_SERVE_RUN_H
/*
 * run.h - send the requests of a work when they are due, and measure
 */
#include "tools/kvbench/serve/failures.h"
#include "tools/kvbench/serve/samples.h"
#include "tools/kvbench/serve/target.h"

/* All times are seconds from the start of the run. */
struct record {
	double due; /* when it should be sent; latency counts from here */
	double sent, first, end; /* first, end: token */
	u32 input, output, cached; /* tokens, as the server counts them */
	bool is_sent, is_done, is_ok, has_cached;
};

struct run_opts {
	const struct target *target;
	const struct render *render;
	u32 max_concurrency; /* 0: no limit */
	double timeout; /* s without a byte */
	double seconds; /* no request starts later than this; 0: no limit */
};

struct run_result {
	struct record *record; /* [nr] */
	u32 nr, nr_ok, nr_sent, peak; /* peak: requests at a time */
	double duration; /* to the last byte of the last answer */
	double cpu; /* share of a core that the client took */
	struct samples itl; /* of good requests, s */
	struct samples lag; /* s that a request was sent later than due,
			     * not for want of a place */
	struct failures failures;
	bool is_interrupted;
};

/**
 * run_work - do it
 * @r: run_result_fini() it in any case
 *
 * Return: 0 if it was done, whatever the server said; -errno.
 */
int __must_check run_work(const struct run_opts *o, const struct work *w,
			  struct run_result *r);
void run_result_fini(struct run_result *r);

#endif
