/* SPDX-License-Identifier: MIT */
/*
 * recover_client.h - what clients ask for, and read, while kvmd dies
 *
 * A step remembers what it has to find in each row that it reads, and looks
 * when it ends, whoever was kvmd meanwhile.
 */
#ifndef SELFTESTS_KVMD_MM_RECOVER_CLIENT_H
#define SELFTESTS_KVMD_MM_RECOVER_CLIENT_H

#include <errno.h>

#include "selftests/kvmd/mm/recover_model.h"

/* ---- steps ---- */

static void set_len(struct model *m, u32 id, u32 slot, u64 len)
{
	kv_store_release(&m->t.cl[id].status->space[slot].len, len);
}

/* Remember what a step reads of a space. */
static void step_reads(struct model *m, struct r_client *c,
		       const struct r_space *s)
{
	struct r_step *st = &c->step;
	u32 k, page, first, r, pos;

	for (k = 0; k < R_AREAS; k++) {
		first = r_window[k] && s->len > r_window[k]
				? s->len - r_window[k]
				: 0;
		for (page = first / 16; page * 16 < s->len; page++) {
			kv_pte_t pte = mt_pte(&m->t, c->id, s->slot, k, page);
			u32 i = st->nr++;

			ASSERT_TRUE(kv_pte_can(pte, 0));
			st->entry[i] = kv_pte_frame(pte);
			st->area[i] = k;
			st->rows[i] = 0;
			for (r = 0; r < 16; r++) {
				pos = page * 16 + r;
				if (pos < first || pos >= s->len)
					continue;
				st->want[i][r] = row_of(s->tokens, pos, k);
				st->rows[i] |= 1u << r;
			}
		}
	}
}

static void step_ends(struct model *m, struct r_client *c)
{
	struct r_step *st = &c->step;
	u32 i, r;

	if (!st->runs)
		return;
	for (i = 0; i < st->nr; i++)
		for (r = 0; r < 16; r++)
			if (st->rows[i] & (1u << r)) {
				ASSERT_EQ(page_rows(m, st->area[i],
						    st->entry[i])[r],
					  st->want[i][r]);
				m->nr_rows++;
			}
	st->runs = false;
	kv_step_end(&m->t.cl[c->id].status->rank[0], st->number);
}

static struct r_space *space_of(struct r_client *c, u32 slot)
{
	u32 i;

	for (i = 0; i < R_SPACES; i++)
		if (c->space[i].live && c->space[i].slot == slot)
			break;
	ASSERT_LT(i, R_SPACES);
	return &c->space[i];
}

static void append_rows(struct model *m, struct r_client *c, struct r_space *s,
			u32 n)
{
	u32 pos, k;

	for (pos = s->len; pos < s->len + n; pos++)
		for (k = 0; k < R_AREAS; k++) {
			kv_pte_t pte =
				mt_pte(&m->t, c->id, s->slot, k, pos / 16);

			ASSERT_TRUE(kv_pte_can(pte, 1));
			page_rows(m, k, kv_pte_frame(pte))[pos % 16] =
				row_of(s->tokens, pos, k);
		}
	s->len += n;
	set_len(m, c->id, s->slot, s->len);
}

/* The spaces of a reservation start from nothing. */
static void start_again(struct model *m, struct r_client *c,
			const struct r_req *req)
{
	u32 i;

	for (i = 0; i < req->resv.nr_items; i++) {
		struct r_space *s = space_of(c, req->items[i].space);
		struct r_req cut = { .kind = OP_TRUNCATE,
				     .client = c->id,
				     .space = s->slot };

		ASSERT_EQ(request(m, &cut), 0);
		s->len = s->published = 0;
		set_len(m, c->id, s->slot, 0);
	}
}

