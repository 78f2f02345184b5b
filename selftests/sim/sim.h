/* SPDX-License-Identifier: MIT */
/*
 * sim.h - the core among fake clients, devices, memory and time
 *
 * One thread plays everybody. In each turn a seeded generator picks who acts:
 * a client (prepare a step, fork, truncate, free), a client's device stream
 * (start or end a step), the memory workers (answer a populate or a scrub),
 * the administrator (move a limit, charge weights), compaction (move a
 * page), or fate (kill a client; its stream runs on for a while). The same
 * seed gives the same run: every decision and every answer of the core is
 * folded into a hash.
 *
 * Fake memory holds one tag per token at the place where a kernel would look
 * for it. A naive model keeps each space's tokens in an array. A step
 *
 *	prepared  C1-C5 as libkv does them, entries copied at the launch
 *	started   its copies run, everything its rows see is compared with the
 *		  model, half of its tokens are written
 *	ended     all compared again, the rest written, completed stored
 *
 * so a page that is given away, copied short, mapped wrong or reused before
 * its pin has passed shows up as a wrong token. Scrubbed and populated
 * extents are filled with junk.
 *
 * A liar writes nonsense into everything it may write to; nothing is
 * expected of its own content.
 */
#ifndef SELFTESTS_SIM_SIM_H
#define SELFTESTS_SIM_SIM_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kvmd/mm/mm.h"
#include "lib/hash.h"
#include <kv/step.h>

#define SIM_CLIENTS 6u
#define SIM_SPACES  20u
#define SIM_LEN	    700u /* tokens of a space, at most */
#define SIM_ITEMS   4u
#define SIM_TENANTS 3u
#define SIM_JUNK    0xdeadbeefu

struct sim_cfg {
	u64 seed;
	u64 turns;
	u32 extents;
	u32 ready;
	u32 check_every;
	bool moves, crashes, limits, liar, faults;
	bool delays; /* memory takes time; else it is there at once */
};

struct sim_area {
	u32 geom, window;
	struct kv_geometry g;
};

struct sim_space {
	bool used;
	bool in_ticket; /* a waiting step names it */
	u32 slot, len;
	u32 tokens[SIM_LEN];
	u64 gen; /* C3: the cached table is that of this generation */
	u32 nr_cached[2];
	kv_pte_t cached[2][SIM_LEN];
};

struct sim_item {
	struct sim_space *sp;
	u32 slot, pos, n;
	u32 tokens[SIM_LEN]; /* what rows see, then what they write */
	u32 entry[2][SIM_LEN];
};

struct sim_step {
	u64 nr;
	u32 nr_items, nr_copies;
	bool started;
	struct sim_item item[SIM_ITEMS];
	struct kv_copy copies[SIM_ITEMS * KV_AREA_MAX];
};

struct sim_client {
	bool attached, exiting, liar;
	u32 index, tenant;
	u64 step;
	u32 nr_areas;
	struct sim_area area[2];
	struct kv_table_hdr *table;
	struct kv_status *status;
	struct sim_space space[SIM_SPACES];
	struct sim_step run[2]; /* launched, in order */
	u32 nr_run;
	struct sim_step wait; /* the one with a ticket */
	bool waiting;
	u64 ticket;
};

struct sim {
	struct sim_cfg cfg;
	struct mm_config mm_cfg;
	struct mm *mm;
	void *state;
	u32 *mem; /* 16 tags per 4 KiB of device */
	u64 rng, hash, now, turn;
	u32 next_tag;
	u32 tenant[SIM_TENANTS];
	u64 allowed[SIM_TENANTS], weights[SIM_TENANTS];
	u32 pending[4096], nr_pending; /* extents, bit 31: scrub */
	struct sim_client cl[SIM_CLIENTS];
	u64 nr_steps, nr_waits, nr_again, nr_big, nr_moves, nr_exits, nr_forks;
	u64 nr_nodata, nr_copies;
	u32 nr_errors;
};

