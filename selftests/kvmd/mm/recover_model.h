/* SPDX-License-Identifier: MIT */
/*
 * recover_model.h - a host whose process dies in the middle of the core
 *
 * guarded() runs a piece of the host. It dies at the n-th passing of a trace
 * point, or after a number of single instructions (the processor's trap flag),
 * by a jump out of whatever it was doing: memory is then as a kill would have
 * left it. What the process knew is forgotten: requests that were out, the
 * addresses of tables; the block is moved to another address. Then the core is
 * recovered, sometimes killed in that too, checked, and the clients come back.
 *
 * Requests of clients have numbers. One that got no answer before the death is
 * asked for again, unless the core knows the answer.
 */
#ifndef SELFTESTS_KVMD_MM_RECOVER_MODEL_H
#define SELFTESTS_KVMD_MM_RECOVER_MODEL_H

#include <setjmp.h>
#include <signal.h>

#include "kvmd/mm/swap.h"
#include "selftests/kvmd/mm/mmtest.h"

#define R_CLIENTS 3u
#define R_SPACES  6u
#define R_LEN	  200u
#define R_UNIT	  4096u
#define R_AREAS	  2u
#define R_ITEMS	  2u

static const u32 r_window[R_AREAS] = { 0, 40 };
static const u32 r_bytes[R_AREAS] = { 128 << 10, 64 << 10 };

struct r_space {
	bool live, busy; /* busy: a ticket names it */
	u32 slot, len, published;
	u32 tokens[R_LEN + 64];
};

/* A step that runs: what it reads has to be there until it ends. */
struct r_step {
	bool runs;
	u64 number;
	u32 nr;
	u32 entry[64], area[64], rows[64];
	u64 want[64][16];
};

struct r_req {
	enum op_kind kind;
	u32 client; /* index in the core */
	u32 space;
	u64 arg; /* length */
	const u32 *tokens;
	u32 nr;
	struct mm_resv resv;
	struct kv_resv_item items[R_ITEMS];
	struct kv_geometry geom;
	/* answer */
	int rc;
	u64 extra;
	struct kv_copy copies[64];
};

struct r_client {
	bool live, dying;
	u32 id;
	struct r_space space[R_SPACES];
	struct r_step step;
	struct r_req wait; /* kept as a ticket */
	bool waits;
};

struct model {
	struct mt t;
	struct mm_host_ops ops;
	u64 rnd;
	u64 (*rows)[16]; /* [device unit][row]: hash of the tokens up to it */
	u64 (*swapped)[16]; /* [slot unit][row] */
	struct r_client c[R_CLIENTS];
	u32 tenant, seen_done;
	u64 charged;
	/* death */
	sigjmp_buf env;
	volatile bool inside;
	u32 point, passings; /* at the n-th passing of this one */
	long steps; /* after so many instructions, counted */
	u32 from; /* from the n-th trace point on, 0: from the start */
	u64 deaths[KV_TP_MAX], nr_deaths, nr_deaths_anywhere, nr_recover_deaths;
	struct r_req *asked; /* the request that is being done */
	bool answered; /* the core knew what it had said */
	u64 nr_requests, nr_answers, nr_again, nr_rows;
	/* a client marks this space in the middle of a move */
	struct kv_space_status *mark;
	u64 mark_step;
};

static struct model *the_model;

static inline u32 roll(struct model *m, u32 n)
{
	return (u32)(hash_random(&m->rnd) % n);
}

/* ---- death ---- */

/* Is it to die in one of these points next? Then they had better come. */
static bool is_due(const struct model *m, u32 first, u32 last)
{
	return m->point >= first && m->point <= last;
}

/* The trap flag; what stands below the stack pointer is the caller's. */
#ifdef __x86_64__
#define FLAGS(op)                                         \
	__asm__ __volatile__("lea -128(%%rsp), %%rsp\n\t" \
			     "pushfq\n\t" op "\n\t"       \
			     "popfq\n\t"                  \
			     "lea 128(%%rsp), %%rsp" ::   \
				     : "memory", "cc")
#else
#define FLAGS(op)
#endif

static void trap_on(void)
{
	FLAGS("orq $0x100, (%%rsp)");
}

static void trap_off(void)
{
	FLAGS("andq $~0x100, (%%rsp)");
}

static void r_trace(void *host, u32 point, u32 client, u64 arg)
{
	struct model *m = container_of(host, struct model, t);

	(void)client;
	(void)arg;
	m->t.passed[point]++;
	if (m->mark && point == KV_TP_MOVE_BUMP)
		kv_step_mark(m->mark, m->mark_step);
	if (m->inside && m->steps > 0 && m->from && !--m->from)
		trap_on();
	if (!m->inside || point != m->point || --m->passings)
		return;
	m->deaths[point]++;
	m->nr_deaths++;
	m->point = 0;
	siglongjmp(m->env, 1);
}

