/* SPDX-License-Identifier: MIT */
#ifndef CPU_AMX_FEW_H
#define CPU_AMX_FEW_H
/*
 * amx_few.h - up to 32 rows of x by strips, on tile registers: a decode
 *
 *	for each 32 columns, two strips
 *	  for each 32 k
 *	    unpack both strips to two tiles		2 KiB, L1
 *	    multiply the two tiles of the step before
 *	  add bias and residual, store
 *
 * Weights are unpacked once and sums never leave the tiles. What takes the time
 * is unpacking, and memory: products, whose latency is long, go on beside the
 * unpacking of the next 32 k. Tiles have as many rows as there are, and x is
 * loaded from where it is.
 *
 * Included after unpack.h's instruction set and amx.h.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/store_sums.h"
#include "kernels/cpu/unpack.h"

#define FEW_ROWS (2 * AMX_ROWS)
#define FEW_COLS (2 * AMX_COLS)

typedef u32 few_tile[AMX_ROWS][AMX_COLS];

struct few_scratch {
	few_tile w[2][2]; /* [step % 2][strip] */
	float c[4][AMX_ROWS][AMX_COLS]; /* [2 * tile of rows + strip] */
} __attribute__((aligned(64)));

/* Two strips or one, and how far the next are. */
struct few_strips {
	struct strip_at at[2];
	u64 ahead;
	size_t quant_bytes; /* of all k */
};

/*
 * What the strips have from column k on is read STRIP_AHEAD bytes later: near
 * the end of their quants, those of the next strips. Scales lie behind the
 * quants: those of the next strips are fetched all along.
 */
vec_inline void few_prefetch(const u32 dtype, const u32 nr,
			     const struct few_strips *s, u32 k)
{
	const struct strip_type t = strip_type(dtype);
	size_t at = (size_t)k / 32 * t.quant_bytes + STRIP_AHEAD;
	size_t scale = (size_t)k * t.scale_bytes / t.scale_len;

	if (at >= s->quant_bytes)
		at += s->ahead - s->quant_bytes;
#pragma GCC unroll 2
	for (u32 i = 0; i < nr; i++) {
		strip_prefetch(s->at[i].quants + at, t.quant_bytes);
		_mm_prefetch((const char *)s->at[i].scales + s->ahead + scale,
			     _MM_HINT_T0);
	}
}

vec_inline void few_product(const bool two, const struct kern_gemm *p, u32 k,
			    few_tile *w)
{
	size_t stride = p->x_stride * sizeof(*p->x);

	amx_load(6, w[0], 64);
	amx_load(7, w[1], 64);
	amx_load(4, p->x + k, stride);
	amx_product(0, 4, 6);
	amx_product(1, 4, 7);
	if (two) {
		amx_load(5, p->x + AMX_ROWS * (size_t)p->x_stride + k, stride);
		amx_product(2, 5, 6);
		amx_product(3, 5, 7);
	}
}

vec_inline void few_steps(const u32 dtype, const bool two,
			  const struct kern_gemm *p,
			  const struct few_strips *strips,
			  struct few_scratch *s)
{
	u32 k = 0;

	do {
		few_tile *w = s->w[k / AMX_K % 2];

		few_prefetch(dtype, 2, strips, k);
		unpack_block(dtype, strips->at[0], k, w[0][0], AMX_COLS);
		unpack_block(dtype, strips->at[1], k, w[1][0], AMX_COLS);
		if (k)
			few_product(two, p, k - AMX_K,
				    s->w[(k / AMX_K - 1) % 2]);
		k += AMX_K;
	} while (k < p->w.cols);
	few_product(two, p, k - AMX_K, s->w[(k / AMX_K - 1) % 2]);
}

/* Columns n .. n1, at most FEW_COLS. */
static void few_cols(const struct kern_gemm *p, u32 n, u32 n1,
		     struct few_scratch *s)
{
	struct few_strips strips = { .ahead = 2 * p->w.stride };
	const struct strip_type t = strip_type(p->w.dtype);
	bool two = p->m > AMX_ROWS, any = !p->best;

	strips.at[0] = strip_at(&p->w, n, 0);
	/* A strip without a neighbour is its own. */
	strips.at[1] = n + KERN_STRIP < n1 ? strip_at(&p->w, n + KERN_STRIP, 0)
					   : strips.at[0];
	strips.quant_bytes = strip_quant_bytes(&t, p->w.cols);
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	switch (p->w.dtype) {
		STRIP_TYPES(two ? few_steps(dtype, true, p, &strips, s)
				: few_steps(dtype, false, p, &strips, s))
	}
	amx_store(0, s->c[0], 64);
	amx_store(1, s->c[1], 64);
	if (two) {
		amx_store(2, s->c[2], 64);
		amx_store(3, s->c[3], 64);
	}
	for (u32 i = 0; i < (two ? 4 : 2) && !any; i++)
		any = wants_store(p, i / 2 * AMX_ROWS, s->c[i]);
	for (u32 m = 0; m < p->m && any; m++)
		store_sums(p, m, n, n1 - n,
			   s->c[m / AMX_ROWS * 2][m % AMX_ROWS],
			   AMX_ROWS * AMX_COLS);
}

/* Columns lo .. hi of strips; 1 to FEW_ROWS rows. */
static void few_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	amx_begin_rows(p->m);
	for (u32 n = lo; n < hi; n += FEW_COLS)
		few_cols(p, n, min(hi, n + FEW_COLS), scratch);
	amx_end();
}

#endif