#define SIM_FAIL(s, ...)                                          \
	do {                                                      \
		if ((s)->nr_errors++ < 10) {                      \
			printf("seed %llu turn %llu: ",           \
			       (unsigned long long)(s)->cfg.seed, \
			       (unsigned long long)(s)->turn);    \
			printf(__VA_ARGS__);                      \
			printf("\n");                             \
		}                                                 \
	} while (0)

static inline u32 sim_rand(struct sim *s, u32 below)
{
	return (u32)(hash_random(&s->rng) % below);
}

static inline bool sim_chance(struct sim *s, u32 percent)
{
	return sim_rand(s, 100) < percent;
}

static inline void sim_note(struct sim *s, u64 what)
{
	s->hash = hash_add(s->hash, what);
}

static inline void *sim_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	return p;
}

/* ---- memory ---- */

static inline void sim_junk(struct sim *s, u32 extent)
{
	u32 i, n = KV_EXTENT_SIZE / 4096 * 16;

	for (i = 0; i < n; i++)
		s->mem[(size_t)extent * n + i] = SIM_JUNK;
}

static inline u32 *sim_page(struct sim *s, const struct sim_area *a, u32 entry)
{
	return &s->mem[(size_t)entry * a->g.unit_bytes / 4096 * 16];
}

static inline void sim_answer(struct sim *s, u32 i)
{
	u32 e = s->pending[i];
	int err = s->cfg.faults && sim_chance(s, 5) ? -ENOMEM : 0;

	s->pending[i] = s->pending[--s->nr_pending];
	if (!err)
		sim_junk(s, e & ~(1u << 31));
	if (e >> 31)
		mm_scrub_done(s->mm, e & ~(1u << 31), err);
	else
		mm_populate_done(s->mm, e, err);
}

static inline int sim_grow(void *host, u32 client, u32 nr_leaves)
{
	struct sim *s = host;

	(void)client;
	(void)nr_leaves;
	return s->cfg.faults && sim_chance(s, 20) ? -ENOMEM : 0;
}

static const struct mm_host_ops sim_ops = { .table_grow = sim_grow };

static inline void sim_granted(struct sim *s, struct sim_client *c,
			       struct sim_step *st, int nr_copies);
static inline void sim_refused(struct sim *s, struct sim_client *c, int rc);

static inline void sim_completed(struct sim *s, const struct mm_request *req)
{
	struct sim_client *c = NULL;
	u32 k;

	for (k = 0; k < SIM_CLIENTS; k++)
		if (s->cl[k].attached && s->cl[k].index == req->client)
			c = &s->cl[k];
	sim_note(s, (u64)(u32)req->cqe.res);
	if (!c || !c->waiting || req->cqe.user_data != c->wait.nr) {
		SIM_FAIL(s, "a completion nobody waits for");
		return;
	}
	c->waiting = false;
	for (k = 0; k < c->wait.nr_items; k++)
		c->wait.item[k].sp->in_ticket = false;
	if (req->cqe.res < 0) {
		sim_refused(s, c, req->cqe.res);
		return;
	}
	memcpy(c->wait.copies, req->copies,
	       sizeof(*req->copies) * (u32)req->cqe.res);
	sim_granted(s, c, &c->wait, req->cqe.res);
}

static inline void sim_drain(struct sim *s)
{
	struct mm_request req;

	while (mm_next_request(s->mm, &req)) {
		sim_note(s, (u64)req.type << 32 | req.extent);
		if (req.type == MM_REQ_POPULATE || req.type == MM_REQ_SCRUB) {
			s->pending[s->nr_pending++] =
				req.extent |
				(req.type == MM_REQ_SCRUB ? 1u << 31 : 0);
			if (!s->cfg.delays)
				sim_answer(s, s->nr_pending - 1);
		} else if (req.type == MM_REQ_COMPLETE) {
			sim_completed(s, &req);
		}
	}
}

/* ---- the device stream of a client ---- */

static inline u32 sim_first_seen(const struct sim_area *a, u32 pos)
{
	return a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
}

static inline u32 *sim_token(struct sim *s, const struct sim_client *c,
			     const struct sim_item *it, u32 area, u32 t)
{
	const struct sim_area *a = &c->area[area];
	u32 page = t / a->g.page_tokens;

	return sim_page(s, a, it->entry[area][page]) + t % a->g.page_tokens;
}

