/* SPDX-License-Identifier: MIT */
#ifndef CPU_STORE_SUMS_H
#define CPU_STORE_SUMS_H
/*
 * store_sums.h - the end of a product: bias, residual, y, or the best of it
 */
#include "kernels/cpu/vec.h"

/* Sums of one row of y, from column n on; each 16 are a vector. */
struct sums {
	const float *c;
	size_t stride; /* from a vector to the next */
	size_t at; /* of column n in y */
	u32 n;
};

/* Columns n + i .. n + i + l. */
vec_inline struct v16 whole_sums(const struct kern_gemm *p, struct sums s,
				 u32 i, const u32 l)
{
	struct v16 y = v16_load(s.c + i / 16 * s.stride);

	if (p->bias)
		y = v16_add(y, l == 16 ? v16_load(p->bias + s.n + i)
				       : v16_load_n(p->bias + s.n + i, l));
	if (p->residual)
		y = v16_add(y, l == 16 ? v16_load(p->residual + s.at + i)
				       : v16_load_n(p->residual + s.at + i, l));
	return y;
}

/* The best of nr columns, of which one may be better than what was. */
static void note_best(const struct kern_gemm *p, struct sums s, u32 nr,
		      struct kern_best *best)
{
	float y[16];

	for (u32 i = 0; i < nr; i++) {
		if (i % 16 == 0)
			v16_store(y, whole_sums(p, s, i, min(nr - i, 16u)));
		if (y[i % 16] > best->max)
			*best = (struct kern_best){ y[i % 16], s.n + i };
	}
}

/*
 * Few columns of a row are better than all before them. A NaN leaves what is
 * largest as it is; what is in lanes behind the last column is not noted.
 */
vec_inline void find_best(const struct kern_gemm *p, struct sums s, u32 nr,
			  struct kern_best *best)
{
	const struct v16 max = v16_set1(best->max);
	struct v16 top = max;

	for (u32 i = 0; i < nr; i += 16)
		top = v16_max(whole_sums(p, s, i, min(nr - i, 16u)), top);
	if (v16mask_bits(v16_lt(max, top)))
		note_best(p, s, nr, best);
}

/*
 * With p->best: have 16 columns of rows m .. m + 16, as far as there are, to go
 * to store_sums()? Mostly not, where only the best is wanted.
 */
vec_inline bool wants_store(const struct kern_gemm *p, u32 m,
			    const float (*c)[16])
{
	u32 rows = min(p->m - m, 16u), better = 0;

	if (p->keep || p->bias || p->residual)
		return true;
	for (u32 i = 0; i < rows; i++)
		better |= v16mask_bits(
			v16_lt(v16_set1(p->best[m + i].max), v16_load(c[i])));
	return better;
}

/* Columns n .. n + nr of row m: each 16 a vector, @stride apart. */
vec_inline void store_sums(const struct kern_gemm *p, u32 m, u32 n, u32 nr,
			   const float *c, size_t stride)
{
	const struct sums s = { c, stride, (size_t)m * p->y_stride + n, n };
	float *y;
	u32 i = 0;

	if (p->best) {
		find_best(p, s, nr, &p->best[m]);
		if (!p->keep || !p->keep[m])
			return;
	}
	y = p->y + s.at;
	for (; i + 16 <= nr; i += 16)
		v16_store(y + i, whole_sums(p, s, i, 16));
	if (i < nr)
		v16_store_n(y + i, whole_sums(p, s, i, nr - i), nr - i);
}

#endif
