/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_BENCH_H
#define TOOLS_KVBENCH_BENCH_H
/*
 * bench.h - the registry of what is measured, and of what is claimed
 *
 * A subject is `kvbench NAME`: a table of rows, more than anybody claims. A
 * figure is one number that an issue asks for and the documents quote, with
 * its target; `kvbench claims` runs figures. Both register themselves from
 * the file that measures them:
 *
 *	FIGURE(util_frames, .name = "util.frames", .unit = "%", ...);
 *
 * Figures that come out of one run keep it in a static of their file: a
 * program measures each thing once.
 *
 * --tiny shrinks every run to what shows that it works: its numbers mean
 * nothing, and no target is judged.
 */
#include <jansson.h>
#include <stdio.h>
#include "include/kv/types.h"
#include "lib/clock.h"

struct bench_opts {
	bool json, pretty, tiny;
	u32 threads; /* 0 = the CPUs this process may run on */
	double seconds; /* how long a timed loop lasts */
	const char *against; /* a record of the same subject, or NULL */
	const char *peer; /* gemm: another's products beside ours, or NULL */
	/* model */
	const char *model;
	const char *data; /* the folder of the reference; NULL: the tree's */
	const char *prompts, *batches; /* "128,512", "1,8" */
	u32 nr_tokens;
	u64 seed;
	/* cache; NULL: the made up traces, the default */
	const char *trace, *blocks, *policy;
};

/* ---- figures ---- */

#define FIGURE_NOTE 160

enum figure_cmp { CMP_AT_LEAST, CMP_AT_MOST, CMP_EQUAL };

/**
 * struct figure_result - what a run says
 * @measured: the figure
 * @bound: what could be reached at best, from the same run; 0 = none
 * @bound_what: where the bound comes from
 * @note: anything a reader has to know to judge it
 */
struct figure_result {
	double measured;
	double bound;
	char bound_what[64];
	char note[FIGURE_NOTE];
};

struct figure {
	const char *name; /* "subject.figure" */
	const char *what;
	const char *unit;
	enum figure_cmp cmp;
	double target;
	/* 0, -EOPNOTSUPP (the note says what is missing), or -errno */
	int (*run)(const struct bench_opts *o, struct figure_result *r);
	struct figure *next;
};

void figure_register(struct figure *f);
const struct figure *figure_first(void);

/* figure_failed - @rc; its note is what fits of the sentence in @err */
static inline int figure_failed(struct figure_result *f, int rc,
				const char *err)
{
	snprintf(f->note, sizeof(f->note), "%.*s", FIGURE_NOTE - 1, err);
	return rc;
}

#define FIGURE(id, ...)                                                  \
	static struct figure figure_##id = { __VA_ARGS__ };              \
	static void __attribute__((constructor)) figure_##id##_add(void) \
	{                                                                \
		figure_register(&figure_##id);                           \
	}

/* claims.c: `kvbench claims [NAME...]` */
int claims_run(const struct bench_opts *o, char *const *names, int nr);

/* ---- subjects ---- */

struct report;

/**
 * struct subject - one thing that is measured in detail
 * @nr_keys: columns that name a row, from the first one; 0: rows that are
 *	held against no earlier ones
 * @time: the member of a row that is divided by the earlier row's
 */
struct subject {
	const char *name;
	const char *what;
	int (*run)(const struct bench_opts *o, struct report *r);
	unsigned int nr_keys;
	const char *time;
	struct subject *next;
};

void subject_register(struct subject *s);
const struct subject *subject_first(void);

#define SUBJECT(id, ...)                                                  \
	static struct subject subject_##id = { __VA_ARGS__ };             \
	static void __attribute__((constructor)) subject_##id##_add(void) \
	{                                                                 \
		subject_register(&subject_##id);                          \
	}

/* ---- report.c: rows as a table or as JSON ---- */

/* A column: member of the row's object, heading, decimals of a number. */
struct report_col {
	const char *key, *head;
	int decimals;
};

struct report {
	const struct report_col *cols;
	unsigned int nr_cols;
	json_t *rows; /* array of objects */
	json_t *extra; /* object: members beside "results" */
	json_t *before; /* the record of --against, or NULL */
	char note[256];
};

int report_init(struct report *r);
void report_fini(struct report *r);
/* report_row - takes over @row; NULL is an error that is remembered */
void report_row(struct report *r, json_t *row);
int report_print(const struct bench_opts *o, const char *name,
		 const struct report *r);
void report_table(FILE *out, const struct report_col *cols,
		  unsigned int nr_cols, const json_t *rows);
/* against.c: read the record of --against, so that a bad one is refused
 * before anything is measured; then add its times to the rows.
 */
int __must_check against_load(const struct bench_opts *o,
			      const struct subject *s, struct report *r);
void against_apply(const struct subject *s, struct report *r);
/* machine_json - what the figures were measured on */
json_t *machine_json(void);

/* ---- models.c: the two models, and what the reference says of them ---- */

enum model_id { MODEL_GEMMA, MODEL_QWEN, MODEL_NR };

#define MODEL_PATH 512

/**
 * model_path - where one of the two models is
 * @given: taken instead, if not NULL
 * @path: MODEL_PATH bytes
 * @note: FIGURE_NOTE bytes
 *
 * Return: 0, or -EOPNOTSUPP if it is not there; @note says so.
 */
int __must_check model_path(enum model_id id, const char *given, char *path,
			    char *note);

struct session;
struct session_opts;

/* session_open(), or -EIO */
int __must_check bench_session(struct session *s, const struct session_opts *o);

/* Bytes of the weights of a model file, as kvmd holds them. */
int __must_check model_packed_bytes(const char *path, u64 *bytes, char *err);

/**
 * model_reference - what a file of the reference says of a model
 * @file: its name in the folder
 * @out: on success only; json_decref() it
 * @note: FIGURE_NOTE bytes
 *
 * Return: 0, -EOPNOTSUPP if it is not there, -EINVAL; @note says so.
 */
int __must_check model_reference(const struct bench_opts *o, enum model_id id,
				 const char *file, json_t **out, char *note);

/* ---- sample.c: medians and random numbers ---- */

double bench_median(double *v, size_t n); /* sorts @v */
double bench_percentile(double *v, size_t n, double p); /* sorts @v */

struct bench_rng {
	u64 s;
};
u64 bench_rand(struct bench_rng *r);
double bench_uniform(struct bench_rng *r); /* [0, 1) */
double bench_normal(struct bench_rng *r);
u32 bench_threads(const struct bench_opts *o);

/* ---- bench_bw.c: the bounds that others are held against ---- */

/* Best read bandwidth of all threads, bytes/s; measured once a process. */
double bw_read_peak(const struct bench_opts *o);
/* The same of @bytes that are read again and again, from whatever cache. */
double bw_reread_peak(const struct bench_opts *o, double bytes);
/* Best rate of fp32 multiply-adds in registers, FLOP/s; 0 if unknown. */
double bw_fma_peak(const struct bench_opts *o);
/*
 * Best rate of the products that the chosen row of kernels computes with:
 * tiles or pairs of bf16, pairs of int16, else fp32 multiply-adds; 0 if
 * unknown. @what: its name.
 */
double bw_product_peak(const struct bench_opts *o, const char **what);

struct model;

/* bench_model.c: weights that a token which wants logits is multiplied with */
double model_products(const struct model *m);

#endif
