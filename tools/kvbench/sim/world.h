/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_WORLD_H
#define TOOLS_KVBENCH_SIM_WORLD_H
/*
 * world.h - time that is counted, and kvmd's core in it
 *
 * Everything happens in one thread: tasks (coroutines, one for each engine)
 * and the host of the mm core. A task runs until it sleeps or waits; then the
 * earliest event is next, and of two at the same time the one that was asked
 * for first. So the same seed gives the same run.
 *
 * The host answers what the core asks for in its own time: memory is populated
 * and scrubbed, and pages are copied, after a fixed time each; a swap tier
 * serves one page after the other, at its bandwidth, after its latency.
 */
#include "kvmd/ipc/growing.h"
#include "kvmd/mm/mm.h"

#define WORLD_TIERS 2u
#define WORLD_US    1000ull
#define WORLD_MS    1000000ull
#define WORLD_S	    1000000000ull

struct world;
struct task;

/* What a task waits for; zeroed. One task at a time. */
struct world_cond {
	struct task *waiter;
	bool raised;
};

/**
 * struct world_client - what the host tells a client of the core
 * @granted: a reservation that waited has its end
 * @wanted: memory is wanted back
 */
struct world_client {
	void (*granted)(struct world_client *c, int res, u64 extra);
	void (*wanted)(struct world_client *c, u64 bytes);
	struct kv_table_hdr *table;
	struct kv_status *status;
	u32 index;
};

/**
 * struct world_cfg
 * @device_bytes: rounded up to extents
 * @swap_bytes: of each tier; 0: there is none
 * @swap_bps: bytes a second
 * @swap_ns: latency
 * @cache_policy: of the page cache; NULL: the default
 * @seed: of the core's choices
 */
struct world_cfg {
	u64 device_bytes;
	u64 swap_bytes[WORLD_TIERS];
	double swap_bps[WORLD_TIERS];
	u64 swap_ns[WORLD_TIERS];
	const char *cache_policy;
	u64 seed;
};

int __must_check world_create(const struct world_cfg *cfg, struct world **out);
void world_destroy(struct world *w);
u64 world_now(const struct world *w);
struct mm *world_mm(struct world *w);
/* What clients have said they are computing. */
struct growing *world_growing(struct world *w);
/* A number that tells whether two runs were the same so far. */
u64 world_hash(const struct world *w);
void world_note(struct world *w, u64 what);

/* A client of @tenant; its memory is the world's. */
int __must_check world_attach(struct world *w, const char *tenant,
			      struct world_client *c);
/* Do what the core asks for; after each call of it. */
void world_drain(struct world *w);

/* @fn(@arg) runs from now on; 0 or -ENOMEM. */
int __must_check world_spawn(struct world *w, void (*fn)(void *arg), void *arg);
/* In a task: until so much time has passed. */
void world_sleep(struct world *w, u64 ns);
/* In a task: until @c is raised, or so much time has passed; false: that. */
bool world_wait(struct world *w, struct world_cond *c, u64 ns);
void world_raise(struct world *w, struct world_cond *c);
/* Until every task has ended. -EDEADLK: those that are left wait for nothing
 * that could happen; -EPERM: kvmd would kill one; -ETIMEDOUT: @most_ns of the
 * world's time have passed. */
int __must_check world_run(struct world *w, u64 most_ns);

#endif
