/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_STATS_H
#define UAPI_KV_STATS_H
/*
 * stats.h - what a client can see of its account without a call
 *
 * One struct kv_stats lies in the first page of a client's table, at
 * KV_TABLE_STATS_OFF: the device, the client's tenant and the client itself.
 * kvmd writes it some 10 ms after a change, the client reads it. It tells how
 * near a limit is; what may be had is decided by a reservation alone.
 *
 * @seq is odd while kvmd writes. kv_stats_read() gives up after a few tries
 * instead of waiting for a kvmd that died in between.
 */
#include "abi.h"
#include "atomic.h"
#include "table.h"

struct kv_device_stats {
	uint64_t bytes; /* size of the device */
	uint64_t held; /* extents of clients */
	uint64_t ready; /* populated, nobody's */
	uint64_t charged; /* weights */
	uint64_t nr_clients;
	uint64_t nr_tickets; /* reservations that wait */
	uint64_t swap_bytes; /* room of all swap tiers, 0: there is no swap */
	uint64_t swap_used;
};
KV_ABI_SIZE(struct kv_device_stats, 64);

struct kv_tenant_stats {
	uint64_t max_bytes; /* hard limit, ~0: the device */
	uint64_t low_bytes, min_bytes;
	uint64_t weight;
	uint64_t held; /* extents of its clients */
	uint64_t charged; /* weights on its account */
	uint64_t max_seen; /* most of held + charged, ever */
	uint64_t limit_hits; /* requests that met max_bytes */
	uint64_t nr_clients;
	uint64_t nr_tickets;
	uint64_t swap_max; /* bytes it may have in swap */
	uint64_t swapped; /* bytes it has there */
};
KV_ABI_SIZE(struct kv_tenant_stats, 96);

struct kv_client_stats {
	uint64_t held; /* extents */
	uint64_t frames; /* bytes of pages in use, shared ones once */
	uint64_t saved; /* bytes that sharing saves */
	uint64_t nr_spaces;
	uint64_t nr_extents;
	uint64_t nr_leaves;
	uint64_t nr_tickets;
	uint64_t reserved;
};
KV_ABI_SIZE(struct kv_client_stats, 64);

struct kv_stats {
	uint64_t seq; /* odd: being written */
	uint64_t time_ns; /* CLOCK_MONOTONIC of the writing */
	struct kv_device_stats device;
	struct kv_tenant_stats tenant;
	struct kv_client_stats client;
};
KV_ABI_SIZE(struct kv_stats, 240);

#define KV_STATS_WORDS	   (sizeof(struct kv_stats) / sizeof(uint64_t))
#define KV_STATS_TRIES	   64
#define KV_TABLE_STATS_OFF 1024ull
KV_ABI_ASSERT(KV_TABLE_STATS_OFF >= sizeof(struct kv_table_hdr));
KV_ABI_ASSERT(KV_TABLE_STATS_OFF + sizeof(struct kv_stats) <=
	      KV_TABLE_SPACES_OFF);

static inline struct kv_stats *kv_table_stats(struct kv_table_hdr *t)
{
	return (struct kv_stats *)(void *)((char *)t + KV_TABLE_STATS_OFF);
}

/* kvmd: everything of @from but seq. One writer. */
static inline void kv_stats_write(struct kv_stats *to,
				  const struct kv_stats *from)
{
	const uint64_t *src = (const uint64_t *)(const void *)from;
	uint64_t *dst = (uint64_t *)(void *)to;
	uint64_t seq = kv_load_relaxed(&to->seq);
	size_t i;

	kv_store_fence(&to->seq, seq | 1);
	for (i = 1; i < KV_STATS_WORDS; i++)
		kv_store_release(&dst[i], src[i]);
	kv_store_release(&to->seq, (seq | 1) + 1);
}

/* A snapshot of one moment: 1, or 0 if kvmd kept writing (or died at it). */
static inline int kv_stats_read(const struct kv_stats *from,
				struct kv_stats *to)
{
	const uint64_t *src = (const uint64_t *)(const void *)from;
	uint64_t *dst = (uint64_t *)(void *)to;
	uint64_t seq;
	size_t i;
	int try_nr;

	for (try_nr = 0; try_nr < KV_STATS_TRIES; try_nr++) {
		seq = kv_load_acquire(&from->seq);
		for (i = 1; i < KV_STATS_WORDS; i++)
			dst[i] = kv_load_acquire(&src[i]);
		to->seq = seq;
		if (!(seq & 1) && kv_load_acquire(&from->seq) == seq)
			return 1;
	}
	return 0;
}

#endif
