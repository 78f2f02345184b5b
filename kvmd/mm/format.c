/* SPDX-License-Identifier: MIT */
/*
 * format.c - what of the block another build of kvmd can read
 *
 * Described is the truth (recover.c), field by field, and what only the block
 * knows: counters, pressure. A field that is new in a struct of state.h
 * belongs in here unless mm_recover() finds its value by itself; the tests of
 * recovery then go through a copy that has no more than these.
 *
 * Not described, and so lost on the way: reports of why memory was short, and
 * averages of pressure.
 *
 * MM_VERSION stands for what numbers mean: the values of the enums, units of
 * frames and slots, bits of entries, how a ticket's id is made up. Another
 * version is not read. Nor is one in which bytes that nobody looks into, names
 * and structs of the ABI, have another size.
 */
#include <errno.h>
#include <string.h>

#include "include/kv/errbuf.h"
#include "kvmd/mm/format.h"

enum type {
	T_EXTENT,
	T_CHUNK,
	T_FRAME,
	T_CLASS,
	T_SLOT,
	T_REVOKE,
	T_OP_LOG,
	T_CLIENT,
	T_AREA,
	T_SPACE,
	T_SPACES,
	T_POLICY,
	T_NODE,
	T_TREE_AREA,
	T_TREE,
	T_REF,
	T_LIMITS,
	T_EVENTS,
	T_PRESSURE,
	T_TENANT,
	T_FAULTS,
	T_TICKET,
	T_ITEMS,
	T_COW,
	T_COWS,
	T_CONFIG,
	T_COUNTS,
	T_SWAP_SET,
	T_MM,
	T_BLOCK,
	NR_TYPES
};

#define F   RECORD_PLAIN
#define FA  RECORD_ARRAY
#define FS  RECORD_STRUCT
#define FSA RECORD_STRUCTS

/* The KV_SPACE_MAX spaces of one client, and so on. */
struct spaces {
	struct space space[KV_SPACE_MAX];
};

struct items {
	struct kv_resv_item item[KV_RESV_MAX];
};

struct cows {
	struct cow cow[KV_RESV_MAX * KV_AREA_MAX];
};

/* clang-format off */
static const struct record_field extent_fields[] = {
	F(extent, state), F(extent, backed), F(extent, client), F(extent, seq),
};

static const struct record_field chunk_fields[] = {
	F(chunk, state), F(chunk, back), F(chunk, geom), F(chunk, nr_fresh),
	F(chunk, client),
};

static const struct record_field frame_fields[] = {
	F(frame, family), F(frame, page), F(frame, area), F(frame, state),
	F(frame, next), F(frame, pin),
};

static const struct record_field class_fields[] = {
	F(frame_class, geom), F(frame_class, recip),
	F(frame_class, fingerprint), F(frame_class, page_units),
	F(frame_class, unit_shift), F(frame_class, page_shift),
};

static const struct record_field slot_fields[] = {
	F(slot, state), F(slot, area), F(slot, page), F(slot, geom),
	F(slot, client), F(slot, family), F(slot, frame), F(slot, stored),
	F(slot, key), F(slot, sum),
};

static const struct record_field revoke_fields[] = {
	F(revoke, state), F(revoke, cause), F(revoke, goal), F(revoke, asked),
	F(revoke, ticket), F(revoke, begun_ns),
};

static const struct record_field op_log_fields[] = {
	F(op_log, kind), F(op_log, done), F(op_log, result), F(op_log, id),
	F(op_log, space), F(op_log, nr), F(op_log, arg), F(op_log, mark),
	F(op_log, ticket),
};

static const struct record_field client_fields[] = {
	F(client, state), F(client, serial), F(client, tenant),
	F(client, nr_geoms), F(client, completed), F(client, steps_from),
	F(client, granted), F(client, worked), F(client, oom_ns),
	F(client, space_top), F(client, family_top), F(client, nr_leaves),
	F(client, extent_seq), FS(client, revoke, T_REVOKE),
	F(client, seq_known), F(client, epoch), F(client, hold),
	FSA(client, cls, T_CLASS), F(client, name), F(client, ns),
	F(client, rank), FS(client, log, T_OP_LOG),
};

static const struct record_field area_fields[] = {
	F(space_area, geom), F(space_area, window), F(space_area, page_first),
	F(space_area, page_end), F(space_area, leaf_mask),
	FA(space_area, leaf),
};

