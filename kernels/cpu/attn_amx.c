/* SPDX-License-Identifier: MIT */
/*
 * attn_amx.c - paged attention in bf16 on tile registers
 *
 * The steps of an item that attn_item.h leaves open. Its rows are cut into up
 * to 4 tiles of 16, and a segment has 16 tiles of keys:
 *
 *	load_q	Q' in pairs of dimensions, in two parts of bf16, once for the
 *		item						64 KiB
 *	qk	S' = K Q': a tile of K is 16 rows of the page, as they lie;
 *		only ragged ones and those of an odd page are copied
 *	softmax	16 rows in the lanes, key after key: no step across lanes.
 *		32 keys of weights in pairs are transposed to a tile of P
 *	pv	O = P V: V in pairs of keys, once for all tiles of rows	128 KiB
 *
 * S' and not S, as else K would have to be transposed, which takes longer than
 * the product; P is an eighth of that for 16 rows. A product takes 16 cycles
 * and a load 8, or 34 from L2, but the next product into the same tile waits
 * for some 52: so there are 4 sums at a time.
 *
 * Keys that no row sees are zeros. One that some row does not see has weight 0
 * for it, which is as good as none, unless its value is a NaN or an infinity:
 * then the segment goes through the registers, row by row.
 */
#include "kernels/cpu/amx.h"
#if defined(__AVX512F__)
#include "kernels/cpu/panel_avx512.h"
#else /* a test on a CPU without it */
#include "kernels/cpu/panel_avx2.h"
#endif
#include "kernels/cpu/attn_item.h"
#include "kernels/cpu/attn_pv.h"
#include "kernels/cpu/isa.h"

#define ROW_TILES (ATTN_MAX_ROWS / AMX_ROWS)
#define DIM_STEPS (ATTN_MAX_DIM / AMX_K)
#define DIM_TILES (ATTN_MAX_DIM / AMX_COLS)
#define BLOCKS	  (SEGMENT / AMX_K)
#define SUMS	  4u /* tiles of sums that a product has */
#define Q_PARTS	  2u /* q rounded, and the rest of it rounded */

_Static_assert(AMX_K == PV_BLOCK, "a product of P and V is a block of keys");

struct attn_own {
	u32 q[ROW_TILES][DIM_STEPS][Q_PARTS][AMX_K / 2][AMX_COLS];
	float s[ROW_TILES][SEGMENT][AMX_COLS]; /* scores, keys x rows */
	u16 p[ROW_TILES][BLOCKS][AMX_ROWS][AMX_K]; /* weights, rows x keys */
	u32 v[BLOCKS][DIM_TILES][AMX_K / 2][AMX_COLS];
	u16 rows[Q_PARTS][AMX_ROWS][ATTN_MAX_DIM]; /* of q, on their way */
	u16 keys[SUMS][AMX_ROWS][ATTN_MAX_DIM]; /* copies */
	u32 pairs[AMX_K / 2][AMX_ROWS]; /* weights of 32 keys x rows */
	float row_p[SEGMENT]; /* weights of one row */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct attn_scratch) + sizeof(struct attn_own) <=
		       KERN_SCRATCH_BYTES,
	       "a thread's scratch holds them");

/* ---- products of tiles ---- */

/* Tile i of an operand begins i steps on; its rows are stride bytes apart. */
struct operand {
	const void *p;
	size_t stride, step;
};

#define LOAD_AT(t, m, i) \
	amx_load(t, (const u8 *)(m).p + (i) * (m).step, (m).stride)
#define LOAD(t, m) LOAD_AT(t, m, i)
#define LOAD_ONCE_AT(t, m, i) \
	amx_load_once(t, (const u8 *)(m).p + (i) * (m).step, (m).stride)

