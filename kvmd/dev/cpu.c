/* SPDX-License-Identifier: MIT */
/*
 * cpu.c - host memory as a device: one sealed memfd per extent
 *
 * The loop owns the table of extents; a worker gets the descriptors it works
 * on in its request and hands new ones back in it, so no lock is needed.
 *
 * Populate maps the memfd, makes it huge pages if it can and lets the kernel
 * fault all of it in: the client's first touch then never allocates, and makes
 * four entries of a page table instead of 2,048. Scrub punches the old memfd
 * and populates a new one. The same time is spent as for zeroing in place, and
 * a descriptor or mapping that a client kept shows it nothing but zero pages of
 * its own ("retired"), which audit() finds by st_blocks.
 *
 * Copies go by that mapping, as read() of a memfd looks up every 4 KiB; the
 * core lets go of no extent that a copy works in. A page that has gone bad is
 * the copy's error (guard.h). Workers unmap, for it can take as long as a fault
 * of another one. Where there is no mapping, as a process may have only so
 * many, pages are read and written.
 *
 * What is kept (keep/block.h). A new memfd is put, then named as the extent's
 * memory; the old one is noted as retired before that, or dropped after it.
 * Who was given a descriptor is noted before it is handed out. A release is
 * noted when it is submitted: a successor finds the extent bare, and empties
 * what is retired, as its predecessor may not have come to it.
 */
#include "kvmd/dev/dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "include/uapi/kv/abi.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/io/guard.h"
#include "kvmd/io/sum.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/keep/keep.h"
#include "kvmd/trace.h"
#include "lib/huge.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define CLIENT_NONE (~0u)
#define RETIRED_MAX KEEP_RETIRED_MAX
#define MAPS_MOST   32768u /* half of what Linux gives a process */
#define SMALL_MOST  64u /* extents that are small when one could not be huge */

struct cpu_extent {
	int fd; /* -1: bare */
	char *map; /* of all of it, or NULL */
	u32 gen; /* of what is kept */
	u32 client; /* who got a descriptor, CLIENT_NONE: nobody alive */
	u32 leaving; /* the same, of the memory that a RELEASE is out for */
	u32 leaving_gen;
};

struct cpu_retired {
	int fd;
	u32 gen, client, extent;
};

struct cpu {
	struct cpu_extent *extents;
	struct cpu_retired retired[RETIRED_MAX];
	u32 nr_retired;
	u32 small; /* extents that are not tried to be made huge; atomic */
	u64 touched_bytes;
	char thp[32];
};

/* ---- what is kept ---- */

static void note_extent(struct dev *dev, u32 extent)
{
	const struct cpu *cpu = dev->priv;
	struct keep_extent *r;

	if (!dev->keep)
		return;
	r = &dev->keep->block->extents[extent];
	keep_order();
	r->client = cpu->extents[extent].client;
	keep_order();
	r->gen = cpu->extents[extent].gen;
	keep_order();
}

/* Has anybody alive more than a look at it? */
static bool is_watched(u32 client)
{
	return client != CLIENT_NONE && client != DEV_ANYBODY;
}

/* Not under its extent's name any more, but watched. */
static void note_retired(struct dev *dev, u32 extent, u32 gen, u32 client)
{
	struct keep_retired *r;
	u32 i;

	if (!dev->keep || !is_watched(client))
		return;
	for (i = 0; i < KEEP_RETIRED_MAX; i++) {
		r = &dev->keep->block->retired[i];
		if (r->gen)
			continue;
		r->extent = extent;
		r->client = client;
		keep_order();
		r->gen = gen;
		return;
	}
}

static void forget_retired(struct dev *dev, u32 extent, u32 gen)
{
	struct keep_retired *r;
	u32 i;

	if (!dev->keep || !gen)
		return;
	for (i = 0; i < KEEP_RETIRED_MAX; i++) {
		r = &dev->keep->block->retired[i];
		if (r->gen == gen)
			r->gen = 0;
	}
	keep_drop(dev->keep, KEEP_EXTENT, extent, gen);
}

