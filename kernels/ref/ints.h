/* SPDX-License-Identifier: MIT */
#ifndef REF_INTS_H
#define REF_INTS_H
/*
 * ints.h - what the products of integers have in common (gemm_int8.c,
 * gemm_int16.c)
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/strip.h"

#define INTS_BLOCK 32

/* 32 elements of x, as steps of a scale. */
struct ref_ints {
	s32 q[INTS_BLOCK];
	float scale;
};

/*
 * ref_ints_begin - a block of zeros for @x, NaN if that has no numbers
 *
 * Return: the largest |x| as bf16, or 0 if none is left to be done.
 */
u32 ref_ints_begin(const u16 *x, struct ref_ints *b);

/* ref_ints_add - @c and the steps of a block by a row of w */
float ref_ints_add(const struct ref_ints *x, const struct strip_quants *w,
		   u32 dtype, float c);

/* The sum of @nr blocks of a row of x by a row of w. */
typedef float ref_ints_dot(const u16 *x, const struct strip_quants *w, u32 nr,
			   u32 dtype);

/* ref_ints_gemm - as kern_ops.gemm; types without quants go to ref_gemm() */
void ref_ints_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch,
		   ref_ints_dot *dot);

#endif
