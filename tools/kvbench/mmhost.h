/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_MMHOST_H
#define TOOLS_KVBENCH_MMHOST_H
/*
 * mmhost.h - the mm core in this process, with a host that answers at once
 *
 * One device, one client. Nothing backs the device: populating, scrubbing and
 * granting cost nothing, so that what is timed is the core, and what is
 * counted are its books.
 */
#include "kvmd/mm/mm.h"

struct mmhost {
	struct mm *mm;
	void *state;
	size_t state_bytes;
	struct kv_table_hdr *table;
	struct kv_status *status;
	u32 client, tenant;
	u64 step, now_ns;
	/* the last MM_REQ_COMPLETE */
	bool completed;
	struct kv_cqe cqe;
	struct kv_copy copies[KV_AREA_MAX * 4];
	u32 nr_copies;
};

/* What a core in this process needs at once: its tables are whole from the
 * start. */
extern const struct mm_host_ops mmhost_ops;
/* mmhost_map - zeroed memory that costs nothing before it is touched; or NULL
 */
void *mmhost_map(size_t bytes);
/* mmhost_unmap - give it back; @p may be NULL */
void mmhost_unmap(void *p, size_t bytes);

/* @cache_pages: published pages at most; 0: as memory allows */
int mmhost_init(struct mmhost *h, u64 device_bytes, u64 cache_pages);
void mmhost_fini(struct mmhost *h);
/* mmhost_geom - @layers layers of @heads KV heads of @dim, bf16; the id */
int mmhost_geom(struct mmhost *h, u32 page_tokens, u32 layers, u32 heads,
		u32 dim);
/* mmhost_reserve - pages for the items in a step of its own; copies or -errno
 */
int mmhost_reserve(struct mmhost *h, const struct kv_resv_item *items, u32 nr,
		   struct kv_copy *copies);
/* mmhost_drain - do what the core asks for */
void mmhost_drain(struct mmhost *h);
/* mmhost_complete - the last step has run; time moves on */
void mmhost_complete(struct mmhost *h);
void mmhost_set_len(struct mmhost *h, u32 space, u64 len);

/* bench_geometry - strides of a page-major geometry, as the runtime has them */
void bench_geometry(struct kv_geometry *g, u32 page_tokens, u32 layers,
		    u32 heads, u32 dim);

#endif
