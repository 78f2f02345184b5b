/* SPDX-License-Identifier: MIT */
/*
 * block.c - how the block is laid out, and what of it another build reads
 */
#include <errno.h>
#include <string.h>

#include "include/kv/errbuf.h"
#include "include/uapi/kv/abi.h"
#include "kvmd/keep/block.h"

enum type {
	T_CLIENT,
	T_WEIGHTS,
	T_LEASES,
	T_RETIRED,
	T_EXTENT,
	T_BLOCK,
	NR_TYPES
};

#define F   RECORD_PLAIN
#define FA  RECORD_ARRAY
#define FSA RECORD_STRUCTS

/* clang-format off */
static const struct record_field client_fields[] = {
	F(keep_client, state), F(keep_client, serial), F(keep_client, gen),
	F(keep_client, welcomed), F(keep_client, has_cache),
	F(keep_client, hidden), F(keep_client, uid_unknown),
	F(keep_client, pid), F(keep_client, uid), F(keep_client, gid),
	F(keep_client, eq_tail), F(keep_client, heads),
	F(keep_client, post_ticket), F(keep_client, post_at),
	F(keep_client, msg_bytes), F(keep_client, features),
	F(keep_client, hello), F(keep_client, name), F(keep_client, tenant),
	F(keep_client, msg),
};

static const struct record_field weights_fields[] = {
	F(keep_weights, state), F(keep_weights, id), F(keep_weights, gen),
	F(keep_weights, filler), F(keep_weights, charged_bytes),
	F(keep_weights, tenant), F(keep_weights, key),
};

static const struct record_field leases_fields[] = {
	FA(keep_leases, client),
};

static const struct record_field retired_fields[] = {
	F(keep_retired, gen), F(keep_retired, extent), F(keep_retired, client),
};

static const struct record_field extent_fields[] = {
	F(keep_extent, gen), F(keep_extent, client),
};

/* The extents of the device come last: make(). */
static const struct record_field block_fields[] = {
	F(keep_block, lives), F(keep_block, device_bytes),
	F(keep_block, next_gen), F(keep_block, next_weights_id),
	F(keep_block, mm_gen), F(keep_block, ready), F(keep_block, made_dir),
	F(keep_block, made_file), FA(keep_block, tenant_pinned),
	FSA(keep_block, clients, T_CLIENT), FSA(keep_block, weights, T_WEIGHTS),
	FSA(keep_block, leases, T_LEASES), FSA(keep_block, retired, T_RETIRED),
};

static const struct record_def types[NR_TYPES] = {
	[T_CLIENT] = RECORD_DEF(keep_client, client),
	[T_WEIGHTS] = RECORD_DEF(keep_weights, weights),
	[T_LEASES] = RECORD_DEF(keep_leases, leases),
	[T_RETIRED] = RECORD_DEF(keep_retired, retired),
	[T_EXTENT] = RECORD_DEF(keep_extent, extent),
};
/* clang-format on */

struct format {
	struct record_field block[ARRAY_SIZE(block_fields) + 1];
	struct record_def defs[NR_TYPES];
};

static void make(struct format *f, u64 device_bytes)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->defs, types, sizeof(types));
	memcpy(f->block, block_fields, sizeof(block_fields));
	f->block[ARRAY_SIZE(block_fields)] = (struct record_field){
		.name = "extents",
		.off = offsetof(struct keep_block, extents),
		.bytes = sizeof(struct keep_extent),
		.nr = (u32)(device_bytes >> KV_EXTENT_SHIFT),
		.type = 1 + T_EXTENT,
	};
	f->defs[T_BLOCK] = (struct record_def){
		.name = "block",
		.bytes = keep_block_bytes(device_bytes),
		.fields = f->block,
		.nr = ARRAY_SIZE(f->block),
	};
}

/* Where the description is: behind the extents. */
static u64 format_off(u64 device_bytes)
{
	u64 nr = device_bytes >> KV_EXTENT_SHIFT;

	return ALIGN_UP(sizeof(struct keep_block) +
				nr * sizeof(struct keep_extent),
			4096ull);
}

u64 keep_block_bytes(u64 device_bytes)
{
	return format_off(device_bytes) +
	       ALIGN_UP(record_bytes(types, NR_TYPES) +
				sizeof(((struct format *)0)->block),
			4096ull);
}

void keep_block_init(struct keep_block *b, u64 device_bytes)
{
	struct format f;

	make(&f, device_bytes);
	record_describe(&b->head, format_off(device_bytes), f.defs, NR_TYPES);
	b->head.version = KEEP_VERSION;
	b->device_bytes = device_bytes;
}

int keep_block_check(const struct keep_block *b, u64 bytes, bool *ours,
		     char *err)
{
	struct format f;

	*ours = false;
	if (bytes < sizeof(b->head) || b->head.magic != KEEP_MAGIC)
		return err_set(err, -EBADMSG, "it is not complete");
	if (b->head.version != KEEP_VERSION)
		return err_set(err, -EPROTONOSUPPORT,
			       "it is of version %u, not %u", b->head.version,
			       KEEP_VERSION);
	if (bytes < sizeof(*b))
		return 0;
	make(&f, b->device_bytes);
	*ours = record_is_ours(&b->head, bytes, f.defs, NR_TYPES);
	return 0;
}
