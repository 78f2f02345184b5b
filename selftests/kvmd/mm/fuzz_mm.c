/* SPDX-License-Identifier: MIT */
/*
 * fuzz_mm.c - the core fed with bytes: every operation, any argument
 *
 * Built as an object for the deterministic driver (test_fuzz_mm.c), and with
 * clang -fsanitize=fuzzer together with the core's sources for a long run.
 */
#include "selftests/kvmd/mm/fuzz_mm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kvmd/mm/mm.h"
#include "lib/hash.h"
#include <kv/step.h>

#define CLIENTS 4u
#define EXTENTS 6u

struct input {
	const uint8_t *p, *end;
};

struct host {
	struct mm *mm;
	struct kv_table_hdr *table[CLIENTS];
	struct kv_status *status[CLIENTS];
	u32 held[64], nr_held; /* extents to answer for, bit 31: scrub */
	u32 io[512], nr_io; /* slots to answer for */
	u32 moves[64], nr_moves; /* likewise moves */
	u64 step;
};

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static u8 byte(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

/* Mostly small numbers, now and then the ones that hurt. */
static u64 number(struct input *in)
{
	u8 kind = byte(in);

	switch (kind >> 5) {
	case 0:
	case 1:
	case 2:
		return kind & 31;
	case 3:
		return (u64)(kind & 31) * 16 + byte(in);
	case 4:
		return (u64)byte(in) << 8 | byte(in);
	case 5:
		return ~0ull - (kind & 31);
	case 6:
		return 1ull << (byte(in) & 63);
	default:
		return hash_mix((u64)byte(in) << 8 | kind);
	}
}

static int grow(void *host, u32 client, u32 nr_leaves)
{
	(void)host;
	(void)client;
	return nr_leaves > 512 ? -12 : 0;
}

static const struct mm_host_ops fuzz_ops = { .table_grow = grow };

static void drain(struct host *h, bool answer)
{
	struct mm_request req;
	u32 i;

	while (mm_next_request(h->mm, &req)) {
		if (req.type == MM_REQ_POPULATE || req.type == MM_REQ_SCRUB)
			h->held[h->nr_held++] =
				req.extent |
				(req.type == MM_REQ_SCRUB ? 1u << 31 : 0);
		else if (req.type == MM_REQ_SWAP_OUT ||
			 req.type == MM_REQ_SWAP_IN ||
			 req.type == MM_REQ_DEMOTE)
			h->io[h->nr_io++] = req.swap.slot;
		else if (req.type == MM_REQ_COPY)
			mm_copy_done(h->mm, req.copy.node, req.copy.area,
				     h->step % 8 ? 0 : -5);
		else if (req.type == MM_REQ_MOVE)
			h->moves[h->nr_moves++] = req.move.move;
	}
	for (i = h->nr_held; answer && i-- > 0;) {
		if (h->held[i] >> 31)
			mm_scrub_done(h->mm, h->held[i] & ~(1u << 31), 0);
		else
			mm_populate_done(h->mm, h->held[i], 0);
		h->nr_held = i;
	}
	for (i = h->nr_io; answer && i-- > 0; h->nr_io = i)
		mm_swap_done(h->mm, h->io[i], h->step % 8 ? 0 : -5, 0);
	for (i = h->nr_moves; answer && i-- > 0; h->nr_moves = i)
		mm_move_done(h->mm, h->moves[i], h->step % 8 ? 0 : -5);
}

static void attach(struct host *h, u32 slot, u32 tenant)
{
	struct mm_attach at = { .tenant = tenant, .name = "fuzz" };
	struct kv_geometry g = {
		.page_tokens = 16,
		.nr_layers = 1,
		.nr_kv_heads = 1,
		.head_dim = 64,
		.elem = KV_ELEM_BF16,
		.token_stride = 256,
		.head_stride = 256,
		.v_offset = 128,
		.layer_stride = 4096,
		.page_bytes = 48 * 1024,
	};
	u32 client, id;

	madvise(h->table[slot], KV_TABLE_LEAVES_OFF + 512 * 4096,
		MADV_DONTNEED);
	memset(h->status[slot], 0, sizeof(*h->status[slot]));
	at.table = h->table[slot];
	at.status = h->status[slot];
	/* Slots of the core are taken from the lowest: the same number. */
	if (mm_client_attach(h->mm, &at, &client) || client != slot)
		abort();
	if (mm_geom_add(h->mm, slot, &g, &id))
		abort();
}

static void fuzz_reserve(struct host *h, struct input *in, u32 client)
{
	static struct kv_copy copies[8 * KV_AREA_MAX];
	struct kv_resv_item it[8];
	struct mm_resv r = { .items = it };
	u32 seq, i;
	u64 extra;

	r.nr_items = byte(in) % 9;
	r.step = byte(in) & 1 ? ++h->step : number(in);
	r.flags = byte(in) & 3;
	r.out_room = byte(in) * 8;
	for (i = 0; i < r.nr_items; i++) {
		it[i].space = (u32)number(in);
		it[i].nr_tokens = (u32)number(in);
		it[i].pos = number(in);
	}
	mm_reserve(h->mm, client, &r, copies, &seq, &extra);
	if (extra && byte(in) & 1)
		mm_cancel(h->mm, client, extra);
}

static void fuzz_geom(struct host *h, struct input *in, u32 client)
{
	struct kv_geometry g;
	u32 id;

	memset(&g, 0, sizeof(g));
	g.page_tokens = 1u << (byte(in) % 10);
	g.nr_layers = (u16)number(in);
	g.nr_kv_heads = (u16)number(in);
	g.head_dim = (u16)number(in);
	g.elem = byte(in) % 3;
	g.token_stride = (u32)number(in);
	g.head_stride = (u32)number(in);
	g.v_offset = (u32)number(in);
	g.layer_stride = (u32)number(in);
	g.page_bytes = (u32)number(in) * 4096;
	if (!mm_geom_add(h->mm, client, &g, &id) && id >= KV_GEOM_MAX)
		abort();
}

static void fuzz_create(struct host *h, struct input *in, u32 client)
{
	struct kv_space_args a;
	u32 i;

	memset(&a, 0, sizeof(a));
	a.nr_areas = byte(in) % 6;
	a.priority = byte(in) % 4;
	for (i = 0; i < KV_AREA_MAX; i++) {
		a.area[i].geom = byte(in) % 3;
		a.area[i].window = byte(in) & 1 ? 0 : (u32)number(in);
	}
	mm_space_create(h->mm, client, &a);
}

static void copy(void *ctx, u64 src, u64 dst, u64 bytes)
{
	(void)ctx;
	if ((src | dst) % 4096 || src == dst || !bytes ||
	    max(src, dst) + bytes > (u64)EXTENTS * KV_EXTENT_SIZE)
		abort();
}

/* What the client may write, and what it should not be able to. */
static void fuzz_scribble(struct host *h, struct input *in, u32 client)
{
	u64 *words;

	if (byte(in) & 1) {
		words = (u64 *)(void *)h->status[client];
		words[number(in) % (sizeof(struct kv_status) / 8)] = number(in);
		return;
	}
	words = (u64 *)(void *)((char *)h->table[client] + KV_TABLE_LEAVES_OFF);
	words[number(in) % (64 * KV_LEAF_PTES)] = number(in);
}

static void fuzz_one(struct host *h, struct input *in)
{
	u32 client = byte(in) % (CLIENTS + 1);
	struct mm_limits lim = { 0 };
	bool own = client >= 1 && client < CLIENTS;

	switch (byte(in) % 17) {
	case 0:
	case 1:
	case 2:
	case 3:
		if (client)
			fuzz_reserve(h, in, client);
		break;
	case 4:
		fuzz_create(h, in, client);
		break;
	case 5:
		if (client)
			mm_space_fork(h->mm, client, (u32)number(in),
				      number(in));
		break;
	case 6:
		if (client)
			mm_space_truncate(h->mm, client, (u32)number(in),
					  number(in));
		break;
	case 7:
		if (client)
			mm_space_destroy(h->mm, client, (u32)number(in));
		break;
	case 8:
		mm_shrink(h->mm, client);
		break;
	case 9:
		mm_cancel(h->mm, client, number(in));
		break;
	case 10:
		lim.max_bytes = number(in) * 65536;
		mm_tenant_limit(h->mm, byte(in) % 3, &lim);
		break;
	case 11:
		mm_tick(h->mm, number(in) * 1000000);
		break;
	case 12:
		if (own) {
			mm_client_gone(h->mm, client);
			drain(h, true); /* its slot is free when all is in */
			attach(h, client, 1);
		}
		break;
	case 13:
		if (client)
			mm_move_page(h->mm, client, (u32)number(in),
				     byte(in) % 5, (u32)number(in), copy, h);
		break;
	case 14:
		if (own)
			fuzz_geom(h, in, client);
		break;
	case 15:
		if (byte(in) & 1)
			mm_room_wait(h->mm, client, number(in) * 65536);
		else
			mm_room_end(h->mm);
		break;
	default:
		if (own)
			fuzz_scribble(h, in, client);
	}
	drain(h, byte(in) & 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mm_config cfg = { .device_bytes = (u64)EXTENTS * KV_EXTENT_SIZE,
				 .swap_bytes = { 2 << 20, 4 << 20, 8 << 20 },
				 .swap.demote_low = 25,
				 .swap.demote_high = 50,
				 .ready_extents = 1 };
	struct input in = { data, data + size };
	struct kv_resv_item it = { .nr_tokens = 320 };
	struct mm_resv r = { .step = 1, .items = &it, .nr_items = 1 };
	struct kv_space_args a = { .nr_areas = 1 };
	struct kv_copy copies[KV_AREA_MAX];
	struct host *h = calloc(1, sizeof(*h));
	size_t bytes = mm_state_bytes(&cfg);
	void *state = map(bytes);
	u64 before, extra;
	u32 i, tenant, seq;

	if (!h || mm_create(&cfg, state, &fuzz_ops, h, &h->mm))
		abort();
	for (i = 0; i < CLIENTS; i++) {
		h->table[i] = map(KV_TABLE_LEAVES_OFF + 512 * 4096);
		h->status[i] = map(sizeof(struct kv_status));
	}
	for (i = 0; i < 2; i++)
		if (mm_tenant_get(h->mm, i ? "bad" : "good", &tenant))
			abort();
	for (i = 0; i < CLIENTS; i++)
		attach(h, i, i ? 1 : 0);
	drain(h, true);
	drain(h, true);
	if (mm_space_create(h->mm, 0, &a) ||
	    mm_reserve(h->mm, 0, &r, copies, &seq, &extra))
		abort();
	before = hash_bytes((char *)h->table[0] + KV_TABLE_LEAVES_OFF, 4096, 0);
	while (in.p < in.end)
		fuzz_one(h, &in);
	if (hash_bytes((char *)h->table[0] + KV_TABLE_LEAVES_OFF, 4096, 0) !=
	    before)
		abort();
	for (i = 1; i < CLIENTS; i++)
		mm_client_gone(h->mm, i);
	drain(h, true);
	if (mm_check(h->mm, NULL, NULL))
		abort();
	for (i = 0; i < CLIENTS; i++) {
		munmap(h->table[i], KV_TABLE_LEAVES_OFF + 512 * 4096);
		munmap(h->status[i], sizeof(struct kv_status));
	}
	munmap(state, bytes);
	free(h);
	return 0;
}
