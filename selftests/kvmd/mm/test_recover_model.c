/* SPDX-License-Identifier: MIT */
/* quick: no */
/*
 * test_recover_model.c - a core that was killed anywhere goes on as if it had
 * not
 *
 * The model is that of test_prefix.c, with swap tiers and discards, tickets,
 * batches, moves, compaction, and two tenants with weights and limits, hard and
 * soft: random clients with random sequences, and what each page holds is kept
 * row by row. Its host dies at every trace point of the core, and at random
 * instructions; whoever takes over has to find books that are in order, answer
 * what was asked, once, and give each step the rows that its tokens call for.
 * In the end nothing is held by anybody.
 */
#include <errno.h>

#include "selftests/kvmd/mm/recover_client.h"

/* ---- what is not a client's ---- */

static void do_answers(struct model *m, void *arg)
{
	struct mt *t = &m->t;
	bool fail = *(bool *)arg;

	mt_copy_answer(t, fail ? -EIO : 0);
	mt_move_answer(t, fail ? -EIO : 0);
	mt_swap_answer(t, fail ? -EIO : 0);
	mt_answer(t, fail ? -ENOMEM : 0);
}

static void answers(struct model *m)
{
	bool due = is_due(m, KV_TP_SWAP_OUT, KV_TP_SWAP_LOST) ||
		   is_due(m, R_MIGRATE + KV_TP_MOVE_BACK,
			  R_MIGRATE + KV_TP_MOVE_BACK) ||
		   is_due(m, KV_TP_REVOKE_EPOCH, KV_TP_REVOKE_LOST);
	bool fail = !roll(m, due ? 3 : 20);

	guarded(m, do_answers, &fail);
	drain(m);
}

static void do_tick(struct model *m, void *arg)
{
	(void)arg;
	mm_tick(m->t.mm, m->t.mm->now_ns + 40000000);
}

static void do_drop(struct model *m, void *arg)
{
	mm_cache_drop(m->t.mm, m->tenant[0], *(bool *)arg);
}

struct r_limit {
	u32 tenant;
	struct mm_limits limits;
	u64 high;
};

static void do_limit(struct model *m, void *arg)
{
	const struct r_limit *l = arg;
	u32 id = m->tenant[l->tenant];

	ASSERT_EQ(mm_tenant_limit(m->t.mm, id, &l->limits), 0);
	m->high_next[l->tenant] = l->high;
	ASSERT_EQ(mm_tenant_high(m->t.mm, id, l->high), 0);
	m->high[l->tenant] = l->high;
}

static void do_discard(struct model *m, void *arg)
{
	struct mm *mm = m->t.mm;
	u64 bytes = m->discard_bytes;

	(void)arg;
	if (bytes) {
		r_discarded(m);
		m->discard_bytes = 0;
		mm_discard_done(mm, m->discard_tier, m->discard_off, bytes);
		m->nr_discarded++;
		return;
	}
	m->discard_tier = roll(m, 2);
	bytes = mm_discard_begin(mm, m->discard_tier, R_UNIT, 1 << 20,
				 &m->discard_off);
	m->discard_bytes = bytes;
}

static void do_revoke(struct model *m, void *arg)
{
	const struct r_client *c = arg;
	u64 asked;

	mm_revoke(m->t.mm, c->id, KV_EXTENT_SIZE, &asked);
}

static void do_charge(struct model *m, void *arg)
{
	(void)arg;
	if (m->charged) {
		mm_tenant_uncharge(m->t.mm, m->tenant[0], m->charged);
		m->charged = 0;
	} else if (!mm_tenant_charge(m->t.mm, m->tenant[0], KV_EXTENT_SIZE)) {
		m->charged = KV_EXTENT_SIZE;
	}
}

static void do_gone(struct model *m, void *arg)
{
	struct r_client *c = arg;

	mm_client_gone(m->t.mm, c->id);
	c->live = false;
}

struct r_attach {
	struct mm_attach at;
	u32 tenant, id;
};

