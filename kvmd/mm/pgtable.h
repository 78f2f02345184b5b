/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_PGTABLE_H
#define KVMD_MM_PGTABLE_H
/*
 * pgtable.h - entries and leaves of one client's table
 */
#include "kvmd/mm/slab.h"
#include <kv/step.h>

/* The entry of a page whose leaf exists. */
static inline kv_pte_t *pte_at(const struct client *c,
			       const struct space_area *a, u32 page)
{
	u32 leaf = a->leaf[page / KV_LEAF_PTES];

	return &kv_table_leaf(c->table, leaf)->pte[page % KV_LEAF_PTES];
}

static inline kv_pte_t pte_make(u32 entry, u64 flags, u64 gen)
{
	return entry | flags | (gen << KV_PTE_GEN_SHIFT);
}

/* The frame an entry maps, or is moving; MM_NONE: none of this client's. */
static inline u32 pte_frame(const struct mm *mm, const struct client *c,
			    const struct space_area *a, kv_pte_t pte)
{
	if (!(pte & (KV_PTE_PRESENT | KV_PTE_MOVING)))
		return MM_NONE;
	return frame_find(mm, client_index(mm, c), a->geom, &c->cls[a->geom],
			  kv_pte_frame(pte));
}

/* Leaves of @a that pages [@first, @end) need and that do not exist. */
u32 pgtable_leaves_missing(const struct space_area *a, u32 first, u32 end);

/**
 * pgtable_grow - make sure that the table file has unused leaves
 * @mm: core
 * @c: client
 * @nr: unused leaves wanted
 *
 * Return: 0, -ENOSPC past KV_LEAF_MAX, or what the host's table_grow said.
 */
int pgtable_grow(struct mm *mm, struct client *c, u32 nr);

/* pgtable_add - create the missing leaves; pgtable_grow() made sure */
void pgtable_add(struct client *c, struct space_area *a, struct kv_area_desc *d,
		 u32 first, u32 end);

/* pgtable_drop_out - forget what an entry that is not present named */
void pgtable_drop_out(struct mm *mm, struct client *c, struct space_area *a,
		      kv_pte_t pte);

/**
 * pgtable_unmap - drop the pages of a range and the leaves they leave empty
 * @mm: core
 * @c: client
 * @a: area
 * @d: its descriptor in the table
 * @first: first page to stay
 * @end: one past the last page to stay
 * @pin: last step that may use the others
 *
 * Return: pages dropped. The caller bumps the space's generation if any.
 */
u32 pgtable_unmap(struct mm *mm, struct client *c, struct space_area *a,
		  struct kv_area_desc *d, u32 first, u32 end, u64 pin);

#endif
