/* SPDX-License-Identifier: MIT */
#ifndef CPU_TILE_H
#define CPU_TILE_H
/*
 * tile.h - the instances of an instruction set's tile, one per row count
 *
 * Included after panel_x.h. Each row's arithmetic is the same in all of them.
 */
#include "include/kv/types.h"

static void tile(u32 mr, const float *x, size_t x_stride, const u32 *panel,
		 u32 nr_blocks, float *c, size_t c_stride)
{
#define TILE(n)                                                           \
	case n:                                                           \
		tile_rows(n, x, x_stride, panel, nr_blocks, c, c_stride); \
		break
	switch (mr) {
		TILE(1);
		TILE(2);
		TILE(3);
		TILE(4);
#if TILE_ROWS > 4
		TILE(5);
		TILE(6);
#endif
	}
#undef TILE
}

#endif
