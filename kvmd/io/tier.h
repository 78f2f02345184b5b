/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_TIER_H
#define KVMD_IO_TIER_H
/*
 * tier.h - where pages go that leave the device, behind one table
 *
 * A tier is an offset space of some bytes. A page that is written there has a
 * checksum (XXH3 of the content, begun with a key); what is read back and does
 * not match is -EBADMSG: torn, short, misdirected, stale and flipped data
 * alike. Who moves the page sums it up, while it passes through the caches, and
 * compares it: sum.h.
 *
 * A tier in host memory is read and written in place: its caller works on
 * tier_at() and submits nothing. To any other, pages are submitted; the end is
 * told on the loop. A request that has not ended at its deadline is given up
 * and becomes late: its caller is told, but the memory stays the tier's until
 * the kernel is done with it.
 */
#include <sys/queue.h>
#include "include/kv/types.h"
#include "kvmd/io/rw.h"
#include "kvmd/io/work.h"

struct tier;
struct tier_req;

/**
 * struct tier_ops - a kind of tier
 * @name: "ram", "lz4", "file"
 * @open: take @t->bytes in hand (0: as much as there is, set it); @arg is a
 *	path or NULL; leaves a sentence in @err
 * @close: give everything back but, @t->busy, what a thread looks at; requests
 *	that are still out are late ones, which have been waited for. What a
 *	tier does beside requests it waits for itself, for a while
 * @at: host memory of an offset, or NULL if pages have to be moved
 * @submit: begin a request; it ends with tier_end(), later
 * @kick: what was submitted in this turn may begin
 * @wait: without the loop: until something has ended, or @ms
 * @discard: a range holds nothing any more; on a worker; 0 or -errno. May be
 *	NULL: it does not matter
 * @forget: the page at an offset is not needed any more, and nothing of it is
 *	out but late requests. May be NULL
 *
 * @open and @close are required, and @at, or @submit and @wait.
 */
struct tier_ops {
	const char *name;
	int (*open)(struct tier *t, const char *arg, char *err);
	void (*close)(struct tier *t);
	void *(*at)(struct tier *t, u64 off);
	void (*submit)(struct tier *t, struct tier_req *req);
	void (*kick)(struct tier *t);
	void (*wait)(struct tier *t, int ms);
	int (*discard)(struct tier *t, u64 off, u64 bytes);
	void (*forget)(struct tier *t, u64 off);
};

/**
 * struct tier_env - what tiers work with
 * @io: the loop
 * @pool: threads
 * @deadline_ns: of a request; 0: none
 * @adopts: a kvmd that was killed had the tier; it may still be writing there
 * @made: it had made the file
 * @fd: its memory, the tier's from now on; 0: there is none
 */
struct tier_env {
	struct io *io;
	struct work_pool *pool;
	u64 deadline_ns;
	bool adopts, made;
	int fd;
};

TAILQ_HEAD(tier_list, tier_req);

struct tier {
	const struct tier_ops *ops;
	struct tier_env env;
	u64 bytes; /* of its offset space */
	u64 room; /* bytes that pages in it may take */
	void *priv;
	struct tier_list out; /* submitted, the oldest first */
	struct tier_list late; /* given up, not ended */
	u32 nr_out, nr_late;
	u64 gave_up; /* requests that became late, ever */
	bool made; /* it is a file that was not there before */
	bool outlives; /* kvmd: with @fd, if that is not -1 */
	bool busy; /* at its close: a thread, in @discard say, has it */
	int fd; /* memory to be kept */
};

#define TIER_ALIGN RW_ALIGN /* of offsets, lengths and buffers */

/**
 * struct tier_req - a page to be written or read
 * @tier: the caller fills this to @priv
 * @buf: aligned
 * @pool: threads to work on, where the tier needs any; NULL: the tier's
 * @done: called on the loop, once
 * @released: called on the loop, once, if @late was set in @done: from then on
 *	@buf and the request are the caller's again
 * @priv: the caller's
 * @stored: bytes of the tier's room that a page takes that was written
 * @err: 0; -ETIMEDOUT: given up; -EBUSY: what was given up may still be
 *	written there; -errno
 */
struct tier_req {
	struct tier *tier;
	bool write;
	u32 bytes;
	u64 off;
	void *buf;
	struct work_pool *pool;
	void (*done)(struct tier_req *req);
	void (*released)(struct tier_req *req);
	void *priv;
	u32 stored;
	int err;
	bool late;

	u64 due_ns; /* the tier's own, as is what follows */
	int res;
	TAILQ_ENTRY(tier_req) link;
	struct work work;
	struct rw_req rw;
};

/**
 * tier_open - open a tier
 * @ops: kind
 * @arg: a path, or NULL
 * @bytes: its size; 0: a device's own, 4 GiB of a file
 * @env: copied
 * @out: the tier
 * @err: KV_ERRLEN bytes for a sentence
 */
int __must_check tier_open(const struct tier_ops *ops, const char *arg,
			   u64 bytes, const struct tier_env *env,
			   struct tier **out, char *err);
/* tier_close - nothing is out but late requests, which end meanwhile or never;
 * what a thread has, @busy, is left to it. NULL is fine.
 */
void tier_close(struct tier *t);
/* tier_at - host memory of @off, or NULL: a buffer is needed */
void *tier_at(struct tier *t, u64 off);
/* tier_submit - begin; done() may come at once */
void tier_submit(struct tier_req *req);
/* tier_kick - what was submitted may begin; once a turn */
void tier_kick(struct tier *t);
/* tier_wait - without the loop: until something has ended, or @ms */
void tier_wait(struct tier *t, int ms);
/* tier_deadline - of requests, also of those that are out; 0: none */
void tier_deadline(struct tier *t, u64 deadline_ns);
/* tier_due_ns - when the next deadline is, 0: nothing is out */
u64 tier_due_ns(const struct tier *t);
/* tier_expire - give up what has not ended by now */
void tier_expire(struct tier *t, u64 now_ns);
/* tier_forget - the page at @off is not needed any more */
void tier_forget(struct tier *t, u64 off);

/* For tiers: the request has ended, nobody touches its memory any more. */
void tier_end(struct tier_req *req, int err);

extern const struct tier_ops tier_ram_ops;
extern const struct tier_ops tier_lz4_ops;
extern const struct tier_ops tier_file_ops;

/**
 * tier_fault - put a tier that fails in front of another
 * @spec: KIND:RATE[,KIND:RATE...][:SEED]; see tier_fault.c
 * @t: replaced; kept on failure
 * @nr: counted up for each fault; NULL is fine
 * @err: KV_ERRLEN bytes for a sentence
 */
int __must_check tier_fault(const char *spec, struct tier **t, u64 *nr,
			    char *err);

#endif
