/* SPDX-License-Identifier: MIT */
/*
 * test_pressure.c - time lost waiting for memory, against twins that look at
 *		     every millisecond of it
 */
#include <math.h>

#include "kvmd/mm/pressure.h"
#include "selftests/kvmd/mm/mmtest.h"

#define MS 1000000ull

/* What an account should say, a millisecond at a time. */
struct twin {
	u64 ms, lost_ms[2], period_ms[2];
	double avg[2][3];
};

static void twin_ms(struct twin *w, u32 waiting, u32 working)
{
	static const double span[3] = { 10, 60, 300 };
	const bool lost[2] = { waiting > 0, waiting && !working };
	u32 k, i;

	w->ms++;
	for (k = 0; k < 2; k++) {
		w->lost_ms[k] += lost[k];
		w->period_ms[k] += lost[k];
		for (i = 0; i < 3 && w->ms % 2000 == 0; i++)
			w->avg[k][i] +=
				(w->period_ms[k] / 2000.0 - w->avg[k][i]) *
				(1 - exp(-2 / span[i]));
		if (w->ms % 2000 == 0)
			w->period_ms[k] = 0;
	}
}

TEST(pressure, of_any_course_is_that_of_its_milliseconds)
{
	u64 rng = 20261125, until, n;
	struct pressure p = { 0 };
	struct twin w = { 0 };
	u32 i, k;

	for (n = 0; n < 3000; n++) {
		/* mostly short, now and then over many periods */
		until = w.ms + 1 + hash_random(&rng) % (n % 50 ? 900 : 100000);
		while (w.ms < until)
			twin_ms(&w, p.nr_waiting, p.nr_working);
		pressure_advance(&p, w.ms * MS);
		for (k = 0; k < 2; k++) {
			ASSERT_EQ(p.total_ns[k], w.lost_ms[k] * MS);
			for (i = 0; i < 3; i++)
				ASSERT_NEAR(p.avg[k][i], w.avg[k][i], 1e-9);
		}
		p.nr_waiting = (u32)(hash_random(&rng) % 3);
		p.nr_working = (u32)(hash_random(&rng) % 3);
	}
	EXPECT_GT(p.total_ns[0], p.total_ns[1]);
}

TEST(pressure, that_lasts_goes_to_all_and_fades_when_it_is_over)
{
	struct pressure p = { .nr_waiting = 1, .nr_working = 1 };

	pressure_advance(&p, 3600000 * MS);
	EXPECT_NEAR(p.avg[0][2], 1, 0.0001);
	EXPECT_EQ(p.total_ns[1], 0);
	EXPECT_EQ(p.avg[1][0], 0);
	p.nr_waiting = 0;
	pressure_advance(&p, 3610000 * MS);
	EXPECT_NEAR(p.avg[0][0], exp(-1), 0.0001);
	pressure_advance(&p, 86400000 * MS);
	EXPECT_NEAR(p.avg[0][2], 0, 0.0001);
	EXPECT_EQ(p.total_ns[0], 3600000 * MS);
}

/* ---- in the core ---- */

#define NR 5u /* clients, of two tenants */

struct world {
	struct mt t;
	u32 tenant[2], client[NR], space[NR];
	u64 pages[NR], ended[NR], granted[NR];
	bool waits[NR];
	u64 ticket[NR];
	struct twin all, of[2];
};

static void look_at_done(struct world *x, u32 *seen)
{
	u32 i;

	for (; *seen < x->t.nr_done; ++*seen) {
		const struct mt_done *d = &x->t.done[*seen % MT_DONE];

		for (i = 0; i < NR; i++) {
			if (x->client[i] != d->client)
				continue;
			x->waits[i] = false;
			if (d->cqe.res >= 0) {
				x->granted[i] = d->cqe.user_data;
				x->pages[i]++;
			}
		}
	}
}

static void ask_or_end(struct world *x, u32 i, u64 *rng)
{
	struct mt *t = &x->t;
	struct mt_resv r;
	int rc;

	if (x->waits[i] && hash_random(rng) % 8 == 0) {
		EXPECT_EQ(mm_cancel(t->mm, x->client[i], x->ticket[i]), 0);
		mt_drain(t);
	} else if (x->granted[i] > x->ended[i]) {
		x->ended[i] = x->granted[i];
		kv_step_end(&t->cl[x->client[i]].status->rank[0], x->ended[i]);
	} else if (!x->waits[i] && x->pages[i] && hash_random(rng) % 3 == 0) {
		x->pages[i] /= 2;
		EXPECT_EQ(mm_space_truncate(t->mm, x->client[i], x->space[i],
					    x->pages[i] * 16),
			  0);
		mt_drain(t);
	} else if (!x->waits[i]) {
		rc = mt_reserve(t, x->client[i], x->space[i], x->pages[i] * 16,
				16, KV_SQE_WAIT, &r);
		x->waits[i] = rc == -EINPROGRESS;
		x->ticket[i] = r.extra;
		if (rc < 0)
			return;
		x->granted[i] = t->cl[x->client[i]].step;
		x->pages[i]++;
	}
}

static void time_passes(struct world *x)
{
	u32 i, waits[2] = { 0 }, works[2] = { 0 };

	for (i = 0; i < NR; i++) {
		waits[i & 1] += x->waits[i];
		works[i & 1] += x->granted[i] > x->ended[i];
	}
	twin_ms(&x->of[0], waits[0], works[0]);
	twin_ms(&x->of[1], waits[1], works[1]);
	twin_ms(&x->all, waits[0] + waits[1], works[0] + works[1]);
	mm_now(x->t.mm, x->all.ms * MS);
}

