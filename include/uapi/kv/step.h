/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_STEP_H
#define UAPI_KV_STEP_H
/*
 * step.h - who may change a mapping while kernels run
 *
 * The rules C1-C6 (client) and K0-K8 (kvmd) of
 * Documentation/internals/step-protocol, as the inline functions that both
 * sides call, so that the explorer and the TSan test run this very code.
 *
 *	client, step n				kvmd, move of a frame
 *	C1 active_step = n			K1 entry of each mapper = moving
 *	C2 full barrier				K2 generation + 1, release
 *	C3 load generation, then leaf		K3 full barrier
 *	C4 all entries usable: launch		K4 read active_step, completed
 *	C5 else restore mark, reserve		K5 idle: copy, map, bump
 *	C6 stream ends: completed = n		   busy: put back, bump
 *
 * Either the client's mark is seen in K4, or the client sees the moved
 * generation in C3: both barriers cannot be passed by both stale loads.
 */
#include "table.h"

/* C1. One call per space of the step. */
static inline void kv_step_mark(struct kv_space_status *s, uint64_t step)
{
	kv_store_relaxed(&s->active_step, step);
}

/* C2. Once, after every mark. */
static inline void kv_step_fence(void)
{
	kv_fence();
}

/*
 * C3. Load this first; if it differs from the cached one, load the entries,
 * and remember them under the value loaded here, not under a later one.
 */
static inline uint64_t kv_step_gen(const struct kv_space_desc *d)
{
	return kv_load_acquire(&d->gen);
}

static inline kv_pte_t kv_step_pte(const kv_pte_t *p)
{
	return kv_load_acquire(p);
}

/* C5. Put back what stood there before the mark: step n-1 may still run. */
static inline void kv_step_unmark(struct kv_space_status *s, uint64_t prev)
{
	kv_store_release(&s->active_step, prev);
}

/* C6. The last operation of the step's stream. */
static inline void kv_step_end(struct kv_rank_status *r, uint64_t step)
{
	kv_store_release(&r->completed, step);
}

/* Commit: len, full barrier, epoch. */
static inline uint64_t kv_step_store_len(struct kv_space_status *s,
					 uint64_t len,
					 const struct kv_table_hdr *t)
{
	kv_store_fence(&s->len, len);
	return kv_load_fence(&t->epoch);
}

/* K1. The entry keeps its frame; writable and the like are kvmd's to keep. */
static inline void kv_move_begin(kv_pte_t *p, kv_pte_t old)
{
	kv_store_relaxed(p, (old & ~(KV_PTE_PRESENT | KV_PTE_WRITE)) |
				    KV_PTE_MOVING);
}

/* K2, and the bump of K5 and K6. @gen is kvmd's own copy, plus one. */
static inline void kv_move_bump(struct kv_space_desc *d, uint64_t gen)
{
	kv_store_release(&d->gen, gen);
}

/* K3. Once, after every mapper's entry and generation. */
static inline void kv_move_fence(void)
{
	kv_fence();
}

/* K5: the new entry, or the old one put back. */
static inline void kv_move_end(kv_pte_t *p, kv_pte_t pte)
{
	kv_store_release(p, pte);
}

/* K4 (and K0 without its barrier): what the client says of this space. */
static inline uint64_t kv_move_active(const struct kv_space_status *s)
{
	return kv_load_acquire(&s->active_step);
}

static inline uint64_t kv_move_completed(const struct kv_rank_status *r)
{
	return kv_load_acquire(&r->completed);
}

/* busy(s) of K0; @resv is the last step kvmd granted a reservation for. */
static inline int kv_move_is_busy(uint64_t active, uint64_t resv,
				  uint64_t completed)
{
	return (active > resv ? active : resv) > completed;
}

#endif
