/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_COMPACT_H
#define KVMD_MM_COMPACT_H
/*
 * compact.h - pages move together, so that extents come empty
 */
#include "kvmd/mm/resv.h"

/* compact_tick - time passes: more may be moved */
void compact_tick(struct mm *mm);

/* compact_wants_tick - could somebody do with fewer extents? */
bool compact_wants_tick(const struct mm *mm);

/* compact_run - begin what may begin; true if a request was queued */
bool compact_run(struct mm *mm);

/**
 * compact_for - make extents empty for a reservation that is short
 * @mm: core
 * @c: its client
 * @block: BLOCK_TENANT: only those of its tenant count; BLOCK_DEVICE: all
 *
 * Return: true if pages are on their way.
 */
bool compact_for(struct mm *mm, const struct client *c,
		 enum ticket_block block);

/* compact_page_done - a page of @c has arrived, or has not */
void compact_page_done(struct mm *mm, struct client *c, int err);

/* compact_tell - the reply to @step will say which extents @c has by now */
static inline void compact_tell(struct client *c, u64 step)
{
	struct told *t = &c->told[c->told[0].step != 0];

	if (likely(c->seq_known == c->extent_seq))
		return;
	t->step = step;
	t->seq = c->extent_seq;
}

/* compact_told - what it completed it began after the reply */
static inline void compact_told(struct client *c)
{
	while (unlikely(c->told[0].step) && c->completed >= c->told[0].step) {
		c->seq_known = c->told[0].seq;
		c->told[0] = c->told[1];
		c->told[1].step = 0;
	}
}

#endif
