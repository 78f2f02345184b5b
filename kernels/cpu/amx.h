/* SPDX-License-Identifier: MIT */
#ifndef CPU_AMX_H
#define CPU_AMX_H
/*
 * amx.h - tile registers of 16 rows of 64 bytes, products of bf16 and of bytes
 *
 * The instructions, or the same in plain C where AMX_EMULATED is set: a test
 * then runs the code around them, bit for bit, on a CPU without AMX. Names of
 * tiles are constants, as the instructions have them in their encoding.
 *
 *	amx_product(c, a, b)	c[m][n] += sum over k of a[m][k] b[k][n]
 *
 * with a of 16 rows x 32 k, b of 16 pairs of k x 16 columns, and for each sum
 * the order of numerics.rst: a chain over the even k, one over the odd, both
 * added, then added to c. Measured: amx-probe's tile_order on Sapphire Rapids.
 *
 *	amx_product_int8(c, a, b)
 *
 * is the same in integers: a of 16 rows x k signed bytes, b of k / 4 dwords of
 * unsigned ones x 16 columns, k being amx_begin_int8()'s.
 */
#include <string.h>

#include "kernels/include/kern.h"

#define AMX_ROWS 16u
#define AMX_K	 32u /* k of one product */
#define AMX_COLS 16u

/*
 * Of tiles 6 and 7, b: k / 4 in bytes, k / 2 in pairs. 4 is a, and 0 and 1 its
 * sums: @first. 5, 2 and 3 are the same of the next rows: @second.
 */
static inline u8 amx_rows_of(int t, u8 k, u8 first, u8 second)
{
	if (t / 2 == 3)
		return k;
	return t < 2 || t == 4 ? first : second;
}

#ifndef AMX_EMULATED

#include <immintrin.h>

#define amx_zero(t) _tile_zero(t)
/* gcc 12 does not know that the intrinsic reads memory: stores come first. */
#define amx_load(t, p, stride)                   \
	do {                                     \
		asm volatile("" : : : "memory"); \
		_tile_loadd(t, p, stride);       \
	} while (0)
/* What is next read after much else: it takes no room in L1 from that. */
#define amx_load_once(t, p, stride)               \
	do {                                      \
		asm volatile("" : : : "memory");  \
		_tile_stream_loadd(t, p, stride); \
	} while (0)
#define amx_store(t, p, stride) _tile_stored(t, p, stride)
#define amx_product(c, a, b)	_tile_dpbf16ps(c, a, b)

#define amx_product_int8(c, a, b) _tile_dpbsud(c, a, b)

/* So that a caller may have these for one function of its file. */
#define AMX_TARGET __attribute__((target("amx-tile")))

/* As amx_rows_of() says; a's rows have 4k bytes. */
AMX_TARGET static inline void amx_configure(u8 k, u8 first, u8 second)
{
	struct {
		u8 palette, start_row, reserved[14];
		u16 row_bytes[16];
		u8 rows[16];
	} __attribute__((aligned(64))) config = { .palette = 1 };

	for (int t = 0; t < 8; t++) {
		config.row_bytes[t] = t / 2 == 2 ? 4 * k : 64;
		config.rows[t] = amx_rows_of(t, k, first, second);
	}
	/*
	 * gcc 12 knows of the intrinsic only that it reads 8 bytes, and drops
	 * the stores to the others.
	 */
	asm volatile("" : : "r"(&config) : "memory");
	_tile_loadconfig(&config);
}

AMX_TARGET static inline void amx_end(void)
{
	_tile_release();
}

#else

#define AMX_TARGET

#include <math.h>

static _Thread_local u32 amx_tile[8][AMX_ROWS][16];
static _Thread_local u32 amx_dwords[8], amx_nr_rows[8];
static _Thread_local bool amx_configured;

static inline void amx_configure(u32 k, u32 first, u32 second)
{
	for (u32 t = 0; t < 8; t++) {
		amx_dwords[t] = t / 2 == 2 ? k : 16;
		amx_nr_rows[t] =
			amx_rows_of((int)t, (u8)k, (u8)first, (u8)second);
	}
	amx_configured = true;
	memset(amx_tile, 0xff, sizeof(amx_tile));
}

static inline void amx_end(void)
{
	amx_configured = false;
}

static inline void amx_zero(int t)
{
	memset(amx_tile[t], 0, sizeof(amx_tile[t]));
}

static inline void amx_load(int t, const void *p, size_t stride)
{
	for (u32 r = 0; r < amx_nr_rows[t]; r++)
		memcpy(amx_tile[t][r], (const u8 *)p + r * stride,
		       4 * amx_dwords[t]);
}

static inline void amx_load_once(int t, const void *p, size_t stride)
{
	amx_load(t, p, stride);
}

static inline void amx_store(int t, void *p, size_t stride)
{
	for (u32 r = 0; r < amx_nr_rows[t]; r++)
		memcpy((u8 *)p + r * stride, amx_tile[t][r], 4 * amx_dwords[t]);
}

/* What the instruction would not take. */
static inline void amx_check(int c, int a, int b)
{
	if (!amx_configured || amx_nr_rows[c] != amx_nr_rows[a] ||
	    amx_dwords[a] != amx_nr_rows[b] || amx_dwords[c] != amx_dwords[b])
		__builtin_trap();
}

static inline float amx_chain(int a, int b, u32 m, u32 n, u32 half)
{
	float sum = 0;

	for (u32 k = 0; k < AMX_K / 2; k++)
		sum = fmaf(
			kern_bf16_to_f32((u16)(amx_tile[a][m][k] >> 16 * half)),
			kern_bf16_to_f32((u16)(amx_tile[b][k][n] >> 16 * half)),
			sum);
	return sum;
}

static inline void amx_product(int c, int a, int b)
{
	amx_check(c, a, b);
	for (u32 m = 0; m < AMX_ROWS; m++)
		for (u32 n = 0; n < AMX_COLS; n++) {
			float f;

			memcpy(&f, &amx_tile[c][m][n], 4);
			f += amx_chain(a, b, m, n, 0) +
			     amx_chain(a, b, m, n, 1);
			memcpy(&amx_tile[c][m][n], &f, 4);
		}
}

static inline void amx_product_int8(int c, int a, int b)
{
	amx_check(c, a, b);
	for (u32 m = 0; m < AMX_ROWS; m++)
		for (u32 n = 0; n < AMX_COLS; n++)
			for (u32 k = 0; k < 4 * amx_nr_rows[b]; k++) {
				u32 at = 8 * (k % 4);
				s8 x = (s8)(amx_tile[a][m][k / 4] >> at);
				u8 w = (u8)(amx_tile[b][k / 4][n] >> at);

				amx_tile[c][m][n] += (u32)(x * w);
			}
}

#endif

/* For bf16: all 8 tiles with 16 rows of 64 bytes. */
AMX_TARGET static inline void amx_begin(void)
{
	amx_configure(AMX_ROWS, AMX_ROWS, AMX_ROWS);
}

/* For bf16, with 1 to 32 rows of x: the last tile of them has what is left. */
AMX_TARGET static inline void amx_begin_rows(u32 rows)
{
	u32 first = min(rows, AMX_ROWS);

	amx_configure(AMX_ROWS, (u8)first,
		      (u8)(rows > AMX_ROWS ? rows - AMX_ROWS : AMX_ROWS));
}

/* k: 16 or 32, of one product. */
AMX_TARGET static inline void amx_begin_int8(u32 k)
{
	amx_configure((u8)(k / 4), AMX_ROWS, AMX_ROWS);
}

#endif