/* The answer to a reservation, at once or as a ticket's completion. */
static void reserved(struct model *m, struct r_client *c,
		     const struct r_req *req, int rc,
		     const struct kv_copy *copies)
{
	struct r_step *st = &c->step;
	u32 i;
	int k;

	for (i = 0; i < req->resv.nr_items; i++)
		space_of(c, req->items[i].space)->busy = false;
	if (rc == -ENODATA)
		start_again(m, c, req);
	if (rc < 0) {
		if (rc != -ENODATA && rc != -ECANCELED && rc != -E2BIG)
			ASSERT_EQ(rc, -EAGAIN);
		return;
	}
	step_ends(m, c);
	for (i = 0; i < req->resv.nr_items; i++)
		kv_step_mark(&m->t.cl[c->id].status->space[req->items[i].space],
			     req->resv.step);
	for (k = 0; k < rc; k++)
		memcpy(page_rows(m, copies[k].geom, copies[k].dst),
		       page_rows(m, copies[k].geom, copies[k].src),
		       copies[k].tokens * sizeof(u64));
	st->nr = 0;
	for (i = 0; i < req->resv.nr_items; i++) {
		struct r_space *s = space_of(c, req->items[i].space);

		append_rows(m, c, s, req->items[i].nr_tokens);
		step_reads(m, c, s);
	}
	st->runs = true;
	st->number = req->resv.step;
	if (roll(m, 2))
		step_ends(m, c);
}

/* Completions that came since the last look. */
static void look_at_done(struct model *m)
{
	struct r_client *c;

	while (m->seen_done < m->t.nr_done) {
		struct mt_done d = m->t.done[m->seen_done++ % MT_DONE];
		struct r_req req;

		c = client_of(m, d.client);
		/* Twice, if it was posted just before the death. */
		if (!c || !c->waits ||
		    c->wait.resv.user_data != d.cqe.user_data)
			continue;
		c->waits = false;
		req = c->wait;
		reserved(m, c, &req, d.cqe.res, d.copies);
	}
}

/* ---- operations ---- */

static void op_create(struct model *m, struct r_client *c, struct r_space *s)
{
	struct r_req r = { .kind = OP_CREATE, .client = c->id };
	u32 k, n = 1 + roll(m, R_LEN - 20);

	ASSERT_GE(request(m, &r), 0);
	memset(s, 0, sizeof(*s));
	s->live = true;
	s->slot = (u32)r.rc;
	/* few different beginnings, which part in many places */
	for (k = 0; k < R_LEN + 64; k++)
		s->tokens[k] = k / 50 * 1000 + roll(m, roll(m, 30) ? 1 : 3);
	r = (struct r_req){ .kind = OP_MAP,
			    .client = c->id,
			    .space = s->slot,
			    .tokens = s->tokens,
			    .nr = n };
	request(m, &r);
	ASSERT_GE(r.rc, 0);
	ASSERT_LE(r.rc, (int)n);
	s->len = (u32)r.rc;
	s->published = s->len / 16 * 16;
	set_len(m, c->id, s->slot, s->len);
}

static void op_append(struct model *m, struct r_client *c, u32 first)
{
	struct r_req r = { .kind = OP_RESERVE, .client = c->id };
	u64 step;
	u32 i;

	if (c->waits)
		return;
	step_ends(m, c); /* its number has to be below the new one's */
	for (i = 0; i < R_ITEMS; i++) {
		struct r_space *s = &c->space[(first + i) % m->nr_spaces];

		if (!s->live || s->len >= R_LEN || (i && roll(m, 2)))
			continue;
		r.items[r.resv.nr_items++] = (struct kv_resv_item){
			.space = s->slot,
			.pos = s->len,
			.nr_tokens = 1 + roll(m, 40),
		};
	}
	if (!r.resv.nr_items)
		return;
	step = ++m->t.cl[c->id].step;
	r.resv.items = r.items;
	r.resv.step = step;
	r.resv.user_data = (u64)c->id << 32 | step;
	r.resv.out_room = 4096;
	r.resv.flags = roll(m, 2) ? KV_SQE_WAIT : 0;
	c->wait = r; /* before it is asked for: it may end at once */
	c->wait.resv.items = c->wait.items;
	c->waits = true;
	for (i = 0; i < r.resv.nr_items; i++)
		space_of(c, r.items[i].space)->busy = true;
	request(m, &r);
	if (r.rc == -EINPROGRESS) {
		c->wait.extra = r.extra;
		return;
	}
	c->waits = false;
	reserved(m, c, &r, r.rc, r.copies);
}

