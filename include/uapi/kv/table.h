/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_TABLE_H
#define UAPI_KV_TABLE_H
/*
 * table.h - a client's page tables: written by kvmd, read-only to the client
 *
 * One memfd per client, mapped once at its maximum size by both sides:
 *
 *	0			struct kv_table_hdr
 *	hdr.spaces_off		struct kv_space_desc [KV_SPACE_MAX]
 *	hdr.leaves_off		struct kv_leaf [KV_LEAF_MAX]
 *
 * The file grows by ftruncate; hdr.nr_leaves is published afterwards, and
 * nothing at or above it may be read (it would be past the end of the file).
 *
 * A space is found by its index. Its descriptor's generation moves, after
 * the entries, with every change of an entry that was there; a reader loads
 * the generation first and the leaf afterwards (protocol, C3).
 */
#include "abi.h"
#include "atomic.h"
#include "pte.h"

struct kv_leaf {
	kv_pte_t pte[KV_LEAF_PTES];
};
KV_ABI_SIZE(struct kv_leaf, 4096);

#define KV_LEAF_NONE 0xffffffffu

enum kv_space_state {
	KV_SPACE_FREE = 0,
	KV_SPACE_LIVE = 1,
	KV_SPACE_DYING = 2, /* destroyed, a step may still read it */
};

/* One layer group of one space: the VMA. */
struct kv_area_desc {
	uint32_t geom; /* index into the client's geometries */
	uint32_t window; /* tokens a row sees, 0 = all before it */
	uint32_t page_first; /* first page that may be present */
	uint32_t page_end; /* one past the last page that may be present */
	uint16_t head_first, nr_heads; /* KV heads this area covers */
	uint32_t slot_map; /* 0: slot = position */
	uint32_t reserved[2];
	uint32_t leaf[KV_AREA_LEAVES]; /* leaf index, or KV_LEAF_NONE */
};
KV_ABI_SIZE(struct kv_area_desc, 160);

struct kv_space_desc {
	uint64_t gen; /* never goes down, also when the slot is reused */
	uint32_t state; /* enum kv_space_state */
	uint32_t family; /* fork family */
	uint32_t parent; /* slot forked from, or ~0 */
	uint32_t serial; /* how often the slot was used */
	uint32_t group; /* rank group, 0 = none */
	uint16_t nr_areas;
	uint16_t priority;
	uint64_t resv_step; /* last step a reservation was granted for */
	uint64_t created_ns;
	struct kv_namespace ns;
	uint64_t reserved[3];
	struct kv_area_desc area[KV_AREA_MAX];
};
KV_ABI_SIZE(struct kv_space_desc, 768);
KV_ABI_OFFSET(struct kv_space_desc, area, 128);

struct kv_table_hdr {
	uint32_t magic; /* KV_ABI_MAGIC */
	uint16_t major, minor;
	uint32_t client; /* index of the client in kvmd */
	uint32_t nr_leaves; /* leaves in the file; release-published */
	uint64_t epoch; /* moves at a revoke: a commit is then -ESTALE */
	uint64_t spaces_off;
	uint64_t leaves_off;
	uint64_t hold_step; /* no step above this may begin; ~0 = no hold */
	uint32_t nr_geoms;
	uint32_t reserved[3];
	uint64_t pad[56];
};
KV_ABI_SIZE(struct kv_table_hdr, 512);

#define KV_TABLE_SPACES_OFF 4096ull
#define KV_TABLE_LEAVES_OFF \
	(KV_TABLE_SPACES_OFF + KV_SPACE_MAX * sizeof(struct kv_space_desc))
#define KV_TABLE_SIZE_MAX \
	(KV_TABLE_LEAVES_OFF + (uint64_t)KV_LEAF_MAX * sizeof(struct kv_leaf))
KV_ABI_ASSERT(KV_TABLE_LEAVES_OFF % 4096 == 0);

/*
 * The client's own words, one memfd, writable by the client, untrusted: kvmd
 * clamps what it reads here. Mapped by every rank of a group.
 */
struct kv_space_status {
	uint64_t len; /* tokens committed */
	uint64_t active_step; /* the last step that uses this space */
};

struct kv_rank_status {
	uint64_t completed; /* last step whose device stream has ended */
	uint64_t pad[7];
};

struct kv_status {
	struct kv_rank_status rank[KV_RANK_MAX];
	struct kv_space_status space[KV_SPACE_MAX];
};
KV_ABI_SIZE(struct kv_status, 64 * KV_RANK_MAX + 16 * KV_SPACE_MAX);

static inline struct kv_space_desc *kv_table_space(struct kv_table_hdr *t,
						   uint32_t space)
{
	return (struct kv_space_desc *)(void *)((char *)t +
						KV_TABLE_SPACES_OFF) +
	       space;
}

static inline struct kv_leaf *kv_table_leaf(struct kv_table_hdr *t,
					    uint32_t leaf)
{
	return (struct kv_leaf *)(void *)((char *)t + KV_TABLE_LEAVES_OFF) +
	       leaf;
}

#endif