static void do_attach(struct model *m, void *arg)
{
	struct r_attach *a = arg;

	a->at.tenant = m->tenant[a->tenant];
	ASSERT_EQ(mm_client_attach(m->t.mm, &a->at, &a->id), 0);
}

/* A client that was there for no more than its kvmd's death leaves its memory:
 * each attach gets fresh arrays. */
static void attach(struct model *m, struct r_client *c)
{
	struct r_attach a = { .at.name = "test",
			      .tenant = (u32)(c - m->c) % R_TENANTS };
	struct mt_client *t;

	do {
		a.at.table = mt_map(KV_TABLE_SIZE_MAX, PROT_NONE);
		mprotect(a.at.table, KV_TABLE_LEAVES_OFF,
			 PROT_READ | PROT_WRITE);
		a.at.status = mt_map(sizeof(struct kv_status),
				     PROT_READ | PROT_WRITE);
	} while (!guarded(m, do_attach, &a));
	c->id = a.id;
	t = &m->t.cl[a.id];
	if (t->table) {
		munmap(t->table, KV_TABLE_SIZE_MAX);
		munmap(t->status, sizeof(struct kv_status));
	}
	*t = (struct mt_client){ .live = true,
				 .index = a.id,
				 .table = a.at.table,
				 .status = a.at.status };
	c->live = true;
	drain(m);
}

static void client_begin(struct model *m, struct r_client *c)
{
	u32 k;

	memset(c, 0, sizeof(*c));
	attach(m, c);
	for (k = 0; k < R_AREAS; k++) {
		struct r_req r = { .kind = OP_GEOM,
				   .client = c->id,
				   .geom = mt_geometry(r_bytes[k]) };

		ASSERT_EQ(request(m, &r), (int)k);
	}
}

static void client_dies(struct model *m, struct r_client *c)
{
	step_ends(m, c);
	c->waits = false;
	c->dying = true;
	while (c->live && !guarded(m, do_gone, c))
		;
	drain(m);
	answers(m);
	client_begin(m, c);
}

static void op_limit(struct model *m)
{
	struct r_limit l = {
		.tenant = roll(m, R_TENANTS),
		.limits = { .max_bytes = roll(m, 3) ? MM_LIMIT_NONE
						    : 3 * KV_EXTENT_SIZE,
			    .low_bytes = roll(m, 3) * KV_EXTENT_SIZE,
			    .weight = roll(m, 300) },
		.high = roll(m, 2) ? MM_LIMIT_NONE
				   : (1 + roll(m, 3)) * KV_EXTENT_SIZE,
	};

	guarded(m, do_limit, &l);
}

static void op_admin(struct model *m, struct r_client *c)
{
	bool close = roll(m, 2);

	if (is_due(m, KV_TP_REVOKE_ASK, KV_TP_REVOKE_END) || !roll(m, 3))
		guarded(m, do_revoke, c);
	else if (is_due(m, KV_TP_POPULATE, KV_TP_RELEASE) || !roll(m, 3))
		guarded(m, do_charge, NULL);
	else if (roll(m, 2))
		op_limit(m);
	else
		guarded(m, do_drop, &close);
	drain(m);
}

/* ---- the run ---- */

static void op_space(struct model *m, struct r_client *c, u32 i)
{
	struct r_space *s = &c->space[i];

	if (s->busy)
		return;
	if (!s->live)
		op_create(m, c, s);
	else if (!roll(m, 12))
		op_destroy(m, c, s);
	else if (!roll(m, 8))
		op_truncate(m, c, s);
	else if (!roll(m, 6))
		op_fork(m, c, s, &c->space[roll(m, m->nr_spaces)]);
	else if (!roll(m,
		       is_due(m, KV_TP_MOVE_CHECK, KV_TP_MOVE_BACK) ? 2 : 12))
		op_move(m, c, s);
	else if (roll(m, 3))
		op_append(m, c, i);
	else
		op_publish(m, c, s);
}

