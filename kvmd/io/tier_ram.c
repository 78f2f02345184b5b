/* SPDX-License-Identifier: MIT */
/*
 * tier_ram.c - host memory as a tier
 *
 * One memfd, of which the kernel gives pages as they are first written; it may
 * outlive kvmd. They are kept when what was in them is gone, unless
 * --swap-discard says otherwise: how much there may be was said when kvmd was
 * started, and the next page comes soon.
 *
 * A thread makes it huge pages a chunk at a time, AHEAD of the chunks that were
 * used: places are given from the lowest. Some fields of struct ram are its own
 * while it runs; what is copied meanwhile is as right as ever. A system that
 * has no huge pages, or none left, is not asked again. What was discarded comes
 * back in small pages, and what a predecessor used stays as it is.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/ipc/memfd.h"
#include "lib/huge.h"

#define CHUNK	(8ull << 20)
#define AHEAD	1u /* chunks */
#define WAIT_MS 100

struct ram {
	struct tier *tier;
	char *mem;
	u64 used; /* chunks, to the last that was asked for */
	u64 made; /* chunks that are huge, or cannot be */
	bool running, closing;
	struct work work;
	u64 at, bytes; /* the thread's while it runs, as is what follows */
	int err;
};

static int ram_memory(struct tier *t)
{
	struct stat st;

	if (t->env.fd <= 0)
		return memfd_create_sealed("kvmd-swap", t->bytes, 0);
	if (!fstat(t->env.fd, &st) && (u64)st.st_size == t->bytes)
		return t->env.fd;
	close(t->env.fd);
	return -EINVAL;
}

/* On a worker. */
static void chunk_run(struct work *w)
{
	struct ram *r = container_of(w, struct ram, work);

	r->err = huge_make(r->mem + r->at, r->bytes);
}

static void chunk_start(struct tier *t);

static void chunk_done(struct work *w)
{
	struct ram *r = container_of(w, struct ram, work);

	r->running = false;
	r->made = r->err == -EINVAL || r->err == -ENOMEM ? ~0ull : r->made + 1;
	chunk_start(r->tier);
}

static void chunk_start(struct tier *t)
{
	struct ram *r = t->priv;

	if (r->running || r->closing || r->made >= r->used + AHEAD ||
	    r->made * CHUNK >= t->bytes)
		return;
	r->at = r->made * CHUNK;
	r->bytes = min(CHUNK, t->bytes - r->at) / HUGE_PAGE * HUGE_PAGE;
	r->running = true;
	r->work.run = chunk_run;
	r->work.done = chunk_done;
	r->work.slow = true;
	work_submit(t->env.pool, &r->work);
}

static int ram_open(struct tier *t, const char *arg, char *err)
{
	struct ram *r = calloc(1, sizeof(*r));
	int fd = r ? ram_memory(t) : -ENOMEM;

	if (r && fd >= 0)
		r->mem = huge_map(fd, t->bytes);
	if (!r || !r->mem) {
		if (fd >= 0)
			close(fd);
		free(r);
		return err_set(err, fd < 0 ? fd : -ENOMEM,
			       "swap in memory: %llu bytes: %s",
			       (unsigned long long)t->bytes,
			       strerror(fd < 0 ? -fd : ENOMEM));
	}
	t->fd = fd;
	t->outlives = true;
	r->made = DIV_ROUND_UP((u64)max(memfd_resident(fd), (s64)0), CHUNK);
	madvise(r->mem, t->bytes, MADV_DONTDUMP);
	r->tier = t;
	t->priv = r;
	return 0;
}

static void ram_close(struct tier *t)
{
	struct ram *r = t->priv;

	r->closing = true;
	while (r->running)
		work_pool_wait(t->env.pool, WAIT_MS);
	if (t->busy)
		return;
	munmap(r->mem, t->bytes);
	close(t->fd);
	free(r);
}

static void *ram_at(struct tier *t, u64 off)
{
	struct ram *r = t->priv;

	r->used = max(r->used, off / CHUNK + 1);
	chunk_start(t);
	return r->mem + off;
}

static int ram_discard(struct tier *t, u64 off, u64 bytes)
{
	return fallocate(t->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)off, (off_t)bytes)
		       ? -errno
		       : 0;
}

const struct tier_ops tier_ram_ops = {
	.name = "ram",
	.open = ram_open,
	.close = ram_close,
	.at = ram_at,
	.discard = ram_discard,
};
