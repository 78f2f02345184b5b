/* SPDX-License-Identifier: MIT */
/*
 * mmhost.c - a host for the mm core that does no work
 *
 * It answers every request before the next operation and runs each step to
 * its end at once. The client's table is one anonymous mapping of its largest
 * size: pages of it that nobody touches cost nothing.
 */
#include "tools/kvbench/mmhost.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int table_grow(void *host, u32 client, u32 nr_leaves)
{
	return nr_leaves <= KV_LEAF_MAX ? 0 : -ENOSPC;
}

const struct mm_host_ops mmhost_ops = { .table_grow = table_grow };

void *mmhost_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void mmhost_unmap(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

static int attach(struct mmhost *h)
{
	struct mm_attach at = { .table = h->table, .status = h->status };
	int rc = mm_tenant_get(h->mm, "bench", &h->tenant);

	if (rc)
		return rc;
	at.tenant = h->tenant;
	at.rank.tp_size = at.rank.pp_size = 1;
	snprintf(at.name, sizeof(at.name), "kvbench");
	return mm_client_attach(h->mm, &at, &h->client);
}

int mmhost_init(struct mmhost *h, u64 device_bytes, u64 cache_pages)
{
	struct mm_config cfg = { .device_bytes = device_bytes,
				 .cache_pages = cache_pages,
				 .ready_extents = 2,
				 .seed = 1 };
	int rc = -ENOMEM;

	memset(h, 0, sizeof(*h));
	h->state_bytes = mm_state_bytes(&cfg);
	h->state = mmhost_map(h->state_bytes);
	h->table = mmhost_map(KV_TABLE_SIZE_MAX);
	h->status = mmhost_map(sizeof(*h->status));
	if (h->state && h->table && h->status)
		rc = mm_create(&cfg, h->state, &mmhost_ops, h, &h->mm);
	if (!rc)
		rc = attach(h);
	if (rc) {
		mmhost_fini(h);
		return rc;
	}
	mmhost_drain(h);
	return 0;
}

void mmhost_fini(struct mmhost *h)
{
	if (h->mm)
		mm_destroy(h->mm);
	mmhost_unmap(h->state, h->state_bytes);
	mmhost_unmap(h->table, KV_TABLE_SIZE_MAX);
	mmhost_unmap(h->status, sizeof(*h->status));
	memset(h, 0, sizeof(*h));
}

void bench_geometry(struct kv_geometry *g, u32 page_tokens, u32 layers,
		    u32 heads, u32 dim)
{
	memset(g, 0, sizeof(*g));
	g->page_tokens = page_tokens;
	g->nr_layers = (u16)layers;
	g->nr_kv_heads = (u16)heads;
	g->head_dim = (u16)dim;
	g->elem = KV_ELEM_BF16;
	g->head_stride = dim * 2;
	g->v_offset = heads * dim * 2;
	g->token_stride = 2 * heads * dim * 2;
	g->layer_stride = page_tokens * g->token_stride;
	g->page_bytes = layers * g->layer_stride;
}

int mmhost_geom(struct mmhost *h, u32 page_tokens, u32 layers, u32 heads,
		u32 dim)
{
	struct kv_geometry g;
	u32 id;
	int rc;

	bench_geometry(&g, page_tokens, layers, heads, dim);
	rc = mm_geom_add(h->mm, h->client, &g, &id);
	return rc ? rc : (int)id;
}

void mmhost_drain(struct mmhost *h)
{
	struct mm_request req;

	while (mm_next_request(h->mm, &req)) {
		switch (req.type) {
		case MM_REQ_POPULATE:
			mm_populate_done(h->mm, req.extent, 0);
			break;
		case MM_REQ_SCRUB:
			mm_scrub_done(h->mm, req.extent, 0);
			break;
		case MM_REQ_COMPLETE:
			h->completed = true;
			h->cqe = req.cqe;
			h->nr_copies = 0;
			if (req.cqe.res > 0 && req.copies) {
				h->nr_copies = min((u32)req.cqe.res,
						   (u32)ARRAY_SIZE(h->copies));
				memcpy(h->copies, req.copies,
				       h->nr_copies * sizeof(h->copies[0]));
			}
			break;
		case MM_REQ_COPY:
			mm_copy_done(h->mm, req.copy.node, req.copy.area, 0);
			break;
		case MM_REQ_MOVE:
			mm_move_done(h->mm, req.move.move, 0);
			break;
		case MM_REQ_RELEASE:
		case MM_REQ_GRANT:
		case MM_REQ_WITHDRAW:
		case MM_REQ_EVENT:
		case MM_REQ_KILL: /* nothing is revoked, there are no tiers */
		case MM_REQ_SWAP_OUT:
		case MM_REQ_SWAP_IN:
		case MM_REQ_DEMOTE:
			break;
		}
	}
}

int mmhost_reserve(struct mmhost *h, const struct kv_resv_item *items, u32 nr,
		   struct kv_copy *copies)
{
	struct mm_resv resv = { .step = ++h->step,
				.user_data = h->step,
				.items = items,
				.nr_items = nr,
				.out_room = nr * KV_AREA_MAX *
					    (u32)sizeof(struct kv_copy) };
	u32 extent_seq;
	u64 extra;
	int rc;

	h->completed = false;
	rc = mm_reserve(h->mm, h->client, &resv, copies, &extent_seq, &extra);
	mmhost_drain(h);
	if (rc != -EINPROGRESS)
		return rc;
	if (!h->completed)
		return -EIO;
	if (h->cqe.res > 0)
		memcpy(copies, h->copies,
		       min((u32)h->cqe.res, h->nr_copies) * sizeof(*copies));
	return h->cqe.res;
}

void mmhost_complete(struct mmhost *h)
{
	kv_store_release(&h->status->rank[0].completed, h->step);
	h->now_ns += 1000000;
	if (mm_wants_tick(h->mm))
		mm_tick(h->mm, h->now_ns);
	mmhost_drain(h);
}

void mmhost_set_len(struct mmhost *h, u32 space, u64 len)
{
	kv_store_relaxed(&h->status->space[space].len, len);
	kv_store_relaxed(&h->status->space[space].active_step, h->step);
}
