/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - how much time is lost waiting for memory
 *
 * An account knows how many of its clients wait and how many work. Before
 * either number changes, the time since the last change is added to what the
 * numbers say it was; so totals are exact up to what the core cannot see: a
 * step ends when it is next looked at, which is at every tick while somebody
 * waits.
 *
 * Averages are made of whole periods that begin at multiples of
 * PRESSURE_PERIOD_NS: avg = avg * d + part * (1 - d), part being the part of
 * the period that was lost and d = exp(-2 s / 10, 60 or 300 s). Of periods in
 * which nothing changed n are one step, with d to the power of n: an account
 * that nobody has looked at for a day costs nothing meanwhile.
 */
#include <errno.h>

#include "kvmd/mm/pressure.h"
#include "kvmd/mm/space.h"

/* exp(-2/10), exp(-2/60), exp(-2/300) */
static const double decay[PRESSURE_AVGS] = { 0.81873075307798182,
					     0.96721610048200594,
					     0.99335550625503436 };

static double power(double x, u64 n)
{
	double y = 1;

	for (; n; n >>= 1, x *= x)
		if (n & 1)
			y *= x;
	return y;
}

/* @n periods end in each of which this part was lost. */
static void fold(struct pressure *p, u32 kind, double part, u64 n)
{
	double d;
	u32 i;

	for (i = 0; i < PRESSURE_AVGS; i++) {
		d = power(decay[i], n);
		p->avg[kind][i] = p->avg[kind][i] * d + part * (1 - d);
	}
}

static void add(struct pressure *p, u32 kind, u64 ns)
{
	p->total_ns[kind] += ns;
	p->period_ns[kind] += ns;
}

void pressure_advance(struct pressure *p, u64 now_ns)
{
	const bool lost[PRESSURE_KINDS] = { p->nr_waiting > 0,
					    p->nr_waiting && !p->nr_working };
	u64 end = (p->since_ns / PRESSURE_PERIOD_NS + 1) * PRESSURE_PERIOD_NS;
	u64 n = now_ns >= end ? (now_ns - end) / PRESSURE_PERIOD_NS : 0;
	u64 begin = now_ns >= end ? end + n * PRESSURE_PERIOD_NS : p->since_ns;
	u32 k;

	if (now_ns <= p->since_ns)
		return;
	for (k = 0; k < PRESSURE_KINDS; k++) {
		if (now_ns >= end) {
			add(p, k, lost[k] ? end - p->since_ns : 0);
			fold(p, k, (double)p->period_ns[k] / PRESSURE_PERIOD_NS,
			     1);
			fold(p, k, lost[k], n);
			p->total_ns[k] += lost[k] ? n * PRESSURE_PERIOD_NS : 0;
			p->period_ns[k] = 0;
		}
		add(p, k, lost[k] ? now_ns - begin : 0);
	}
	p->since_ns = now_ns;
}

/* ---- who waits and who works ---- */

static void change(struct pressure *p, u64 now_ns, u32 waits_less,
		   u32 waits_more, u32 works_less, u32 works_more)
{
	/* While nobody waits nothing is lost, whoever works. */
	if (p->nr_waiting || waits_more)
		pressure_advance(p, now_ns);
	p->nr_waiting += waits_more - waits_less;
	p->nr_working += works_more - works_less;
}

static void set(struct mm *mm, struct client *c, bool waits, bool works)
{
	u32 a = c->waits && !waits, b = !c->waits && waits;
	u32 x = c->works && !works, y = !c->works && works;

	if (!(a | b | x | y))
		return;
	change(&mm->tenants[c->tenant].pressure, mm->now_ns, a, b, x, y);
	change(&mm->pressure, mm->now_ns, a, b, x, y);
	c->waits = waits;
	c->works = works;
}

/* @first: what has moved since nobody looked moved when nobody waited. */
static void look(struct mm *mm, bool first)
{
	struct client *cs = mm_clients(mm), *c;
	u64 done;
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		c = &cs[i];
		if (c->state != CLIENT_LIVE)
			continue;
		done = max(c->completed,
			   kv_move_completed(&c->status->rank[0]));
		set(mm, c, c->waits,
		    c->granted > done ||
			    (!first && done > c->granted && done != c->worked));
		c->worked = done;
	}
}

void pressure_waits(struct mm *mm, struct client *c)
{
	/* Who worked when there was nothing to lose is not known. */
	if (c->nr_tickets && !mm->pressure.nr_waiting)
		look(mm, true);
	set(mm, c, c->nr_tickets > 0, c->works);
}

void pressure_granted(struct mm *mm, struct client *c, u64 step)
{
	c->granted = max(c->granted, step);
	if (mm->pressure.nr_waiting)
		set(mm, c, c->waits, true);
}

void pressure_tick(struct mm *mm)
{
	if (mm->pressure.nr_waiting)
		look(mm, false);
}

void pressure_exit(struct mm *mm, struct client *c)
{
	set(mm, c, false, false);
}

static void account_recover(struct pressure *p, u64 now_ns)
{
	pressure_advance(p, now_ns);
	p->nr_waiting = p->nr_working = 0;
}

void pressure_recover(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++)
		account_recover(&mm->tenants[i].pressure, mm->now_ns);
	account_recover(&mm->pressure, mm->now_ns);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		cs[i].waits = cs[i].works = false;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		pressure_waits(mm, &cs[i]);
}

int mm_pressure(const struct mm *mm, u32 tenant, struct mm_pressure *out)
{
	struct pressure p;
	u32 k, i;

	if (tenant != MM_NONE &&
	    (tenant >= MM_TENANT_MAX || !mm->tenants[tenant].refs))
		return -ENOENT;
	p = tenant == MM_NONE ? mm->pressure : mm->tenants[tenant].pressure;
	pressure_advance(&p, mm->now_ns);
	for (k = 0; k < PRESSURE_KINDS; k++) {
		out->total_us[k] = p.total_ns[k] / 1000;
		for (i = 0; i < PRESSURE_AVGS; i++)
			out->avg[k][i] = (u32)(p.avg[k][i] * 10000 + 0.5);
	}
	out->nr_waiting = p.nr_waiting;
	out->nr_working = p.nr_working;
	return 0;
}