/* Rows of the step read everything below @upto that they may see. */
static inline void sim_compare(struct sim *s, const struct sim_client *c,
			       const struct sim_step *st, u32 written)
{
	u32 i, k, t;

	for (i = 0; i < st->nr_items; i++) {
		const struct sim_item *it = &st->item[i];
		u32 end = it->pos + it->n * written / 2;

		for (k = 0; k < c->nr_areas; k++) {
			t = sim_first_seen(&c->area[k], it->pos);
			for (; t < end; t++) {
				u32 got = *sim_token(s, c, it, k, t);

				if (got == it->tokens[t])
					continue;
				SIM_FAIL(s,
					 "client %u space %u step %llu area %u "
					 "token %u of %u: %#x, should be %#x",
					 c->index, it->slot,
					 (unsigned long long)st->nr, k, t, end,
					 got, it->tokens[t]);
				return;
			}
		}
	}
}

static inline void sim_write(struct sim *s, const struct sim_client *c,
			     const struct sim_step *st, u32 half)
{
	u32 i, k, t;

	for (i = 0; i < st->nr_items; i++) {
		const struct sim_item *it = &st->item[i];
		u32 from = it->pos + it->n * half / 2;
		u32 to = it->pos + it->n * (half + 1) / 2;

		for (k = 0; k < c->nr_areas; k++)
			for (t = from; t < to; t++)
				*sim_token(s, c, it, k, t) = it->tokens[t];
	}
}

static inline const struct sim_area *sim_area_of(const struct sim_client *c,
						 u32 geom)
{
	return c->area[0].geom == geom ? &c->area[0] : &c->area[1];
}

static inline void sim_device(struct sim *s, struct sim_client *c)
{
	struct sim_step *st = &c->run[0];
	u32 i;

	if (!c->nr_run)
		return;
	if (!st->started) {
		for (i = 0; i < st->nr_copies; i++) {
			const struct sim_area *a =
				sim_area_of(c, st->copies[i].geom);

			memcpy(sim_page(s, a, st->copies[i].dst),
			       sim_page(s, a, st->copies[i].src),
			       4 * st->copies[i].tokens);
			s->nr_copies++;
		}
		sim_compare(s, c, st, 0);
		sim_write(s, c, st, 0);
		st->started = true;
		return;
	}
	sim_compare(s, c, st, 1);
	sim_write(s, c, st, 1);
	sim_compare(s, c, st, 2);
	for (i = 0; i < st->nr_items; i++)
		kv_step_store_len(&c->status->space[st->item[i].slot],
				  st->item[i].pos + st->item[i].n, c->table);
	kv_step_end(&c->status->rank[0], st->nr);
	s->nr_steps++;
	c->nr_run--;
	if (c->nr_run)
		memcpy(&c->run[0], &c->run[1], sizeof(c->run[0]));
}

/* ---- a client's own side, as libkv does it ---- */

static inline void sim_refresh(struct sim_client *c, struct sim_space *sp)
{
	struct kv_space_desc *d = kv_table_space(c->table, sp->slot);
	u64 gen = kv_step_gen(d); /* C3: this first */
	u32 k, i, pages;

	if (gen == sp->gen)
		return;
	for (k = 0; k < c->nr_areas; k++) {
		pages = DIV_ROUND_UP(SIM_LEN, c->area[k].g.page_tokens);
		for (i = 0; i < pages; i++) {
			u32 leaf = kv_load_relaxed(
				&d->area[k].leaf[i / KV_LEAF_PTES]);

			sp->cached[k][i] =
				leaf == KV_LEAF_NONE
					? 0
					: kv_step_pte(
						  &kv_table_leaf(c->table, leaf)
							   ->pte[i %
								 KV_LEAF_PTES]);
		}
		sp->nr_cached[k] = pages;
	}
	sp->gen = gen;
}

