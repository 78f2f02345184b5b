/* SPDX-License-Identifier: MIT */
/*
 * gemm_amx.c - quantised matrix product on tile registers
 *
 *	for each group of 256 columns of the thread's share
 *	  for each 512 rows of x or fewer
 *	    for each 512 k (or up to 640)
 *	      unpack 256 x 512 weights into 8 panels		256 KiB, L2
 *	      for each 32 rows of x: tiles of 32 k		32 KiB, L1
 *	        for each panel: 2 x 2 tiles over 16 products	32 KiB, L2
 *	          and after the last k, beside the next panel's products,
 *	          add bias and residual, store
 *
 * Of a gated product a group is 128 columns of gate and the same of up, in turn
 * a panel of each: both sums of a column are in scratch when it is stored.
 *
 * x and a panel of such depth are more than L1 has. Panels are loaded past it
 * (amx_load_once()), so that x stays, which is read again for each panel.
 *
 * Rows of x are a page apart or more; where amx_gemm_pack() has put their tiles
 * one behind the other, in the order of these loops, the caches read ahead.
 * Where it has not, each group copies them.
 *
 * A panel of gemm_driver.h is two columns of tiles as it lies. Between blocks
 * sums stay in memory, a tile in 1 KiB: storing and loading them once for 16
 * products takes a tenth. Weights of a step are unpacked once for up to 512
 * rows, in the time of some 40 rows' products. Up to 64 rows go by strips,
 * without a panel: amx_few.h, amx_some.h.
 *
 * The last tiles of rows are padded with zeros; so is a ragged end of k.
 */
#include "kernels/cpu/amx.h"
#if defined(__AVX512F__)
#include "kernels/cpu/dequant_avx512.h"
#include "kernels/cpu/panel_avx512.h"
#else /* a test on a CPU without it */
#include "kernels/cpu/dequant_avx2.h"
#include "kernels/cpu/panel_avx2.h"
#endif
#include "kernels/cpu/amx_few.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/panel_fill.h"
#include "kernels/cpu/store_sums.h"
#include "kernels/cpu/vec_math.h"

#define AMX_GROUP  256u /* columns */
#define AMX_PANELS (AMX_GROUP / PANEL_COLS)
#define AMX_PASS   512u /* rows */
#define AMX_BLOCK  32u /* rows side by side in L1 */
#define AMX_DEPTH  640u /* k of a block, at most */

typedef u16 x_tile[AMX_ROWS][AMX_K];
typedef float amx_tiles[4][AMX_ROWS][AMX_COLS]; /* of a panel, 32 rows */

