/* SPDX-License-Identifier: MIT */
#ifndef CPU_STRIP_ROWS_H
#define CPU_STRIP_ROWS_H
/*
 * strip_rows.h - rows of GGUF blocks as a strip, for products of integers
 *
 * Slow: for what is not packed, which only tests and tools multiply by.
 */
#include "kernels/cpu/strip_vec.h"

/* A strip of 256 k at most, and the rows that it is made of. */
struct strip_rows {
	u8 strip[STRIP_BLOCK_MAX];
	u8 rows[STRIP_BLOCK_MAX];
};

/* @nr columns from @k0 on, at most 256, of up to 16 rows from @row on. */
static struct strip_at strip_of_rows(const struct kern_mat *w, u32 row, u32 k0,
				     u32 nr, struct strip_rows *s)
{
	struct strip_type t = strip_type(w->dtype);
	u64 bytes = dtype_row_bytes(w->dtype, nr);
	u32 rows = min(w->rows - row, KERN_STRIP);
	const u8 *b = (const u8 *)w->data + row * w->stride +
		      dtype_row_bytes(w->dtype, k0);

	for (u32 i = 0; i < rows; i++)
		memcpy(s->rows + i * bytes, b + i * w->stride, bytes);
	kern_pack_strip(w->dtype, nr, s->rows, rows, s->strip);
	return (struct strip_at){ s->strip,
				  s->strip + strip_quant_bytes(&t, nr) };
}

/* The same of a matrix in either layout. */
static struct strip_at strip_of(const struct kern_mat *w, u32 row, u32 k0,
				u32 nr, struct strip_rows *s)
{
	return w->layout == KERN_LAYOUT_STRIP
		       ? strip_at(w, row, k0)
		       : strip_of_rows(w, row, k0, nr, s);
}

#endif