static void on_trap(int sig)
{
	struct model *m = the_model;

	(void)sig;
	if (!m->inside || --m->steps)
		return;
	siglongjmp(m->env, 2);
}

static void trap_init(void)
{
	struct sigaction sa = { .sa_handler = on_trap, .sa_flags = SA_NODEFER };

	sigaction(SIGTRAP, &sa, NULL);
}

static void r_recover(struct model *m);

/* Return: false if the process died in it, and another one has taken over. */
static bool guarded(struct model *m, void (*fn)(struct model *m, void *arg),
		    void *arg)
{
	int how = sigsetjmp(m->env, 0);

	if (how) {
		m->inside = false;
		m->nr_deaths_anywhere += how == 2;
		m->steps = m->from = 0;
		r_recover(m);
		return false;
	}
	m->inside = true;
	if (m->steps > 0 && !m->from)
		trap_on();
	fn(m, arg);
	if (m->steps > 0)
		trap_off();
	m->inside = false;
	return true;
}

/* ---- another process takes over ---- */

static void block_move(struct model *m)
{
	size_t bytes = mm_state_bytes(&m->t.cfg);
	void *to = mt_map(bytes, PROT_NONE);

	to = mremap(m->t.state, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		    to);
	ASSERT_TRUE(to != MAP_FAILED);
	m->t.state = to;
}

static void recover_core(struct model *m)
{
	static struct mm_recover_client in[MM_CLIENT_MAX];
	struct mm_recover how = { .clients = in };
	struct mm *mm = m->t.state;
	u32 i;

	memset(in, 0, sizeof(in));
	for (i = 0; i < R_CLIENTS; i++) {
		struct mt_client *c = &m->t.cl[m->c[i].id];

		if (!m->c[i].live)
			continue;
		in[m->c[i].id] = (struct mm_recover_client){
			.serial = mm_client_serial(mm, m->c[i].id),
			.table = c->table,
			.status = c->status,
		};
		mm_clients(mm)[m->c[i].id].table = (void *)16;
	}
	ASSERT_EQ(mm_recover(&m->t.cfg, m->t.state, &how, &m->ops, &m->t,
			     &m->t.mm),
		  0);
}

/* It may be killed while it recovers, any number of times. */
static void recover_through_deaths(struct model *m)
{
	while (sigsetjmp(m->env, 0)) {
		m->inside = false;
		m->nr_recover_deaths++;
	}
	m->steps = roll(m, 16) ? 0 : 1 + roll(m, 3) * 3000 + roll(m, 3000);
	m->inside = true;
	if (m->steps > 0)
		trap_on();
	recover_core(m);
	trap_off();
	m->inside = false;
	m->steps = 0;
}

/* One that was attached, or being removed, and nobody knows of. */
static void remove_strangers(struct model *m)
{
	u32 i, k, state;

	for (i = 0; i < MT_CLIENTS; i++) {
		state = mm_clients(m->t.mm)[i].state;
		for (k = 0; k < R_CLIENTS; k++)
			if (m->c[k].live && m->c[k].id == i)
				break;
		if (k == R_CLIENTS &&
		    (state == CLIENT_LIVE || state == CLIENT_EXITING))
			mm_client_gone(m->t.mm, i);
	}
}

/* Before anything else is done: a ticket may end at once. */
static bool known_answer(struct model *m, struct r_req *r)
{
	struct mm_op_answer a;

	if (!mm_op_answer(m->t.mm, r->client, m->nr_requests, &a, r->copies))
		return false;
	r->rc = a.result;
	r->extra = a.extra;
	m->nr_answers++;
	return true;
}

/* Entries of the clients' tables that say that a page is lost. */
static u32 nr_lost(struct model *m)
{
	struct mm *mm = m->t.state;
	u32 i, leaf, n, lost = 0;

	for (i = 0; i < R_CLIENTS; i++)
		for (leaf = 0; m->c[i].live &&
			       leaf < mm_clients(mm)[m->c[i].id].nr_leaves;
		     leaf++)
			for (n = 0; n < KV_LEAF_PTES; n++)
				lost += pte_is_lost(
					kv_table_leaf(m->t.cl[m->c[i].id].table,
						      leaf)
						->pte[n]);
	return lost;
}

