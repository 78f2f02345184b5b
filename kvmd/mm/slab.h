/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_SLAB_H
#define KVMD_MM_SLAB_H
/*
 * slab.h - frames of one client and geometry, in runs of chunks
 *
 * The short functions of the hot paths are here, inline; slab.c says how
 * slabs live.
 */
#include "kvmd/mm/state.h"

/* First chunk of the slab that holds a frame. */
static inline u32 frame_head(const struct mm *mm, u32 frame)
{
	u32 chunk = frame / FRAMES_PER_CHUNK;

	return chunk - mm_chunks(mm)[chunk].back;
}

/* Block-table entry of a frame. */
static inline u32 frame_entry(const struct mm *mm,
			      const struct frame_class *cls, u32 frame)
{
	u32 head = frame_head(mm, frame);

	return (head << (KV_CHUNK_SHIFT - cls->unit_shift)) +
	       (frame - head * FRAMES_PER_CHUNK) * cls->page_units;
}

/**
 * frame_find - the frame behind a block-table entry
 * @mm: core
 * @self: index of the client whose table it stands in
 * @geom: class of the area
 * @entry: block-table entry
 *
 * Return: the frame, or MM_NONE if no frame of that client and class begins
 * there: a table that something scribbled over leads nowhere else.
 */
static inline u32 frame_find(const struct mm *mm, u32 self, u32 geom,
			     const struct frame_class *cls, u32 entry)
{
	u32 shift = KV_CHUNK_SHIFT - cls->unit_shift;
	u32 chunk = entry >> shift;
	const struct chunk *k = &mm_chunks(mm)[chunk];
	u32 rest, index;

	if (unlikely(chunk >= mm->nr_chunks))
		return MM_NONE;
	chunk -= k->back;
	k -= k->back;
	rest = entry - (chunk << shift);
	index = (u32)((rest * cls->recip) >> 32);
	if (unlikely(k->state != CHUNK_HEAD || k->client != self ||
		     k->geom != geom || index * cls->page_units != rest ||
		     index >= k->nr_fresh))
		return MM_NONE;
	return chunk * FRAMES_PER_CHUNK + index;
}

/* frame_get - one more entry maps it */
static inline void frame_get(struct frame_class *cls, struct frame *f)
{
	cls->nr_shared += f->refs == 1;
	cls->nr_extra++;
	f->refs++;
}

/**
 * frame_put - an entry that mapped it is gone (K7)
 * @mm: core
 * @c: owner
 * @geom: its class
 * @frame: used frame
 * @pin: last step that may use it through that entry
 *
 * The last one frees it, at once or when the client has completed @pin.
 */
void frame_put(struct mm *mm, struct client *c, u32 geom, u32 frame, u64 pin);

/* frame_drop - a used frame without an entry: free, now or behind its pin */
void frame_drop(struct mm *mm, struct client *c, u32 geom, u32 frame);

/* frame_alloc - take a frame of a class that has one; refs is 1 */
u32 frame_alloc(struct mm *mm, struct client *c, u32 geom);

/**
 * frame_alloc_outside - take a frame of the fullest slab that will do
 * @mm: core
 * @c: client
 * @geom: class
 * @first: chunk; no frame of it is taken, nor of the @nr - 1 behind it
 * @nr: chunks; of a whole extent: a slab may be made elsewhere
 *
 * Return: a frame of an extent that the client is known to have received, refs
 * is 1; MM_NONE: there is none.
 */
u32 frame_alloc_outside(struct mm *mm, struct client *c, u32 geom, u32 first,
			u32 nr);

/* frame_free_now - a used frame with no entry and no pin left */
void frame_free_now(struct mm *mm, struct client *c, u32 geom, u32 frame);

/* slab_reap - free the frames whose pins the client has passed */
void slab_reap(struct mm *mm, struct client *c);

/**
 * slab_extents_short - extents a client needs before it has these frames
 * @c: client
 * @need: free frames wanted per class
 *
 * Return: how many extents slab_make() would have to be granted.
 */
u32 slab_extents_short(const struct client *c, const u32 need[KV_GEOM_MAX]);

/* slab_fits_outside - are there these frames, or room for their slabs, without
 * a wholly free extent and an extent whose free chunks are @mask? */
bool slab_fits_outside(const struct client *c, const u32 need[KV_GEOM_MAX],
		       u32 mask);

/* slab_extents_min - extents that hold these frames at the best */
u32 slab_extents_min(const struct client *c, const u64 frames[KV_GEOM_MAX]);

/* slab_make - create slabs until each class has @need free frames */
void slab_make(struct mm *mm, struct client *c, const u32 need[KV_GEOM_MAX]);

/* slab_trim - give back slabs that nobody uses */
void slab_trim(struct mm *mm, struct client *c);

/* slab_bucket_add - put a slab on the list that its use calls for, on no list
 * if it is full */
void slab_bucket_add(struct mm *mm, struct frame_class *cls, u32 head);

/* slab_class_init - derive what the hot paths need from cls->geom */
void slab_class_init(struct frame_class *cls);

#endif
