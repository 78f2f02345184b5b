/* SPDX-License-Identifier: MIT */
/*
 * tier_ram.c - host memory as a tier
 *
 * One anonymous mapping, of which the kernel gives pages as they are first
 * written. They are kept when what was in them is gone, unless --swap-discard
 * says otherwise: how much there may be was said when kvmd was started, and the
 * next page comes soon.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "include/kv/errbuf.h"

static int ram_open(struct tier *t, const char *arg, char *err)
{
	void *p = mmap(NULL, t->bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_set(err, -errno, "swap in memory: %llu bytes: %s",
			       (unsigned long long)t->bytes, strerror(errno));
	madvise(p, t->bytes, MADV_DONTDUMP);
	madvise(p, t->bytes, MADV_HUGEPAGE); /* if it can */
	t->priv = p;
	return 0;
}

static void ram_close(struct tier *t)
{
	munmap(t->priv, t->bytes);
}

static void *ram_at(struct tier *t, u64 off)
{
	return (char *)t->priv + off;
}

static int ram_discard(struct tier *t, u64 off, u64 bytes)
{
	return madvise((char *)t->priv + off, bytes, MADV_DONTNEED) ? -errno
								    : 0;
}

const struct tier_ops tier_ram_ops = {
	.name = "ram",
	.open = ram_open,
	.close = ram_close,
	.at = ram_at,
	.discard = ram_discard,
};
