/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_ABI_H
#define UAPI_KV_ABI_H
/*
 * abi.h - version, limits and names that both sides of the shared memory obey
 *
 * Everything below include/uapi/kv/ is fixed-width, little-endian and asserted
 * on size and offset; it compiles as C11 and as C++17. A field is never moved
 * or reused. A new field takes reserved space and a feature bit; kvmd answers
 * an older libkv with the features that both know.
 */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KV_ABI_ASSERT(cond) static_assert(cond, #cond)
#else
#define KV_ABI_ASSERT(cond) _Static_assert(cond, #cond)
#endif
#define KV_ABI_SIZE(type, bytes) KV_ABI_ASSERT(sizeof(type) == (bytes))
#define KV_ABI_OFFSET(type, field, bytes) \
	KV_ABI_ASSERT(offsetof(type, field) == (bytes))

#define KV_ABI_MAGIC 0x314d564bu /* "KVM1" */
#define KV_ABI_MAJOR 1u /* differs: not compatible */
#define KV_ABI_MINOR 0u /* differs: the smaller one's features */

/* Feature bits of struct kv_msg_hello and struct kv_msg_welcome. */
#define KV_FEAT_WINDOW	 (1ull << 0) /* sliding-window areas */
#define KV_FEAT_WEIGHTS	 (1ull << 1) /* file mappings */
#define KV_FEAT_EVENTS	 (1ull << 2) /* event ring */
#define KV_FEAT_TICKETS	 (1ull << 3) /* reservations that wait */
#define KV_FEAT_RANKS	 (1ull << 4) /* rank groups (reserved) */
#define KV_FEAT_SLOT_MAP (1ull << 5) /* slot-to-position maps (reserved) */
#define KV_FEAT_PREFIX	 (1ull << 6) /* page cache of published prefixes */
#define KV_FEAT_RESUME	 (1ull << 7) /* goes on with kvmd's successor */
#define KV_FEAT_GATE	 (1ull << 8) /* turns to compute (turn.h) */
#define KV_FEATURES                                                            \
	(KV_FEAT_WINDOW | KV_FEAT_WEIGHTS | KV_FEAT_EVENTS | KV_FEAT_TICKETS | \
	 KV_FEAT_PREFIX | KV_FEAT_RESUME | KV_FEAT_GATE)

#define KV_CHUNK_SHIFT	 21
#define KV_CHUNK_SIZE	 (1u << KV_CHUNK_SHIFT) /* 2 MiB */
#define KV_EXTENT_CHUNKS 4u
#define KV_EXTENT_SHIFT	 23
#define KV_EXTENT_SIZE	 (1u << KV_EXTENT_SHIFT) /* 8 MiB */

#define KV_SPACE_MAX   4096u /* spaces of one client */
#define KV_AREA_MAX    4u /* layer groups of one space */
#define KV_GEOM_MAX    8u /* geometries of one client */
#define KV_RANK_MAX    8u /* members of a rank group */
#define KV_LEAF_PTES   512u /* entries of one leaf, 4 KiB */
#define KV_AREA_LEAVES 32u /* leaves of one area */
#define KV_AREA_PAGES  (KV_LEAF_PTES * KV_AREA_LEAVES)
#define KV_LEAF_MAX    65536u /* leaves of one client: 256 MiB mapped */
#define KV_RESV_MAX    1024u /* items of one reservation */
#define KV_NAME_LEN    32u /* names, with the final zero */
#define KV_SOCKET_PATH "/run/kvmd/kvmd.sock"

/*
 * Which KV content is interchangeable: a page computed under one namespace is
 * never found under another. All zero but the digest: the bare model.
 */
struct kv_namespace {
	uint8_t model_digest[32]; /* SHA-256 of the model file */
	uint64_t adapter; /* adapter id, 0 = none */
	uint64_t adapter_version;
	uint64_t salt; /* separates tenants' or users' prefixes */
};
KV_ABI_SIZE(struct kv_namespace, 56);

/* The share of a model that one process computes. */
struct kv_rank {
	uint16_t tp_rank, tp_size; /* tensor parallel */
	uint16_t pp_rank, pp_size; /* pipeline parallel */
	uint16_t layer_first, nr_layers;
	uint16_t head_first, nr_heads; /* KV heads */
};
KV_ABI_SIZE(struct kv_rank, 16);

#endif