/* C4 for one item: is everything there? */
static inline bool sim_usable(const struct sim_client *c,
			      const struct sim_item *it)
{
	u32 k, page;

	for (k = 0; k < c->nr_areas; k++) {
		u32 pt = c->area[k].g.page_tokens;

		page = sim_first_seen(&c->area[k], it->pos) / pt;
		for (; page <= (it->pos + it->n - 1) / pt; page++)
			if (!kv_pte_can(it->sp->cached[k][page],
					page >= it->pos / pt))
				return false;
	}
	return true;
}

/* The step is fixed: the model moves on, the stream gets its own copy. */
static inline void sim_launch(struct sim *s, struct sim_client *c,
			      struct sim_step *st)
{
	struct sim_step *to = &c->run[c->nr_run];
	u32 i, k, t;

	c->nr_run += !c->liar; /* it has no stream */
	for (i = 0; i < st->nr_items; i++) {
		struct sim_item *it = &st->item[i];

		it->slot = it->sp->slot;
		for (t = it->pos; t < it->pos + it->n; t++)
			it->sp->tokens[t] = ++s->next_tag;
		it->sp->len = it->pos + it->n;
		memcpy(it->tokens, it->sp->tokens, 4 * it->sp->len);
		for (k = 0; k < c->nr_areas; k++)
			for (t = 0; t < it->sp->nr_cached[k]; t++)
				it->entry[k][t] =
					kv_pte_frame(it->sp->cached[k][t]);
	}
	st->started = false;
	if (to != st)
		memcpy(to, st, sizeof(*to));
}

static inline void sim_granted(struct sim *s, struct sim_client *c,
			       struct sim_step *st, int nr_copies)
{
	u32 i;

	st->nr_copies = (u32)nr_copies;
	c->step = st->nr;
	for (i = 0; i < st->nr_items; i++) {
		sim_refresh(c, st->item[i].sp);
		if (!c->liar && !sim_usable(c, &st->item[i]))
			SIM_FAIL(s, "granted, and a page is missing");
	}
	sim_launch(s, c, st);
}

static inline void sim_free_one(struct sim *s, struct sim_client *c)
{
	struct sim_space *sp = &c->space[sim_rand(s, SIM_SPACES)];
	int rc;

	if (!sp->used || sp->in_ticket)
		return;
	rc = mm_space_destroy(s->mm, c->index, sp->slot);
	if (rc)
		SIM_FAIL(s, "destroy: %d", rc);
	sp->used = false;
}

static inline void sim_refused(struct sim *s, struct sim_client *c, int rc)
{
	c->step++; /* numbers are never used again */
	switch (rc) {
	case -EAGAIN:
		s->nr_again++;
		break;
	case -E2BIG:
		s->nr_big++;
		break;
	case -ENODATA:
		s->nr_nodata++;
		return;
	case -ENOMEM:
		if (s->cfg.faults)
			return;
		/* fallthrough */
	default:
		if (rc != -ECANCELED)
			SIM_FAIL(s, "reserve: %d", rc);
		return;
	}
	/* Somebody has to give way. */
	sim_free_one(s, c);
	sim_free_one(s, c);
}

static inline bool sim_pick_items(struct sim *s, struct sim_client *c,
				  struct sim_step *st)
{
	u32 want = 1 + sim_rand(s, SIM_ITEMS), tries = 8, i, len, n;
	struct sim_space *sp;

	st->nr_items = 0;
	st->nr_copies = 0;
	while (st->nr_items < want && tries--) {
		sp = &c->space[sim_rand(s, SIM_SPACES)];
		for (i = 0; i < st->nr_items; i++)
			if (st->item[i].sp == sp)
				break;
		if (!sp->used || sp->in_ticket || i < st->nr_items)
			continue;
		len = sp->len;
		if (len && sim_chance(s, 5))
			len -= sim_rand(s, min(len, 40u)); /* rewrite */
		n = sim_chance(s, 70) ? 1 : 1 + sim_rand(s, 120);
		if (len + n > SIM_LEN)
			continue;
		st->item[i].sp = sp;
		st->item[i].pos = len;
		st->item[i].n = n;
		st->nr_items++;
	}
	return st->nr_items > 0;
}

