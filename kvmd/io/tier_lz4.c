/* SPDX-License-Identifier: MIT */
/*
 * tier_lz4.c - host memory as a tier, of pages that are made smaller
 *
 * Offsets are names: there are SPREAD times as many as memory, and a page takes
 * of that what is left of it behind LZ4, in blocks (blocks.h). One that LZ4
 * makes less than a block smaller is kept as it is. The caller counts what
 * pages take (tier_req.stored) and asks for no more than there is; a page is
 * whatever was written at its offset, until it is forgotten.
 *
 *	empty -> written -> empty	forgotten, or written anew
 *
 * LZ4 looks for bytes that repeat, and finds none in keys and values: of a bf16
 * number the exponent is one of a few, and sign and mantissa are noise, but
 * each of its two bytes has some of both. So a page is cut into planes first:
 * all exponents, then all the rest. What is not made of bf16 numbers loses
 * nothing by that but time.
 *
 * A thread of the pool makes a page smaller, or puts it together again in the
 * caller's buffer; the table and the free blocks are under one lock. A page
 * that is forgotten while a read of it is out (given up by its caller) is freed
 * by that, so that no chain changes while somebody follows it.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <lz4.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "include/kv/errbuf.h"
#include "kvmd/io/blocks.h"

#define SPREAD 4u

/* What lies at an offset. */
struct lz4_page {
	u32 piece; /* its blocks */
	u32 stored; /* bytes in them; 0: nothing is there */
	u32 bytes; /* of the page; as many as stored: it is as it was */
	u16 readers;
	bool dead; /* the last reader frees it */
};

struct lz4_tier {
	struct blocks *blocks;
	struct lz4_page *pages; /* by offset / TIER_ALIGN */
	u64 nr_pages;
	pthread_mutex_t lock; /* covers the pages */
};

static void lz4_close(struct tier *t)
{
	struct lz4_tier *z = t->priv;

	blocks_destroy(z->blocks);
	if (z->pages)
		munmap(z->pages, z->nr_pages * sizeof(*z->pages));
	pthread_mutex_destroy(&z->lock);
	free(z);
}

static int lz4_open(struct tier *t, const char *arg, char *err)
{
	struct lz4_tier *z = calloc(1, sizeof(*z));
	int rc = -ENOMEM;
	void *p;

	if (!z)
		return err_set(err, -ENOMEM, "swap lz4: no memory");
	pthread_mutex_init(&z->lock, NULL);
	t->priv = z;
	t->room = t->bytes;
	t->bytes *= SPREAD;
	z->nr_pages = t->bytes / TIER_ALIGN;
	p = mmap(NULL, z->nr_pages * sizeof(*z->pages), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p != MAP_FAILED) {
		z->pages = p;
		rc = blocks_create(t->room, &z->blocks);
	}
	if (!rc)
		return 0;
	lz4_close(t);
	return err_set(err, rc, "swap lz4: %llu bytes: %s",
		       (unsigned long long)t->room, strerror(-rc));
}

/* Under the lock. */
static void page_drop(struct lz4_tier *z, struct lz4_page *p)
{
	if (p->readers) {
		p->dead = true;
		return;
	}
	if (p->stored)
		blocks_free(z->blocks, p->piece, p->stored);
	*p = (struct lz4_page){ 0 };
}

/* s eeeeeeee mmmmmmm, little endian, to e...e and sm...m */
static void cut(const u16 *from, u8 *to, u32 bytes)
{
	u8 *exponents = to, *rest = to + bytes / 2;
	u32 i;

	for (i = 0; i < bytes / 2; i++) {
		exponents[i] = (u8)(from[i] >> 7);
		rest[i] = (u8)((from[i] & 0x7f) | (from[i] >> 8 & 0x80));
	}
}

static void join(const u8 *from, u16 *to, u32 bytes)
{
	const u8 *exponents = from, *rest = from + bytes / 2;
	u32 i;

	for (i = 0; i < bytes / 2; i++)
		to[i] = (u16)((rest[i] & 0x80) << 8 | exponents[i] << 7 |
			      (rest[i] & 0x7f));
}

