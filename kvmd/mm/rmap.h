/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_RMAP_H
#define KVMD_MM_RMAP_H
/*
 * rmap.h - from a frame to the entries that map it
 *
 * A frame knows its fork family, area and page index; a fork keeps the
 * index. So every mapper is a space of the family whose entry at that index
 * names the frame, and no list of mappers is kept.
 */
#include "kvmd/mm/space.h"

/* The entry of @sp that maps @frame, present or moving; or NULL. */
static inline kv_pte_t *rmap_pte(const struct mm *mm, const struct client *c,
				 const struct space *sp, u32 frame)
{
	const struct frame *f = &mm_frames(mm)[frame];
	const struct space_area *a = &sp->area[f->area];
	kv_pte_t *p;

	if (f->page < a->page_first || f->page >= a->page_end)
		return NULL;
	p = pte_at(c, a, f->page);
	return pte_frame(mm, c, a, *p) == frame ? p : NULL;
}

/* Walk the spaces that map @frame of client @c. */
#define rmap_for_each(slot, mm, c, frame)                                      \
	ilist_for_each (                                                       \
		slot, &mm_families(mm, c)[mm_frames(mm)[frame].family].spaces, \
		ILINKS(mm_spaces(mm, c), sibling))                             \
		if (rmap_pte(mm, c, &mm_spaces(mm, c)[slot], frame))

/* May a step use it through one of the spaces that map it? */
static inline bool frame_is_busy(const struct mm *mm, const struct client *c,
				 u32 frame)
{
	const struct space *sps = mm_spaces(mm, c);
	u32 i;

	rmap_for_each(i, mm, c, frame)
	{
		if (space_is_busy(mm, c, &sps[i]))
			return true;
	}
	return false;
}

#endif