/* The bracketed word of /sys/kernel/mm/transparent_hugepage/shmem_enabled. */
static void thp_setting(char *word, size_t size)
{
	char text[128] = "", *from, *to;
	FILE *f;

	snprintf(word, size, "none");
	f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");
	if (!f)
		return;
	if (fgets(text, sizeof(text), f) && (from = strchr(text, '[')) &&
	    (to = strchr(from, ']')))
		snprintf(word, size, "%.*s", (int)(to - from - 1), from + 1);
	fclose(f);
}

static int cpu_open(struct dev *dev, const char *args, u64 bytes, char *err)
{
	struct cpu *cpu;
	u32 i;

	if (*args)
		return err_set(err, -EINVAL,
			       "device cpu: takes no argument, not \"%s\"",
			       args);
	cpu = calloc(1, sizeof(*cpu));
	if (!cpu)
		return err_set(err, -ENOMEM, "device cpu: no memory");
	cpu->extents = calloc(dev->nr_extents, sizeof(*cpu->extents));
	if (!cpu->extents) {
		free(cpu);
		return err_set(err, -ENOMEM, "device cpu: no memory");
	}
	for (i = 0; i < dev->nr_extents; i++) {
		cpu->extents[i].fd = -1;
		cpu->extents[i].client = CLIENT_NONE;
		cpu->extents[i].leaving = CLIENT_NONE;
	}
	thp_setting(cpu->thp, sizeof(cpu->thp));
	dev->priv = cpu;
	return 0;
}

static void extent_unmap(char *map)
{
	if (map)
		munmap(map, KV_EXTENT_SIZE);
}

static char *extent_map(int fd)
{
	char *p = huge_map(fd, KV_EXTENT_SIZE);

	if (p)
		madvise(p, KV_EXTENT_SIZE, MADV_DONTDUMP);
	return p;
}

static bool may_stay_mapped(const struct dev *dev)
{
	return dev->nr_extents <= MAPS_MOST;
}

static void cpu_close(struct dev *dev)
{
	struct cpu *cpu = dev->priv;
	u32 i;

	for (i = 0; i < dev->nr_extents; i++) {
		extent_unmap(cpu->extents[i].map);
		if (cpu->extents[i].fd >= 0)
			close(cpu->extents[i].fd);
	}
	for (i = 0; i < cpu->nr_retired; i++)
		close(cpu->retired[i].fd);
	free(cpu->extents);
	free(cpu);
}

static int cpu_punch(int fd)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		      KV_EXTENT_SIZE))
		return -errno;
	return 0;
}

/* An extent cost a search for a huge page in vain: the next ones need not. */
static void make_huge(struct cpu *cpu, char *map)
{
	u32 small = __atomic_load_n(&cpu->small, __ATOMIC_RELAXED);

	if (!small)
		small = huge_make(map, KV_EXTENT_SIZE) ? SMALL_MOST : 1;
	__atomic_store_n(&cpu->small, small - 1, __ATOMIC_RELAXED);
}

/* A new memfd with all of its pages there and zero; descriptor or -errno. */
static int cpu_fresh(struct dev *dev, char **map)
{
	int fd = memfd_create_sealed("kvmd-extent", KV_EXTENT_SIZE, 0), rc = 0;
	char *p;

	if (fd < 0)
		return fd;
	p = extent_map(fd);
	if (!p) {
		rc = -ENOMEM;
	} else {
		make_huge(dev->priv, p);
		if (madvise(p, KV_EXTENT_SIZE, MADV_POPULATE_WRITE))
			rc = -errno;
	}
	if (rc == -EINVAL && !fallocate(fd, 0, 0, KV_EXTENT_SIZE))
		rc = 0;
	if (rc || !may_stay_mapped(dev)) {
		extent_unmap(p);
		p = NULL;
	}
	if (rc) {
		close(fd);
		return rc;
	}
	*map = p;
	return fd;
}

static int cpu_copy(void *arg)
{
	const struct dev_req *req = arg;

	memcpy(req->at[1], req->at[0], req->bytes);
	return 0;
}

/* A page that comes or goes. */
static int cpu_page(void *arg)
{
	struct dev_req *req = arg;
	u64 sum = page_move(req->at[1], req->at[0], req->bytes, req->key);

	if (req->check && sum != req->sum) {
		memset(req->at[1], 0, req->bytes); /* who knows whose it is */
		return -EBADMSG;
	}
	req->sum = sum;
	return 0;
}

