/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_WORK_H
#define TOOLS_KVBENCH_SERVE_WORK_H
/*
 * work.h - what is asked of a server, and when
 *
 * A prompt is a row of segments. A segment is named by a number that stands
 * for all its tokens, so that two prompts share a prefix if they begin with
 * the same segments; the last one of a prompt may be cut short. What the
 * tokens are is render.h's.
 *
 * Requests belong to sessions, which come at times fixed beforehand. A
 * request of a session either comes with it or waits for another one: its
 * time is then counted from the other one's end.
 */
#include "tools/kvbench/serve/dist.h"

#define WORK_NONE 0xffffffffu

enum segment_role { SEGMENT_SYSTEM, SEGMENT_USER, SEGMENT_ANSWER };

struct segment {
	u64 name;
	u32 len; /* tokens */
	u32 of; /* SEGMENT_ANSWER: the request whose answer it is */
	enum segment_role role;
};

struct work_request {
	u32 first_segment, nr_segments;
	u32 input, output; /* tokens */
	u32 padding; /* tokens behind the answer, computed for nobody */
	u32 session;
	u32 after; /* the request it waits for, or WORK_NONE */
	double due; /* s from the start, or from the end of @after */
	bool is_quoted; /* its answer is part of another prompt */
};

struct work {
	struct work_request *request;
	struct segment *segment;
	u32 nr, nr_segments, nr_sessions;
	u32 room, segment_room;
	bool is_timed; /* by a trace: due is set */
	bool failed; /* memory */
};

enum work_kind {
	WORK_RANDOM,
	WORK_SHAREGPT,
	WORK_SHARED_PREFIX,
	WORK_TRACE,
	WORK_FEWSHOT,
	WORK_TOT,
	WORK_CHAT,
};

struct work_opts {
	enum work_kind kind;
	u32 nr; /* requests */
	u64 seed;
	double rate; /* requests/s; INFINITY: all at once */
	double burstiness;
	struct dist input, output;
	bool has_input, has_output; /* given; else the kind's own */
	u32 nr_prefixes, prefix_len; /* 0: the kind's own */
	u32 turns, branch, depth;
	double think; /* s between two turns, on average */
	const char *trace;
	u32 block_len; /* tokens a block of the trace stands for */
	double seconds; /* nothing comes later than this; 0: no limit */
	u32 pad; /* of so many each is computed as long as the longest */
};

/* Names of the kinds; NULL behind the last. */
extern const char *const work_kinds[];

/**
 * work_make - all requests of a run
 * @w: work_fini() it in any case
 * @err: 256 bytes
 *
 * Return: 0, -EINVAL, -ENOMEM or -errno of the trace.
 */
int __must_check work_make(const struct work_opts *o, struct work *w,
			   char *err);
void work_fini(struct work *w);

/* ---- for those that make it ---- */

/* work_add - a request whose prompt is empty; its number, WORK_NONE: memory */
u32 work_add(struct work *w, u32 session, u32 after, double due, u32 output);
/* work_say - add a segment to the prompt of the last request */
void work_say(struct work *w, enum segment_role role, u64 name, u32 len);
/* work_quote - begin the last request's prompt with another's and its answer */
void work_quote(struct work *w, u32 other);
/* work_name - a name that nothing else has */
u64 work_name(struct bench_rng *r);

/* work_tree.c */
void work_fewshot(const struct work_opts *o, struct work *w);
void work_tot(const struct work_opts *o, struct work *w);
void work_chat(const struct work_opts *o, struct work *w);
/* work_trace.c; -errno, and what is wrong in @err */
int __must_check work_trace(const struct work_opts *o, struct work *w,
			    char *err);

#endif
