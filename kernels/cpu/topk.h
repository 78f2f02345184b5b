/* SPDX-License-Identifier: MIT */
#ifndef CPU_TOPK_H
#define CPU_TOPK_H
/*
 * topk.h - the k largest of a stream of values, in the caller's arrays
 *
 * A binary heap with the worst kept value at its root: smaller is worse, and
 * of equal ones the later index. Values come by rising index, so a value that
 * equals the root never replaces it: topk_takes() is one comparison, which a
 * vector loop does for 16 at once. A NaN counts as the smallest value.
 */
#include <math.h>

#include "include/kv/types.h"

struct topk {
	float *val; /* [k] */
	u32 *id; /* [k] */
	u32 k, nr;
	float floor; /* the root once the heap is full, else -inf */
};

static inline void topk_init(struct topk *t, float *val, u32 *id, u32 k)
{
	*t = (struct topk){ .val = val, .id = id, .k = k, .floor = -INFINITY };
}

static inline bool topk_takes(const struct topk *t, float v)
{
	return v > t->floor || t->nr < t->k;
}

static inline bool topk_worse(const struct topk *t, u32 a, u32 b)
{
	if (t->val[a] != t->val[b])
		return t->val[a] < t->val[b];
	return t->id[a] > t->id[b];
}

static inline void topk_swap(struct topk *t, u32 a, u32 b)
{
	float v = t->val[a];
	u32 id = t->id[a];

	t->val[a] = t->val[b];
	t->id[a] = t->id[b];
	t->val[b] = v;
	t->id[b] = id;
}

static inline void topk_sink(struct topk *t, u32 nr)
{
	u32 at = 0, child;

	while ((child = 2 * at + 1) < nr) {
		if (child + 1 < nr && topk_worse(t, child + 1, child))
			child++;
		if (!topk_worse(t, child, at))
			return;
		topk_swap(t, at, child);
		at = child;
	}
}

/* Keep a value that topk_takes() accepts. */
static inline void topk_push(struct topk *t, float v, u32 id)
{
	v = v > -INFINITY ? v : -INFINITY;
	if (t->nr == t->k) {
		t->val[0] = v;
		t->id[0] = id;
		topk_sink(t, t->k);
	} else {
		u32 at = t->nr++;

		t->val[at] = v;
		t->id[at] = id;
		while (at && topk_worse(t, at, (at - 1) / 2)) {
			topk_swap(t, at, (at - 1) / 2);
			at = (at - 1) / 2;
		}
	}
	if (t->nr == t->k)
		t->floor = t->val[0];
}

/* Best first. */
static inline void topk_sort(struct topk *t)
{
	for (u32 nr = t->nr; nr > 1; nr--) {
		topk_swap(t, 0, nr - 1);
		topk_sink(t, nr - 1);
	}
}

#endif
