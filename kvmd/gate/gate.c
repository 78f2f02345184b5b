/* SPDX-License-Identifier: MIT */
/*
 * gate.c - the step gate: clients that share processors compute by turns
 *
 * Taking a turn from a client that looks idle follows the words of turn.h:
 * the grant is withdrawn, and if behind the barrier the client computes after
 * all, it may have begun under the old grant: it gets a new one, and is waited
 * for; unless behind that barrier it has ended, and saw neither. Only who has
 * overrun its time loses the turn whatever it does.
 */
#include "kvmd/gate/gate.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <kv/turn.h>
#include "include/uapi/kv/trace.h"
#include "kvmd/ctl/ctl.h"
#include "kvmd/gate/turns.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"
#include "kvmd/trace.h"

#define GAP_NS	    5000000ull /* between two steps, while others wait */
#define WAKE_NS	    20000000ull /* from a grant to its use */
#define LATE_NS	    1000000000ull /* a step, after its turn's time */
#define TURN_MAX_NS 10000000000ull /* one that does use processors */
#define TAKE_TRIES  3u
#define CPU_SHARE   8u /* of the time, that one uses which computes */
#define LOOK_NS	    1000000000ull /* between looks at clients' processors */

_Static_assert(TURNS_CLIENT_MAX >= MM_CLIENT_MAX &&
		       TURNS_TENANT_MAX >= MM_TENANT_MAX,
	       "turns.h has room for the core's clients");

struct gate {
	struct kvmd *d;
	struct turns turns;
	struct timer deadline; /* of holders that others wait for */
	struct timer look; /* armed while two take part */
	u32 nr_in;
};

static struct kv_turn *words_of(const struct session *s)
{
	return kv_ring_turn(s->ring);
}

static struct turns_client *turns_of(const struct session *s)
{
	return &s->d->gate->turns.clients[s->id];
}

static u64 until_past(const struct turns_client *c, u64 now)
{
	return now - min(c->until_ns, now);
}

/* ---- what the turns ask for ---- */

static u64 on_computed(void *host, u32 client)
{
	struct gate *g = host;
	const struct kv_turn *w = words_of(g->d->sessions[client]);
	u64 ns = READ_ONCE(w->computed_ns), since;

	if (kv_load_acquire(&w->state) == KV_TURN_BUSY) {
		since = READ_ONCE(w->since_ns);
		ns += g->d->now_ns - min(since, g->d->now_ns);
	}
	return ns;
}

