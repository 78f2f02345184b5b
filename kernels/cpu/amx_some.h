/* SPDX-License-Identifier: MIT */
#ifndef CPU_AMX_SOME_H
#define CPU_AMX_SOME_H
/*
 * amx_some.h - 33 to 64 rows of x, packed, by strips, on tile registers
 *
 *	for each strip
 *	  for each 32 k
 *	    unpack the strip to a tile			1 KiB, L1
 *	    multiply the tile before by 3 or 4 tiles of rows
 *	  at every 4th strip: add bias and residual, store
 *
 * As amx_few.h, with more of x than fits beside two strips. Unpacking goes on
 * beside the products, and sums never leave their registers; a panel would cost
 * a way to memory and back for both, which pays from some 96 rows on.
 *
 * Included after what packs x: block_depth(), packed_at().
 */
#include "kernels/cpu/amx_few.h"

#define SOME_TILES  4u /* of rows */
#define SOME_ROWS   (SOME_TILES * AMX_ROWS)
#define SOME_STRIPS 4u /* that are stored together */
#define SOME_COLS   (SOME_STRIPS * AMX_COLS)

typedef float some_sums[SOME_TILES][AMX_ROWS][AMX_COLS];

struct some_scratch {
	few_tile w[2]; /* [step % 2] */
	some_sums c[SOME_STRIPS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct some_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/* Tiles of x for one step, @stride apart. */
struct some_x {
	const few_tile *at;
	size_t stride;
};

/* All rows of 32 k from k on; blocks of k have @depth. */
vec_inline struct some_x some_x(const struct kern_gemm *p, u32 depth, u32 k)
{
	u32 k0 = k / depth * depth, nr = min(p->w.cols - k0, depth);

	return (struct some_x){
		.at = (const few_tile *)p->packed + packed_at(p, 0, k0, nr) +
		      (k - k0) / AMX_K,
		.stride = DIV_ROUND_UP(nr, AMX_K),
	};
}

/*
 * All tiles have 16 rows here, so that any goes with any. x is more than L1
 * has: the second 16 rows stay there from strip to strip, others are loaded
 * past it.
 */
vec_inline void some_products(const bool four, struct some_x x,
			      const few_tile *w)
{
	amx_load(7, w, 64);
	amx_load_once(4, x.at, 64);
	amx_product(0, 4, 7);
	amx_load(5, x.at + x.stride, 64);
	amx_product(1, 5, 7);
	amx_load_once(4, x.at + 2 * x.stride, 64);
	amx_product(2, 4, 7);
	if (four) {
		amx_load_once(5, x.at + 3 * x.stride, 64);
		amx_product(3, 5, 7);
	}
}

vec_inline void some_steps(const u32 dtype, const bool four,
			   const struct kern_gemm *p,
			   const struct few_strips *strip,
			   struct some_scratch *s)
{
	const u32 depth = block_depth(&p->w);
	struct some_x x = { 0 };
	u32 k = 0;

	do {
		few_tile *w = &s->w[k / AMX_K % 2];

		few_prefetch(dtype, 1, strip, k);
		unpack_block(dtype, strip->at[0], k, (*w)[0], AMX_COLS);
		if (k)
			some_products(four, x, &s->w[(k / AMX_K - 1) % 2]);
		x = some_x(p, depth, k);
		k += AMX_K;
	} while (k < p->w.cols);
	some_products(four, x, &s->w[(k / AMX_K - 1) % 2]);
}

/* The sums of the strip of column n. */
static void some_strip(const struct kern_gemm *p, u32 n, struct some_scratch *s,
		       some_sums c)
{
	const struct strip_type t = strip_type(p->w.dtype);
	const struct few_strips strip = {
		.at = { strip_at(&p->w, n, 0) },
		.ahead = p->w.stride,
		.quant_bytes = strip_quant_bytes(&t, p->w.cols),
	};
	bool four = p->m > 3 * AMX_ROWS;

	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	switch (p->w.dtype) {
		STRIP_TYPES(four ? some_steps(dtype, true, p, &strip, s)
				 : some_steps(dtype, false, p, &strip, s))
	}
	amx_store(0, c[0], 64);
	amx_store(1, c[1], 64);
	amx_store(2, c[2], 64);
	amx_store(3, c[3], 64);
}

/* Columns n .. n1, at most SOME_COLS. */
static void some_cols(const struct kern_gemm *p, u32 n, u32 n1,
		      struct some_scratch *s)
{
	bool any = !p->best;

	for (u32 i = n; i < n1; i += AMX_COLS) {
		some_sums *c = &s->c[(i - n) / AMX_COLS];

		some_strip(p, i, s, *c);
		for (u32 m = 0; m < p->m && !any; m += AMX_ROWS)
			any = wants_store(p, m, (*c)[m / AMX_ROWS]);
	}
	for (u32 m = 0; m < p->m && any; m++)
		store_sums(p, m, n, n1 - n, s->c[0][m / AMX_ROWS][m % AMX_ROWS],
			   sizeof(s->c[0]) / sizeof(float));
}

/* Columns lo .. hi of strips; more than 2 * AMX_ROWS rows, up to SOME_ROWS. */
static void some_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	amx_begin();
	for (u32 n = lo; n < hi; n += SOME_COLS)
		some_cols(p, n, min(hi, n + SOME_COLS), scratch);
	amx_end();
}

#endif
