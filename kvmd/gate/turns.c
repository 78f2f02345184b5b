/* SPDX-License-Identifier: MIT */
/*
 * turns.c - who computes next, where clients share processors
 */
#include "kvmd/gate/turns.h"

#include <errno.h>
#include <string.h>

void turns_init(struct turns *t, const struct turns_ops *ops, void *host)
{
	memset(t, 0, sizeof(*t));
	t->ops = ops;
	t->host = host;
}

/* ---- claims ---- */

static bool meet(const struct turns_client *a, const struct turns_client *b)
{
	u64 any = 0;
	u32 i;

	for (i = 0; i < TURNS_CPU_WORDS; i++)
		any |= a->cpus[i] & b->cpus[i];
	return any;
}

/* A client's own time as its tenant's virtual time. */
static u64 to_virtual(const struct turns *t, const struct turns_client *c,
		      u64 ns)
{
	return ns * TURNS_WEIGHT / max(t->tenants[c->tenant].weight, 1u);
}

/* By how much @c's claim is behind @o's, in time of @c's; negative: ahead. */
static s64 behind(const struct turns *t, const struct turns_client *c,
		  const struct turns_client *o)
{
	s64 d;

	if (c->tenant == o->tenant)
		return (s64)(c->v - o->v);
	d = (s64)(t->tenants[c->tenant].v - t->tenants[o->tenant].v);
	return d / (s64)TURNS_WEIGHT *
	       max((s64)t->tenants[c->tenant].weight, (s64)1);
}

/* Is @x's claim on what @w wants so good that @w leaves it alone? */
static bool keeps_off(const struct turns *t, const struct turns_client *x,
		      const struct turns_client *w)
{
	if (x->starved != w->starved)
		return x->starved;
	if (x->starved)
		return x->asked_ns < w->asked_ns;
	return behind(t, w, x) > (s64)TURNS_SLACK_NS;
}

/*
 * A total order: who starves, then tenants, then their clients, then who asked
 * first.
 */
static bool is_before(const struct turns *t, const struct turns_client *a,
		      const struct turns_client *b)
{
	u64 va = t->tenants[a->tenant].v, vb = t->tenants[b->tenant].v;

	if (a->starved != b->starved)
		return a->starved;
	if (a->starved && a->asked_ns != b->asked_ns)
		return a->asked_ns < b->asked_ns;
	if (va != vb)
		return va < vb;
	if (a->tenant != b->tenant)
		return a->tenant < b->tenant;
	if (a->v != b->v)
		return a->v < b->v;
	return a->asked_ns != b->asked_ns ? a->asked_ns < b->asked_ns : a < b;
}

/* Charge a holder up to now; true if there was anything. */
static bool settle(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];
	u64 ns = now_ns - min(c->mark_ns, now_ns), says;

	if (c->state != TURNS_HAS)
		return false;
	if (!c->wanted) {
		says = t->ops->computed(t->host, client);
		ns = says > c->seen_ns ? min(ns, says - c->seen_ns) : 0;
		c->seen_ns = says;
	}
	c->mark_ns = now_ns;
	c->v += ns;
	c->held_ns += ns;
	t->tenants[c->tenant].v += to_virtual(t, c, ns);
	return ns > 0;
}

/* From here on time counts by the clock, or by the client's word. */
static void count_by(struct turns *t, u32 client, bool wanted, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	settle(t, client, now_ns);
	c->wanted = wanted;
	c->mark_ns = now_ns;
	c->seen_ns = t->ops->computed(t->host, client);
}

/* ---- who takes part ---- */

static void act_add(struct turns *t, u32 client)
{
	t->clients[client].at = (u16)t->nr_act;
	t->act[t->nr_act++] = (u16)client;
}

static void act_del(struct turns *t, u32 client)
{
	u16 at = t->clients[client].at, last = t->act[--t->nr_act];

	t->act[at] = last;
	t->clients[last].at = at;
}

void turns_weight(struct turns *t, u32 tenant, u32 weight, u64 now_ns)
{
	u32 i;

	if (t->tenants[tenant].weight == weight)
		return;
	for (i = 0; i < t->nr_act; i++)
		if (t->clients[t->act[i]].tenant == tenant)
			settle(t, t->act[i], now_ns);
	t->tenants[tenant].weight = weight;
}

void turns_join(struct turns *t, u32 client, u32 tenant)
{
	struct turns_tenant *n = &t->tenants[tenant];

	t->clients[client] = (struct turns_client){
		.state = TURNS_IDLE,
		.fresh = true,
		.tenant = tenant,
	};
	if (!n->nr_clients++)
		n->fresh = true;
}

