/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_TIER_H
#define KVMD_IO_TIER_H
/*
 * tier.h - where pages go that leave the device, behind one table
 *
 * A tier is an offset space of some bytes. A page is written to a place in it
 * with a key and gets a checksum (XXH3 of the content, begun with the key); it
 * is read back with the same key and sum, and what does not match is -EBADMSG:
 * torn, short, misdirected, stale and flipped data alike. Reading and writing
 * is done by a worker; its end is told on the loop.
 *
 * A tier in host memory is read and written in place: its caller works on
 * tier_at() instead of a buffer of its own.
 */
#include "include/kv/types.h"
#include "kvmd/io/work.h"

struct tier;

/**
 * struct tier_ops - a kind of tier
 * @name: "ram", "file"
 * @open: take @t->bytes in hand (0: as much as there is, set it); @arg is a
 *	path or NULL; leaves a sentence in @err
 * @close: give everything back; no request is out
 * @at: host memory of an offset, or NULL if pages have to be moved
 * @read, @write: on a worker; 0 or -errno. NULL with @at
 *
 * @open and @close are required, and one of @at, or @read and @write.
 */
struct tier_ops {
	const char *name;
	int (*open)(struct tier *t, const char *arg, char *err);
	void (*close)(struct tier *t);
	void *(*at)(struct tier *t, u64 off);
	int (*read)(struct tier *t, u64 off, void *buf, u32 bytes);
	int (*write)(struct tier *t, u64 off, const void *buf, u32 bytes);
};

struct tier {
	const struct tier_ops *ops;
	struct work_pool *pool;
	u64 bytes;
	void *priv;
};

#define TIER_ALIGN 4096u /* of offsets, lengths and buffers */

/**
 * struct tier_req - a page to be written or read
 * @write: the caller fills this to @key, and @sum to read
 * @buf: aligned, or tier_at()
 * @sum: filled in by a write
 * @done: called on the loop, once
 * @err: 0, -EBADMSG: not what was written, or -errno
 */
struct tier_req {
	struct tier *tier;
	bool write;
	u32 bytes;
	u64 off;
	void *buf;
	u64 key, sum;
	void (*done)(struct tier_req *req);
	int err;
	struct work work; /* the tier's own */
};

/**
 * tier_open - open a tier
 * @ops: kind
 * @arg: a path, or NULL
 * @bytes: its size; 0: as large as what is there
 * @pool: threads
 * @out: the tier
 * @err: KV_ERRLEN bytes for a sentence
 */
int __must_check tier_open(const struct tier_ops *ops, const char *arg,
			   u64 bytes, struct work_pool *pool, struct tier **out,
			   char *err);
void tier_close(struct tier *t);
/* tier_at - host memory of @off, or NULL: a buffer is needed */
void *tier_at(struct tier *t, u64 off);
void tier_submit(struct tier_req *req);

extern const struct tier_ops tier_ram_ops;
extern const struct tier_ops tier_file_ops;

#endif
