/* SPDX-License-Identifier: MIT */
/*
 * packing.c - fill the mapping of weights, while the file is read once
 *
 * The file is read from front to end through a digest_stream. The header has
 * to be the one that was planned by: the digest names the bytes, and the bytes
 * must say what lies where. Gaps are passed over, plain tensors go where they
 * belong at once, rows of a matrix for strips go to one of two buffers, some
 * strips at a time. Each round of the pool packs one buffer, an item per strip,
 * and has one more item, the first, that reads the other buffer full: hashing
 * and packing share the cores.
 *
 * Who reads also has the memory ready where what he read will go, in huge pages
 * if there are some: to make and clear them is a third of the work with pages
 * of 4 KiB, and a decode, which reads all weights for each token, is 4 to 6 %
 * faster in large ones.
 */
#include "runtime/model/packing.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/pool.h"
#include "kernels/include/kern.h"
#include "kernels/include/pack.h"
#include "lib/huge.h"

#define BUFFER_BYTES (4u << 20)

struct packing {
	const struct gguf *g;
	u64 bytes;
	u64 nr;
	u64 *order; /* [nr] tensors by their place in the file */
	struct packed_tensor t[];
};

static int by_offset(const void *a, const void *b, void *arg)
{
	const struct gguf_tensor *x = gguf_tensor_at(arg, *(const u64 *)a);
	const struct gguf_tensor *y = gguf_tensor_at(arg, *(const u64 *)b);

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* A matrix with less than one strip would only grow. */
static u64 strip_bytes(const struct gguf_tensor *t)
{
	if (t->nr_dims != 2 || t->ne[0] > UINT32_MAX || t->ne[1] > UINT32_MAX ||
	    t->ne[1] < KERN_STRIP)
		return 0;
	return kern_strip_bytes(t->type, (u32)t->ne[0]);
}

int packing_plan(const struct gguf *g, struct packing **out, char *err)
{
	u64 nr = gguf_nr_tensors(g), i;
	struct packing *p = calloc(1, sizeof(*p) + nr * sizeof(p->t[0]));

	if (p)
		p->order = malloc(max(nr, (u64)1) * sizeof(*p->order));
	if (!p || !p->order) {
		free(p);
		return err_set(err, -ENOMEM, "%s: no memory for its plan",
			       gguf_name(g));
	}
	p->g = g;
	p->nr = nr;
	for (i = 0; i < nr; i++)
		p->order[i] = i;
	qsort_r(p->order, nr, sizeof(*p->order), by_offset, (void *)g);
	for (i = 0; i < nr; i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, p->order[i]);
		struct packed_tensor *k = &p->t[p->order[i]];

		k->at = p->bytes;
		k->layout = KERN_LAYOUT_STRIP;
		k->stride = strip_bytes(t);
		k->bytes = DIV_ROUND_UP(t->ne[1], (u64)KERN_STRIP) * k->stride;
		if (!k->stride) {
			k->layout = KERN_LAYOUT_GGUF;
			k->stride = dtype_row_bytes(t->type, t->ne[0]);
			k->bytes = t->nr_bytes;
		}
		p->bytes += ALIGN_UP(k->bytes, (u64)KERN_STRIP_ALIGN);
	}
	*out = p;
	return 0;
}

void packing_free(struct packing *p)
{
	if (!p)
		return;
	free(p->order);
	free(p);
}

u64 packing_bytes(const struct packing *p)
{
	return p->bytes;
}

const struct packed_tensor *packing_of(const struct packing *p,
				       const struct gguf_tensor *t)
{
	return &p->t[t - gguf_tensor_at(p->g, 0)];
}

/* ---- filling ---- */

/* Some strips' rows, as the file has them. */
struct batch {
	u8 *rows;
	u64 max_bytes;
	const struct gguf_tensor *t; /* NULL: the file is at its end */
	u64 row, nr_rows;
};

struct fill {
	const struct packing *p;
	struct digest_stream in;
	u8 *dst;
	u64 next; /* place in p->order */
	u64 row; /* of that tensor, the next to be read */
	struct batch batch[2], *full, *empty;
	u64 ready; /* bytes of dst that have huge pages, or none to be had */
	int rc;
	char *err;
};

/*
 * Bytes up to @end of dst will be written: huge pages for them, as long as some
 * can be had. Tensors lie there in the order that they have in the file.
 */
static void dst_ready(struct fill *f, u64 end)
{
	u64 whole = f->p->bytes / HUGE_PAGE * HUGE_PAGE;
	u64 to = min(ALIGN_UP(end, HUGE_PAGE), whole);

	if (to <= f->ready)
		return;
	if (huge_make(f->dst + f->ready, to - f->ready))
		to = whole; /* no more */
	f->ready = to;
}

static u64 row_bytes(const struct gguf_tensor *t)
{
	return dtype_row_bytes(t->type, t->ne[0]);
}

