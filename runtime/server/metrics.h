/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_METRICS_H
#define RUNTIME_SERVER_METRICS_H
/*
 * metrics.h - what the server counts, in Prometheus' text format 0.0.4
 *
 * One thread counts and writes. Names are vLLM's where it has one for the same
 * figure, so that its dashboard works; what is ours alone begins with kv_.
 */
#include "kv/types.h"

struct strbuf;

enum hist_id {
	HIST_TTFT,
	HIST_ITL,
	HIST_TPOT, /* of a request, in the mean */
	HIST_E2E,
	HIST_QUEUE,
	HIST_PREFILL,
	HIST_DECODE,
	HIST_INFERENCE,
	HIST_PROMPT_TOKENS,
	HIST_GENERATION_TOKENS,
	HIST_EMIT, /* from the step's end to the socket */
	HIST_NR,
};

#define HIST_BUCKETS_MAX 26

struct hist {
	u64 count[HIST_BUCKETS_MAX + 1]; /* the last: above all bounds */
	double sum;
};

enum finished { FINISHED_STOP, FINISHED_LENGTH, FINISHED_ABORT, FINISHED_NR };

#define METRICS_HANDLERS 12

struct metrics {
	struct hist hist[HIST_NR];
	u64 finished[FINISHED_NR]; /* requests */
	u64 prompt_tokens, generation_tokens;
	u64 queried, cached; /* tokens of prompts */
	u64 refused, slow; /* requests: no room, a reader too slow */
	/* answers by handler and hundreds of the status */
	u64 http[METRICS_HANDLERS][6];
};

/* What is true at the moment of asking. */
struct metrics_now {
	const char *model;
	u32 nr_running, nr_waiting;
	double usage; /* share of the device's memory for pages, 0 to 1 */
	u64 nr_preempted, nr_steps, nr_waits, nr_paused, nr_lost, nr_stale;
	u64 nr_busy;
	double busy_s, host_s;
	u32 nr_streams, nr_connections;
	u64 frames, held, saved; /* bytes of this client */
	u64 device_bytes;
	u32 block_size;
	const char *handlers[METRICS_HANDLERS]; /* NULL: no more */
};

void hist_observe(struct metrics *m, enum hist_id id, double v);
void metrics_put(struct strbuf *b, const struct metrics *m,
		 const struct metrics_now *now);

#endif