/* c[i] = a[i] b, for up to 4 a */
static void products_of_a(const struct operand *a, u32 na,
			  const struct operand *b, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		LOAD(6, b[0]);
		LOAD(4, a[0]);
		amx_product(0, 4, 6);
		if (na > 1) {
			LOAD(5, a[1]);
			amx_product(1, 5, 6);
		}
		if (na > 2) {
			LOAD(4, a[2]);
			amx_product(2, 4, 6);
		}
		if (na > 3) {
			LOAD(5, a[3]);
			amx_product(3, 5, 6);
		}
	}
}

/*
 * The same where b has two parts of each step, for which a[i] stays: a column
 * of 64 keys is more than the sets of L1 hold in which it lies when tokens are
 * 1 KiB apart. b is loaded past L1, so that the keys stay there.
 */
static void products_of_parts(const struct operand *a, u32 na,
			      const struct operand *b, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		LOAD_ONCE_AT(6, b[0], Q_PARTS * i);
		LOAD(4, a[0]);
		LOAD_ONCE_AT(7, b[0], Q_PARTS * i + 1);
		amx_product(0, 4, 6);
		if (na > 1) {
			LOAD(5, a[1]);
			amx_product(1, 5, 6);
		}
		amx_product(0, 4, 7);
		if (na > 2) {
			LOAD(4, a[2]);
			amx_product(2, 4, 6);
		}
		if (na > 1)
			amx_product(1, 5, 7);
		if (na > 3) {
			LOAD(5, a[3]);
			amx_product(3, 5, 6);
		}
		if (na > 2)
			amx_product(2, 4, 7);
		if (na > 3)
			amx_product(3, 5, 7);
	}
}

/* c[j] = a b[j], for up to 4 b */
static void products_of_b(const struct operand *a, const struct operand *b,
			  u32 nb, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		LOAD(4, a[0]);
		LOAD(6, b[0]);
		amx_product(0, 4, 6);
		if (nb > 1) {
			LOAD(7, b[1]);
			amx_product(1, 4, 7);
		}
		if (nb > 2) {
			LOAD(6, b[2]);
			amx_product(2, 4, 6);
		}
		if (nb > 3) {
			LOAD(7, b[3]);
			amx_product(3, 4, 7);
		}
	}
}

static void products_2x2(const struct operand *a, const struct operand *b,
			 u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		LOAD(4, a[0]);
		LOAD(5, a[1]);
		LOAD(6, b[0]);
		LOAD(7, b[1]);
		amx_product(0, 4, 6);
		amx_product(1, 4, 7);
		amx_product(2, 5, 6);
		amx_product(3, 5, 7);
	}
}

#undef LOAD
#undef LOAD_AT
#undef LOAD_ONCE_AT

static void clear_sums(void)
{
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
}

/* The first nr; rows of c are stride bytes apart. */
static void store_tiles(float *const *c, u32 nr, size_t stride)
{
	amx_store(0, c[0], stride);
	if (nr > 1)
		amx_store(1, c[1], stride);
	if (nr > 2)
		amx_store(2, c[2], stride);
	if (nr > 3)
		amx_store(3, c[3], stride);
}

/*
 * c[i * nb + j] = the sum over nr steps of a[i] b[j]; na x nb is 2 x 2, or one
 * of them 1 and the other at most 4.
 */
static void multiply(const struct operand *a, u32 na, const struct operand *b,
		     u32 nb, u32 nr, float *const *c, size_t stride)
{
	clear_sums();
	if (nb == 1)
		products_of_a(a, na, b, nr);
	else if (na == 1)
		products_of_b(a, b, nb, nr);
	else
		products_2x2(a, b, nr);
	store_tiles(c, na * nb, stride);
}

static u32 row_tiles(const struct attn_work *w)
{
	return DIV_ROUND_UP(w->rows, AMX_ROWS);
}

/* Tiles of the other side that go with the tiles of rows into 4 sums. */
static u32 other_tiles(const struct attn_work *w)
{
	return SUMS / row_tiles(w);
}

/* ---- q ---- */