static inline void sim_reserve(struct sim *s, struct sim_client *c,
			       struct sim_step *st)
{
	struct kv_resv_item it[SIM_ITEMS];
	struct mm_resv r = { .step = st->nr,
			     .user_data = st->nr,
			     .items = it,
			     .nr_items = st->nr_items,
			     .flags = sim_chance(s, 50) ? KV_SQE_WAIT : 0,
			     .out_room = 4096 };
	u64 extra;
	u32 seq, i;
	int rc;

	for (i = 0; i < st->nr_items; i++)
		it[i] = (struct kv_resv_item){ .space = st->item[i].sp->slot,
					       .pos = st->item[i].pos,
					       .nr_tokens = st->item[i].n };
	rc = mm_reserve(s->mm, c->index, &r, st->copies, &seq, &extra);
	sim_note(s, (u64)(u32)rc);
	sim_note(s, extra);
	if (rc >= 0) {
		sim_granted(s, c, st, rc);
	} else if (rc == -EINPROGRESS) {
		s->nr_waits++;
		c->waiting = true;
		c->ticket = extra;
		memcpy(&c->wait, st, sizeof(*st));
		for (i = 0; i < st->nr_items; i++)
			st->item[i].sp->in_ticket = true;
	} else {
		sim_refused(s, c, rc);
	}
}

static inline void sim_step(struct sim *s, struct sim_client *c)
{
	struct sim_step *st = &c->run[c->nr_run];
	u64 prev[SIM_ITEMS];
	bool usable = true;
	u32 i;

	if (c->nr_run == 2 || c->waiting || !sim_pick_items(s, c, st))
		return;
	st->nr = c->step + 1;
	for (i = 0; i < st->nr_items; i++) {
		struct kv_space_status *w =
			&c->status->space[st->item[i].sp->slot];

		prev[i] = kv_load_relaxed(&w->active_step);
		kv_step_mark(w, st->nr); /* C1 */
	}
	kv_step_fence(); /* C2 */
	for (i = 0; i < st->nr_items; i++) {
		sim_refresh(c, st->item[i].sp); /* C3 */
		usable &= sim_usable(c, &st->item[i]);
	}
	if (usable) { /* C4 */
		c->step = st->nr;
		sim_launch(s, c, st);
		return;
	}
	for (i = 0; i < st->nr_items; i++) /* C5 */
		kv_step_unmark(&c->status->space[st->item[i].sp->slot],
			       prev[i]);
	sim_reserve(s, c, st);
}

static inline struct sim_space *sim_spare(struct sim_client *c)
{
	u32 i;

	for (i = 0; i < SIM_SPACES; i++)
		if (!c->space[i].used)
			return &c->space[i];
	return NULL;
}

static inline void sim_new_space(struct sim_space *sp, int slot, u32 len)
{
	sp->used = true;
	sp->in_ticket = false;
	sp->slot = (u32)slot;
	sp->len = len;
	sp->gen = 0;
}

static inline void sim_create(struct sim *s, struct sim_client *c)
{
	struct sim_space *sp = sim_spare(c);
	struct kv_space_args a = { .nr_areas = (u16)c->nr_areas,
				   .priority = (u16)sim_rand(s, 3) };
	u32 k;
	int rc;

	if (!sp)
		return;
	for (k = 0; k < c->nr_areas; k++) {
		a.area[k].geom = c->area[k].geom;
		a.area[k].window = c->area[k].window;
	}
	rc = mm_space_create(s->mm, c->index, &a);
	if (rc < 0)
		SIM_FAIL(s, "create: %d", rc);
	else
		sim_new_space(sp, rc, 0);
}

static inline bool sim_is_windowed(const struct sim_client *c)
{
	return c->area[0].window || (c->nr_areas > 1 && c->area[1].window);
}

