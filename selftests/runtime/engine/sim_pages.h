/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_ENGINE_SIM_PAGES_H
#define SELFTESTS_ENGINE_SIM_PAGES_H
/*
 * sim_pages.h - pages that are only counted, and a machine that only takes time
 *
 * For tests of who runs when. A backend of so many frames: forks share, the
 * first write copies, and what no step uses leaves for swap when frames are
 * short, if there is any. The machine's clock moves by a law of four terms; a
 * token is a function of the sequence and its length.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"
#include "runtime/engine/engine.h"
#include "runtime/engine/kv_none.h"
#include "runtime/model/model.h"
#include "selftests/harness.h"

#define SIM_SPACES 300u
#define SIM_PAGES  128u /* of a space */
#define SIM_FRAMES 8192u
#define SIM_BYTES  4096u
#define SIM_OUT	   (~0u)
#define SIM_P	   MODEL_PAGE_TOKENS

struct sim_space {
	bool used;
	u32 nr; /* pages */
	u32 frame[SIM_PAGES]; /* or SIM_OUT: in swap */
};

struct sim_pages {
	struct kv_backend b;
	struct sim_space space[SIM_SPACES];
	u16 ref[SIM_FRAMES];
	u32 nr_frames, nr_used;
	u32 hog; /* frames that others have */
	u32 swap_pages, nr_out;
	u32 nr_spaces;
	u32 missing; /* pages that the last step fell short of */
	u32 unit; /* in which it says so; 0: pages */
};

static inline struct sim_pages *sim_of(struct kv_backend *b)
{
	return (struct sim_pages *)b;
}

static inline u32 sim_frame(struct sim_pages *s)
{
	u32 f = 0;

	while (s->ref[f])
		f++;
	s->ref[f] = 1;
	s->nr_used++;
	return f;
}

static inline void sim_put(struct sim_pages *s, u32 frame)
{
	if (frame == SIM_OUT)
		s->nr_out--;
	else if (!--s->ref[frame])
		s->nr_used--;
}

static inline int sim_space_create(struct kv_backend *b, u32 *space)
{
	struct sim_pages *s = sim_of(b);
	u32 i;

	for (i = 0; i < SIM_SPACES && s->space[i].used; i++)
		;
	if (i == SIM_SPACES)
		return -ENOSPC;
	s->space[i].used = true;
	s->space[i].nr = 0;
	s->nr_spaces++;
	*space = i;
	return 0;
}

static inline int sim_space_fork(struct kv_backend *b, u32 parent, u64 len,
				 u32 *space)
{
	struct sim_pages *s = sim_of(b);
	const struct sim_space *p = &s->space[parent];
	int rc = sim_space_create(b, space);
	u32 i;

	if (rc)
		return rc;
	for (i = 0; i < DIV_ROUND_UP(len, SIM_P); i++) {
		s->space[*space].frame[i] = p->frame[i];
		s->ref[p->frame[i]]++;
	}
	s->space[*space].nr = i;
	return 0;
}

static inline int sim_space_truncate(struct kv_backend *b, u32 space, u64 len)
{
	struct sim_pages *s = sim_of(b);
	struct sim_space *p = &s->space[space];

	while (p->nr > DIV_ROUND_UP(len, SIM_P))
		sim_put(s, p->frame[--p->nr]);
	return 0;
}

static inline void sim_space_destroy(struct kv_backend *b, u32 space)
{
	struct sim_pages *s = sim_of(b);

	sim_space_truncate(b, space, 0);
	s->space[space].used = false;
	s->nr_spaces--;
}

static inline const u32 *sim_space_table(struct kv_backend *b, u32 space,
					 u32 area)
{
	(void)area;
	return sim_of(b)->space[space].frame;
}

