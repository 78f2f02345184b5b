/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_DRAW_H
#define RUNTIME_ENGINE_DRAW_H
/*
 * draw.h - one draw from a row without filters, and the exponentials of all
 *
 * The arithmetic is that of single fp32 operations in a fixed order, four
 * elements at a time: the same row gives the same token on every machine.
 */
#include "kv/types.h"

/* draw_tops - the largest of each block of DRAW_BLOCK of a row, likewise */
void draw_tops(const float *x, u32 nr, float *tops);
/* draw_max - the largest of a row, NaN left out; -INFINITY: there is none */
float draw_max(const float *x, u32 nr);

/* draw_exp - e^y for y <= 0, off by 3e-7 of it at most; below e^-80 it is 0 */
float draw_exp(float y);

/**
 * struct draw - a distribution over a row
 * @x: [nr] logits
 * @inv: 1 / temperature
 * @top: the largest, by @inv
 * @floor: what is below it, by @inv, has no chance
 */
struct draw {
	const float *x;
	u32 nr;
	float inv, top, floor;
};

#define DRAW_BLOCK 1024u

/* draw_sum - the whole mass, e^0 being that of the largest */
double draw_sum(const struct draw *d, double *sums);

/**
 * draw_pick - the element at this part of the whole mass
 * @sums: [DIV_ROUND_UP(nr, DRAW_BLOCK)] room
 * @u: in [0, 1)
 *
 * Elements lie one after the other by their number, each as wide as its
 * chance. Return: one that has a chance; nr: there is none.
 */
u32 draw_pick(const struct draw *d, double *sums, double u);

#endif