static const struct record_field space_fields[] = {
	F(space, state), F(space, nr_areas), F(space, priority),
	F(space, serial), F(space, family), F(space, parent), F(space, mark),
	F(space, used_ns), F(space, seen_active), F(space, gen),
	F(space, resv), F(space, resv_was), F(space, created_ns),
	F(space, ref), F(space, chain), FSA(space, area, T_AREA),
};

static const struct record_field spaces_fields[] = {
	FSA(spaces, space, T_SPACE),
};

static const struct record_field policy_fields[] = {
	F(policy_node, stamp),
};

static const struct record_field node_fields[] = {
	F(prefix_node, state), F(prefix_node, copying), F(prefix_node, tree),
	F(prefix_node, nr_tokens), F(prefix_node, depth),
	F(prefix_node, parent), F(prefix_node, prio), FA(prefix_node, frame),
	FA(prefix_node, from), F(prefix_node, client),
	FS(prefix_node, policy, T_POLICY),
};

static const struct record_field tree_area_fields[] = {
	F(prefix_tree_area, geom), F(prefix_tree_area, window),
	F(prefix_tree_area, head_first), F(prefix_tree_area, nr_heads),
};

static const struct record_field tree_fields[] = {
	F(prefix_tree, tenant), F(prefix_tree, ns), F(prefix_tree, nr_areas),
	FSA(prefix_tree, area, T_TREE_AREA), F(prefix_tree, page_shift),
	F(prefix_tree, hits), F(prefix_tree, hit_tokens),
	F(prefix_tree, asked_tokens),
};

static const struct record_field ref_fields[] = {
	F(prefix_ref, node), F(prefix_ref, client), F(prefix_ref, pin),
};

static const struct record_field limits_fields[] = {
	F(mm_limits, max_bytes), F(mm_limits, low_bytes),
	F(mm_limits, min_bytes), F(mm_limits, weight),
};

static const struct record_field events_fields[] = {
	F(mm_tenant_events, low), F(mm_tenant_events, high),
	F(mm_tenant_events, max), F(mm_tenant_events, oom),
	F(mm_tenant_events, refused), F(mm_tenant_events, oom_kill),
	F(mm_tenant_events, swap_fail), F(mm_tenant_events, revoked),
};

static const struct record_field pressure_fields[] = {
	F(pressure, since_ns), FA(pressure, total_ns), FA(pressure, period_ns),
};

static const struct record_field tenant_fields[] = {
	F(tenant, refs), FS(tenant, limits, T_LIMITS), F(tenant, charged),
	F(tenant, swap_max), FA(tenant, tier_max), F(tenant, swap_out_bytes),
	F(tenant, swap_in_bytes), F(tenant, high), F(tenant, max_seen),
	F(tenant, limit_hits), FS(tenant, events, T_EVENTS), F(tenant, cache),
	F(tenant, dropping), FS(tenant, pressure, T_PRESSURE), F(tenant, name),
};

static const struct record_field faults_fields[] = {
	F(mm_faults, fresh), F(mm_faults, cow), F(mm_faults, swap_in),
	F(mm_faults, prefix),
};

static const struct record_field ticket_fields[] = {
	F(ticket, state), F(ticket, priority), F(ticket, client), F(ticket, id),
	F(ticket, request), F(ticket, serial), F(ticket, nr_items),
	F(ticket, flags), F(ticket, out_off), F(ticket, out_room),
	F(ticket, extents), F(ticket, step), F(ticket, user_data),
	F(ticket, since_ns), F(ticket, slow_until_ns),
	FS(ticket, faults, T_FAULTS), F(ticket, cqe),
};

static const struct record_field items_fields[] = {
	FA(items, item),
};

static const struct record_field cow_fields[] = {
	F(cow, copy), F(cow, old), F(cow, space), F(cow, page), F(cow, area),
	F(cow, ref), F(cow, chain), F(cow, cached),
};

static const struct record_field cows_fields[] = {
	FSA(cows, cow, T_COW),
};

static const struct record_field config_fields[] = {
	F(mm_config, device_bytes), FA(mm_config, swap_bytes),
	FA(mm_config, swap_store), F(mm_config, cache_pages),
	F(mm_config, watermark_min), F(mm_config, watermark_low),
	F(mm_config, watermark_high),
};

static const struct record_field swap_set_fields[] = {
	F(mm_swap_set, demote_low), F(mm_swap_set, demote_high),
	F(mm_swap_set, deadline_ms), F(mm_swap_set, discard),
};