static void load_q(struct attn_work *w)
{
	static const float none[ATTN_MAX_DIM];
	struct attn_own *own = w->own;
	u32 steps = DIV_ROUND_UP(w->dim, AMX_K);

	memset(own->rows, 0, sizeof(own->rows));
	for (u32 i = 0; i < row_tiles(w) * AMX_ROWS; i++) {
		u16 *to = own->rows[0][i % AMX_ROWS];
		u16 *low = own->rows[1][i % AMX_ROWS];
		const float *q = i < w->rows ? query_of(w, i) : none;

		for (u32 d = 0; d < w->dim; d += 16) {
			struct v16 x = v16_load(q + d);

			v16_store_bf16(to + d, x);
			v16_store_bf16(low + d, v16_sub(x, v16_round_bf16(x)));
		}
		if (i % AMX_ROWS + 1 < AMX_ROWS)
			continue;
		for (u32 k = 0; k < Q_PARTS * steps; k++)
			transpose16((const u32 *)(const void *)
						    own->rows[k % Q_PARTS][0] +
					    k / Q_PARTS * AMX_K / 2,
				    ATTN_MAX_DIM / 2,
				    own->q[i / AMX_ROWS][k / Q_PARTS]
					  [k % Q_PARTS][0],
				    AMX_COLS);
	}
}

/* ---- scores ---- */

/*
 * Towards L2. Pages follow each other in no order that hardware could guess.
 * (Into L1, where they would not stay, decodes were a tenth slower on Sapphire
 * Rapids.)
 */
static void prefetch_row(const u8 *row, u32 bytes)
{
	for (u32 i = 0; i < bytes; i += 64)
		__builtin_prefetch(row + i, 0, 2);
}

static void prefetch_key(const struct attn_work *w, u32 pos, u32 end)
{
	const struct kern_kv *kv = &w->p->kv;

	if (w->fetch && pos < end)
		prefetch_row(kv->base + kv->layer_off + kv->k_off +
				     w->it->kv_head * kv->head_stride +
				     kern_kv_row(kv, w->seq->table, pos),
			     2 * w->dim);
}

/*
 * Memory has to be busy all the time, so what is fetched ahead is shared out: V
 * of a segment while its scores are computed, K of the next one while V is laid
 * out (load_v). Of the first segment K is fetched 64 keys ahead.
 */
static void prefetch_keys(const struct attn_work *w, u32 first, u32 j, u32 lo,
			  u32 hi)
{
	const struct kern_kv *kv = &w->p->kv;

	for (u32 i = j; w->fetch && i < j + AMX_ROWS; i++) {
		u32 next = i + SUMS * AMX_ROWS;

		if (i >= lo && i < hi)
			prefetch_row(w->s->key[i] + kv->v_off, 2 * w->dim);
		if (first == w->it->seg0 * SEGMENT && next < hi)
			prefetch_row(w->s->key[next] + kv->k_off, 2 * w->dim);
	}
}

/* Keys j .. j + 15 as they lie in their page, or a copy; zeros for no key. */
static struct operand key_tile(const struct attn_work *w, u32 first, u32 j,
			       u32 lo, u32 hi, u16 (*to)[ATTN_MAX_DIM])
{
	const struct kern_kv *kv = &w->p->kv;
	u32 padded = ALIGN_UP(w->dim, AMX_K);
	u32 slot = (first + j) % kv->page_tokens;

	if (j >= lo && j + AMX_ROWS <= hi && w->dim == padded &&
	    slot + AMX_ROWS <= kv->page_tokens)
		return (struct operand){ w->s->key[j] + kv->k_off,
					 kv->tok_stride, 2 * AMX_K };
	for (u32 i = 0; i < AMX_ROWS; i++) {
		bool is_key = j + i >= lo && j + i < hi;
		u32 nr = is_key ? w->dim : 0;

		if (is_key)
			memcpy(to[i], w->s->key[j + i] + kv->k_off, 2 * nr);
		memset(to[i] + nr, 0, 2 * (padded - nr));
	}
	return (struct operand){ to, sizeof(*to), 2 * AMX_K };
}

