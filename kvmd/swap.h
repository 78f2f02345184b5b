/* SPDX-License-Identifier: MIT */
#ifndef KVMD_SWAP_H
#define KVMD_SWAP_H
/*
 * swap.h - the core's pages between the device and the swap tiers
 */
#include <sys/queue.h>
#include "kvmd/io/tier.h"
#include "kvmd/io/timer.h"
#include "kvmd/mm/mm.h"
#include "kvmd/swap_buffers.h"
#include "kvmd/swap_queue.h"

struct kvmd;
struct swap_job;

/* Room that holds nothing is given back: swap_discard.c. */
struct swap_discard {
	struct kvmd *d;
	struct timer timer;
	struct work work;
	bool running; /* what follows is out */
	u32 tier;
	u64 off, bytes;
	int err;
	bool refused[MM_TIER_MAX]; /* it cannot */
	u64 fruitless[MM_TIER_MAX]; /* stale bytes, in runs that are short */
};

/* What a tier has to do. */
struct swap_lane {
	struct swap_queue queue; /* not begun */
	u32 nr; /* begun: its window */
	u64 bytes;
	u64 of[MM_TENANT_MAX]; /* the same, of each tenant */
};

struct swap {
	struct work_pool *pool; /* what is nobody's; NULL: there is no tier */
	struct tier *tier[MM_TIER_MAX]; /* as the core numbers them */
	struct swap_lane lane[MM_TIER_MAX];
	TAILQ_HEAD(, swap_job) waiting; /* for their turn, the oldest first */
	struct swap_buffers buffers;
	unsigned int nr_jobs; /* begun */
	bool pump; /* the core was told something in this turn */
	struct swap_discard discard;
	struct timer timer; /* armed while a request has a deadline */
};

/* swap_open - the tiers that the options name; 0, or err has a sentence */
int __must_check swap_open(struct kvmd *d, char *err);
/* swap_close - behind swap_flush(), where a core was; d->io is still there */
void swap_close(struct kvmd *d);
/* swap_deadline - the core's is that of all tiers, and of what is on its way */
void swap_deadline(struct kvmd *d);
/* swap_set - mm_swap_set(), and it takes effect */
int __must_check swap_set(struct kvmd *d, const struct mm_swap_set *set);
/* swap_bytes - offsets of tier @i, 0 if there is none */
u64 swap_bytes(const struct swap *s, u32 i);
/* swap_forget - a predecessor's pages are of no use */
void swap_forget(struct swap *s);
/* swap_lost - bit t: what a predecessor had in tier t died with it */
u32 swap_lost(const struct swap *s);
/* swap_room - bytes that pages in it may take */
u64 swap_room(const struct swap *s, u32 i);
/* swap_tier_name - "ram", "lz4", "disk", or NULL: there is none */
const char *swap_tier_name(const struct kvmd *d, u32 i);
/* swap_submit - do what the core asks for; ends with mm_swap_done() */
void swap_submit(struct kvmd *d, const struct mm_swap_io *io,
		 enum mm_req_type type);
/* swap_forget_page - the core's: it is not needed any more; @host: kvmd */
void swap_forget_page(void *host, u32 tier, u64 off);
/* swap_kick - at the end of a turn: pump, and what was asked for begins */
void swap_kick(struct kvmd *d);
/* swap_pause - returns when nothing is copied; nothing is until resume */
void swap_pause(struct kvmd *d);
void swap_resume(struct kvmd *d);
/* swap_flush - wait until nothing is on its way, some seconds at most; then
 * what is has been given up */
void swap_flush(struct kvmd *d);
/*
 * swap_is_stuck - behind swap_flush(): a disk keeps one of swap's threads,
 * which is left behind with what is its, of @d also
 */
bool swap_is_stuck(const struct kvmd *d);

/* For swap.c: once; and in each turn, to look whether there is enough */
void swap_discard_init(struct kvmd *d);
void swap_discard_arm(struct kvmd *d);

#endif
