/* SPDX-License-Identifier: MIT */
/*
 * sim.h - the core among fake clients, devices, memory and time
 *
 * One thread plays everybody. In each turn a seeded generator picks who acts:
 * a client (prepare a step, fork, truncate, free), a client's device stream
 * (start or end a step), the memory workers (answer a populate or a scrub),
 * the administrator (move a limit, charge weights), compaction (move a
 * page), or fate (kill a client; its stream runs on for a while). The same
 * seed gives the same run: every decision and every answer of the core is
 * folded into a hash.
 *
 * Fake memory holds one tag per token at the place where a kernel would look
 * for it. A naive model keeps each space's tokens in an array. A step
 *
 *	prepared  C1-C5 as libkv does them, entries copied at the launch
 *	started   its copies run, everything its rows see is compared with the
 *		  model, half of its tokens are written
 *	ended     all compared again, the rest written, completed stored
 *
 * so a page that is given away, copied short, mapped wrong or reused before
 * its pin has passed shows up as a wrong token. Scrubbed and populated
 * extents are filled with junk.
 *
 * Swap tiers are fake memory as well. A page is copied when its write or read
 * is answered, some time after it was asked for; with faults some of both
 * fail, and then a client is told that the page is lost and computes it again.
 *
 * With revokes clients are asked for memory now and then. Some give it, some
 * are deaf and lose it, some hang and are killed; none of them later than the
 * deadlines say, and who is not killed reads what it wrote or is told that it
 * is lost.
 *
 * With room weights for which there is none wait, and the core makes room for
 * them, until they are charged, given up, or their client has gone. Those that
 * are there come out of use now and then, and go when memory is wanted.
 *
 * A liar writes nonsense into everything it may write to; nothing is
 * expected of its own content.
 */
#ifndef SELFTESTS_SIM_SIM_H
#define SELFTESTS_SIM_SIM_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kvmd/mm/mm.h"
#include "lib/hash.h"
#include <kv/step.h>

#define SIM_CLIENTS 8u
#define SIM_SPACES  20u
#define SIM_LEN	    700u /* tokens of a space, at most */
#define SIM_ITEMS   4u
#define SIM_TENANTS 3u
#define SIM_JUNK    0xdeadbeefu
/* A turn is half a millisecond, a client's every 4 ms, a tick every 25 ms. */
#define SIM_ASK_NS   50000000ull
#define SIM_FENCE_NS 500000000ull
#define SIM_LATE_NS  600000000ull
#define SIM_ROOM_NS  400000000ull /* weights wait for that */

struct sim_cfg {
	u64 seed;
	u64 turns;
	u32 extents;
	u32 ready;
	u32 check_every;
	bool moves, crashes, limits, liar, faults;
	bool delays; /* memory takes time; else it is there at once */
	bool revokes; /* memory is taken from clients, some of them hung */
	bool demotes; /* pages go on to later tiers, and tiers have limits */
	bool room; /* weights wait for room */
	bool packs; /* pages take less room in a tier than they are large */
	u32 swap[MM_TIER_MAX]; /* MiB of each tier */
};

struct sim_area {
	u32 geom, window;
	struct kv_geometry g;
};

struct sim_space {
	bool used;
	bool in_ticket; /* a waiting step names it */
	u32 slot, len;
	u32 tokens[SIM_LEN];
	u64 gen; /* C3: the cached table is that of this generation */
	u32 nr_cached[2];
	kv_pte_t cached[2][SIM_LEN];
};

struct sim_item {
	struct sim_space *sp;
	u32 slot, pos, n;
	u32 tokens[SIM_LEN]; /* what rows see, then what they write */
	u32 entry[2][SIM_LEN];
};

struct sim_step {
	u64 nr;
	u64 epoch; /* the table's, when the step was fixed */
	u32 nr_items, nr_copies;
	bool started;
	struct sim_item item[SIM_ITEMS];
	struct kv_copy copies[SIM_ITEMS * KV_AREA_MAX];
};

