/* SPDX-License-Identifier: MIT */
/*
 * draw.c - one draw from a row without filters
 *
 * One pass sums the chances of blocks of DRAW_BLOCK elements; the block in
 * which the draw falls is looked at once more. A vocabulary of a quarter of a
 * million is read once and not copied.
 *
 * e^y = 2^n * e^r with n the integer nearest to y / ln 2: the polynomial for
 * e^r, |r| <= ln 2 / 2, is that of Cephes' expf.
 */
#include "runtime/engine/draw.h"

#include <math.h>

#define LANES 4u

typedef float v4f __attribute__((vector_size(16)));
typedef s32 v4i __attribute__((vector_size(16)));

#define ALL(c) ((v4f){ (c), (c), (c), (c) })

#define LOWEST	 (-80.0f)
#define LOG2E	 1.44269504088896341f
#define LN2_HIGH 0.693359375f
#define LN2_LOW	 -2.12194440e-4f
#define ROUNDER	 12582912.0f /* 1.5 * 2^23: adding it rounds to an integer */

static v4f pick4(v4i mask, v4f a, v4f b)
{
	return (v4f)((mask & (v4i)a) | (~mask & (v4i)b));
}

static v4f load4(const float *x)
{
	v4f v;

	__builtin_memcpy(&v, x, sizeof(v));
	return v;
}

static v4f exp4(v4f y)
{
	v4i low = y < ALL(LOWEST);
	v4f t, k, r, p;
	v4i n;

	y = pick4(low, ALL(LOWEST), y);
	t = y * LOG2E + ROUNDER;
	k = t - ROUNDER;
	n = (v4i)t - (v4i)ALL(ROUNDER);
	r = y - k * LN2_HIGH - k * LN2_LOW;
	p = ALL(1.9875691500e-4f);
	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * r * r + r + 1.0f;
	return (v4f)(~low & ((v4i)p + (n << 23)));
}

float draw_exp(float y)
{
	return exp4(ALL(y))[0];
}

float draw_max(const float *x, u32 nr)
{
	v4f best = ALL(-INFINITY), v;
	float top;
	u32 i;

	for (i = 0; i + LANES <= nr; i += LANES) {
		v = load4(x + i);
		best = pick4(v > best, v, best);
	}
	top = fmaxf(fmaxf(best[0], best[1]), fmaxf(best[2], best[3]));
	for (; i < nr; i++)
		if (x[i] > top)
			top = x[i];
	return top;
}

void draw_tops(const float *x, u32 nr, float *tops)
{
	u32 i;

	for (i = 0; i < nr; i += DRAW_BLOCK)
		tops[i / DRAW_BLOCK] = draw_max(x + i, min(nr - i, DRAW_BLOCK));
}

/* Chances of four elements; a NaN has none. */
static v4f chance4(const struct draw *d, v4f x)
{
	v4f v = x * d->inv;
	v4i in = v >= ALL(d->floor);

	return (v4f)(in & (v4i)exp4(pick4(in, v - d->top, ALL(LOWEST))));
}

static v4f chance_at(const struct draw *d, u32 i)
{
	v4f x = ALL(-INFINITY);
	u32 k;

	if (i + LANES <= d->nr)
		return chance4(d, load4(d->x + i));
	for (k = 0; i + k < d->nr; k++)
		x[k] = d->x[i + k];
	return chance4(d, x);
}

static double block_sum(const struct draw *d, u32 from)
{
	u32 i, end = min(from + DRAW_BLOCK, d->nr);
	v4f sum = ALL(0.0f);

	for (i = from; i < end; i += LANES)
		sum += chance_at(d, i);
	return ((double)sum[0] + (double)sum[1]) +
	       ((double)sum[2] + (double)sum[3]);
}

/* The element of a block at @u of its mass, or the last with a chance. */
static u32 pick_in(const struct draw *d, u32 from, double u)
{
	u32 i, k, last = d->nr, end = min(from + DRAW_BLOCK, d->nr);
	v4f p;

	for (i = from; i < end; i += LANES) {
		p = chance_at(d, i);
		for (k = 0; k < LANES && i + k < end; k++) {
			if (!(p[k] > 0.0f))
				continue;
			last = i + k;
			u -= (double)p[k];
			if (u < 0.0)
				return last;
		}
	}
	return last;
}

double draw_sum(const struct draw *d, double *sums)
{
	u32 nr = DIV_ROUND_UP(d->nr, DRAW_BLOCK), b;
	double sum = 0.0;

	for (b = 0; b < nr; b++) {
		sums[b] = block_sum(d, b * DRAW_BLOCK);
		sum += sums[b];
	}
	return sum;
}

u32 draw_pick(const struct draw *d, double *sums, double u)
{
	u32 nr = DIV_ROUND_UP(d->nr, DRAW_BLOCK), b, last = nr;

	u *= draw_sum(d, sums);
	for (b = 0; b < nr; b++) {
		if (!(sums[b] > 0.0))
			continue;
		last = b;
		if (u < sums[b])
			break;
		u -= sums[b];
	}
	return last < nr ? pick_in(d, last * DRAW_BLOCK, u) : d->nr;
}
