/* SPDX-License-Identifier: MIT */
#ifndef KVMD_DEV_DEV_H
#define KVMD_DEV_DEV_H
/*
 * dev.h - a memory that kvmd owns, behind one table
 *
 * The daemon knows a device as an offset space cut into extents of
 * KV_EXTENT_SIZE. Whatever takes time is a request (struct dev_req): it is
 * submitted on the loop, done elsewhere (a worker thread on cpu, a copy
 * engine on cuda) and its end is told on the loop. What is left is quick and
 * never sleeps.
 *
 * The life of an extent, as the device sees it:
 *
 *	bare --POPULATE--> populated --export()--> exported
 *	 ^                    ^                       |
 *	 +----- RELEASE ------+------- SCRUB ---------+
 *
 * populated   zeroed memory behind it, no descriptor outside kvmd
 * exported    one client may have mapped it
 *
 * SCRUB of an exported extent ends with memory that nobody outside has ever
 * had a descriptor of: the old memory is taken away ("retired") and new
 * memory stands in its place, as a mapping or a handle that a client kept
 * cannot be called back. Retired memory is watched by audit() while the
 * client lives.
 *
 * Extents outlive kvmd: with dev->keep a backend puts the memory of each there
 * before it says that it is populated, and adopt() finds it again. A request
 * that was out when kvmd was killed is asked for again by the core.
 */
#include "include/kv/types.h"
#include "kvmd/io/work.h"

struct dev;
struct dev_req;
struct keep;

#define DEV_ANYBODY 0xfffffffeu /* no client: whoever is given it */

enum dev_op {
	DEV_POPULATE, /* extent: zeroed memory behind it */
	DEV_SCRUB, /* extent: zeroed memory that nobody else can reach */
	DEV_RELEASE, /* extent: memory back to the system; bare at once */
	DEV_COPY, /* copy @bytes from device offset @src to @dst */
	DEV_READ, /* copy @bytes from device offset @src to @buf */
	DEV_WRITE, /* copy @bytes from @buf to device offset @dst */
	DEV_EXPORT, /* not submitted: the name of export() for faults */
	DEV_OP_NR
};

/**
 * struct dev_req - asynchronous work on a device
 * @op: what; the caller fills this to @bytes
 * @extent: extent; 0 for DEV_COPY, DEV_READ and DEV_WRITE
 * @src, @dst, @bytes: of those; each side lies in one extent
 * @buf: host memory of DEV_READ and DEV_WRITE
 * @key, @sum: of DEV_READ and DEV_WRITE: the seed of a checksum (XXH3), and the
 *	checksum of what was copied, valid in @done unless @err
 * @check: @sum is what it must be. Where it is another, @err is -EBADMSG and
 *	nothing of it stays on the device
 * @pool: threads to do it; NULL: the device's
 * @done: called on the loop, once, also when submission fails at once
 * @err: 0 or -errno, valid in @done
 *
 * Owned by the device between dev_submit() and @done.
 */
struct dev_req {
	enum dev_op op;
	u32 extent;
	u64 src, dst, bytes;
	void *buf;
	u64 key, sum;
	bool check;
	struct work_pool *pool;
	void (*done)(struct dev_req *req);
	int err;

	struct dev *dev; /* the device's own, as is what follows */
	struct work work;
	int fd[2];
	char *at[2];
};

/**
 * struct dev_facts - what a device says of itself
 * @backend: "cpu", "cuda"
 * @note: one word about its memory: the huge page setting, a GPU's name
 * @total_bytes: size of the offset space
 * @resident_bytes: what the system holds for its extents, asked of the system
 * @retired_bytes: of memory that was taken from clients and came back
 * @host_addressable: kernels of a client reach it by plain loads and stores
 */
struct dev_facts {
	const char *backend;
	char note[32];
	u64 total_bytes, resident_bytes, retired_bytes;
	bool host_addressable;
};

/**
 * struct dev_ops - a backend
 *
 * Loop thread, no sleeping, unless said otherwise. All are required.
 *
 * @open: take @bytes of memory in hand (nothing is allocated yet); @args is
 *	what followed the name and a colon, or ""; leaves a sentence in @err
 * @close: give everything back; no request is out
 * @submit: begin @req; it ends with req->done()
 * @export: a descriptor of a populated extent for client @client, owned by
 *	the caller (cuda: an exported handle); DEV_ANYBODY: one that can only
 *	be read, for as many clients as want it; -errno
 * @resident: bytes that the system holds for @extent (st_blocks; cuda: the
 *	slab's size); -errno. May be called by a worker while the loop is frozen
 * @extent_fd: the device's own descriptor of @extent, or -1; borrowed
 * @stream_gone: has everything that client @client ever launched ended, now
 *	that its process is (@process_gone) or is not gone? cpu: the process's
 *	threads are its stream
 * @fence: has step @step ended, given the word that the stream's last
 *	operation stores? cuda orders it behind the device's own writes
 * @audit: look at retired memory once, name each client that touched it;
 *	how many pieces are still watched
 * @client_gone: nothing of @client is left: forget its retired memory
 * @facts: fill @out
 * @adopt: take over what a predecessor has put into @dev->keep; once, before
 *	anything else
 */
struct dev_ops {
	const char *name;
	int (*open)(struct dev *dev, const char *args, u64 bytes, char *err);
	void (*close)(struct dev *dev);
	void (*submit)(struct dev *dev, struct dev_req *req);
	int (*export)(struct dev *dev, u32 extent, u32 client);
	s64 (*resident)(struct dev *dev, u32 extent);
	int (*extent_fd)(struct dev *dev, u32 extent);
	bool (*stream_gone)(struct dev *dev, u32 client, bool process_gone);
	bool (*fence)(struct dev *dev, const u64 *completed, u64 step);
	u32 (*audit)(struct dev *dev,
		     void (*touched)(void *ctx, u32 client, u32 extent,
				     u64 bytes),
		     void *ctx);
	void (*client_gone)(struct dev *dev, u32 client);
	void (*facts)(struct dev *dev, struct dev_facts *out);
	void (*adopt)(struct dev *dev);
};

struct dev {
	const struct dev_ops *ops;
	struct work_pool *pool;
	u64 bytes;
	u32 nr_extents;
	struct keep *keep; /* NULL: nothing outlives kvmd */
	void *priv;
};

/**
 * dev_open - open a device by its name
 * @spec: "cpu", or a wrapper in front: "error:cpu", "delay:error:cpu"
 * @bytes: size of the offset space, rounded down to extents
 * @pool: threads for its work
 * @keep: where its memory outlives kvmd, or NULL
 * @out: the device
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: 0; -ENODEV no such backend; -EINVAL; what the backend says.
 */
int __must_check dev_open(const char *spec, u64 bytes, struct work_pool *pool,
			  struct keep *keep, struct dev **out, char *err);
/* dev_adopt - take over what a predecessor has left */
void dev_adopt(struct dev *dev);
void dev_close(struct dev *dev);

/* dev_submit - begin @req (op, operands and done are set) */
void dev_submit(struct dev *dev, struct dev_req *req);
const char *dev_op_name(enum dev_op op);

extern const struct dev_ops dev_cpu_ops;
extern const struct dev_ops dev_error_ops;
extern const struct dev_ops dev_delay_ops;

#endif