static void ticks(struct model *m, u32 n)
{
	while (n--) {
		guarded(m, do_tick, NULL);
		drain(m);
		look_at_done(m);
	}
}

/* A client has much, of which half goes, and is idle: the rest is compacted. */
static void op_thin(struct model *m, struct r_client *c)
{
	u32 i, k;

	for (i = 0; i < m->nr_spaces; i++) {
		if (!c->space[i].live)
			op_create(m, c, &c->space[i]);
		for (k = 0; k < 4; k++)
			op_append(m, c, i);
		look_at_done(m);
	}
	for (i = 0; i < m->nr_spaces; i++) {
		struct r_space *s = &c->space[i];

		if (s->live && !s->busy && roll(m, 2))
			op_destroy(m, c, s);
		else if (s->live && !s->busy)
			op_truncate(m, c, s);
	}
	for (i = 0; i < 16; i++) {
		/* By the end of a step it has received its extents, again. */
		op_append(m, c, roll(m, m->nr_spaces));
		step_ends(m, c);
		ticks(m, 2);
		answers(m);
	}
}

static void op_one(struct model *m)
{
	struct r_client *c = &m->c[roll(m, R_CLIENTS)];

	m->t.hold_copies = roll(m, 4);
	m->t.hold_swap = roll(m, 3);
	m->t.hold_moves = roll(m, 2);
	m->mark_any = !roll(m, m->in_migration ? 3 : 8);
	m->t.hold_memory = !roll(m, 8);
	if (!roll(m, 3))
		answers(m);
	if (!roll(m, is_due(m, KV_TP_ATTACH, KV_TP_GONE) ||
				     is_due(m, KV_TP_WITHDRAW, KV_TP_SCRUBBED)
			     ? 20
			     : 100))
		client_dies(m, c);
	else if (m->nr_spaces == R_SPACES && !roll(m, 15))
		op_thin(m, c);
	else if (!roll(m, is_due(m, KV_TP_POPULATE, KV_TP_REVOKE_END) ? 8 : 60))
		op_admin(m, c);
	else if (c->waits &&
		 !roll(m, is_due(m, KV_TP_TICKET_CANCEL, KV_TP_TICKET_CANCEL)
				  ? 1
				  : 4))
		op_cancel(m, c);
	else
		op_space(m, c, roll(m, m->nr_spaces));
	look_at_done(m);
	if (!roll(m, 3)) {
		if (!is_due(m, KV_TP_REVOKE_FENCE, KV_TP_REVOKE_KILL))
			step_ends(m, c);
		guarded(m, do_tick, NULL);
		drain(m);
	}
	if (!roll(m, 10)) {
		guarded(m, do_discard, NULL);
		drain(m);
	}
	look_at_done(m);
	for (c = m->c; c < m->c + R_CLIENTS; c++)
		if (m->t.cl[c->id].kills)
			client_dies(m, c);
}

static void model_begin(struct model *m, u64 seed, u32 extents, u32 spaces)
{
	size_t dev = (size_t)extents * (KV_EXTENT_SIZE / R_UNIT);
	struct mm_config cfg = {
		.ready_extents = 1,
		.watermark_low = KV_EXTENT_SIZE,
		.watermark_high = 2 * KV_EXTENT_SIZE,
		.swap_bytes = { 4 << 20, 8 << 20, 52 << 20 },
		.swap.demote_low = 20,
		.swap.demote_high = 60,
		.revoke = MM_REVOKE_TICKETS,
		.revoke_ask_ns = 60000000,
		.revoke_fence_ns = 60000000,
	};
	u32 i;

	memset(m, 0, sizeof(*m));
	the_model = m;
	m->rnd = seed;
	m->nr_spaces = spaces;
	m->rows = mt_map(dev * sizeof(m->rows[0]), PROT_READ | PROT_WRITE);
	m->swapped =
		mt_map(R_SLOTS * sizeof(m->rows[0]), PROT_READ | PROT_WRITE);
	cfg.device_bytes = (u64)extents * KV_EXTENT_SIZE;
	mt_init_cfg(&m->t, &cfg);
	m->ops = mt_ops;
	m->ops.trace = r_trace;
	m->t.mm->ops = &m->ops;
	m->t.move = r_move;
	m->t.scrub = r_scrub;
	m->t.swap = r_swap;
	m->t.demote = r_demote;
	m->tenant[0] = mt_tenant(&m->t, "m", MM_LIMIT_NONE);
	m->tenant[1] = mt_tenant(&m->t, "n", MM_LIMIT_NONE);
	for (i = 0; i < R_TENANTS; i++)
		m->high[i] = m->high_next[i] = MM_LIMIT_NONE;
	trap_init();
	for (i = 0; i < R_CLIENTS; i++)
		client_begin(m, &m->c[i]);
}