/* Make a page smaller. Return: bytes of *@out, to be freed; 0: it is not. */
static u32 pack(const struct tier_req *req, char **out)
{
	u32 room = req->bytes - BLOCK_BYTES;
	char *planes = malloc(req->bytes), *small = malloc(room);
	int n = 0;

	if (planes && small) {
		cut(req->buf, (u8 *)planes, req->bytes);
		n = LZ4_compress_default(planes, small, (int)req->bytes,
					 (int)room);
	}
	free(planes);
	*out = small;
	return n > 0 ? (u32)n : 0;
}

static int page_write(struct lz4_tier *z, struct tier_req *req)
{
	struct lz4_page *p = &z->pages[req->off / TIER_ALIGN];
	u32 piece, n;
	char *small;
	int rc;

	n = pack(req, &small);
	rc = blocks_put(z->blocks, n ? small : req->buf, n ? n : req->bytes,
			&piece);
	n = n ? n : req->bytes;
	free(small);
	if (rc)
		return rc;
	pthread_mutex_lock(&z->lock);
	page_drop(z, p);
	if (p->readers) {
		rc = -EBUSY; /* a read that was given up has not ended */
	} else {
		p->piece = piece;
		p->stored = n;
		p->bytes = req->bytes;
	}
	pthread_mutex_unlock(&z->lock);
	if (rc)
		blocks_free(z->blocks, piece, n);
	req->stored = blocks_round(n);
	return rc;
}

static int page_unpack(const struct lz4_tier *z, const struct lz4_page *p,
		       struct tier_req *req)
{
	char *small, *planes;
	int n = -1;

	if (!p->stored || p->bytes != req->bytes)
		return -EBADMSG; /* another page, or none */
	if (p->stored == p->bytes) {
		blocks_get(z->blocks, p->piece, req->buf, p->bytes);
		return 0;
	}
	small = malloc(p->stored);
	planes = malloc(p->bytes);
	if (small && planes) {
		blocks_get(z->blocks, p->piece, small, p->stored);
		n = LZ4_decompress_safe(small, planes, (int)p->stored,
					(int)p->bytes);
		if (n == (int)p->bytes)
			join((const u8 *)planes, req->buf, p->bytes);
	}
	free(small);
	free(planes);
	return n == (int)p->bytes ? 0 : -EBADMSG;
}

static int page_read(struct lz4_tier *z, struct tier_req *req)
{
	struct lz4_page *p = &z->pages[req->off / TIER_ALIGN], here;
	int rc;

	pthread_mutex_lock(&z->lock);
	here = *p;
	p->readers++;
	pthread_mutex_unlock(&z->lock);
	rc = page_unpack(z, &here, req);
	pthread_mutex_lock(&z->lock);
	if (!--p->readers && p->dead)
		page_drop(z, p);
	pthread_mutex_unlock(&z->lock);
	return rc;
}

static void lz4_forget(struct tier *t, u64 off)
{
	struct lz4_tier *z = t->priv;

	pthread_mutex_lock(&z->lock);
	page_drop(z, &z->pages[off / TIER_ALIGN]);
	pthread_mutex_unlock(&z->lock);
}

static void lz4_run(struct work *w)
{
	struct tier_req *req = container_of(w, struct tier_req, work);
	struct lz4_tier *z = req->tier->priv;

	req->res = req->write ? page_write(z, req) : page_read(z, req);
}

static void lz4_done(struct work *w)
{
	struct tier_req *req = container_of(w, struct tier_req, work);

	if (req->late && req->write)
		lz4_forget(req->tier, req->off); /* nobody knows of it */
	tier_end(req, req->res);
}

static void lz4_submit(struct tier *t, struct tier_req *req)
{
	req->work.run = lz4_run;
	req->work.done = lz4_done;
	work_submit(req->pool ? req->pool : t->env.pool, &req->work);
}

static void lz4_wait(struct tier *t, int ms)
{
	work_pool_wait(t->env.pool, ms);
}

const struct tier_ops tier_lz4_ops = {
	.name = "lz4",
	.open = lz4_open,
	.close = lz4_close,
	.submit = lz4_submit,
	.wait = lz4_wait,
	.forget = lz4_forget,
};