#define COUNTER(name) F(mm_counts, name),
static const struct record_field counts_fields[] = {
	MM_COUNTERS(COUNTER)
};

static const struct record_field mm_fields[] = {
	FS(mm, cfg, T_CONFIG), FS(mm, swap, T_SWAP_SET), F(mm, now_ns),
	F(mm, ticket_top),
	F(mm, ticket_seq), F(mm, pass), F(mm, tenant_top), F(mm, swap_keys),
	F(mm, keep_seq), F(mm, node_top), F(mm, ref_top), F(mm, node_seed),
	F(mm, cache_policy), FS(mm, pressure, T_PRESSURE), F(mm, nr_ooms),
	F(mm, resv_seq),
	F(mm, mark_seq), FS(mm, counts, T_COUNTS), F(mm, nr_reads),
	FS(mm, waited, T_FAULTS), FSA(mm, tenants, T_TENANT),
	FSA(mm, trees, T_TREE),
};

static const struct record_def types[T_BLOCK] = {
	[T_EXTENT] = RECORD_DEF(extent, extent),
	[T_CHUNK] = RECORD_DEF(chunk, chunk),
	[T_FRAME] = RECORD_DEF(frame, frame),
	[T_CLASS] = RECORD_DEF(frame_class, class),
	[T_SLOT] = RECORD_DEF(slot, slot),
	[T_REVOKE] = RECORD_DEF(revoke, revoke),
	[T_OP_LOG] = RECORD_DEF(op_log, op_log),
	[T_CLIENT] = RECORD_DEF(client, client),
	[T_AREA] = RECORD_DEF(space_area, area),
	[T_SPACE] = RECORD_DEF(space, space),
	[T_SPACES] = RECORD_DEF(spaces, spaces),
	[T_POLICY] = RECORD_DEF(policy_node, policy),
	[T_NODE] = RECORD_DEF(prefix_node, node),
	[T_TREE_AREA] = RECORD_DEF(prefix_tree_area, tree_area),
	[T_TREE] = RECORD_DEF(prefix_tree, tree),
	[T_REF] = RECORD_DEF(prefix_ref, ref),
	[T_LIMITS] = RECORD_DEF(mm_limits, limits),
	[T_EVENTS] = RECORD_DEF(mm_tenant_events, events),
	[T_PRESSURE] = RECORD_DEF(pressure, pressure),
	[T_TENANT] = RECORD_DEF(tenant, tenant),
	[T_FAULTS] = RECORD_DEF(mm_faults, faults),
	[T_TICKET] = RECORD_DEF(ticket, ticket),
	[T_ITEMS] = RECORD_DEF(items, items),
	[T_COW] = RECORD_DEF(cow, cow),
	[T_COWS] = RECORD_DEF(cows, cows),
	[T_CONFIG] = RECORD_DEF(mm_config, config),
	[T_COUNTS] = RECORD_DEF(mm_counts, counts),
	[T_SWAP_SET] = RECORD_DEF(mm_swap_set, swap_set),
	[T_MM] = RECORD_DEF(mm, mm),
};
/* clang-format on */

#define NR_ARRAYS 17u

/* The block as it is laid out in this process. */
struct format {
	struct record_field array[NR_ARRAYS];
	struct record_def defs[NR_TYPES];
};

static void add_array(struct format *f, const char *name, u64 off, u64 bytes,
		      u64 nr, u32 type)
{
	struct record_def *block = &f->defs[T_BLOCK];
	struct record_field *a = &f->array[block->nr];

	*a = (struct record_field){
		.off = off, .bytes = (u32)bytes, .nr = (u32)nr, .type = type
	};
	strncpy(a->name, name, RECORD_NAME - 1);
	block->nr++;
}

/* Arrays of structs; of bytes. */
#define ADD(f, name, off, nr, type) \
	add_array(f, name, off, types[type].bytes, nr, 1 + (type))
#define ADD_PLAIN(f, name, off, nr, bytes) add_array(f, name, off, bytes, nr, 0)

