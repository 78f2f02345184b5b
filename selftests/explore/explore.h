/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_EXPLORE_EXPLORE_H
#define SELFTESTS_EXPLORE_EXPLORE_H
/*
 * explore.h - every interleaving of a few actors, with store buffers
 *
 * An actor is a plain C function that does its memory accesses through x_*
 * operations. One call of it is an iteration; what it keeps between
 * iterations is its locals. A state of the explorer is
 *
 *	memory words, one store buffer per actor, the ghost (what the checks
 *	know), and per actor its locals and the results that the operations
 *	of its running iteration have returned so far
 *
 * To take one step of an actor, the function is called again from its
 * locals: operations that were done before return what they returned then,
 * the next one is done for real, and at the one after that the function is
 * left by longjmp. So an actor needs no stack of its own, and a state is a
 * few hundred bytes that can be copied, compared and put aside.
 *
 * From a state, every actor may do its next operation (with each value of a
 * choice), and every buffer may let go of a store:
 *
 *	TSO	the oldest one only
 *	PSO	any that has no older one to the same word in front of it; a
 *		release store only if it has no older one at all
 *
 * A load sees the actor's own newest buffered store to the word, else
 * memory. A fence waits for the actor's buffer to be empty. Loads are not
 * reordered. States that were seen before (64-bit hash) are not entered
 * again. It is a failure when a check fails, or when nobody can go on and
 * somebody is not done.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define X_ACTORS 3
#define X_WORDS	 12
#define X_STORES 6 /* entries of a store buffer */
#define X_LOG	 28 /* operations of one iteration */
#define X_LOCALS 96
#define X_GHOST	 96

/* Operations of an actor. */
uint64_t x_load(const void *word);
void x_store(void *word, uint64_t value, bool release);
void x_fence(void);
/* x_wait - go on when a load would give @value */
void x_wait(const void *word, uint64_t value);
/* x_choose - 0..n-1, each is tried */
uint64_t x_choose(unsigned int n);
/* x_do - one indivisible act on the ghost; X_BLOCK: not now, try again */
#define X_BLOCK (~0ull)
uint64_t x_do(uint64_t (*act)(void *ghost, uint64_t arg), uint64_t arg);
/* x_peek - what memory holds, for use inside of x_do() acts and checks */
uint64_t x_peek(const void *word);
/* x_drained - has this actor's buffer nothing left? for acts and checks */
bool x_drained(unsigned int actor);
/* x_check - inside of an actor or an act: @ok must hold */
void x_check(bool ok, const char *what);

struct x_actor {
	const char *name;
	/* one iteration; true: the actor is done */
	bool (*run)(void *locals);
	size_t locals_bytes;
};

struct x_world {
	const char *name;
	struct x_actor actor[X_ACTORS];
	unsigned int nr_actors;
	size_t ghost_bytes;
	/* set words (x_word), ghost and locals to their first values */
	void (*init)(void *ghost, void *locals[X_ACTORS]);
	/* everybody is done and every buffer is empty; may be NULL */
	void (*end)(void *ghost);
	bool pso;
	uint8_t no_fence; /* bit set: that actor's fences do nothing */
	uint64_t max_states; /* give up there; 0: 4 million */
};

/* x_word - in init(): this address is a word of the memory */
void x_word(const void *word, const char *name, uint64_t value);

struct x_result {
	uint64_t states;
	bool complete; /* all of them were visited */
	const char *failed; /* the check, or NULL */
};

/**
 * x_explore - visit every state, or stop at the first failure
 * @w: world
 * @show: print the way to a failure
 * @res: outcome
 *
 * Context: one exploration at a time in a process.
 */
void x_explore(const struct x_world *w, bool show, struct x_result *res);

#endif
