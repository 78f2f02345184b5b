/* SPDX-License-Identifier: MIT */
/*
 * sim_client.c - a fake client, as libkv behaves, and its device stream
 */
#include "selftests/sim/sim.h"

#include <string.h>

/* ---- the device stream of a client ---- */

static u32 sim_first_seen(const struct sim_area *a, u32 pos)
{
	return a->window && pos + 1 > a->window ? pos + 1 - a->window : 0;
}

static u32 *sim_token(struct sim *s, const struct sim_client *c,
		      const struct sim_item *it, u32 area, u32 t)
{
	const struct sim_area *a = &c->area[area];
	u32 page = t / a->g.page_tokens;

	return sim_page(s, a, it->entry[area][page]) + t % a->g.page_tokens;
}

/* Rows of the step read everything below @end that they may see. */
static void sim_compare(struct sim *s, const struct sim_client *c,
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

static void sim_write(struct sim *s, const struct sim_client *c,
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

static const struct sim_area *sim_area_of(const struct sim_client *c, u32 geom)
{
	return c->area[0].geom == geom ? &c->area[0] : &c->area[1];
}

static bool sim_uses(const struct sim_step *st, u32 slot)
{
	u32 i;

	for (i = 0; i < st->nr_items; i++)
		if (st->item[i].slot == slot)
			return true;
	return false;
}

/* The step's lengths, unless memory was revoked under it. */
static void sim_commit(struct sim *s, struct sim_client *c,
		       const struct sim_step *st)
{
	struct sim_space *sp;
	u64 epoch = st->epoch;
	u32 i, k;

	for (i = 0; i < st->nr_items; i++)
		epoch = kv_step_store_len(&c->status->space[st->item[i].slot],
					  st->item[i].pos + st->item[i].n,
					  c->table);
	if (epoch == st->epoch || c->exiting || c->liar)
		return;
	/* What it computed is void, and all that came of it. */
	s->nr_stale++;
	for (i = 0; i < st->nr_items; i++) {
		for (k = 0; k < SIM_SPACES; k++) {
			sp = &c->space[k];
			if (!sp->used || sp->in_ticket ||
			    sp->slot != st->item[i].slot ||
			    (c->nr_run > 1 && sim_uses(&c->run[1], sp->slot)))
				continue;
			mm_space_destroy(s->mm, c->index, sp->slot);
			sp->used = false;
		}
	}
}

void sim_device(struct sim *s, struct sim_client *c)
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
	kv_step_end(&c->status->rank[0], st->nr);
	sim_commit(s, c, st);
	s->nr_steps++;
	c->nr_run--;
	if (c->nr_run)
		memcpy(&c->run[0], &c->run[1], sizeof(c->run[0]));
}

/* ---- a client's own side, as libkv does it ---- */

static void sim_refresh(struct sim_client *c, struct sim_space *sp)
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
static bool sim_usable(const struct sim_client *c, const struct sim_item *it)
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
static void sim_launch(struct sim *s, struct sim_client *c, struct sim_step *st)
{
	struct sim_step *to = &c->run[c->nr_run];
	u32 i, k, t;

	c->nr_run += !c->liar; /* it has no stream */
	st->epoch = kv_load_acquire(&c->table->epoch);
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

void sim_granted(struct sim *s, struct sim_client *c, struct sim_step *st,
		 int nr_copies)
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

static void sim_free_one(struct sim *s, struct sim_client *c)
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

/* A page is gone: its space begins again there, or altogether. */
static void sim_lost(struct sim *s, struct sim_client *c, u64 lost)
{
	u32 len = (u32)lost - 1, i;
	struct sim_space *sp = NULL;

	for (i = 0; i < SIM_SPACES; i++)
		if (c->space[i].used && c->space[i].slot == lost >> 32)
			sp = &c->space[i];
	s->nr_lost++;
	if (!sp || len > sp->len) {
		SIM_FAIL(s, "lost: %#llx", (unsigned long long)lost);
		return;
	}
	if (sp->in_ticket)
		return;
	if (mm_space_truncate(s->mm, c->index, sp->slot, len)) {
		mm_space_destroy(s->mm, c->index, sp->slot);
		sp->used = false;
	} else {
		sp->len = len;
	}
}

void sim_refused(struct sim *s, struct sim_client *c, int rc, u64 extra)
{
	c->step++; /* numbers are never used again */
	switch (rc) {
	case -EAGAIN:
	case -EDEADLK:
		s->nr_again++;
		break;
	case -E2BIG:
		s->nr_big++;
		break;
	case -ENODATA:
		s->nr_nodata++;
		if (extra)
			sim_lost(s, c, extra);
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

static bool sim_pick_items(struct sim *s, struct sim_client *c,
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

static void sim_reserve(struct sim *s, struct sim_client *c,
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
		sim_refused(s, c, rc, extra);
	}
}

static void sim_step(struct sim *s, struct sim_client *c)
{
	struct sim_step *st = &c->run[c->nr_run];
	u64 prev[SIM_ITEMS];
	bool usable = true;
	u32 i;

	if (c->nr_run == 2 || c->waiting || !sim_pick_items(s, c, st))
		return;
	st->nr = c->step + 1;
	if (st->nr > kv_load_acquire(&c->table->hold_step) && !c->liar)
		return;
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

static struct sim_space *sim_spare(struct sim_client *c)
{
	u32 i;

	for (i = 0; i < SIM_SPACES; i++)
		if (!c->space[i].used)
			return &c->space[i];
	return NULL;
}

static void sim_new_space(struct sim_space *sp, int slot, u32 len)
{
	sp->used = true;
	sp->in_ticket = false;
	sp->slot = (u32)slot;
	sp->len = len;
	sp->gen = 0;
}

static void sim_create(struct sim *s, struct sim_client *c)
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

static bool sim_is_windowed(const struct sim_client *c)
{
	return c->area[0].window || (c->nr_areas > 1 && c->area[1].window);
}

static void sim_fork(struct sim *s, struct sim_client *c)
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

static void sim_truncate(struct sim *s, struct sim_client *c)
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

static void sim_lie(struct sim *s, struct sim_client *c)
{
	u32 i;

	for (i = 0; i < 8; i++) {
		c->status->space[sim_rand(s, 64)].len = hash_random(&s->rng);
		c->status->space[sim_rand(s, 64)].active_step =
			hash_random(&s->rng) >> sim_rand(s, 64);
	}
	c->status->rank[0].completed = hash_random(&s->rng) >> sim_rand(s, 64);
}

void sim_give(struct sim *s, struct sim_client *c)
{
	u32 i;

	if (c->deaf || c->hung)
		return;
	for (i = 0; i < SIM_SPACES / 2; i++)
		sim_free_one(s, c);
	sim_note(s, (u64)(u32)mm_shrink(s->mm, c->index));
}

void sim_act(struct sim *s, struct sim_client *c)
{
	u32 what = sim_rand(s, 100);

	if (c->hung)
		return;

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