static void r_recover(struct model *m)
{
	u32 lost = nr_lost(m);
	struct mm_tenant_info ti;
	u32 i;

	m->t.nr_held = m->t.nr_io = m->t.nr_copy = 0;
	m->point = 0;
	block_move(m);
	recover_through_deaths(m);
	EXPECT_LE(nr_lost(m), lost);
	mt_check(&m->t);
	if (m->asked)
		m->answered = known_answer(m, m->asked);
	ASSERT_EQ(mm_tenant_get(m->t.mm, "m", &m->tenant), 0);
	mm_recover_end(m->t.mm);
	ASSERT_EQ(mm_tenant_info(m->t.mm, m->tenant, &ti), 0);
	m->charged = ti.charged_bytes;
	remove_strangers(m);
	for (i = 0; i < R_CLIENTS; i++)
		if (m->c[i].live && !m->c[i].dying)
			ASSERT_GE(mm_client_resume(m->t.mm, m->c[i].id,
						   &m->t.cl[m->c[i].id].seq),
				  0);
	mt_check(&m->t);
	mt_drain(&m->t);
	mt_check(&m->t);
}

static void do_drain(struct model *m, void *arg)
{
	(void)arg;
	mt_drain(&m->t);
}

static void drain(struct model *m)
{
	while (!guarded(m, do_drain, NULL))
		;
}

/* ---- requests ---- */

static void issue(struct model *m, void *arg)
{
	struct r_req *r = arg;
	struct kv_geometry geom = r->geom;
	struct mm *mm = m->t.mm;
	u32 seq, id;

	switch (r->kind) {
	case OP_CREATE: {
		struct kv_space_args a = { .nr_areas = R_AREAS };
		u32 k;

		for (k = 0; k < R_AREAS; k++) {
			a.area[k].geom = k;
			a.area[k].window = r_window[k];
		}
		r->rc = mm_space_create(mm, r->client, &a);
		break;
	}
	case OP_FORK:
		r->rc = mm_space_fork(mm, r->client, r->space, r->arg);
		break;
	case OP_DESTROY:
		r->rc = mm_space_destroy(mm, r->client, r->space);
		break;
	case OP_TRUNCATE:
		r->rc = mm_space_truncate(mm, r->client, r->space, r->arg);
		break;
	case OP_MAP:
		r->rc = mm_prefix_map(mm, r->client, r->space, r->tokens, r->nr,
				      &seq);
		break;
	case OP_GEOM:
		r->rc = mm_geom_add(mm, r->client, &geom, &id);
		r->rc = r->rc ? r->rc : (int)id;
		break;
	case OP_RESERVE:
		r->rc = mm_reserve(mm, r->client, &r->resv, r->copies, &seq,
				   &r->extra);
		break;
	case OP_NONE: /* publish */
		r->rc = mm_prefix_publish(mm, r->client, r->space, r->arg,
					  r->tokens, r->nr, true, &seq);
		break;
	}
}

static struct r_client *client_of(struct model *m, u32 id)
{
	u32 i;

	for (i = 0; i < R_CLIENTS; i++)
		if (m->c[i].live && m->c[i].id == id)
			break;
	return i < R_CLIENTS ? &m->c[i] : NULL;
}

/* Until it has an answer, whoever gives it. */
static int request(struct model *m, struct r_req *r)
{
	m->nr_requests++;
	m->answered = false;
	m->asked = r;
	do
		mm_op_begin(m->t.mm, r->client, m->nr_requests);
	while (!guarded(m, issue, r) && !m->answered && ++m->nr_again);
	m->asked = NULL;
	drain(m);
	return r->rc;
}

/* ---- what pages hold ---- */

static u64 row_of(const u32 *tokens, u32 pos, u32 area)
{
	return hash_add(hash_bytes(tokens, (pos + 1) * sizeof(*tokens), 1),
			area);
}

static void r_move(struct mt *t, u64 src, u64 dst, u32 bytes)
{
	struct model *m = the_model;

	(void)t;
	(void)bytes;
	memcpy(m->rows[dst / R_UNIT], m->rows[src / R_UNIT],
	       sizeof(m->rows[0]));
}

static void r_scrub(struct mt *t, u32 extent)
{
	struct model *m = the_model;
	u64 per = KV_EXTENT_SIZE / R_UNIT;

	(void)t;
	memset(m->rows[extent * per], 0xee, per * sizeof(m->rows[0]));
}

static void r_swap(struct mt *t, const struct mm_swap_io *io, bool in)
{
	struct model *m = the_model;
	u64 *dev = m->rows[io->dev_off / R_UNIT];

	(void)t;
	if (in)
		memcpy(dev, m->swapped[io->slot], sizeof(m->rows[0]));
	else
		memcpy(m->swapped[io->slot], dev, sizeof(m->rows[0]));
}

static u64 *page_rows(struct model *m, u32 area, u32 entry)
{
	return m->rows[(u64)entry * (r_bytes[area] / R_UNIT)];
}

#endif