/* Without a mapping. */
static int read_in(const struct dev_req *req, void *to)
{
	off_t at = (off_t)(req->src % KV_EXTENT_SIZE);

	return pread(req->fd[0], to, req->bytes, at) == (ssize_t)req->bytes
		       ? 0
		       : -EIO;
}

static int write_out(const struct dev_req *req, const void *from)
{
	off_t at = (off_t)(req->dst % KV_EXTENT_SIZE);

	return pwrite(req->fd[1], from, req->bytes, at) == (ssize_t)req->bytes
		       ? 0
		       : -EIO;
}

static int copy_by_calls(struct dev_req *req)
{
	void *buf = req->op == DEV_COPY ? malloc(req->bytes) : req->buf;
	int rc = buf ? 0 : -ENOMEM;
	u64 sum = 0;

	if (!rc && req->op != DEV_WRITE)
		rc = read_in(req, buf);
	if (!rc && req->op != DEV_COPY)
		sum = page_sum(buf, req->bytes, req->key);
	if (!rc && req->check && sum != req->sum)
		rc = -EBADMSG;
	if (!rc)
		req->sum = sum;
	if (!rc && req->op != DEV_READ)
		rc = write_out(req, buf);
	if (req->op == DEV_COPY)
		free(buf);
	return rc;
}

static int cpu_move(struct dev_req *req)
{
	if (!req->at[0] || !req->at[1])
		return copy_by_calls(req);
	return guard_call(req->op == DEV_COPY ? cpu_copy : cpu_page, req);
}

static bool is_extent_op(enum dev_op op)
{
	return op != DEV_COPY && op != DEV_READ && op != DEV_WRITE;
}

/*
 * On a worker. Of an extent fd[0] and at[0] are what there was, [1] what there
 * will be; bytes go from at[0] to at[1].
 */
static void cpu_run(struct work *w)
{
	struct dev_req *req = container_of(w, struct dev_req, work);

	switch (req->op) {
	case DEV_POPULATE:
		req->fd[1] = cpu_fresh(req->dev, &req->at[1]);
		req->err = min(req->fd[1], 0);
		break;
	case DEV_SCRUB:
		req->err = cpu_punch(req->fd[0]);
		if (req->err)
			break;
		req->fd[1] = cpu_fresh(req->dev, &req->at[1]);
		req->err = min(req->fd[1], 0);
		break;
	case DEV_RELEASE:
		if (req->fd[0] >= 0)
			req->err = cpu_punch(req->fd[0]);
		break;
	case DEV_COPY:
	case DEV_READ:
	case DEV_WRITE:
		req->err = cpu_move(req);
		break;
	default:
		req->err = -EOPNOTSUPP;
	}
	if (is_extent_op(req->op))
		extent_unmap(req->at[0]);
}

/* Keep an eye on memory that a living client may still have mapped. */
static void cpu_retire(struct dev *dev, int fd, u32 gen, u32 client, u32 extent)
{
	struct cpu *cpu = dev->priv;

	if (!is_watched(client)) {
		close(fd);
		forget_retired(dev, extent, gen);
		return;
	}
	if (cpu->nr_retired == RETIRED_MAX) {
		close(cpu->retired[0].fd);
		forget_retired(dev, cpu->retired[0].extent,
			       cpu->retired[0].gen);
		memmove(&cpu->retired[0], &cpu->retired[1],
			--cpu->nr_retired * sizeof(cpu->retired[0]));
	}
	cpu->retired[cpu->nr_retired++] = (struct cpu_retired){
		.fd = fd,
		.gen = gen,
		.client = client,
		.extent = extent,
	};
}

