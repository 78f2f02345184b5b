/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_KV_BACKEND_H
#define RUNTIME_ENGINE_KV_BACKEND_H
/*
 * kv_backend.h - where the engine's K and V pages come from
 *
 * Three rows: "paged" asks kvmd through libkv, "contig" gives each sequence a
 * run of one private region with an identity table. contig exists to be
 * compared with and for tests without a daemon; it shares nothing, so a fork
 * copies. "ideal" counts tokens, for simulated machines.
 *
 * All calls come from the engine's thread. One step is open at a time: from
 * a step_prepare() that returned 0 to step_commit() or step_abandon().
 */
#include "kv/errbuf.h"
#include "kv/types.h"
#include "kernels/include/kern.h"
#include "uapi/kv/ops.h"

struct model;
struct kv;
struct kv_backend;

#define KV_SPACE_NONE (~0u)

/* How much of a sequence is published. */
struct kv_found {
	u32 len; /* tokens that prefix_map() would map */
	u32 soon; /* that it would when others have done what they are at */
	u32 known; /* published, be they enough to go on from or not */
};

struct kv_backend_ops {
	const char *name;
	/* Each returns 0 or -errno; *space is set on success only. */
	int (*space_create)(struct kv_backend *b, u32 *space);
	/*
	 * Spaces created from now on find only what others with the same salt
	 * have published; 0: those without one. Optional: NULL where nothing
	 * is found anyway.
	 */
	void (*salt)(struct kv_backend *b, u64 salt);
	int (*space_fork)(struct kv_backend *b, u32 parent, u64 len,
			  u32 *space);
	/* -ENODATA: the window has let go of what would be read next. */
	int (*space_truncate)(struct kv_backend *b, u32 space, u64 len);
	void (*space_destroy)(struct kv_backend *b, u32 space);
	/* Block table: the words stay there, and are right in a step. */
	const u32 *(*space_table)(struct kv_backend *b, u32 space, u32 area);
	/*
	 * Make all pages of the step usable. @timeout_ms 0: -EAGAIN when
	 * memory is short; otherwise wait so long, then -ETIMEDOUT, or
	 * -EDEADLK: others wait for what is held here. -E2BIG: waiting
	 * cannot help. -ENODATA: ask lost().
	 */
	int (*step_prepare)(struct kv_backend *b,
			    const struct kv_resv_item *items, u32 nr,
			    int timeout_ms);
	/*
	 * Ask for what a later step will want; a hint, never fails. @nr 0: no
	 * step will come soon.
	 */
	void (*step_prefetch)(struct kv_backend *b,
			      const struct kv_resv_item *items, u32 nr);
	/*
	 * After a step's last use of pages: take in what was asked for ahead
	 * and has come. Optional: NULL where there is nothing to take in.
	 */
	void (*step_receive)(struct kv_backend *b);
	/* Copies to run before anything else of the step; their number. */
	u32 (*step_copies)(struct kv_backend *b, const struct kern_copy **list);
	/*
	 * Before a step's first kernel: wait for the turn to compute, but not
	 * for ever. NULL: there is nobody to take turns with.
	 */
	void (*turn_begin)(struct kv_backend *b);
	/* Behind its last one; @more: another step comes at once. */
	void (*turn_end)(struct kv_backend *b, bool more);
	/* Done and valid; -ESTALE: throw away what it computed. */
	int (*step_commit)(struct kv_backend *b);
	void (*step_abandon)(struct kv_backend *b);
	/*
	 * Begin an empty space with what is published of a sequence; how many
	 * of @nr tokens it has then.
	 */
	u32 (*prefix_map)(struct kv_backend *b, u32 space, const u32 *ids,
			  u32 nr);
	/*
	 * What prefix_map() would find for an empty space. @announce: these
	 * tokens are computed in it now, unless others are at them (soon).
	 * Optional: NULL where nothing is found anyway.
	 */
	void (*prefix_find)(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr, bool announce, struct kv_found *out);
	/*
	 * Let others find the first @nr tokens of a space; @resume: and go on
	 * from there. A hint, never fails.
	 */
	void (*prefix_publish)(struct kv_backend *b, u32 space, const u32 *ids,
			       u32 nr, bool resume);
	/* Give memory without pages back to whoever waits for it. */
	void (*shrink)(struct kv_backend *b);
	/*
	 * Bytes of idle spaces that can leave the device and come back; 0:
	 * none. An idle space holds memory only while nobody needs it.
	 */
	u64 (*swap_room)(struct kv_backend *b);
	/* Bytes of a space of @nr tokens that would have to be read back. */
	u64 (*space_out)(struct kv_backend *b, u32 space, u64 nr);
	/* Has a space of @nr tokens let go of none of them? */
	bool (*space_whole)(struct kv_backend *b, u64 nr);
	/* Bytes that come free when the space goes: pages of nobody else. */
	u64 (*space_private)(struct kv_backend *b, u32 space);
	/*
	 * Bytes of pages that all spaces may have at most, as things are with
	 * others; ~0: nothing limits them.
	 */
	u64 (*limit)(struct kv_backend *b);
	/*
	 * After -EAGAIN of step_prepare(): bytes that it fell short of.
	 * Optional: NULL where that is not known.
	 */
	u64 (*missing)(struct kv_backend *b);
	/* After -ENODATA of step_prepare(): a space that has lost tokens. */
	bool (*lost)(struct kv_backend *b, u32 *space);
	/* Sentence of the last failed call, never NULL. */
	const char *(*error)(struct kv_backend *b);
	void (*destroy)(struct kv_backend *b);
};