static void make(struct format *f, const struct mm_layout *l)
{
	memset(f, 0, sizeof(*f));
	memcpy(f->defs, types, sizeof(types));
	f->defs[T_BLOCK] = (struct record_def){ .name = "block",
						.bytes = l->state_bytes,
						.fields = f->array };
	ADD(f, "mm", 0, 1, T_MM);
	ADD(f, "extents", l->extents_off, l->nr_extents, T_EXTENT);
	ADD(f, "chunks", l->chunks_off, l->nr_chunks, T_CHUNK);
	ADD(f, "frames", l->frames_off, (u64)l->nr_chunks * FRAMES_PER_CHUNK,
	    T_FRAME);
	ADD(f, "clients", l->clients_off, MM_CLIENT_MAX, T_CLIENT);
	ADD(f, "spaces", l->spaces_off, MM_CLIENT_MAX, T_SPACES);
	ADD(f, "tickets", l->tickets_off, MM_TICKET_MAX, T_TICKET);
	ADD(f, "items", l->items_off, MM_TICKET_MAX, T_ITEMS);
	ADD_PLAIN(f, "copies", l->copies_off, KV_RESV_MAX * KV_AREA_MAX,
		  sizeof(struct kv_copy));
	ADD(f, "slots", l->slots_off, l->nr_slots, T_SLOT);
	ADD_PLAIN(f, "slot_map", l->slot_map_off, BITMAP_WORDS(l->nr_slots),
		  sizeof(u64));
	ADD_PLAIN(f, "stale_map", l->stale_map_off, BITMAP_WORDS(l->nr_slots),
		  sizeof(u64));
	ADD(f, "nodes", l->nodes_off, l->nr_nodes, T_NODE);
	ADD_PLAIN(f, "tokens", l->tokens_off, l->nr_nodes,
		  NODE_TOKENS * sizeof(u32));
	ADD(f, "refs", l->refs_off, MM_REF_MAX, T_REF);
	ADD_PLAIN(f, "grants", l->grants_off, MM_CLIENT_MAX,
		  BITMAP_WORDS(l->nr_extents) * sizeof(u64));
	ADD(f, "cows", l->cows_off, MM_CLIENT_MAX, T_COWS);
}

u64 format_bytes(void)
{
	const struct mm_layout any = { 0 };
	struct format f;

	make(&f, &any);
	return record_bytes(f.defs, NR_TYPES);
}

void format_write(struct mm *mm)
{
	struct format f;

	make(&f, &mm->lay);
	record_describe(&mm->head, mm->lay.format_off, f.defs, NR_TYPES);
}

bool mm_is_ours(const struct mm_config *cfg, const void *state, u64 bytes)
{
	const struct mm *mm = state;
	struct mm_layout l;
	struct format f;

	if (bytes < sizeof(*mm) || mm->head.version != MM_VERSION ||
	    mm_layout_of(cfg, &l))
		return false;
	make(&f, &l);
	return record_is_ours(&mm->head, bytes, f.defs, NR_TYPES) &&
	       !memcmp(&l, &mm->lay, sizeof(l)) &&
	       mm->nr_extents == l.nr_extents && mm->nr_chunks == l.nr_chunks;
}

bool format_is_for(const struct mm_config *cfg, const struct mm *mm)
{
	return cfg->device_bytes == mm->cfg.device_bytes &&
	       cfg->cache_pages == mm->cfg.cache_pages &&
	       !memcmp(cfg->swap_bytes, mm->cfg.swap_bytes,
		       sizeof(cfg->swap_bytes)) &&
	       !memcmp(cfg->swap_store, mm->cfg.swap_store,
		       sizeof(cfg->swap_store));
}

int mm_convert(const struct mm_config *cfg, void *state, const void *from,
	       u64 from_bytes, int from_fd, char *err)
{
	const struct record_head *h = from;
	struct mm *mm = state;
	int rc;

	if (from_bytes < sizeof(*h) || !h->magic)
		return err_set(err, -ENOENT, "it is not complete");
	if (h->magic != MM_MAGIC)
		return err_set(err, -EBADMSG, "it is none");
	if (h->version != MM_VERSION)
		return err_set(err, -EPROTONOSUPPORT,
			       "it is of version %u, not %u", h->version,
			       MM_VERSION);
	rc = mm_init(cfg, mm);
	if (rc)
		return err_set(err, rc, "there are no such sizes");
	rc = record_convert(&mm->head, h, from_bytes, from_fd, err);
	if (rc)
		return rc;
	if (!format_is_for(cfg, mm))
		return err_set(err, -EINVAL,
			       "it is of another size of device or swap");
	mm_order();
	mm->head.magic = MM_MAGIC;
	return 0;
}