/* Whatever there was is given back, to the byte. */
static void model_end(struct model *m)
{
	struct r_limit l = { .limits.max_bytes = MM_LIMIT_NONE,
			     .high = MM_LIMIT_NONE };
	struct mm_usage u;
	struct mm_counts n;
	u32 i, k;

	m->t.hold_copies = m->t.hold_swap = m->t.hold_memory = false;
	m->t.hold_moves = m->mark_any = false;
	m->point = 0;
	m->steps = 0;
	answers(m);
	for (l.tenant = 0; l.tenant < R_TENANTS; l.tenant++)
		do_limit(m, &l);
	if (m->discard_bytes)
		do_discard(m, NULL);
	if (m->charged)
		do_charge(m, NULL);
	for (i = 0; i < 20; i++) {
		do_tick(m, NULL);
		drain(m);
		look_at_done(m);
		step_ends(m, &m->c[i % R_CLIENTS]);
	}
	for (i = 0; i < R_CLIENTS; i++) {
		op_cancel(m, &m->c[i]);
		look_at_done(m);
		EXPECT_FALSE(m->c[i].waits);
		step_ends(m, &m->c[i]);
		for (k = 0; k < R_SPACES; k++)
			if (m->c[i].space[k].live)
				op_destroy(m, &m->c[i], &m->c[i].space[k]);
	}
	for (i = 0; i < R_CLIENTS; i++) {
		m->t.cl[m->c[i].id].step++;
		mt_complete_all(&m->t, m->c[i].id);
	}
	for (i = 0; i < R_TENANTS; i++)
		mm_cache_drop(m->t.mm, m->tenant[i], false);
	mt_drain(&m->t);
	mt_check(&m->t);
	mm_usage_get(m->t.mm, &u);
	EXPECT_EQ(u.frame_bytes, 0);
	EXPECT_EQ(u.cache_nodes, 0);
	EXPECT_EQ(u.swap_used[0] + u.swap_used[1] + u.swap_used[2], 0);
	EXPECT_LE(u.held_bytes, R_CLIENTS * KV_EXTENT_SIZE);
	mm_counts_get(m->t.mm, &n);
	EXPECT_EQ(n.invalid, 0);
	mt_fini(&m->t);
}

/* ---- deaths ---- */

static const u32 all_points[] = {
#define POINT(nr, id, name, what) nr,
	KV_TRACE_POINTS(POINT)
#undef POINT
};

static bool is_of_core(u32 point)
{
	return point < 100;
}

/* A random point of the core, or one with the fewest deaths so far. */
static u32 next_point(struct model *m)
{
	u32 n = ARRAY_SIZE(all_points), i, p, best = 0, at = roll(m, n);
	bool any = roll(m, 8);

	for (i = 0; i < n; i++) {
		p = all_points[(at + i) % n];
		if (!is_of_core(p))
			continue;
		if (any)
			return p;
		if (!best || m->deaths[p] < m->deaths[best])
			best = p;
	}
	return best;
}