/* Rows of strips to b, up to a whole number of strips. */
static int read_rows(struct fill *f, const struct gguf_tensor *t,
		     struct batch *b)
{
	u64 strip = KERN_STRIP * row_bytes(t);
	u64 nr = max(BUFFER_BYTES / strip, (u64)1) * KERN_STRIP, bytes;
	const struct packed_tensor *k;

	b->t = t;
	b->row = f->row;
	b->nr_rows = min(nr, t->ne[1] - f->row);
	bytes = b->nr_rows * row_bytes(t);
	if (bytes > b->max_bytes) {
		u8 *more = realloc(b->rows, bytes);

		if (!more)
			return err_set(f->err, -ENOMEM,
				       "%s: no memory to pack %s",
				       gguf_name(f->p->g), t->name);
		b->rows = more;
		b->max_bytes = bytes;
	}
	f->row += b->nr_rows;
	k = packing_of(f->p, t);
	dst_ready(f, k->at + DIV_ROUND_UP(f->row, KERN_STRIP) * k->stride);
	if (f->row == t->ne[1]) {
		f->row = 0;
		f->next++;
	}
	return digest_stream_read(&f->in, b->rows, bytes, f->err);
}

/* Read on until b has rows, or to the end of the file. */
static int read_batch(struct fill *f, struct batch *b)
{
	const struct packing *p = f->p;
	int rc = 0;

	b->t = NULL;
	while (!rc && f->next < p->nr) {
		u64 i = p->order[f->next];
		const struct gguf_tensor *t = gguf_tensor_at(p->g, i);

		if (f->row == 0)
			rc = digest_stream_skip(&f->in, t->offset - f->in.at,
						f->err);
		if (!rc && p->t[i].layout == KERN_LAYOUT_STRIP && t->ne[1])
			return read_rows(f, t, b);
		if (rc)
			break;
		dst_ready(f, p->t[i].at + t->nr_bytes);
		rc = digest_stream_read(&f->in, f->dst + p->t[i].at,
					t->nr_bytes, f->err);
		f->next++;
	}
	if (!rc)
		rc = digest_stream_skip(&f->in, gguf_size(p->g) - f->in.at,
					f->err);
	return rc;
}

/* The first item reads, each of the others packs a strip. */
static void fill_item(void *arg, u32 item, void *scratch)
{
	struct fill *f = arg;
	const struct batch *b = f->full;
	const struct packed_tensor *k;
	u64 row;

	if (item == 0) {
		f->rc = read_batch(f, f->empty);
		return;
	}
	k = packing_of(f->p, b->t);
	row = (u64)(item - 1) * KERN_STRIP;
	kern_pack_strip(
		b->t->type, (u32)b->t->ne[0], b->rows + row * row_bytes(b->t),
		(u32)min(b->nr_rows - row, (u64)KERN_STRIP),
		f->dst + k->at + (b->row + row) / KERN_STRIP * k->stride);
}

static int stale(const struct packing *p, char *err)
{
	return err_set(err, -ESTALE, "%s: the file has changed",
		       gguf_name(p->g));
}

static int read_header(struct fill *f)
{
	u64 len;
	const void *planned = gguf_header(f->p->g, &len);
	u8 *now = malloc(max(len, (u64)1));
	int rc;

	if (!now)
		return err_set(f->err, -ENOMEM, "%s: no memory for its header",
			       gguf_name(f->p->g));
	rc = digest_stream_read(&f->in, now, len, f->err);
	if (!rc && memcmp(now, planned, len))
		rc = stale(f->p, f->err);
	free(now);
	return rc;
}

static int fill_all(struct fill *f, struct pool *pool)
{
	int rc = read_header(f);

	if (rc)
		return rc;
	f->full = &f->batch[0];
	f->empty = &f->batch[1];
	f->rc = read_batch(f, f->full);
	while (!f->rc && f->full->t) {
		u64 nr = DIV_ROUND_UP(f->full->nr_rows, (u64)KERN_STRIP);
		struct batch *b = f->full;

		pool_run(pool, fill_item, f, 1 + (u32)nr);
		f->full = f->empty;
		f->empty = b;
	}
	return f->rc;
}

int packing_fill(const struct packing *p, int fd, void *dst,
		 const u8 want[DIGEST_BYTES], struct pool *pool, char *err)
{
	struct fill f = { .p = p, .dst = dst, .err = err };
	u8 got[DIGEST_BYTES];
	int rc = digest_stream_open(&f.in, fd, gguf_name(p->g), err);

	if (rc)
		return rc;
	if ((uintptr_t)dst % HUGE_PAGE)
		f.ready = p->bytes;
	rc = fill_all(&f, pool);
	if (!rc)
		rc = digest_stream_end(&f.in, got, err);
	else
		digest_stream_close(&f.in);
	free(f.batch[0].rows);
	free(f.batch[1].rows);
	if (!rc && memcmp(got, want, DIGEST_BYTES)) {
		digest_forget(fd); /* the next start hashes the file again */
		rc = stale(p, err);
	}
	return rc;
}