struct amx_scratch {
	u32 panel[AMX_PANELS][AMX_DEPTH / 2 * PANEL_COLS];
	x_tile x[2 * AMX_DEPTH / AMX_K]; /* where none is packed */
	struct panel_rows rows;
	/* [block of rows, modulo 2 with one block of k][panel] */
	amx_tiles c[AMX_PASS / AMX_BLOCK][AMX_PANELS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct amx_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/*
 * Columns of a block of k: what L1 has room for of 32 rows. Some types have
 * scales for 256 k, which are not to be torn; others are cut about even. Rows
 * of blocks are transposed 256 k at a time.
 */
static u32 block_depth(const struct kern_mat *w)
{
	u32 nr = DIV_ROUND_UP(w->cols, AMX_DEPTH);

	if (w->layout != KERN_LAYOUT_STRIP)
		return PANEL_K;
	if (w->cols % PANEL_K == 0)
		return min(w->cols, AMX_DEPTH / PANEL_K * PANEL_K);
	return ALIGN_UP(DIV_ROUND_UP(w->cols, nr), AMX_K);
}

/* nr columns of a row of x to row i of its tiles. */
vec_inline void load_row(const u16 *x, u32 nr, x_tile *to, u32 i)
{
	u32 k = 0;

	for (; k + AMX_K <= nr; k += AMX_K)
		memcpy(to[k / AMX_K][i], x + k, AMX_K * sizeof(*x));
	if (k < nr) {
		u16 *last = to[k / AMX_K][i];

		memset(last, 0, AMX_K * sizeof(*x));
		for (; k < nr; k++)
			last[k % AMX_K] = x[k];
	}
}

/*
 * Rows m .. m + mr of x, columns k0 .. k0 + nr, as tiles: those of 16 rows
 * along k, then those of the others.
 */
static void load_x(const struct kern_gemm *p, u32 m, u32 mr, u32 k0, u32 nr,
		   x_tile *to)
{
	const u16 *x = p->x + (size_t)m * p->x_stride + k0;
	u32 rows = ALIGN_UP(mr, AMX_ROWS), steps = DIV_ROUND_UP(nr, AMX_K);

	for (u32 i = 0; i < mr; i++, x += p->x_stride)
		load_row(x, nr, to + i / AMX_ROWS * steps, i % AMX_ROWS);
	for (u32 i = mr; i < rows; i++)
		for (u32 k = 0; k < steps; k++)
			memset(to[i / AMX_ROWS * steps + k][i % AMX_ROWS], 0,
			       AMX_K * sizeof(*x));
}

/* Where packed x has the tiles of rows m .. and columns k0 .. k0 + nr. */
static size_t packed_at(const struct kern_gemm *p, u32 m, u32 k0, u32 nr)
{
	u32 halves = DIV_ROUND_UP(p->m, AMX_BLOCK) * 2;

	return (size_t)(k0 / AMX_K) * halves +
	       (size_t)(m / AMX_ROWS) * DIV_ROUND_UP(nr, AMX_K);
}

_Static_assert(AMX_BLOCK == KERN_PACK_ROWS && PANEL_K % AMX_K == 0,
	       "kern_packed_bytes() has room for it");

void amx_gemm_pack(const struct kern_gemm *p, void *to, u32 lo, u32 hi)
{
	u32 depth = block_depth(&p->w);

	for (u32 m = lo * AMX_BLOCK; m < min(p->m, hi * AMX_BLOCK);
	     m += AMX_BLOCK)
		for (u32 k0 = 0; k0 < p->w.cols; k0 += depth) {
			u32 nr = min(p->w.cols - k0, depth);

			load_x(p, m, min(p->m - m, AMX_BLOCK), k0, nr,
			       (x_tile *)to + packed_at(p, m, k0, nr));
		}
}

/*
 * Sums that are whole: rows i .. end behind row m, of columns n .. n + nr. They
 * are stored between the products of the next panel, or pair of panels.
 */
struct amx_whole {
	const amx_tiles *c; /* of a pair gate's, then up's */
	u32 m, i, end;
	u32 n, nr;
};

/* A product, or with @gated two, whose panels take turns. */
struct amx_job {
	const struct kern_gemm *p;
	const struct kern_gemm_gated *gated;
	u32 n0, n1; /* columns of a group */
	struct amx_whole whole;
};

vec_inline void store_gated(const struct kern_gemm_gated *p,
			    const struct amx_whole *w)
{
	u16 *out = p->out + (size_t)(w->m + w->i) * p->out_stride + w->n;
	u32 row = w->i % AMX_ROWS, t = w->i / AMX_ROWS * 2;

	for (u32 k = 0; k < w->nr; k += AMX_COLS, t++)
		v16_store_bf16_n(out + k,
				 v16_gated(p->act, v16_load(w->c[0][t][row]),
					   v16_load(w->c[1][t][row])),
				 min(w->nr - k, AMX_COLS));
}

/* Up to nr rows of what is whole. */
vec_inline void store_rows(struct amx_job *j, u32 nr)
{
	struct amx_whole *w = &j->whole;

	for (; nr && w->i < w->end; nr--, w->i++)
		if (j->gated)
			store_gated(j->gated, w);
		else
			store_sums(
				j->p, w->m + w->i, w->n, w->nr,
				w->c[0][w->i / AMX_ROWS * 2][w->i % AMX_ROWS],
				AMX_ROWS * AMX_COLS);
}

/*
 * The sums of 32 rows (16 if not @two) x 32 columns, over the steps of one
 * block of k. A product takes 16 cycles, in which the vector ports are free:
 * rows that are whole are stored there.
 */
vec_inline void tiles(const bool two, const x_tile *x, const u32 *panel,
		      u32 steps, bool first, amx_tiles c, struct amx_job *j)
{
	if (first) {
		amx_zero(0);
		amx_zero(1);
		amx_zero(2);
		amx_zero(3);
	} else {
		amx_load(0, c[0], 64);
		amx_load(1, c[1], 64);
		if (two) {
			amx_load(2, c[2], 64);
			amx_load(3, c[3], 64);
		}
	}
	for (u32 i = 0; i < steps; i++, panel += AMX_K / 2 * PANEL_COLS) {
		amx_load(4, x[i], 64);
		amx_load_once(6, panel, PANEL_COLS * sizeof(*panel));
		amx_load_once(7, panel + AMX_COLS, PANEL_COLS * sizeof(*panel));
		if (two)
			amx_load(5, x[steps + i], 64);
		amx_product(0, 4, 6);
		amx_product(1, 4, 7);
		if (two) {
			amx_product(2, 5, 6);
			amx_product(3, 5, 7);
		}
		store_rows(j, j->gated ? 1 : 2);
	}
	amx_store(0, c[0], 64);
	amx_store(1, c[1], 64);
	if (two) {
		amx_store(2, c[2], 64);
		amx_store(3, c[3], 64);
	}
}

/* First column of panel i; of a gated product both of a pair have it. */
static u32 panel_at(const struct amx_job *j, u32 i)
{
	return j->n0 + (j->gated ? i / 2 : i) * PANEL_COLS;
}

/* Up to 32 rows from m on, times the panels of a block of k. */
static void amx_block(struct amx_job *j, u32 m, u32 mr, u32 k0, u32 nr,
		      u32 panels, amx_tiles *c, struct amx_scratch *s)
{
	const struct kern_gemm *p = j->p;
	u32 steps = DIV_ROUND_UP(nr, AMX_K);
	bool last = k0 + nr == p->w.cols;
	const x_tile *x = s->x;

	if (p->packed)
		x = (const x_tile *)p->packed + packed_at(p, m, k0, nr);
	else
		load_x(p, m, mr, k0, nr, s->x);
	for (u32 i = 0; i < panels; i++) {
		u32 n = panel_at(j, i), cols = min(j->n1 - n, (u32)PANEL_COLS);

		if (mr > AMX_ROWS)
			tiles(true, x, s->panel[i], steps, k0 == 0, c[i], j);
		else
			tiles(false, x, s->panel[i], steps, k0 == 0, c[i], j);
		if (!last || (j->gated && i % 2 == 0))
			continue;
		store_rows(j, AMX_BLOCK);
		j->whole = (struct amx_whole){
			.c = j->gated ? &c[i - 1] : &c[i],
			.m = m,
			.end = mr,
			.n = n,
			.nr = cols,
		};
	}
}

/* Rows m0 .. m1, a pass at most, of the columns of a group. */
static void amx_group(struct amx_job *j, u32 m0, u32 m1, struct amx_scratch *s)
{
	const struct kern_mat *w[2] = { &j->p->w,
					j->gated ? &j->gated->up : &j->p->w };
	u32 depth = block_depth(w[0]), cols = w[0]->cols;
	u32 panels = DIV_ROUND_UP(j->n1 - j->n0, (u32)PANEL_COLS);

	if (j->gated)
		panels *= 2;
	for (u32 k0 = 0; k0 < cols; k0 += depth) {
		u32 nr = min(cols - k0, depth);

		for (u32 i = 0; i < panels; i++)
			fill_panel(w[i % 2], panel_at(j, i), j->n1, k0, nr,
				   &s->rows, s->panel[i]);
		for (u32 m = m0; m < m1; m += AMX_BLOCK) {
			u32 at = (m - m0) / AMX_BLOCK;

			/*
			 * With one block of k sums need no place of their own,
			 * but the last of the rows before may wait still.
			 */
			amx_block(j, m, min(m1 - m, AMX_BLOCK), k0, nr, panels,
				  s->c[depth < cols ? at : at % 2], s);
		}
	}
	store_rows(j, AMX_BLOCK);
}

/* All rows of columns lo .. hi. */
static void amx_groups(struct amx_job *j, u32 lo, u32 hi, u32 cols,
		       struct amx_scratch *s)
{
	amx_begin();
	for (u32 n = lo; n < hi; n += cols) {
		j->n0 = n;
		j->n1 = min(hi, n + cols);
		for (u32 m = 0; m < j->p->m; m += AMX_PASS)
			amx_group(j, m, min(j->p->m, m + AMX_PASS), s);
	}
	amx_end();
}

void amx_gemm_gated(const struct kern_gemm_gated *p, u32 lo, u32 hi,
		    void *scratch)
{
	const struct kern_gemm g = { .w = p->gate,
				     .x = p->x,
				     .m = p->m,
				     .x_stride = p->x_stride,
				     .packed = p->packed };
	struct amx_job j = { .p = &g, .gated = p };

	if (p->m)
		amx_groups(&j, lo, hi, AMX_GROUP / 2, scratch);
}

#include "kernels/cpu/amx_some.h"

/*
 * Few rows by rows of blocks: follow each panel along k, in the order of
 * memory. By strips: amx_few.h, amx_some.h.
 */
void amx_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	u32 cols = p->m <= AMX_ROWS ? (u32)PANEL_COLS : AMX_GROUP;
	bool strips = p->w.layout == KERN_LAYOUT_STRIP;
	struct amx_job j = { .p = p };

	if (!p->m)
		return;
	if (strips && p->m <= FEW_ROWS) {
		few_gemm(p, lo, hi, scratch);
		return;
	}
	if (strips && p->packed && p->m <= SOME_ROWS) {
		some_gemm(p, lo, hi, scratch);
		return;
	}
	amx_groups(&j, lo, hi, cols, scratch);
}