static void print_run(const struct model *m, u64 seed)
{
	struct mm_tenant_info ti;
	struct mm_counts n;
	u64 slowed = 0;
	u32 i, hit = 0, nr = 0;

	mm_counts_get(m->t.mm, &n);
	for (i = 0; i < R_TENANTS; i++) {
		ASSERT_EQ(mm_tenant_info(m->t.mm, m->tenant[i], &ti), 0);
		slowed += ti.events.high;
	}
	for (i = 0; i < ARRAY_SIZE(all_points); i++) {
		if (!is_of_core(all_points[i]))
			continue;
		nr++;
		hit += m->deaths[all_points[i]] > 0;
	}
	printf("# seed %llu: %u/%u named transitions, %llu deaths there, %llu "
	       "at other instructions, %llu while recovering; %llu answers "
	       "kept, %llu requests issued again, %llu rows compared; %llu "
	       "pages compacted, %llu back, %llu discards, %llu reports, %llu "
	       "slowed, %llu background\n",
	       (unsigned long long)seed, hit, nr,
	       (unsigned long long)m->nr_deaths,
	       (unsigned long long)m->nr_deaths_anywhere,
	       (unsigned long long)m->nr_recover_deaths,
	       (unsigned long long)m->nr_answers,
	       (unsigned long long)m->nr_again, (unsigned long long)m->nr_rows,
	       (unsigned long long)n.compact_moved,
	       (unsigned long long)n.compact_back,
	       (unsigned long long)m->nr_discarded,
	       (unsigned long long)mm_oom_next(m->t.mm) - 1,
	       (unsigned long long)slowed,
	       (unsigned long long)n.reclaims_background);
}

TEST(recover_model, from_a_death_at_every_named_transition)
{
	static struct model m;
	u32 i, waited = 0, missed = 0;

	model_begin(&m, 11, 5, 6);
	for (i = 0; i < 24000; i++) {
		if (!m.point || ++waited > (m.deaths[m.point] ? 40 : 300)) {
			m.point = next_point(&m);
			m.passings = roll(&m, 3) ? 1 : 1 + roll(&m, 3);
			waited = 0;
		}
		op_one(&m);
	}
	print_run(&m, 11);
	for (i = 0; i < ARRAY_SIZE(all_points); i++)
		if (is_of_core(all_points[i]) && !m.deaths[all_points[i]]) {
			printf("# never killed at %s, %u\n",
			       kv_trace_name(all_points[i] % R_MIGRATE),
			       all_points[i]);
			missed++;
		}
	EXPECT_EQ(missed, 0);
	model_end(&m);
}

#ifdef __x86_64__
TEST(recover_model, from_a_death_at_any_instruction)
{
	static struct model m;
	u64 seed;
	u32 i;

	for (seed = 1; seed <= 3; seed++) {
		model_begin(&m, seed, 4 + (u32)seed, 6);
		for (i = 0; i < 1500; i++) {
			m.steps = 1 + roll(&m, 600);
			m.from = roll(&m, 12);
			op_one(&m);
		}
		print_run(&m, seed);
		EXPECT_GT(m.nr_deaths_anywhere, 500);
		model_end(&m);
	}
}

/* There is room, so that pages are compacted a lot. */
TEST(recover_model, from_a_death_while_pages_move_together)
{
	static struct model m;
	struct mm_counts n;
	u64 seed, deaths = 0;
	u32 i;

	for (seed = 1; seed <= 3; seed++) {
		model_begin(&m, seed, 16 + 4 * (u32)seed, R_SPACES);
		m.in_migration = true;
		for (i = 0; i < 1200; i++)
			op_one(&m);
		m.in_migration = false;
		print_run(&m, seed);
		mm_counts_get(m.t.mm, &n);
		EXPECT_GT(n.compact_moved, 100);
		deaths += m.nr_deaths_anywhere;
		for (i = 0; i < ARRAY_SIZE(migrate_points); i++)
			EXPECT_GT(m.deaths[migrate_points[i]], 0);
		model_end(&m);
	}
	EXPECT_GT(deaths, 120);
}
#endif

TEST_HARNESS_MAIN