/*
 * For each 64 keys all tiles of rows in turn. Q' of 64 rows is more than L1: by
 * this order its tiles come from L2 once for four products.
 */
static void qk(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	struct attn_own *own = w->own;
	u32 end = ALIGN_UP(hi, AMX_K);
	u32 steps = DIV_ROUND_UP(w->dim, AMX_K);
	struct operand k[SUMS];
	float *c[SUMS];

	for (u32 j = lo / AMX_K * AMX_K; j < end; j += SUMS * AMX_ROWS) {
		u32 nr = min(SUMS, (end - j) / AMX_ROWS);

		for (u32 i = 0; i < nr; i++) {
			u32 key = j + i * AMX_ROWS;

			prefetch_keys(w, first, key, lo, hi);
			k[i] = key_tile(w, first, key, lo, hi, own->keys[i]);
		}
		for (u32 t = 0; t < row_tiles(w); t++) {
			const struct operand q = { own->q[t], 64,
						   sizeof(**own->q[t]) };

			for (u32 i = 0; i < nr; i++)
				c[i] = own->s[t][j + i * AMX_ROWS];
			clear_sums();
			products_of_parts(k, nr, &q, steps);
			store_tiles(c, nr, sizeof(own->s[0][0]));
		}
	}
}

/* ---- weights ---- */

/* What 16 rows see: each its own range, and [all_lo, all_hi) every one. */
struct lanes {
	struct v16 lo, hi;
	u32 all_lo, all_hi;
};

/* Rows that the item lacks see what any does. */
static struct lanes lanes_of(const struct attn_work *w, u32 t, u32 lo, u32 hi)
{
	struct lanes l = { .all_lo = lo, .all_hi = hi };
	float from[AMX_ROWS], to[AMX_ROWS];

	for (u32 i = 0; i < AMX_ROWS; i++) {
		u32 row = t * AMX_ROWS + i;
		u32 row_lo = row < w->rows ? w->s->lo[row] : lo;
		u32 row_hi = row < w->rows ? w->s->hi[row] : hi;

		l.all_lo = max(l.all_lo, row_lo);
		l.all_hi = min(l.all_hi, row_hi);
		from[i] = (float)row_lo;
		to[i] = (float)row_hi;
	}
	l.lo = v16_load(from);
	l.hi = v16_load(to);
	return l;
}

/* All keys of a block. */
static bool all_lanes_see(const struct lanes *l, u32 b)
{
	return b >= l->all_lo && b + AMX_K <= l->all_hi;
}

/* x of the rows that see key j, else of the others. */
vec_inline struct v16 if_seen(const struct lanes *l, const bool all, u32 j,
			      struct v16 x, struct v16 other)
{
	struct v16 at;

	if (all)
		return x;
	at = v16_set1((float)j);
	x = v16_select(v16_lt(at, l->hi), x, other);
	return v16_select(v16_lt(at, l->lo), other, x);
}

/* Scores of a block of keys from @b on, scaled and capped; the largest seen. */
vec_inline struct v16 largest(const struct attn_work *w, const struct lanes *l,
			      const bool all, u32 b, float (*x)[AMX_COLS],
			      struct v16 m)
{
	struct v16 scale = v16_set1(w->p->scale), cap = v16_set1(w->p->softcap);
	const struct v16 none = v16_set1(-INFINITY);

	for (u32 j = b; j < b + AMX_K; j++) {
		struct v16 v = v16_mul(v16_load(x[j]), scale);

		if (w->p->softcap > 0)
			v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
		v16_store(x[j], v);
		m = v16_max(if_seen(l, all, j, v, none), m);
	}
	return m;
}

/* The weight of key j, rounded, and into its lane of the sum. */
vec_inline struct v16 weight(const struct lanes *l, const bool all, u32 j,
			     const float *x, struct v16 m, struct v16 *lane)
{
	struct v16 e = v16_exp(v16_sub(v16_load(x), m));

	e = v16_round_bf16(if_seen(l, all, j, e, v16_zero()));
	*lane = v16_add(*lane, e);
	return e;
}

