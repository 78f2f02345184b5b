/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_PROGRAM_H
#define RUNTIME_ENGINE_PROGRAM_H
/*
 * program.h - programs of several generations
 *
 * A program has branches: texts, as tokens, that grow by what is appended and
 * by what the model generates. A branch is forked by copying its tokens. What
 * has been computed of them is found again through the cache of prefixes, and
 * two branches that go on together wait for what they share (twins.c), so the
 * engine should have prefix_cache on.
 *
 * What is asked of a branch begins at once and is there after
 * program_join(). Until then nothing else can be asked of it.
 *
 *	program_create(e, &p, err);
 *	program_begin(p, question, nr, &b, err);
 *	for (i = 0; i < 4; i++) {
 *		program_fork(b, &f[i], err);
 *		program_append(f[i], hint[i], nr_hint[i], err);
 *		program_gen(f[i], &gen, err);
 *	}
 *	program_join(p, err);
 *	program_select(b, yes_no, 2, err);
 *	program_join(p, err);
 *	choice = program_selected(b);
 *	program_destroy(p);
 *
 * One thread owns an engine and its programs.
 */
#include "runtime/engine/engine.h"

struct program;
struct branch;

/* What is generated. */
struct program_gen {
	u32 max_new; /* tokens at most */
	bool ignore_eog;
	struct sampling sampling; /* not for beams */
};

/* A continuation to choose among. */
struct program_choice {
	const u32 *ids;
	u32 nr; /* 1 or more */
};

/**
 * program_create - a program without branches
 * @e: engine, outlives the program
 * @out: on success only
 * @err: KV_ERRLEN bytes
 *
 * Return: 0 or -ENOMEM.
 */
int __must_check program_create(struct engine *e, struct program **out,
				char *err);
/* program_destroy - with its branches; what they wait for is cancelled */
void program_destroy(struct program *p);

/**
 * program_begin - a branch that begins with some tokens
 * @p: program, which owns it
 * @ids: copied
 * @nr: how many, 1 or more
 * @out: on success only
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, -EINVAL, -ENOMEM.
 */
int __must_check program_begin(struct program *p, const u32 *ids, u32 nr,
			       struct branch **out, char *err);
/* program_fork - another branch with the same tokens; -EBUSY before a join */
int __must_check program_fork(struct branch *b, struct branch **out, char *err);
/* program_drop - a branch is of no use any more */
void program_drop(struct branch *b);
/* program_append - @nr tokens more; -EBUSY before a join, -ENOMEM */
int __must_check program_append(struct branch *b, const u32 *ids, u32 nr,
				char *err);

/**
 * program_gen - the branch goes on with what the model says
 * @b: branch
 * @g: how
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, -EBUSY before a join, or as engine_submit().
 */
int __must_check program_gen(struct branch *b, const struct program_gen *g,
			     char *err);
/**
 * program_gen_n - several samples of what comes next, each a branch
 * @b: branch; it goes on with the first sample
 * @g: how
 * @n: samples
 * @out: [n - 1] the branches of the others, ready after a join
 * @err: KV_ERRLEN bytes
 *
 * Return: as program_gen().
 */
int __must_check program_gen_n(struct branch *b, const struct program_gen *g,
			       u32 n, struct branch **out, char *err);
/* program_best_of - of n samples the one whose tokens are likeliest on average
 */
int __must_check program_best_of(struct branch *b, const struct program_gen *g,
				 u32 n, char *err);
/* program_beam - the best of n beams */
int __must_check program_beam(struct branch *b, const struct program_gen *g,
			      u32 n, char *err);
/**
 * program_select - which of some continuations is the likeliest
 * @b: branch; it goes on with that one
 * @choices: [nr] copied
 * @nr: 1 to 64
 * @err: KV_ERRLEN bytes
 *
 * By the mean log-probability of a continuation's tokens. What is before them
 * is computed once.
 *
 * Return: as program_gen().
 */
int __must_check program_select(struct branch *b,
				const struct program_choice *choices, u32 nr,
				char *err);

/**
 * program_join - run the engine until all that was asked for is there
 * @p: program
 * @err: KV_ERRLEN bytes
 *
 * Requests of others in the same engine go on meanwhile. A request that fails
 * fails its branch alone: see program_error().
 *
 * Return: 0, or -errno of engine_step().
 */
int __must_check program_join(struct program *p, char *err);

/* program_ids - the tokens of a branch, valid until it changes */
const u32 *program_ids(const struct branch *b, u32 *nr);
/* program_error - 0, or -errno of what was last asked of it */
int program_error(const struct branch *b);
/* program_selected - index of the continuation that was chosen */
u32 program_selected(const struct branch *b);
/* program_score - mean log-probability of what was last chosen or best */
double program_score(const struct branch *b);

#endif
