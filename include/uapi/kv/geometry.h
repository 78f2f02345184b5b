/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_GEOMETRY_H
#define UAPI_KV_GEOMETRY_H
/*
 * geometry.h - what one page of a layer group holds
 *
 * A page holds the K and V rows of @page_tokens tokens for all layers of its
 * group. The bytes of token t (0..page_tokens-1), layer l (0..nr_layers-1 in
 * the group), KV head h are at
 *
 *	K: page + l * layer_stride + t * token_stride + h * head_stride
 *	V: the same + v_offset
 *
 * and page = base + entry * unit_bytes, where entry is the PTE's frame field
 * and unit_bytes the largest power of two that divides both page and chunk.
 */
#include "abi.h"

enum kv_elem {
	KV_ELEM_BF16 = 1,
};

struct kv_geometry {
	uint32_t page_tokens; /* tokens of a page, a power of two, 1..256 */
	uint16_t nr_layers; /* layers of the group */
	uint16_t nr_kv_heads; /* KV heads held here */
	uint16_t head_dim; /* elements of a head */
	uint8_t elem; /* enum kv_elem */
	uint8_t flags; /* 0 */
	uint32_t token_stride; /* bytes */
	uint32_t head_stride; /* bytes */
	uint32_t v_offset; /* bytes from a K row to its V row */
	uint32_t layer_stride; /* bytes */
	uint32_t page_bytes; /* bytes of a page, a multiple of 4096 */
	/* set by kvmd, zero in a request */
	uint32_t unit_bytes; /* bytes of one block-table step */
	uint32_t slab_chunks; /* chunks of a slab: 1, 2 or 4 */
	uint32_t slab_pages; /* pages a slab holds */
	uint32_t reserved[3];
};
KV_ABI_SIZE(struct kv_geometry, 56);
KV_ABI_OFFSET(struct kv_geometry, token_stride, 12);
KV_ABI_OFFSET(struct kv_geometry, unit_bytes, 32);

#endif