/* Those of a block of keys, in pairs. */
vec_inline void weights(const struct lanes *l, const bool all, u32 b,
			float (*x)[AMX_COLS], struct v16 m,
			struct v16 lane[AMX_K / 2], u32 (*pairs)[AMX_ROWS])
{
#pragma GCC unroll 16
	for (u32 i = 0; i < AMX_K; i += 2) {
		u32 j = b + i, at = i % (AMX_K / 2);
		struct v16 even = weight(l, all, j, x[j], m, &lane[at]);
		struct v16 odd =
			weight(l, all, j + 1, x[j + 1], m, &lane[at + 1]);

		v16_store_pairs(pairs[i / 2], even, odd);
	}
}

/* ref_fold16() of each row */
vec_inline struct v16 fold_lanes(struct v16 lane[16])
{
	for (u32 half = 8; half; half /= 2)
		for (u32 i = 0; i < half; i++)
			lane[i] = v16_add(lane[i], lane[i + half]);
	return lane[0];
}

static void softmax(struct attn_work *w, u32 t, u32 lo, u32 hi)
{
	struct attn_own *own = w->own;
	const struct lanes l = lanes_of(w, t, lo, hi);
	u32 from = lo / AMX_K * AMX_K, end = ALIGN_UP(hi, AMX_K);
	float(*x)[AMX_COLS] = own->s[t];
	struct v16 m = v16_set1(-INFINITY), lane[16];

	for (u32 b = from; b < end; b += AMX_K)
		m = all_lanes_see(&l, b) ? largest(w, &l, true, b, x, m)
					 : largest(w, &l, false, b, x, m);
	for (u32 i = 0; i < 16; i++)
		lane[i] = v16_zero();
	for (u32 b = from; b < end; b += AMX_K) {
		if (all_lanes_see(&l, b))
			weights(&l, true, b, x, m, lane, own->pairs);
		else
			weights(&l, false, b, x, m, lane, own->pairs);
		transpose16(own->pairs[0], AMX_ROWS,
			    (u32 *)(void *)own->p[t][b / AMX_K], AMX_K / 2);
	}
	v16_store(w->s->max + t * AMX_ROWS, m);
	v16_store(w->s->sum + t * AMX_ROWS, fold_lanes(lane));
}

/* ---- values ---- */

/* Pair i of 32 keys, of all dimensions. */
vec_inline void interleave(u32 (*to)[AMX_K / 2][AMX_COLS], u32 i,
			   const u16 *even, const u16 *odd, u32 dim)
{
	u32 d = 0;

	for (; d + 2 * AMX_COLS <= dim; d += 2 * AMX_COLS)
		v32_interleave(to[d / AMX_COLS][i], to[d / AMX_COLS + 1][i],
			       even + d, odd + d);
	if (d < dim)
		v16_interleave(to[d / AMX_COLS][i], even + d, odd + d);
}

static void load_v(struct attn_work *w, u32 first, u32 b, u32 lo, u32 hi)
{
	static const u16 none[ATTN_MAX_DIM];
	const struct kern_kv *kv = &w->p->kv;

	for (u32 i = 0; i < AMX_K / 2; i++) {
		const u16 *row[2];

		for (u32 odd = 0; odd < 2; odd++) {
			u32 j = b * AMX_K + 2 * i + odd;
			const void *v = j >= lo && j < hi
						? w->s->key[j] + kv->v_off
						: (const void *)none;

			prefetch_key(w, first + SEGMENT + j, w->keys_end);
			row[odd] = v;
		}
		interleave(w->own->v[b], i, row[0], row[1], w->dim);
	}
}

static bool all_see(const struct attn_work *w, u32 lo, u32 hi)
{
	for (u32 i = 0; i < w->rows; i++)
		if (w->s->lo[i] > lo || w->s->hi[i] < hi)
			return false;
	return true;
}