/* Frames that an item takes more than there are. */
static inline u32 sim_wants(const struct sim_pages *s,
			    const struct kv_resv_item *it)
{
	const struct sim_space *p = &s->space[it->space];
	u32 end = (u32)((it->pos + it->nr_tokens - 1) / SIM_P) + 1, i, n = 0;

	for (i = 0; i < p->nr; i++)
		n += p->frame[i] == SIM_OUT ||
		     (i >= it->pos / SIM_P && s->ref[p->frame[i]] > 1);
	return n + end - min(end, p->nr);
}

static inline bool sim_in_step(const struct kv_resv_item *items, u32 nr,
			       u32 space)
{
	u32 i;

	for (i = 0; i < nr && items[i].space != space; i++)
		;
	return i < nr;
}

/* Pages of spaces that are not in the step leave, until @want are free. */
static inline void sim_swap_out(struct sim_pages *s,
				const struct kv_resv_item *items, u32 nr,
				u32 want)
{
	u32 i, k;

	for (i = 0; i < SIM_SPACES; i++)
		for (k = 0; s->space[i].used && k < s->space[i].nr; k++) {
			u32 *f = &s->space[i].frame[k];

			if (s->nr_frames - s->hog - s->nr_used >= want ||
			    s->nr_out == s->swap_pages)
				return;
			if (*f == SIM_OUT || s->ref[*f] > 1 ||
			    sim_in_step(items, nr, i))
				continue;
			sim_put(s, *f);
			*f = SIM_OUT;
			s->nr_out++;
		}
}

static inline void sim_give(struct sim_pages *s, const struct kv_resv_item *it)
{
	struct sim_space *p = &s->space[it->space];
	u32 end = (u32)((it->pos + it->nr_tokens - 1) / SIM_P) + 1, i;

	for (i = 0; i < p->nr; i++) {
		if (p->frame[i] != SIM_OUT &&
		    (i < it->pos / SIM_P || s->ref[p->frame[i]] == 1))
			continue;
		sim_put(s, p->frame[i]);
		p->frame[i] = sim_frame(s);
	}
	while (p->nr < end)
		p->frame[p->nr++] = sim_frame(s);
}

static inline int sim_step_prepare(struct kv_backend *b,
				   const struct kv_resv_item *items, u32 nr,
				   int timeout_ms)
{
	struct sim_pages *s = sim_of(b);
	u32 i, want = 0, all = 0;

	for (i = 0; i < nr; i++) {
		want += sim_wants(s, &items[i]);
		all += (u32)DIV_ROUND_UP(items[i].pos + items[i].nr_tokens,
					 SIM_P);
	}
	if (nr == 1 && all > s->nr_frames)
		return -E2BIG;
	if (s->nr_used + want > s->nr_frames - s->hog)
		sim_swap_out(s, items, nr, want);
	s->missing = s->nr_used + want -
		     min(s->nr_used + want, s->nr_frames - s->hog);
	if (s->missing)
		return timeout_ms ? -ETIMEDOUT : -EAGAIN;
	for (i = 0; i < nr; i++)
		sim_give(s, &items[i]);
	return 0;
}

static inline u64 sim_swap_room(struct kv_backend *b)
{
	return (u64)(sim_of(b)->swap_pages - sim_of(b)->nr_out) * SIM_BYTES;
}

static inline u64 sim_space_out(struct kv_backend *b, u32 space, u64 pos)
{
	const struct sim_space *p = &sim_of(b)->space[space];
	u32 i, n = 0;

	for (i = 0; i < min(p->nr, (u32)DIV_ROUND_UP(pos, SIM_P)); i++)
		n += p->frame[i] == SIM_OUT;
	return (u64)n * SIM_BYTES;
}

static inline u64 sim_space_private(struct kv_backend *b, u32 space)
{
	const struct sim_pages *s = sim_of(b);
	const struct sim_space *p = &s->space[space];
	u32 i, n = 0;

	for (i = 0; i < p->nr; i++)
		n += p->frame[i] != SIM_OUT && s->ref[p->frame[i]] == 1;
	return (u64)n * SIM_BYTES;
}