void turns_leave(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	if (c->state == TURNS_OUT)
		return;
	turns_give(t, client, now_ns);
	t->tenants[c->tenant].nr_clients--;
	c->state = TURNS_OUT;
}

static bool is_free(const struct turns *t, const struct turns_client *c)
{
	const struct turns_client *o;
	u32 i;

	for (i = 0; i < t->nr_act; i++) {
		o = &t->clients[t->act[i]];
		if (o != c && o->state == TURNS_HAS && meet(o, c))
			return false;
	}
	return true;
}

bool turns_cpus(struct turns *t, u32 client, const u64 *cpus)
{
	struct turns_client *c = &t->clients[client];

	memcpy(c->cpus, cpus, sizeof(c->cpus));
	return c->state != TURNS_HAS || is_free(t, c);
}

/* ---- asking ---- */

static u64 near(u64 v, u64 base, u64 behind_v, u64 ahead_v, bool fresh)
{
	s64 d = (s64)(v - base);

	if (fresh)
		return base;
	if (d < -(s64)behind_v)
		return base - behind_v;
	return d > (s64)ahead_v ? base + ahead_v : v;
}

/*
 * Bring a claim near those of its rivals: tenants', and of the tenant's own
 * clients'. A rival that has the turn and does nothing with it is none.
 */
static void join_in(struct turns *t, struct turns_client *c, u64 now_ns)
{
	struct turns_tenant *n = &t->tenants[c->tenant];
	bool any_tenant = false, any_client = false, busy;
	u64 v_tenant = 0, v_client = 0, v;
	const struct turns_client *o;
	u32 i;

	for (i = 0; i < t->nr_act; i++) {
		o = &t->clients[t->act[i]];
		if (!meet(o, c))
			continue;
		busy = settle(t, t->act[i], now_ns);
		if (o->state == TURNS_HAS && !o->wanted && !busy)
			continue;
		v = t->tenants[o->tenant].v;
		if (o->tenant == c->tenant) {
			if (!any_client || (s64)(o->v - v_client) < 0)
				v_client = o->v;
			any_client = true;
		} else {
			if (!any_tenant || (s64)(v - v_tenant) < 0)
				v_tenant = v;
			any_tenant = true;
		}
	}
	if (any_tenant)
		n->v = near(n->v, v_tenant, to_virtual(t, c, TURNS_BEHIND_NS),
			    to_virtual(t, c, TURNS_AHEAD_NS), n->fresh);
	if (any_client)
		c->v = near(c->v, v_client, TURNS_BEHIND_NS, TURNS_AHEAD_NS,
			    c->fresh);
	n->fresh = n->fresh && !any_tenant;
	c->fresh = c->fresh && !any_client;
}

void turns_ask(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	if (c->state != TURNS_IDLE)
		return;
	join_in(t, c, now_ns);
	c->state = TURNS_WAITS;
	c->asked_ns = now_ns;
	act_add(t, client);
}

void turns_give(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	if (c->state == TURNS_HAS)
		settle(t, client, now_ns);
	else if (c->state == TURNS_WAITS)
		c->waited_ns += now_ns - min(c->asked_ns, now_ns);
	else
		return;
	act_del(t, client);
	c->state = TURNS_IDLE;
	c->wanted = c->starved = false;
}

static void take(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	c->state = TURNS_HAS;
	c->wanted = c->starved = false;
	c->granted_ns = c->mark_ns = now_ns;
	c->seen_ns = t->ops->computed(t->host, client);
}

int turns_keep(struct turns *t, u32 client, u64 now_ns)
{
	struct turns_client *c = &t->clients[client];

	if (c->state != TURNS_IDLE || !is_free(t, c))
		return -EBUSY;
	act_add(t, client);
	take(t, client, now_ns);
	return 0;
}

/* ---- the plan ---- */

/* Waiters by claim; how many. */
static u32 order(const struct turns *t, u16 *out)
{
	u32 i, j, nr = 0;

	for (i = 0; i < t->nr_act; i++) {
		u16 w = t->act[i];

		if (t->clients[w].state != TURNS_WAITS)
			continue;
		for (j = nr++;
		     j && is_before(t, &t->clients[w], &t->clients[out[j - 1]]);
		     j--)
			out[j] = out[j - 1];
		out[j] = w;
	}
	return nr;
}