static bool is_finite(const struct attn_work *w, u32 lo, u32 hi)
{
	const struct v16 most = v16_set1(INFINITY);

	for (u32 j = lo; j < hi; j++) {
		const u8 *row = w->s->key[j] + w->p->kv.v_off;

		for (u32 d = 0; d < w->dim; d += 16) {
			const u16 *v = (const u16 *)(const void *)row + d;
			struct v16mask ok =
				v16_lt(v16_abs(v16_load_bf16(v)), most);

			if (v16mask_bits(ok) != 0xffff)
				return false;
		}
	}
	return true;
}

/* Whether a weight of 0 is as good as none for every key and row. */
static bool tiles_will_do(const struct attn_work *w, u32 lo, u32 hi)
{
	for (u32 b = lo / AMX_K * AMX_K; b < hi; b += AMX_K) {
		u32 from = max(lo, b), to = min(hi, b + AMX_K);

		if (!all_see(w, from, to) && !is_finite(w, from, to))
			return false;
	}
	return true;
}

static void pv_tiles(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	struct attn_own *own = w->own;
	u32 nr_rows = row_tiles(w), nr_dims = other_tiles(w);
	u32 b0 = lo / AMX_K, b1 = DIV_ROUND_UP(hi, AMX_K);
	struct operand p[ROW_TILES], v[SUMS];
	float *c[SUMS];

	for (u32 j = 0; j < b0 * AMX_K; j++) /* a window began above them */
		prefetch_key(w, first + SEGMENT + j, w->keys_end);
	for (u32 b = b0; b < b1; b++)
		load_v(w, first, b, lo, hi);
	for (u32 t = 0; t < nr_rows; t++)
		p[t] = (struct operand){ own->p[t][b0], 2 * AMX_K,
					 sizeof(own->p[t][b0]) };
	for (u32 d = 0; d < w->dim; d += nr_dims * AMX_COLS) {
		u32 nr = min(nr_dims, (w->dim - d) / AMX_COLS);

		for (u32 i = 0; i < nr; i++) {
			u32 dim = d + i * AMX_COLS;
			const void *tile = own->v[b0][dim / AMX_COLS];

			v[i] = (struct operand){ tile, 64, sizeof(own->v[0]) };
			for (u32 t = 0; t < nr_rows; t++)
				c[t * nr + i] = w->s->o[t * AMX_ROWS] + dim;
		}
		multiply(p, nr_rows, v, nr, b1 - b0, c, sizeof(w->s->o[0]));
	}
}

/* One row, by the keys that it sees only. */
static void pv_row(struct attn_work *w, u32 row)
{
	u32 lo = w->s->lo[row], hi = w->s->hi[row];
	float *p = w->own->row_p;

	memset(w->s->o[row], 0, w->dim * sizeof(float));
	for (u32 b = lo / AMX_K; b * AMX_K < hi; b++) {
		const u16 *tile = w->own->p[row / AMX_ROWS][b][row % AMX_ROWS];

		for (u32 i = 0; i < AMX_K; i += 16)
			v16_store(p + b * AMX_K + i, v16_load_bf16(tile + i));
		for (u32 d = 0; d < w->dim; d += 16)
			pv_block(1, 1, p, w->s->key, w->p->kv.v_off + 2 * d,
				 max(lo, b * AMX_K), min(hi, (b + 1) * AMX_K),
				 w->s->o[row] + d, NULL);
	}
	pv_unsplit(w->s->o[row], w->dim);
}

static void attend(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	qk(w, first, lo, hi);
	for (u32 t = 0; t < row_tiles(w); t++)
		softmax(w, t, lo, hi);
	if (tiles_will_do(w, lo, hi))
		pv_tiles(w, first, lo, hi);
	else
		for (u32 i = 0; i < w->rows; i++)
			pv_row(w, i);
}

void amx_attn_bf16(const struct kern_attn *p, const struct kern_attn_plan *plan,
		   u32 lo, u32 hi, void *scratch)
{
	amx_begin();
	attn_run(p, plan, KERN_NUMERICS_BF16_ATTN, lo, hi, scratch);
	amx_end();
}
