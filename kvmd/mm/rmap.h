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

/* Every space that may map @frame of client @c. */
#define rmap_family(mm, c, frame) \
	(&mm_families(mm, c)[mm_frames(mm)[frame].family].spaces)

/* Walk the spaces that do; @p: the entry of each. */
#define rmap_for_each_pte(slot, p, mm, c, frame)           \
	ilist_for_each (slot, rmap_family(mm, c, frame),   \
			ILINKS(mm_spaces(mm, c), sibling)) \
		if (((p) = rmap_pte(mm, c, &mm_spaces(mm, c)[slot], frame)))
#define rmap_for_each(slot, mm, c, frame)                  \
	ilist_for_each (slot, rmap_family(mm, c, frame),   \
			ILINKS(mm_spaces(mm, c), sibling)) \
		if (rmap_pte(mm, c, &mm_spaces(mm, c)[slot], frame))

/* What entries of a page in @frame say; with one of @refs it may be written. */
static inline u64 rmap_present(const struct mm *mm,
			       const struct frame_class *cls, u32 frame,
			       u32 refs)
{
	return frame_entry(mm, cls, frame) | KV_PTE_PRESENT |
	       (refs > 1 ? KV_PTE_SHARED : KV_PTE_WRITE);
}

/* K1 and K2 of the step protocol: every entry of @frame is moving, and out. */
void rmap_begin(struct mm *mm, struct client *c, u32 frame);
/* K5: every entry that keeps @frame says @pte from now on; @out: still out. */
void rmap_end(struct mm *mm, struct client *c, u32 frame, u64 pte, bool out);

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
