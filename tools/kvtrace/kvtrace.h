/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVTRACE_KVTRACE_H
#define TOOLS_KVTRACE_KVTRACE_H
/*
 * kvtrace.h - what kvtrace's files share: options, views, the tracer
 *
 * A view is one row of the table in main.c. It names the probes that are
 * attached to, takes what has been counted, and prints what is new since its
 * last look; main.c loads, waits and ends. Exit statuses and the way numbers
 * are written are kvctl's.
 */
#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>
#include "include/kv/types.h"
#include "tools/kvctl/kvctl.h"
#include "tools/kvtrace/faults.h"

struct trace_opts {
	const char *socket;
	pid_t pid; /* 0: who serves the socket */
	double interval_s; /* 0: one report, at the end */
	unsigned long count; /* of reports; 0: for ever */
	bool json, brief, verbose;
};

/* ---- tracer.c: programs in the kernel, and what they counted ---- */

struct tracer;

struct fault_row {
	struct fault_key key;
	struct fault_sums sums; /* of all CPUs */
};

/**
 * tracer_open - load the programs, attach them to one process
 * @opt: pid is set
 * @probes: names of the provider kvmd's probes, NULL at the end
 * @faults: the program that sums up faults; else hits are counted
 * @out: on success only
 *
 * Prints a sentence on standard error on failure.
 * Return: EX_KV_*.
 */
int tracer_open(const struct trace_opts *opt, const char *const *probes,
		bool faults, struct tracer **out);
/* tracer_detach - nothing is counted any more; what was can still be read */
void tracer_detach(struct tracer *t);
/* tracer_close - NULL is fine */
void tracer_close(struct tracer *t);

/**
 * tracer_faults - all that has been counted, sorted by key
 * @t: tracer
 * @rows: malloc'ed, free() it
 * @nr: how many
 *
 * Return: 0 or -errno.
 */
int __must_check tracer_faults(struct tracer *t, struct fault_row **rows,
			       size_t *nr);
int fault_key_cmp(const void *a, const void *b);
/* tracer_names - of a client; "?" if they are not known */
void tracer_names(struct tracer *t, const struct fault_key *k,
		  struct client_names *out);
/* tracer_lost - faults that found no room in a map */
u64 tracer_lost(struct tracer *t);
/* tracer_hits - of the probe that was named as number @i */
u64 tracer_hits(struct tracer *t, u32 i);

/* ---- views ---- */

struct report {
	const struct trace_opts *opt;
	double seconds; /* since the last one */
	void *state; /* the view's own, NULL at first; its fini frees it */
};

/**
 * struct view - one row
 * @probes: what is attached to, NULL at the end
 * @faults: the sums are of faults
 * @report: print what is new; EX_KV_*
 * @fini: free what report() keeps
 */
struct view {
	const char *name, *help;
	const char *const *probes;
	bool faults;
	int (*report)(struct tracer *t, struct report *r);
	void (*fini)(struct report *r);
};

extern const struct view faults_view, probes_view;

/* ---- faults.c, faults_json.c ---- */

/* What is new: rows by key, and sums over all clients by cause. */
struct fault_news {
	struct fault_row *rows;
	size_t nr;
	struct fault_sums cause[CAUSE_NR][2]; /* [waited] */
	struct fault_sums all;
	u64 lost;
};

const char *fault_cause_name(u32 cause);
/* fault_percentile - upper end of the slot it falls into, ns; 0: no fault */
u64 fault_percentile(const struct fault_sums *s, unsigned int percent);
void fault_add(struct fault_sums *to, const struct fault_sums *s);
int faults_print_json(struct tracer *t, const struct report *r,
		      const struct fault_news *n);

#endif