static void compare(struct world *x, u32 tenant, const struct twin *w)
{
	struct mm_pressure p;
	u32 k, i;

	ASSERT_EQ(mm_pressure(x->t.mm, tenant, &p), 0);
	for (k = 0; k < 2; k++) {
		/* a step may be seen to end a tick late */
		EXPECT_NEAR((double)p.total_us[k], w->lost_ms[k] * 1000.0,
			    k * w->lost_ms[1] * 5.0);
		for (i = 0; i < 3; i++)
			EXPECT_NEAR(p.avg[k][i], w->avg[k][i] * 10000, 10);
	}
}

TEST(pressure, of_tenants_is_what_their_clients_lost)
{
	static struct world x;
	u64 rng = 7;
	u32 i, n, seen = 0;

	memset(&x, 0, sizeof(x));
	mt_init(&x.t, 4, 1);
	x.tenant[0] = mt_tenant(&x.t, "a", MM_LIMIT_NONE);
	x.tenant[1] = mt_tenant(&x.t, "b", 2 * KV_EXTENT_SIZE);
	for (i = 0; i < NR; i++) {
		x.client[i] = mt_attach(&x.t, x.tenant[i & 1]);
		mt_geom(&x.t, x.client[i], 2u << 20);
		x.space[i] = mt_space(&x.t, x.client[i], 0);
	}
	for (n = 0; n < 20000; n++) {
		time_passes(&x);
		ask_or_end(&x, (u32)(hash_random(&rng) % NR), &rng);
		mm_tick(x.t.mm, x.all.ms * MS);
		mt_drain(&x.t);
		look_at_done(&x, &seen);
		if (n % 1000 == 0)
			mt_check(&x.t);
	}
	EXPECT_GT(x.all.lost_ms[0], 1000);
	EXPECT_GT(x.of[1].lost_ms[1], 100);
	compare(&x, MM_NONE, &x.all);
	compare(&x, x.tenant[0], &x.of[0]);
	compare(&x, x.tenant[1], &x.of[1]);
	mt_check(&x.t);
	mt_fini(&x.t);
}

FIXTURE(lost)
{
	struct mt t;
	u32 tenant, client, space;
};

FIXTURE_SETUP(lost)
{
	mt_init(&self->t, 2, 1);
	self->tenant = mt_tenant(&self->t, "a", KV_EXTENT_SIZE);
	self->client = mt_attach(&self->t, self->tenant);
	mt_geom(&self->t, self->client, 2u << 20);
	self->space = mt_space(&self->t, self->client, 0);
	EXPECT_EQ(
		mt_reserve(&self->t, self->client, self->space, 0, 64, 0, NULL),
		0);
	mm_tick(self->t.mm, 100 * MS);
}

FIXTURE_TEARDOWN(lost)
{
	mt_fini(&self->t);
}

TEST_F(lost, time_is_not_full_while_a_step_runs)
{
	u32 s = mt_space(&self->t, self->client, 0);
	struct mm_pressure p;

	EXPECT_EQ(
		mt_reserve(&self->t, self->client, s, 0, 16, KV_SQE_WAIT, NULL),
		-EINPROGRESS);
	mm_tick(self->t.mm, 110 * MS);
	ASSERT_EQ(mm_pressure(self->t.mm, self->tenant, &p), 0);
	EXPECT_EQ(p.total_us[0], 10000);
	EXPECT_EQ(p.total_us[1], 0);
	EXPECT_EQ(p.nr_working, 1);
	/* The step ends at 110, which is seen at 111. */
	kv_step_end(&self->t.cl[self->client].status->rank[0], 1);
	mm_tick(self->t.mm, 111 * MS);
	mm_tick(self->t.mm, 121 * MS);
	ASSERT_EQ(mm_pressure(self->t.mm, self->tenant, &p), 0);
	EXPECT_EQ(p.total_us[0], 21000);
	EXPECT_EQ(p.total_us[1], 10000);
	EXPECT_EQ(p.nr_working, 0);
	/* Steps without a reservation are seen as they end. */
	kv_step_end(&self->t.cl[self->client].status->rank[0], 9);
	mm_tick(self->t.mm, 122 * MS);
	mm_tick(self->t.mm, 130 * MS);
	ASSERT_EQ(mm_pressure(self->t.mm, self->tenant, &p), 0);
	EXPECT_EQ(p.total_us[1], 11000);
	mt_check(&self->t);
}

TEST_F(lost, time_ends_with_the_client)
{
	u32 s = mt_space(&self->t, self->client, 0);
	struct mm_pressure p;

	EXPECT_EQ(
		mt_reserve(&self->t, self->client, s, 0, 16, KV_SQE_WAIT, NULL),
		-EINPROGRESS);
	mm_now(self->t.mm, 105 * MS);
	mm_client_exit(self->t.mm, self->client);
	mm_tick(self->t.mm, 500 * MS);
	ASSERT_EQ(mm_pressure(self->t.mm, self->tenant, &p), 0);
	EXPECT_EQ(p.total_us[0], 5000);
	EXPECT_EQ(p.nr_waiting + p.nr_working, 0);
	mt_check(&self->t);
	EXPECT_EQ(mm_pressure(self->t.mm, 99, &p), -ENOENT);
}

TEST_HARNESS_MAIN