static inline u64 sim_limit(struct kv_backend *b)
{
	return (u64)(sim_of(b)->nr_frames - sim_of(b)->hog) * SIM_BYTES;
}

static inline u64 sim_missing(struct kv_backend *b)
{
	const struct sim_pages *s = sim_of(b);

	return (u64)ALIGN_UP(s->missing, max(s->unit, 1u)) * SIM_BYTES;
}

static inline const char *sim_error(struct kv_backend *b)
{
	(void)b;
	return "as the test wants it";
}

static inline void sim_destroy(struct kv_backend *b)
{
	(void)b; /* the test's */
}

static const struct kv_backend_ops sim_ops = {
	.name = "sim",
	.space_create = sim_space_create,
	.space_fork = sim_space_fork,
	.space_truncate = sim_space_truncate,
	.space_destroy = sim_space_destroy,
	.space_table = sim_space_table,
	.step_prepare = sim_step_prepare,
	.step_prefetch = kv_none_step_prefetch,
	.step_copies = kv_none_step_copies,
	.step_commit = kv_none_step_commit,
	.step_abandon = kv_none_step_abandon,
	.prefix_map = kv_none_prefix_map,
	.prefix_publish = kv_none_prefix_publish,
	.shrink = kv_none_shrink,
	.swap_room = sim_swap_room,
	.space_out = sim_space_out,
	.space_whole = kv_none_space_whole,
	.space_private = sim_space_private,
	.limit = sim_limit,
	.missing = sim_missing,
	.lost = kv_none_lost,
	.error = sim_error,
	.destroy = sim_destroy,
};

/* ---- the machine ---- */

struct sim_machine {
	struct engine_machine m;
	double now, load;
	const struct model *model;
	struct law law;
	double last_s; /* of the last step */
	u32 nr_tokens, nr_decodes, nr_chunks; /* of the last step */
	u64 hash; /* of all that it was to compute */
};

static inline double sim_now(void *ctx)
{
	return ((struct sim_machine *)ctx)->now;
}

static inline u64 sim_hash_batch(u64 hash, const struct forward_batch *b)
{
	u32 i;

	hash = hash_add(hash, (u64)b->nr_seqs << 32 | b->nr_tokens);
	for (i = 0; i < b->nr_seqs; i++)
		hash = hash_add(hash, (u64)b->seqs[i].pos0 << 32 |
					      b->seqs[i].nr_rows);
	for (i = 0; i < b->nr_tokens; i++)
		hash = hash_add(hash, b->ids[i]);
	for (i = 0; i < b->nr_out; i++)
		hash = hash_add(hash, b->out_rows[i]);
	return hash;
}

static inline int sim_run(void *ctx, const struct forward_batch *b)
{
	struct sim_machine *m = ctx;
	struct law_load l = law_load_of(m->model, b);
	u32 i;

	m->hash = sim_hash_batch(m->hash, b);
	m->nr_tokens = b->nr_tokens;
	m->nr_decodes = m->nr_chunks = 0;
	for (i = 0; i < b->nr_seqs; i++) {
		u32 n = b->seqs[i].nr_rows;

		m->nr_decodes += n == 1;
		m->nr_chunks += n > 1;
	}
	m->last_s = m->load * law_seconds(&m->law, &l);
	m->now += m->last_s;
	return 0;
}

static inline u32 sim_token(void *ctx, const struct seq *s)
{
	(void)ctx;
	return (s->ids[0] * 31 + s->nr * 7 + s->index) % 90;
}

static inline void sim_machine_init(struct sim_machine *m,
				    const struct model *model)
{
	*m = (struct sim_machine){
		.m = { .now = sim_now,
		       .run = sim_run,
		       .token = sim_token,
		       .ctx = m },
		.load = 1,
		.model = model,
		.law = { { 0.010, 0.0003, 0.0004, 0.0006 } },
	};
}

#endif