/* Other memory stands there from now on. */
static void cpu_place(struct dev *dev, u32 extent, int fd, char *map)
{
	struct cpu_extent *x = &((struct cpu *)dev->priv)->extents[extent];
	const struct cpu_extent old = *x;

	x->fd = fd;
	x->map = map;
	x->client = CLIENT_NONE;
	if (dev->keep) {
		x->gen = keep_gen(dev->keep);
		keep_put(dev->keep, KEEP_EXTENT, extent, x->gen, fd);
		trace_point(dev->keep->owner, KV_TP_KEEP_EXTENT, CLIENT_NONE,
			    extent);
	}
	if (old.fd >= 0)
		note_retired(dev, extent, old.gen, old.client);
	note_extent(dev, extent);
	if (dev->keep)
		trace_point(dev->keep->owner, KV_TP_KEEP_PLACED, CLIENT_NONE,
			    extent);
	if (old.fd >= 0)
		cpu_retire(dev, old.fd, old.gen, old.client, extent);
}

static void cpu_done(struct work *w)
{
	struct dev_req *req = container_of(w, struct dev_req, work);
	struct cpu *cpu = req->dev->priv;
	struct cpu_extent *x = &cpu->extents[req->extent];

	if (req->op == DEV_RELEASE) {
		/* who had it may have left, and the number be another's */
		if (req->fd[0] >= 0)
			cpu_retire(req->dev, req->fd[0], x->leaving_gen,
				   x->leaving, req->extent);
		x->leaving = CLIENT_NONE;
	} else if (is_extent_op(req->op) && !req->err) {
		cpu_place(req->dev, req->extent, req->fd[1], req->at[1]);
	}
	req->done(req);
}

/* One side of a copy: the caller's memory, or an extent's. */
static void place_of(const struct dev *dev, struct dev_req *req, u32 side,
		     bool buf, u64 off)
{
	const struct cpu *cpu = dev->priv;
	const struct cpu_extent *x = &cpu->extents[off >> KV_EXTENT_SHIFT];

	req->fd[side] = buf ? -1 : x->fd;
	req->at[side] = buf ? req->buf : NULL;
	if (!buf && x->map)
		req->at[side] = x->map + off % KV_EXTENT_SIZE;
}

static void cpu_submit(struct dev *dev, struct dev_req *req)
{
	struct cpu *cpu = dev->priv;
	struct cpu_extent *x = &cpu->extents[req->extent];

	req->dev = dev;
	req->work.slow = is_extent_op(req->op);
	if (is_extent_op(req->op)) {
		req->fd[0] = x->fd;
		req->fd[1] = -1;
		req->at[0] = x->map;
		x->map = NULL;
	} else {
		place_of(dev, req, 0, req->op == DEV_WRITE, req->src);
		place_of(dev, req, 1, req->op == DEV_READ, req->dst);
	}
	if (req->op == DEV_RELEASE) { /* bare from now on */
		if (x->fd >= 0)
			note_retired(dev, req->extent, x->gen, x->client);
		x->leaving = x->client;
		x->leaving_gen = x->gen;
		x->fd = -1;
		x->gen = 0;
		x->client = CLIENT_NONE;
		note_extent(dev, req->extent);
	}
	req->work.run = cpu_run;
	req->work.done = cpu_done;
	work_submit(req->pool ? req->pool : dev->pool, &req->work);
}