struct sim_client {
	bool attached, exiting, liar;
	bool deaf; /* gives nothing back when asked */
	bool hung; /* does nothing, and its steps do not end */
	bool give; /* asked for memory, has not answered */
	bool was_hung; /* since memory was last asked of it */
	u64 asked_ns; /* a revoke is under way since */
	u32 index, tenant;
	u64 step;
	u32 nr_areas;
	struct sim_area area[2];
	struct kv_table_hdr *table;
	struct kv_status *status;
	struct sim_space space[SIM_SPACES];
	struct sim_step run[2]; /* launched, in order */
	u32 nr_run;
	struct sim_step wait; /* the one with a ticket */
	bool waiting;
	u64 ticket;
};

struct sim_io {
	struct mm_swap_io io;
	enum mm_req_type type;
};

/* Weights that wait for room. */
struct sim_room {
	u64 bytes; /* 0: none do */
	u64 until_ns;
	u32 tenant; /* of sim.tenant[] */
	struct sim_client *client;
};

struct sim {
	struct sim_cfg cfg;
	struct mm_config mm_cfg;
	struct mm *mm;
	void *state;
	u32 *mem; /* 16 tags per 4 KiB of device */
	u32 *swap[MM_TIER_MAX]; /* likewise of a tier */
	struct sim_io io[1024]; /* asked for, not answered */
	u32 nr_io;
	struct mm_move_io moves[64]; /* pages on their way to other frames */
	u32 nr_moving;
	u64 nr_compacted;
	u64 rng, hash, now, turn;
	u32 next_tag;
	u32 tenant[SIM_TENANTS];
	u64 allowed[SIM_TENANTS], weights[SIM_TENANTS];
	bool idle[SIM_TENANTS]; /* nobody has them open */
	u32 goes; /* bit i: tenant i's go when the core has returned */
	u64 tier_allowed[SIM_TENANTS][MM_TIER_MAX];
	u32 pending[4096], nr_pending; /* extents, bit 31: scrub */
	struct sim_client cl[SIM_CLIENTS];
	u64 nr_steps, nr_waits, nr_again, nr_big, nr_moves, nr_exits, nr_forks;
	u64 nr_nodata, nr_copies, nr_out, nr_in, nr_lost;
	u64 nr_demoted;
	struct sim_room room;
	u64 nr_room, nr_room_waits; /* charged in the end, begun */
	u64 nr_spared; /* weights that went as memory was wanted */
	u64 nr_stale, nr_kills, nr_revoked;
	u32 nr_errors;
};

#define SIM_FAIL(s, ...)                                          \
	do {                                                      \
		if ((s)->nr_errors++ < 10) {                      \
			printf("seed %llu turn %llu: ",           \
			       (unsigned long long)(s)->cfg.seed, \
			       (unsigned long long)(s)->turn);    \
			printf(__VA_ARGS__);                      \
			printf("\n");                             \
		}                                                 \
	} while (0)

static inline u32 sim_rand(struct sim *s, u32 below)
{
	return (u32)(hash_random(&s->rng) % below);
}

static inline bool sim_chance(struct sim *s, u32 percent)
{
	return sim_rand(s, 100) < percent;
}

static inline void sim_note(struct sim *s, u64 what)
{
	s->hash = hash_add(s->hash, what);
}

/* One 4 KiB page of tags per page of the device. */
static inline u32 *sim_page(struct sim *s, const struct sim_area *a, u32 entry)
{
	return &s->mem[(size_t)entry * a->g.unit_bytes / 4096 * 16];
}

/* sim_client.c: one client and its device stream */

/* sim_act - the client does something, by chance */
void sim_act(struct sim *s, struct sim_client *c);
/* sim_device - its stream starts or ends a step */
void sim_device(struct sim *s, struct sim_client *c);
/* sim_give - it is asked for memory: some of its spaces go */
void sim_give(struct sim *s, struct sim_client *c);
/* sim_granted - its reservation came through; the step is launched */
void sim_granted(struct sim *s, struct sim_client *c, struct sim_step *st,
		 int nr_copies);
/* sim_refused - its reservation did not; it may give something up */
void sim_refused(struct sim *s, struct sim_client *c, int rc, u64 extra);

/**
 * sim_run - one run from a seed
 * @s: zeroed or used
 * @cfg: what happens in it
 *
 * Return: the hash of all decisions; s->nr_errors counts what went wrong.
 */
u64 sim_run(struct sim *s, const struct sim_cfg *cfg);

#endif