static void do_cancel(struct model *m, void *arg)
{
	struct r_client *c = arg;

	mm_cancel(m->t.mm, c->id, c->wait.extra);
}

static void op_cancel(struct model *m, struct r_client *c)
{
	while (c->waits && c->wait.extra && !guarded(m, do_cancel, c))
		look_at_done(m);
	drain(m);
}

static void op_publish(struct model *m, struct r_client *c, struct r_space *s)
{
	u32 from = min(s->published, s->len / 16 * 16);
	struct r_req r = { .kind = OP_NONE,
			   .client = c->id,
			   .space = s->slot,
			   .arg = from,
			   .tokens = s->tokens + from,
			   .nr = s->len - from };

	request(m, &r);
	if (r.rc == -ENODATA) {
		s->published = 0;
		return;
	}
	ASSERT_GE(r.rc, 0);
	ASSERT_LE(r.rc, (int)s->len);
	s->published = (u32)r.rc / 16 * 16;
}

static void op_fork(struct model *m, struct r_client *c,
		    const struct r_space *s, struct r_space *to)
{
	struct r_req r = { .kind = OP_FORK,
			   .client = c->id,
			   .space = s->slot,
			   .arg = s->len ? roll(m, s->len + 1) : 0 };
	u32 k, len = (u32)r.arg;

	if (to->live || to == s)
		return;
	if (request(m, &r) == -ENODATA)
		return;
	ASSERT_GE(r.rc, 0);
	*to = *s;
	to->slot = (u32)r.rc;
	to->len = len;
	to->published = min(s->published, len / 16 * 16);
	for (k = len; k < R_LEN + 64; k++)
		to->tokens[k] = 7 + roll(m, 3);
	set_len(m, c->id, to->slot, len);
}

static void op_truncate(struct model *m, struct r_client *c, struct r_space *s)
{
	struct r_req r = { .kind = OP_TRUNCATE,
			   .client = c->id,
			   .space = s->slot,
			   .arg = roll(m, s->len + 1) };
	u32 k;

	if (request(m, &r) == -ENODATA)
		return;
	ASSERT_EQ(r.rc, 0);
	s->len = (u32)r.arg;
	s->published = min(s->published, s->len / 16 * 16);
	for (k = s->len; k < R_LEN + 64; k++)
		s->tokens[k] = 3 + roll(m, 3);
	set_len(m, c->id, s->slot, s->len);
}

static void op_destroy(struct model *m, struct r_client *c, struct r_space *s)
{
	struct r_req r = { .kind = OP_DESTROY,
			   .client = c->id,
			   .space = s->slot };

	ASSERT_EQ(request(m, &r), 0);
	s->live = false;
}

static void copy_page(void *ctx, u64 src, u64 dst, u64 bytes)
{
	struct model *m = ctx;

	r_move(&m->t, src, dst, (u32)bytes);
}

struct r_move {
	u32 client, space, area, page;
};

static void do_move(struct model *m, void *arg)
{
	struct r_move *v = arg;

	mm_move_page(m->t.mm, v->client, v->space, v->area, v->page, copy_page,
		     m);
}

static void op_move(struct model *m, struct r_client *c, struct r_space *s)
{
	struct kv_space_status *st = &m->t.cl[c->id].status->space[s->slot];
	struct r_move v = { .client = c->id,
			    .space = s->slot,
			    .area = roll(m, R_AREAS),
			    .page = s->len ? roll(m, s->len) / 16 : 0 };
	u64 active = st->active_step;

	step_ends(m, c);
	m->one_page = true;
	m->mark = roll(m, 3) && !is_due(m, KV_TP_MOVE_BACK, KV_TP_MOVE_BACK)
			  ? NULL
			  : st;
	m->mark_step = m->t.cl[c->id].step + 1;
	guarded(m, do_move, &v);
	m->mark = NULL;
	m->one_page = false;
	kv_step_unmark(st, active);
}

#endif