static inline void sim_fork(struct sim *s, struct sim_client *c)
{
	struct sim_space *p = &c->space[sim_rand(s, SIM_SPACES)];
	struct sim_space *sp = sim_spare(c);
	u32 len;
	int rc;

	if (!sp || !p->used || p->in_ticket)
		return;
	len = sim_chance(s, 70) ? p->len : sim_rand(s, p->len + 1);
	rc = mm_space_fork(s->mm, c->index, p->slot, len);
	sim_note(s, (u64)(u32)rc);
	if (rc == -ENODATA && sim_is_windowed(c) && len < p->len)
		return;
	if (rc == -ENOMEM && s->cfg.faults)
		return;
	if (rc < 0) {
		SIM_FAIL(s, "fork at %u of %u: %d", len, p->len, rc);
		return;
	}
	s->nr_forks++;
	sim_new_space(sp, rc, len);
	memcpy(sp->tokens, p->tokens, 4 * len);
}

static inline void sim_truncate(struct sim *s, struct sim_client *c)
{
	struct sim_space *sp = &c->space[sim_rand(s, SIM_SPACES)];
	u32 len;
	int rc;

	if (!sp->used || sp->in_ticket)
		return;
	len = sim_chance(s, 30) ? 0
	      : sim_chance(s, 50)
		      ? sim_rand(s, sp->len + 1)
		      : sp->len - sim_rand(s, min(sp->len, 20u) + 1);
	rc = mm_space_truncate(s->mm, c->index, sp->slot, len);
	if (rc == -ENODATA && sim_is_windowed(c))
		return;
	if (rc)
		SIM_FAIL(s, "truncate to %u of %u: %d", len, sp->len, rc);
	else
		sp->len = len;
}

static inline void sim_lie(struct sim *s, struct sim_client *c)
{
	u32 i;

	for (i = 0; i < 8; i++) {
		c->status->space[sim_rand(s, 64)].len = hash_random(&s->rng);
		c->status->space[sim_rand(s, 64)].active_step =
			hash_random(&s->rng) >> sim_rand(s, 64);
	}
	c->status->rank[0].completed = hash_random(&s->rng) >> sim_rand(s, 64);
}

static inline void sim_act(struct sim *s, struct sim_client *c)
{
	u32 what = sim_rand(s, 100);

	if (what < 60)
		sim_step(s, c);
	else if (what < 72)
		sim_create(s, c);
	else if (what < 82)
		sim_fork(s, c);
	else if (what < 88)
		sim_truncate(s, c);
	else if (what < 96)
		sim_free_one(s, c);
	else if (what < 98 && c->waiting && c->ticket)
		mm_cancel(s->mm, c->index, c->ticket);
	else if (what == 98)
		sim_note(s, (u64)(u32)mm_shrink(s->mm, c->index));
	if (c->liar)
		sim_lie(s, c);
}

/* ---- attach and death ---- */

static inline struct kv_geometry sim_geometry(u32 page_bytes, u32 page_tokens)
{
	return (struct kv_geometry){
		.page_tokens = page_tokens,
		.nr_layers = 1,
		.nr_kv_heads = 1,
		.head_dim = 64,
		.elem = KV_ELEM_BF16,
		.token_stride = 128,
		.head_stride = 128,
		.v_offset = page_bytes / 2,
		.layer_stride = page_bytes,
		.page_bytes = page_bytes,
	};
}

static inline void sim_attach(struct sim *s, struct sim_client *c)
{
	static const u32 kinds[][4] = {
		/* bytes, tokens, window of a first, of a second area */
		{ 48 * 1024, 16, 0, 64 }, { 448 * 1024, 16, 0, 0 },
		{ 4096, 1, 0, 0 },	  { 240 * 1024, 16, 100, 0 },
		{ 1536 * 1024, 8, 0, 1 },
	};
	struct mm_attach at = { .name = "sim" };
	u32 kind = sim_rand(s, 5), k;

	if (!c->table) {
		c->table = sim_map(KV_TABLE_SIZE_MAX);
		c->status = sim_map(sizeof(struct kv_status));
	}
	madvise(c->table, KV_TABLE_SIZE_MAX, MADV_DONTNEED);
	memset(c->status, 0, sizeof(*c->status));
	at.table = c->table;
	at.status = c->status;
	c->tenant = sim_rand(s, SIM_TENANTS);
	at.tenant = s->tenant[c->tenant];
	if (mm_client_attach(s->mm, &at, &c->index))
		SIM_FAIL(s, "attach");
	c->attached = true;
	c->exiting = false;
	c->waiting = false;
	c->step = 0;
	c->nr_run = 0;
	c->liar = s->cfg.liar && c == &s->cl[0];
	c->nr_areas = kinds[kind][3] ? 2 : 1;
	memset(c->space, 0, sizeof(c->space));
	for (k = 0; k < c->nr_areas; k++) {
		c->area[k].window = kinds[kind][2 + k];
		c->area[k].g = sim_geometry(k ? 240 * 1024 : kinds[kind][0],
					    k ? 16 : kinds[kind][1]);
		if (mm_geom_add(s->mm, c->index, &c->area[k].g,
				&c->area[k].geom))
			SIM_FAIL(s, "geom_add");
	}
}