static int cpu_export(struct dev *dev, u32 extent, u32 client)
{
	struct cpu *cpu = dev->priv;
	struct cpu_extent *x = &cpu->extents[extent];
	int fd;

	if (x->fd < 0)
		return -ENXIO;
	if (x->client != CLIENT_NONE && x->client != client)
		return -EBUSY;
	fd = client == DEV_ANYBODY ? memfd_reopen_ro(x->fd)
				   : fcntl(x->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return client == DEV_ANYBODY ? fd : -errno;
	x->client = client;
	note_extent(dev, extent);
	return fd;
}

static s64 cpu_resident(struct dev *dev, u32 extent)
{
	struct cpu *cpu = dev->priv;
	int fd = cpu->extents[extent].fd;

	return fd < 0 ? 0 : memfd_resident(fd);
}

static int cpu_extent_fd(struct dev *dev, u32 extent)
{
	struct cpu *cpu = dev->priv;

	return cpu->extents[extent].fd;
}

static bool cpu_stream_gone(struct dev *dev, u32 client, bool process_gone)
{
	return process_gone;
}

static bool cpu_fence(struct dev *dev, const u64 *completed, u64 step)
{
	return __atomic_load_n(completed, __ATOMIC_ACQUIRE) >= step;
}

static u32 cpu_audit(struct dev *dev,
		     void (*touched)(void *ctx, u32 client, u32 extent,
				     u64 bytes),
		     void *ctx)
{
	struct cpu *cpu = dev->priv;
	s64 bytes;
	u32 i;

	for (i = 0; i < cpu->nr_retired; i++) {
		const struct cpu_retired *r = &cpu->retired[i];

		bytes = memfd_resident(r->fd);
		if (bytes <= 0)
			continue;
		cpu->touched_bytes += (u64)bytes;
		cpu_punch(r->fd);
		touched(ctx, r->client, r->extent, (u64)bytes);
	}
	return cpu->nr_retired;
}

static void cpu_client_gone(struct dev *dev, u32 client)
{
	struct cpu *cpu = dev->priv;
	u32 i, kept = 0;

	for (i = 0; i < dev->nr_extents; i++) {
		if (cpu->extents[i].client == client) {
			cpu->extents[i].client = CLIENT_NONE;
			note_extent(dev, i);
		}
		if (cpu->extents[i].leaving == client)
			cpu->extents[i].leaving = CLIENT_NONE;
	}
	for (i = 0; i < cpu->nr_retired; i++) {
		if (cpu->retired[i].client == client) {
			cpu_punch(cpu->retired[i].fd);
			close(cpu->retired[i].fd);
			forget_retired(dev, cpu->retired[i].extent,
				       cpu->retired[i].gen);
			continue;
		}
		cpu->retired[kept++] = cpu->retired[i];
	}
	cpu->nr_retired = kept;
}

static void cpu_facts(struct dev *dev, struct dev_facts *out)
{
	struct cpu *cpu = dev->priv;
	s64 bytes;
	u32 i;

	memset(out, 0, sizeof(*out));
	out->backend = "cpu";
	memcpy(out->note, cpu->thp, sizeof(out->note));
	out->total_bytes = dev->bytes;
	out->host_addressable = true;
	out->retired_bytes = cpu->touched_bytes;
	for (i = 0; i < dev->nr_extents; i++) {
		bytes = cpu_resident(dev, i);
		out->resident_bytes += bytes > 0 ? (u64)bytes : 0;
	}
}

static void cpu_adopt(struct dev *dev)
{
	struct keep_block *b = dev->keep->block;
	struct cpu *cpu = dev->priv;
	struct keep_fd left;
	u32 i;
	int fd;

	for (i = 0; i < dev->nr_extents; i++) {
		struct cpu_extent *x = &cpu->extents[i];

		if (!b->extents[i].gen)
			continue;
		x->fd = keep_take(dev->keep, KEEP_EXTENT, i, b->extents[i].gen);
		if (x->fd >= 0 && may_stay_mapped(dev))
			x->map = extent_map(x->fd);
		x->gen = x->fd < 0 ? 0 : b->extents[i].gen;
		x->client = x->fd < 0 ? CLIENT_NONE : b->extents[i].client;
		note_extent(dev, i);
	}
	for (i = 0; i < KEEP_RETIRED_MAX; i++) {
		struct keep_retired *r = &b->retired[i];

		if (!r->gen)
			continue;
		fd = keep_take(dev->keep, KEEP_EXTENT, r->extent, r->gen);
		if (fd < 0) {
			r->gen = 0;
			continue;
		}
		cpu_punch(fd);
		cpu_retire(dev, fd, r->gen, r->client, r->extent);
	}
	/* on their way in or out, and nobody's: some may be mapped still */
	while (keep_take_any(dev->keep, KEEP_EXTENT, &left)) {
		cpu_punch(left.fd);
		close(left.fd);
		keep_drop(dev->keep, KEEP_EXTENT, left.index, left.gen);
	}
}

const struct dev_ops dev_cpu_ops = {
	.name = "cpu",
	.open = cpu_open,
	.close = cpu_close,
	.submit = cpu_submit,
	.export = cpu_export,
	.resident = cpu_resident,
	.extent_fd = cpu_extent_fd,
	.stream_gone = cpu_stream_gone,
	.fence = cpu_fence,
	.audit = cpu_audit,
	.client_gone = cpu_client_gone,
	.facts = cpu_facts,
	.adopt = cpu_adopt,
};
