/* SPDX-License-Identifier: MIT */
/*
 * tier_ram.c - host memory as a tier
 *
 * One memfd, of which the kernel gives pages as they are first written; it may
 * outlive kvmd. They are kept when what was in them is gone, unless
 * --swap-discard says otherwise: how much there may be was said when kvmd was
 * started, and the next page comes soon.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/ipc/memfd.h"

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

static int ram_open(struct tier *t, const char *arg, char *err)
{
	int fd = ram_memory(t);
	void *p = fd < 0 ? NULL : memfd_map(fd, t->bytes);

	if (!p) {
		if (fd >= 0)
			close(fd);
		return err_set(err, fd < 0 ? fd : -ENOMEM,
			       "swap in memory: %llu bytes: %s",
			       (unsigned long long)t->bytes,
			       strerror(fd < 0 ? -fd : ENOMEM));
	}
	t->fd = fd;
	t->outlives = true;
	madvise(p, t->bytes, MADV_DONTDUMP);
	madvise(p, t->bytes, MADV_HUGEPAGE); /* if it can */
	t->priv = p;
	return 0;
}

static void ram_close(struct tier *t)
{
	munmap(t->priv, t->bytes);
	close(t->fd);
}

static void *ram_at(struct tier *t, u64 off)
{
	return (char *)t->priv + off;
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
