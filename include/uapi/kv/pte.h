/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_PTE_H
#define UAPI_KV_PTE_H
/*
 * pte.h - the 64-bit page table entry
 *
 *	63      44 43  40 39 38 37 36 35 34 33 32 31            0
 *	generation  tier  -  sw mv di ac sh wr pr block-table entry
 *
 * kvmd writes entries, clients read them. Not present and not swapped: no
 * page. "moving" is not present, keeps the old frame for recovery and means
 * that kvmd is changing the mapping: reserve the page to wait for it.
 * "swapped" names a slot of a swap tier; reserve the page to have it back.
 * In tier KV_PTE_TIER_LOST the content could not be read back and the page has
 * to be computed again.
 */
#include "abi.h"

typedef uint64_t kv_pte_t;

#define KV_PTE_FRAME	  0xffffffffull /* block-table entry, or swap slot */
#define KV_PTE_PRESENT	  (1ull << 32)
#define KV_PTE_WRITE	  (1ull << 33)
#define KV_PTE_SHARED	  (1ull << 34) /* more than one mapper */
#define KV_PTE_ACCESSED	  (1ull << 35)
#define KV_PTE_DIRTY	  (1ull << 36)
#define KV_PTE_MOVING	  (1ull << 37)
#define KV_PTE_SWAPPED	  (1ull << 38)
#define KV_PTE_TIER_SHIFT 40
#define KV_PTE_TIER	  (0xfull << KV_PTE_TIER_SHIFT)
#define KV_PTE_TIER_LOST  15ull
#define KV_PTE_GEN_SHIFT  44
#define KV_PTE_GEN	  (0xfffffull << KV_PTE_GEN_SHIFT)

static inline uint32_t kv_pte_frame(kv_pte_t pte)
{
	return (uint32_t)(pte & KV_PTE_FRAME);
}

static inline int kv_pte_is_present(kv_pte_t pte)
{
	return (pte & KV_PTE_PRESENT) != 0;
}

/* May a step read this page, and if @write also write to it? */
static inline int kv_pte_can(kv_pte_t pte, int write)
{
	return (pte & KV_PTE_PRESENT) && (!write || (pte & KV_PTE_WRITE));
}

#endif
