/* SPDX-License-Identifier: MIT */
#ifndef CPU_INTS_DRIVER_H
#define CPU_INTS_DRIVER_H
/*
 * ints_driver.h - the outer loops of products of integers
 *
 *	for each 512 columns of the thread's share
 *	  for each 256 rows of x or fewer
 *		a group (int8_driver.h, int16_driver.h)
 *		add bias and residual, store
 *
 * Sums stay in scratch until they are whole, so y may be the residual.
 */
#include "kernels/cpu/ints.h"
#include "kernels/cpu/store_sums.h"
#include "kernels/cpu/strip_rows.h"

#define INTS_COLS   512u
#define INTS_STRIPS (INTS_COLS / KERN_STRIP)
#define INTS_PASS   256u /* rows */
#define INTS_STEP   (32 * INTS_PANEL_BLOCKS) /* k */

typedef float ints_sums[INTS_PASS][KERN_STRIP];

/* Of columns n0 .. n1, in strips, and of rows m .. m + mr. */
static void ints_store(const struct kern_gemm *p, u32 n0, u32 n1, u32 m, u32 mr,
		       ints_sums *c)
{
	for (u32 r = 0; r < mr; r++)
		store_sums(p, m + r, n0, n1 - n0, c[0][r],
			   INTS_PASS * KERN_STRIP);
}

/* Rows m .. m + mr of columns n0 .. n1, at most a pass of INTS_COLS. */
typedef void ints_group(const struct kern_gemm *p, u32 n0, u32 n1, u32 m,
			u32 mr, void *scratch);

static void ints_all(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch,
		     ints_group *group)
{
	u32 passes = DIV_ROUND_UP(p->m, INTS_PASS), rows;

	if (!passes)
		return;
	rows = min(ALIGN_UP(DIV_ROUND_UP(p->m, passes), 16u), INTS_PASS);
	for (u32 n = lo; n < hi; n += INTS_COLS)
		for (u32 m = 0; m < p->m; m += rows)
			group(p, n, min(hi, n + INTS_COLS), m,
			      min(p->m - m, rows), scratch);
}

#endif