/**
 * struct kv_area_law - the pages of an area
 * @page_tokens: 1 to 256
 * @page_bytes: 0: they are not counted
 * @window: 0: it keeps all
 */
struct kv_area_law {
	u32 page_tokens, page_bytes, window;
};

struct kv_backend {
	const struct kv_backend_ops *ops;
	u32 nr_areas;
	struct kv_area_law law[KV_AREA_MAX];
	bool windows; /* a prefix can be gone on from in some places only */
	struct kern_kv kv[KV_AREA_MAX]; /* what kernels are given */
};

/* Tokens that an area has pages of at most. */
static inline u64 kv_area_most(const struct kv_area_law *l)
{
	return l->window ? (u64)l->window + l->page_tokens : ~0ull;
}

/* Bytes that a space of @nr tokens takes. */
static inline u64 kv_space_bytes(const struct kv_backend *b, u64 nr)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < b->nr_areas; i++) {
		const struct kv_area_law *l = &b->law[i];

		bytes += DIV_ROUND_UP(min(nr, kv_area_most(l)),
				      (u64)l->page_tokens) *
			 l->page_bytes;
	}
	return bytes;
}

/*
 * Has an area let go of none of @nr tokens? What has been reserved may be two
 * ahead of what is computed.
 */
static inline bool kv_area_whole(u64 nr, u32 window)
{
	return !window || nr + 2 <= window;
}

/**
 * kv_paged_create - pages from kvmd
 * @kv: attached; stays the caller's, and outlives the backend
 * @m: the model; its areas' geometries are registered
 * @ns: namespace of the spaces
 * @out: on success only; out->ops->destroy() it
 * @err: KV_ERRLEN bytes
 */
int __must_check kv_paged_create(struct kv *kv, const struct model *m,
				 const struct kv_namespace *ns,
				 struct kv_backend **out, char *err);

/**
 * kv_contig_create - pages from one private region
 * @m: the model
 * @max_spaces: sequences at a time
 * @max_tokens: of one sequence
 * @out: on success only; out->ops->destroy() it
 * @err: KV_ERRLEN bytes
 */
int __must_check kv_contig_create(const struct model *m, u32 max_spaces,
				  u32 max_tokens, struct kv_backend **out,
				  char *err);

/**
 * kv_ideal_create - a pool that is counted in tokens, without memory
 * @tokens: cached ones and those of sequences together
 * @out: on success only; out->ops->destroy() it
 * @err: KV_ERRLEN bytes
 *
 * For engines with a simulated machine: the cache that theorems are about.
 */
int __must_check kv_ideal_create(u32 tokens, struct kv_backend **out,
				 char *err);

#endif