/* Does @w have to leave what it wants to one of the @nr before it? */
static bool is_reserved(const struct turns *t, const struct turns_client *w,
			const u16 *before, u32 nr)
{
	const struct turns_client *x;
	u32 i;

	for (i = 0; i < nr; i++) {
		x = &t->clients[before[i]];
		if (x->state == TURNS_WAITS && meet(x, w) && keeps_off(t, x, w))
			return true;
	}
	return false;
}

/* How long a holder may keep what @nr others wait for; 0: nobody does. */
static u64 keeps_until(const struct turns *t, const struct turns_client *h,
		       const u16 *waiters, u32 nr, u64 now_ns)
{
	const struct turns_client *w;
	u64 until = 0, own;
	s64 lead;
	u32 i;

	for (i = 0; i < nr; i++) {
		w = &t->clients[waiters[i]];
		if (w->state != TURNS_WAITS || !meet(w, h))
			continue;
		lead = w->starved ? 0 : -behind(t, h, w);
		own = now_ns + (lead > 0 ? (u64)lead : 0);
		own = max(own, h->granted_ns + TURNS_QUANTUM_NS);
		until = until ? min(until, own) : own;
	}
	return until;
}

static void tell_holder(struct turns *t, u32 client, const u16 *waiters, u32 nr,
			u64 now_ns)
{
	struct turns_client *c = &t->clients[client];
	u64 until = keeps_until(t, c, waiters, nr, now_ns);
	bool was = c->wanted;

	if (!until && !was)
		return;
	if (!until != !was) {
		count_by(t, client, until, now_ns);
		/* what it says it computed was charged just now */
		until = keeps_until(t, c, waiters, nr, now_ns);
	}
	if (was && until && c->until_ns <= now_ns)
		return; /* its time was over, and stays so */
	c->until_ns = until;
	t->ops->want(t->host, client, until);
}

void turns_plan(struct turns *t, u64 now_ns)
{
	u16 waiters[TURNS_CLIENT_MAX];
	struct turns_client *c;
	u32 nr, i;

	for (i = 0; i < t->nr_act; i++) {
		c = &t->clients[t->act[i]];
		if (c->wanted)
			settle(t, t->act[i], now_ns);
		c->starved = c->state == TURNS_WAITS &&
			     now_ns >= c->asked_ns + TURNS_STARVE_NS;
	}
	nr = order(t, waiters);
	for (i = 0; i < nr; i++) {
		c = &t->clients[waiters[i]];
		if (!is_free(t, c) || is_reserved(t, c, waiters, i))
			continue;
		c->waited_ns += now_ns - min(c->asked_ns, now_ns);
		c->nr++;
		take(t, waiters[i], now_ns);
		t->ops->grant(t->host, waiters[i]);
	}
	for (i = 0; i < t->nr_act; i++)
		if (t->clients[t->act[i]].state == TURNS_HAS)
			tell_holder(t, t->act[i], waiters, nr, now_ns);
}

/* ---- what must hold ---- */

static const char *check_pair(const struct turns *t,
			      const struct turns_client *a,
			      const struct turns_client *b)
{
	if (!meet(a, b))
		return NULL;
	if (a->state == TURNS_HAS && b->state == TURNS_HAS)
		return "two have what only one can have";
	if (a->state == TURNS_HAS && b->state == TURNS_WAITS && !a->wanted)
		return "one waits and the holder was not told";
	return NULL;
}

/* A waiter is kept from it by somebody who has it, or has the right to it. */
static const char *check_waiter(const struct turns *t,
				const struct turns_client *w)
{
	const struct turns_client *o;
	u32 i;

	if (is_free(t, w)) {
		for (i = 0; i < t->nr_act; i++) {
			o = &t->clients[t->act[i]];
			if (o != w && o->state == TURNS_WAITS && meet(o, w) &&
			    keeps_off(t, o, w))
				return NULL;
		}
		return "one waits for what nobody has";
	}
	return NULL;
}

const char *turns_check(const struct turns *t)
{
	const struct turns_client *c;
	const char *bad = NULL;
	u32 i, j;

	for (i = 0; i < t->nr_act && !bad; i++) {
		c = &t->clients[t->act[i]];
		if (c->at != i || c->state < TURNS_WAITS)
			return "the list of the active is wrong";
		for (j = 0; j < t->nr_act && !bad; j++)
			if (i != j)
				bad = check_pair(t, c, &t->clients[t->act[j]]);
		if (!bad && c->state == TURNS_WAITS)
			bad = check_waiter(t, c);
	}
	return bad;
}
