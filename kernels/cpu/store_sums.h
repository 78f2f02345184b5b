/* SPDX-License-Identifier: MIT */
#ifndef CPU_STORE_SUMS_H
#define CPU_STORE_SUMS_H
/*
 * store_sums.h - the end of a product: bias, residual, y
 */
#include "kernels/cpu/vec.h"

/* Columns n .. n + nr of row m; c is whole vectors of 16. */
vec_inline void store_sums(const struct kern_gemm *p, u32 m, u32 n, u32 nr,
			   const float *c)
{
	size_t at = (size_t)m * p->y_stride + n;

	for (u32 i = 0; i < nr; i += 16) {
		u32 l = min(nr - i, 16u);
		struct v16 y = v16_load(c + i);

		if (p->bias)
			y = v16_add(y, v16_load_n(p->bias + n + i, l));
		if (p->residual)
			y = v16_add(y, v16_load_n(p->residual + at + i, l));
		v16_store_n(p->y + at + i, y, l);
	}
}

#endif