static inline void sim_kill(struct sim *s, struct sim_client *c)
{
	mm_client_exit(s->mm, c->index);
	c->exiting = true;
	c->waiting = false;
	s->nr_exits++;
}

/* ---- everybody else ---- */

static inline void sim_check_limits(struct sim *s)
{
	struct mm_tenant_info ti;
	u64 used;
	u32 i;

	for (i = 0; i < SIM_TENANTS; i++) {
		mm_tenant_info(s->mm, s->tenant[i], &ti);
		used = ti.held_bytes + ti.charged_bytes;
		/* Over a lowered limit it may only shrink. */
		s->allowed[i] =
			max(ti.limits.max_bytes, min(s->allowed[i], used));
		if (used > s->allowed[i])
			SIM_FAIL(s, "tenant %u holds %llu of %llu", i,
				 (unsigned long long)used,
				 (unsigned long long)s->allowed[i]);
	}
}

static inline void sim_admin(struct sim *s)
{
	u32 i = sim_rand(s, SIM_TENANTS);
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE };
	struct mm_tenant_info ti;
	u64 bytes;

	if (sim_chance(s, 50)) {
		if (!sim_chance(s, 30))
			lim.max_bytes = (u64)sim_rand(s, s->cfg.extents) *
						KV_EXTENT_SIZE +
					sim_rand(s, 4096);
		mm_tenant_info(s->mm, s->tenant[i], &ti);
		s->allowed[i] =
			max(lim.max_bytes, ti.held_bytes + ti.charged_bytes);
		if (mm_tenant_limit(s->mm, s->tenant[i], &lim))
			SIM_FAIL(s, "limit");
	} else if (s->weights[i]) {
		mm_tenant_uncharge(s->mm, s->tenant[i], s->weights[i]);
		s->weights[i] = 0;
	} else {
		bytes = sim_rand(s, 4 * KV_EXTENT_SIZE);
		if (!mm_tenant_charge(s->mm, s->tenant[i], bytes))
			s->weights[i] = bytes;
	}
}

static inline void sim_copy(void *ctx, u64 src, u64 dst, u64 bytes)
{
	struct sim *s = ctx;

	memcpy(&s->mem[dst / 4096 * 16], &s->mem[src / 4096 * 16],
	       bytes / 4096 * 64);
}

static inline void sim_move(struct sim *s, struct sim_client *c)
{
	struct sim_space *sp = &c->space[sim_rand(s, SIM_SPACES)];
	u32 area = sim_rand(s, c->nr_areas), pages, rc;

	if (!sp->used)
		return;
	pages = sp->len / c->area[area].g.page_tokens + 1;
	rc = (u32)mm_move_page(s->mm, c->index, sp->slot, area,
			       sim_rand(s, pages), sim_copy, s);
	sim_note(s, rc);
	s->nr_moves += !rc;
}

static inline void sim_report(void *ctx, const char *sentence)
{
	struct sim *s = ctx;

	SIM_FAIL(s, "mm_check: %s", sentence);
}