/* A new grant; nobody else's word can be taken for it. */
static u32 grant(struct session *s, u32 flags)
{
	struct kv_turn *w = words_of(s);
	u32 state;

	s->turn.word = ((s->turn.word & ~KV_TURN_FLAGS) + KV_TURN_SEQ) |
		       KV_TURN_GRANTED | flags;
	state = kv_turn_tell(w, s->turn.word);
	trace_point(s->d, KV_TP_TURN_BEGIN, s->id, s->turn.word / KV_TURN_SEQ);
	syscall(SYS_futex, &w->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return state;
}

static void on_grant(void *host, u32 client)
{
	struct gate *g = host;

	g->d->n.turns++;
	grant(g->d->sessions[client], 0);
}

/* Has its process used processors since this was last asked? */
static bool uses_cpu(struct session *s, u64 now)
{
	u64 since = now - min(s->turn.cpu_at_ns, now), used = 0;
	struct timespec ts;
	clockid_t clock;
	bool yes;

	if (!s->peer.hidden && s->peer.pid > 0 &&
	    !clock_getcpuclockid(s->peer.pid, &clock) &&
	    !clock_gettime(clock, &ts))
		used = (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
	yes = used > s->turn.cpu_ns &&
	      used - s->turn.cpu_ns >= since / CPU_SHARE;
	s->turn.cpu_ns = used;
	s->turn.cpu_at_ns = now;
	return yes;
}

static void on_want(void *host, u32 client, u64 until_ns)
{
	struct gate *g = host;
	struct session *s = g->d->sessions[client];
	struct kv_turn *w = words_of(s);

	if (!(s->turn.word & KV_TURN_WANTED)) {
		(void)uses_cpu(s, g->d->now_ns);
		s->turn.steps = READ_ONCE(w->steps);
		s->turn.kept_ns = g->d->now_ns;
	}
	s->turn.word &= ~KV_TURN_WANTED;
	if (until_ns) {
		kv_store_release(&w->until_ns, until_ns);
		s->turn.word |= KV_TURN_WANTED;
	}
	kv_turn_tell(w, s->turn.word);
}

static const struct turns_ops ops = {
	.computed = on_computed,
	.grant = on_grant,
	.want = on_want,
};

/* ---- taking a turn ---- */

static void end_turn(struct session *s)
{
	turns_give(&s->d->gate->turns, s->id, s->d->now_ns);
	trace_point(s->d, KV_TP_TURN_END, s->id, READ_ONCE(words_of(s)->steps));
}

static void withdraw_word(struct session *s, u32 *state)
{
	s->turn.word &= ~KV_TURN_FLAGS;
	*state = kv_turn_tell(words_of(s), s->turn.word);
}

/* From one that does not compute; false: it does, after all. */
static bool take(struct session *s)
{
	u32 state, flags = s->turn.word & KV_TURN_WANTED, i;

	for (i = 0; i < TAKE_TRIES; i++) {
		withdraw_word(s, &state);
		if (state != KV_TURN_BUSY) {
			end_turn(s);
			return true;
		}
		state = grant(s, flags);
		if (state == KV_TURN_BUSY || state == KV_TURN_WAITING)
			return false; /* its end is told */
	}
	return false;
}

/* From one that has overrun its time. */
static void take_overrun(struct session *s)
{
	u32 state;

	withdraw_word(s, &state);
	turns_of(s)->nr_revoked++;
	s->d->n.turn_revokes++;
	trace_point(s->d, KV_TP_TURN_REVOKE, s->id, state);
	end_turn(s);
}

/* Does a holder that others wait for use what it has? If not, it is taken. */
static bool take_unused(struct session *s, u64 now)
{
	const struct turns_client *c = turns_of(s);
	struct kv_turn *w = words_of(s);

	switch (kv_load_acquire(&w->state)) {
	case KV_TURN_BUSY:
		if (until_past(c, now) < LATE_NS ||
		    now - s->turn.cpu_at_ns < LATE_NS)
			return false;
		if (uses_cpu(s, now) && until_past(c, now) < TURN_MAX_NS)
			return false;
		take_overrun(s);
		return true;
	case KV_TURN_WAITING:
		return now - c->granted_ns >= WAKE_NS && take(s);
	case KV_TURN_KEPT:
		if (s->turn.steps != READ_ONCE(w->steps)) {
			s->turn.steps = READ_ONCE(w->steps);
			s->turn.kept_ns = now;
		}
		return (now >= c->until_ns ||
			now - s->turn.kept_ns >= GAP_NS) &&
		       take(s);
	}
	return take(s); /* idle, or what makes no sense */
}

/* When to look at a holder again. */
static u64 next_look(const struct session *s, u64 now)
{
	const struct turns_client *c = turns_of(s);

	u32 state = kv_load_acquire(&words_of(s)->state);

	if (state == KV_TURN_WAITING)
		return max(c->granted_ns + WAKE_NS, now + GAP_NS);
	if (now < c->until_ns)
		return min(c->until_ns, now + GAP_NS);
	if (state != KV_TURN_BUSY)
		return now + GAP_NS;
	return max(c->until_ns, s->turn.cpu_at_ns) + LATE_NS;
}

static bool take_any(struct gate *g, u64 now)
{
	const struct turns *t = &g->turns;
	u32 i;

	for (i = 0; i < t->nr_act; i++)
		if (t->clients[t->act[i]].wanted &&
		    take_unused(g->d->sessions[t->act[i]], now))
			return true;
	return false;
}

/* Grant, and take what is not used, until nothing changes. */
static void settle(struct gate *g)
{
	const struct turns *t = &g->turns;
	u64 next = ~0ull;
	u32 i;

	do {
		g->d->now_ns = clock_ns();
		turns_plan(&g->turns, g->d->now_ns);
	} while (take_any(g, g->d->now_ns));
	for (i = 0; i < t->nr_act; i++)
		if (t->clients[t->act[i]].wanted)
			next = min(next, next_look(g->d->sessions[t->act[i]],
						   g->d->now_ns));
	if (next == ~0ull)
		timer_cancel(&g->d->timers, &g->deadline);
	else
		timer_set(&g->d->timers, &g->deadline, next);
}

static void deadline_fire(struct timer *tm)
{
	settle(container_of(tm, struct gate, deadline));
}

/* ---- processors ---- */

/* Those that the process may run on; all where that is not to be known. */
static void read_cpus(const struct session *s, u64 *out)
{
	cpu_set_t set;
	u32 i;

	memset(out, 0, TURNS_CPU_WORDS * sizeof(*out));
	if (!s->d->opt->turns)
		return; /* nobody meets anybody */
	if (s->peer.hidden || s->peer.pid <= 0 ||
	    sched_getaffinity(s->peer.pid, sizeof(set), &set)) {
		memset(out, 0xff, TURNS_CPU_WORDS * sizeof(*out));
		return;
	}
	for (i = 0; i < min(TURNS_CPUS, (u32)CPU_SETSIZE); i++)
		if (CPU_ISSET(i, &set))
			out[i / 64] |= 1ull << (i % 64);
}

/* Where it now has what is another's too, it computes to its end beside it. */
static void look_at(struct session *s)
{
	u64 cpus[TURNS_CPU_WORDS];
	u32 state;

	read_cpus(s, cpus);
	if (turns_cpus(&s->d->gate->turns, s->id, cpus))
		return;
	withdraw_word(s, &state);
	end_turn(s);
}

static void look_fire(struct timer *tm)
{
	struct gate *g = container_of(tm, struct gate, look);
	struct session *s;

	TAILQ_FOREACH(s, &g->d->all, link)
	if (s->turn.in)
		look_at(s);
	settle(g);
	if (g->nr_in > 1)
		timer_set(&g->d->timers, &g->look, g->d->now_ns + LOOK_NS);
}

/* ---- requests ---- */

static void read_weight(struct session *s)
{
	struct mm_tenant_info info;

	if (!mm_tenant_info(s->d->mm, s->tenant, &info))
		turns_weight(&s->d->gate->turns, s->tenant, info.limits.weight,
			     s->d->now_ns);
}

static void join(struct session *s)
{
	struct gate *g = s->d->gate;

	s->turn.in = true;
	turns_join(&g->turns, s->id, s->tenant);
	read_weight(s);
	look_at(s);
	if (++g->nr_in > 1 && !g->look.armed)
		timer_set(&g->d->timers, &g->look, g->d->now_ns + LOOK_NS);
}

/*
 * One that has the turn, and asks: its time is over and it wants it again. If
 * it is not over, or nobody wants it any more, it is told so: who asks sleeps
 * until there is a newer word.
 */
static void ask(struct session *s)
{
	struct turns *t = &s->d->gate->turns;
	const struct turns_client *c = turns_of(s);

	if (c->state == TURNS_HAS && c->wanted && s->d->now_ns >= c->until_ns &&
	    !take(s))
		return; /* it had not seen that grant, and uses it now */
	look_at(s);
	if (c->state == TURNS_HAS)
		grant(s, s->turn.word & KV_TURN_WANTED);
	else
		turns_ask(t, s->id, s->d->now_ns);
}

void gate_request(struct session *s)
{
	struct gate *g = s->d->gate;
	struct turns_client *c = turns_of(s);

	s->d->now_ns = clock_ns();
	if (!s->turn.in)
		join(s);
	switch (kv_load_acquire(&words_of(s)->state)) {
	case KV_TURN_WAITING:
		ask(s);
		break;
	case KV_TURN_IDLE:
		if (c->state == TURNS_HAS && c->wanted)
			take(s);
		/* fall through */
	default: /* it waits no longer, and computes as it is */
		if (c->state == TURNS_WAITS)
			turns_give(&g->turns, s->id, s->d->now_ns);
	}
	settle(g);
}

void gate_leave(struct session *s)
{
	struct gate *g = s->d->gate;

	if (!s->turn.in)
		return;
	s->turn.in = false;
	turns_leave(&g->turns, s->id, s->d->now_ns);
	g->nr_in--;
	settle(g);
}

/* Who says it has the turn has it, if nobody else does. */
static void adopt(struct session *s)
{
	struct kv_turn *w = words_of(s);
	u32 state = kv_load_acquire(&w->state);

	s->turn.word = kv_load_acquire(&w->word);
	if (!s->turn.word && state == KV_TURN_IDLE)
		return; /* it has never asked */
	join(s);
	/* one that waits asks below, with the others */
	if ((s->turn.word & KV_TURN_GRANTED) && state != KV_TURN_WAITING &&
	    !turns_keep(&s->d->gate->turns, s->id, s->d->now_ns))
		on_want(s->d->gate, s->id, 0);
	else
		withdraw_word(s, &state);
	/* its predecessor may have died before it woke it */
	syscall(SYS_futex, &w->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void gate_adopt_all(struct kvmd *d)
{
	struct session *s;

	TAILQ_FOREACH(s, &d->all, link)
	if (s->state == SESSION_LIVE)
		adopt(s);
	TAILQ_FOREACH(s, &d->all, link)
	if (s->turn.in &&
	    kv_load_acquire(&words_of(s)->state) == KV_TURN_WAITING)
		turns_ask(&d->gate->turns, s->id, d->now_ns);
	settle(d->gate);
}

void gate_weight(struct kvmd *d, u32 tenant)
{
	struct session *s;

	TAILQ_FOREACH(s, &d->all, link)
	if (s->turn.in && s->tenant == tenant)
		read_weight(s);
	settle(d->gate);
}

/* ---- what is seen of it ---- */

void gate_json(const struct session *s, json_t *o)
{
	static const char *const names[] = {
		[TURNS_OUT] = "none",
		[TURNS_IDLE] = "idle",
		[TURNS_WAITS] = "waits",
		[TURNS_HAS] = "has",
	};
	const struct turns_client *c = turns_of(s);

	ctl_set_text(o, "turn", names[c->state]);
	ctl_set(o, "turns", c->nr);
	ctl_set(o, "turn_held_ns", c->held_ns);
	ctl_set(o, "turn_waited_ns", c->waited_ns);
	ctl_set(o, "turns_revoked", c->nr_revoked);
	ctl_set(o, "steps", READ_ONCE(words_of(s)->steps));
	ctl_set(o, "computed_ns", READ_ONCE(words_of(s)->computed_ns));
}

u64 gate_tenant_ns(const struct kvmd *d, u32 tenant)
{
	const struct session *s;
	u64 ns = 0;

	TAILQ_FOREACH(s, &d->all, link)
	if (s->turn.in && s->tenant == tenant)
		ns += turns_of(s)->held_ns;
	return ns;
}

int gate_create(struct kvmd *d)
{
	struct gate *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->d = d;
	turns_init(&g->turns, &ops, g);
	g->deadline.fire = deadline_fire;
	g->look.fire = look_fire;
	d->gate = g;
	return 0;
}

void gate_destroy(struct kvmd *d)
{
	free(d->gate);
	d->gate = NULL;
}