static inline void sim_turn(struct sim *s)
{
	struct sim_client *c = &s->cl[sim_rand(s, SIM_CLIENTS)];
	u32 what = sim_rand(s, 1000);

	s->now += sim_rand(s, 1000000);
	if (!c->attached) {
		sim_attach(s, c);
	} else if (c->exiting) {
		/* The stream outlives its process. */
		if (c->nr_run) {
			sim_device(s, c);
		} else if (sim_chance(s, 20)) {
			mm_client_gone(s->mm, c->index);
			c->attached = false;
		}
	} else if (what < 600) {
		sim_act(s, c);
	} else if (what < 850) {
		sim_device(s, c);
	} else if (what < 940) {
		if (s->nr_pending)
			sim_answer(s, sim_rand(s, s->nr_pending));
	} else if (what < 960) {
		mm_tick(s->mm, s->now);
	} else if (what < 990) {
		if (s->cfg.moves)
			sim_move(s, c);
	} else if (what < 998) {
		if (s->cfg.limits)
			sim_admin(s);
	} else if (s->cfg.crashes) {
		sim_kill(s, c);
	}
	sim_drain(s);
	sim_check_limits(s);
}

static inline void sim_init(struct sim *s, const struct sim_cfg *cfg)
{
	char name[8];
	u32 i;

	memset(s, 0, sizeof(*s));
	s->cfg = *cfg;
	s->rng = cfg->seed;
	s->mm_cfg.device_bytes = (u64)cfg->extents * KV_EXTENT_SIZE;
	s->mm_cfg.ready_extents = cfg->ready;
	s->state = sim_map(mm_state_bytes(&s->mm_cfg));
	s->mem = sim_map((size_t)cfg->extents * KV_EXTENT_SIZE / 4096 * 64);
	if (mm_create(&s->mm_cfg, s->state, &sim_ops, s, &s->mm))
		SIM_FAIL(s, "mm_create");
	for (i = 0; i < SIM_TENANTS; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		if (mm_tenant_get(s->mm, name, &s->tenant[i]))
			SIM_FAIL(s, "tenant");
		s->allowed[i] = MM_LIMIT_NONE;
	}
}

/* Everybody goes; nothing may be left. */
static inline void sim_end(struct sim *s)
{
	struct mm_usage u;
	u32 i;

	for (i = 0; i < SIM_CLIENTS; i++) {
		if (s->cl[i].attached)
			mm_client_gone(s->mm, s->cl[i].index);
		s->cl[i].waiting = false;
	}
	for (i = 0; i < SIM_TENANTS; i++)
		mm_tenant_uncharge(s->mm, s->tenant[i], s->weights[i]);
	sim_drain(s);
	while (s->nr_pending) {
		sim_answer(s, 0);
		sim_drain(s);
	}
	if (mm_check(s->mm, sim_report, s))
		SIM_FAIL(s, "mm_check at the end");
	mm_usage_get(s->mm, &u);
	if (u.held_bytes || u.frame_bytes || u.charged_bytes)
		SIM_FAIL(s, "left: %llu held, %llu in frames, %llu charged",
			 (unsigned long long)u.held_bytes,
			 (unsigned long long)u.frame_bytes,
			 (unsigned long long)u.charged_bytes);
	for (i = 0; i < SIM_CLIENTS; i++) {
		if (!s->cl[i].table)
			continue;
		munmap(s->cl[i].table, KV_TABLE_SIZE_MAX);
		munmap(s->cl[i].status, sizeof(struct kv_status));
	}
	mm_destroy(s->mm);
	munmap(s->state, mm_state_bytes(&s->mm_cfg));
	munmap(s->mem, (size_t)s->cfg.extents * KV_EXTENT_SIZE / 4096 * 64);
}

/**
 * sim_run - one run from a seed
 * @s: zeroed or used
 * @cfg: what happens in it
 *
 * Return: the hash of all decisions; s->nr_errors counts what went wrong.
 */
static inline u64 sim_run(struct sim *s, const struct sim_cfg *cfg)
{
	sim_init(s, cfg);
	for (s->turn = 0; s->turn < cfg->turns && s->nr_errors < 10;
	     s->turn++) {
		sim_turn(s);
		if (cfg->check_every && s->turn % cfg->check_every == 0)
			mm_check(s->mm, sim_report, s);
	}
	sim_end(s);
	return s->hash;
}

#endif
