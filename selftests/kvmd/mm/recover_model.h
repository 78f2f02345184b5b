/* SPDX-License-Identifier: MIT */
/*
 * recover_model.h - a host whose process dies in the middle of the core
 *
 * guarded() runs a piece of the host. It dies at the n-th passing of a trace
 * point, or after a number of single instructions (the processor's trap flag),
 * by a jump out of whatever it was doing: memory is then as a kill would have
 * left it. What the process knew is forgotten: requests that were out, the
 * addresses of tables; the block is moved to another address. What it had asked
 * the device and the disk for has happened, or has not. Then the core is
 * recovered, sometimes killed in that too, checked, and the clients come back.
 *
 * Requests of clients have numbers. One that got no answer before the death is
 * asked for again, unless the core knows the answer.
 */
#ifndef SELFTESTS_KVMD_MM_RECOVER_MODEL_H
#define SELFTESTS_KVMD_MM_RECOVER_MODEL_H

#include <setjmp.h>
#include <signal.h>

#include "include/kv/errbuf.h"
#include "kvmd/mm/state.h"
#include "kvmd/mm/swap.h"
#include "selftests/kvmd/mm/mmtest.h"

#define R_CLIENTS 3u
#define R_SPACES  32u
#define R_LEN	  200u
#define R_UNIT	  4096u
#define R_AREAS	  2u
#define R_ITEMS	  2u
#define R_TENANTS 2u
#define R_SLOTS	  16384u /* units of both tiers */
/* Points of move.c that were passed by migrate.c, in pages that compact.c
 * moves: counted apart. */
#define R_MIGRATE 200u

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
	u32 nr_spaces; /* of each client, up to R_SPACES */
	u64 (*rows)[16]; /* [device unit][row]: hash of the tokens up to it */
	u64 (*swapped)[16]; /* [slot unit][row] */
	struct r_client c[R_CLIENTS];
	u32 tenant[R_TENANTS], seen_done;
	u64 charged;
	u64 high[R_TENANTS], high_next[R_TENANTS];
	/* being discarded */
	u64 discard_off, discard_bytes;
	u32 discard_tier;
	/* death */
	sigjmp_buf env;
	volatile bool inside;
	u32 point, passings; /* at the n-th passing of this one */
	long steps; /* after so many instructions, counted */
	u32 from; /* from the n-th trace point on, 0: from the start */
	u32 from_point; /* only this one counts, 0: all */
	bool in_migration; /* it dies there, over and over */
	u64 deaths[KV_TP_MAX], nr_deaths, nr_deaths_anywhere, nr_recover_deaths;
	struct r_req *asked; /* the request that is being done */
	bool answered; /* the core knew what it had said */
	u64 nr_requests, nr_answers, nr_again, nr_rows;
	u64 nr_discarded;
	/* a client marks this space in the middle of a move */
	struct kv_space_status *mark;
	u64 mark_step;
	bool one_page; /* mm_move_page() */
	/* or some space, in the middle of compaction, until it is over */
	bool mark_any;
	struct kv_space_status *marked;
	u64 was_active;
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

static struct r_client *client_of(struct model *m, u32 id)
{
	u32 i;

	for (i = 0; i < R_CLIENTS; i++)
		if (m->c[i].live && m->c[i].id == id)
			break;
	return i < R_CLIENTS ? &m->c[i] : NULL;
}

/* A step of the client begins just now, on one of its spaces. */
static void mark_some(struct model *m, u32 client)
{
	struct r_client *c = client_of(m, client);
	struct r_space *s = c ? &c->space[roll(m, m->nr_spaces)] : NULL;

	if (!s || !s->live || m->marked)
		return;
	m->marked = &m->t.cl[client].status->space[s->slot];
	m->was_active = m->marked->active_step;
	kv_step_mark(m->marked, m->t.cl[client].step + 1);
}

static void r_trace(void *host, u32 point, u32 client, u64 arg)
{
	struct model *m = container_of(host, struct model, t);

	(void)arg;
	m->t.passed[point]++;
	if (!m->one_page &&
	    (point == KV_TP_MOVE_CHECK || point == KV_TP_MOVE_DONE ||
	     point == KV_TP_MOVE_BACK))
		point += R_MIGRATE;
	if (m->mark_any && point == R_MIGRATE + KV_TP_MOVE_CHECK)
		mark_some(m, client);
	if (m->mark && point == KV_TP_MOVE_BUMP)
		kv_step_mark(m->mark, m->mark_step);
	if (m->inside && m->steps > 0 && m->from &&
	    (!m->from_point || m->from_point == point) && !--m->from)
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

static void unmark(struct model *m)
{
	if (m->marked)
		kv_step_unmark(m->marked, m->was_active);
	m->marked = NULL;
}

static const u32 migrate_points[] = { R_MIGRATE + KV_TP_MOVE_CHECK,
				      R_MIGRATE + KV_TP_MOVE_DONE,
				      R_MIGRATE + KV_TP_MOVE_BACK };

/* It is to die while pages move together. */
static void die_in_migration(struct model *m)
{
	m->point = 0;
	m->steps = 0;
	if (roll(m, 2)) {
		m->point = migrate_points[roll(m, 3)];
		m->passings = 1 + roll(m, 20);
		return;
	}
	m->steps = 1 + roll(m, 400);
	m->from = 1 + roll(m, 20);
	m->from_point = migrate_points[roll(m, 3)];
}

/* Return: false if the process died in it, and another one has taken over. */
static bool guarded(struct model *m, void (*fn)(struct model *m, void *arg),
		    void *arg)
{
	int how;

	if (m->in_migration && !roll(m, 4))
		die_in_migration(m);
	how = sigsetjmp(m->env, 0);
	if (how) {
		m->inside = false;
		m->nr_deaths_anywhere += how == 2;
		m->steps = m->from = 0;
		unmark(m);
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
	unmark(m);
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

/* As if another build had laid it out: what is not described is not there. */
static void block_convert(struct model *m)
{
	size_t bytes = mm_state_bytes(&m->t.cfg);
	void *from = m->t.state;
	int fd = m->t.state_fd;
	char err[KV_ERRLEN];

	m->t.state = mt_map_state(&m->t, &m->t.state_fd);
	ASSERT_EQ(mm_convert(&m->t.cfg, m->t.state, from, bytes, fd, err), 0);
	munmap(from, bytes);
	close(fd);
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

static void r_discarded(struct model *m);

/* What was on its way has happened, or not; nobody hears of it. */
static void requests_end(struct model *m)
{
	struct mt *t = &m->t;
	u32 i;

	for (i = 0; i < t->nr_io; i++)
		if (!roll(m, 2))
			continue;
		else if (t->io_type[i] == MM_REQ_DEMOTE)
			t->demote(t, &t->io[i]);
		else
			t->swap(t, &t->io[i], t->io_type[i] == MM_REQ_SWAP_IN);
	for (i = 0; i < t->nr_copy; i++)
		if (roll(m, 2))
			t->move(t, t->copy[i].src, t->copy[i].dst,
				t->copy[i].bytes);
	for (i = 0; i < t->nr_moving; i++)
		if (roll(m, 2))
			t->move(t, t->moving[i].src, t->moving[i].dst,
				t->moving[i].bytes);
	if (m->discard_bytes && roll(m, 2))
		r_discarded(m);
	t->nr_held = t->nr_io = t->nr_copy = t->nr_moving = 0;
	m->discard_bytes = 0;
}

static void check_tenants(struct model *m)
{
	static const char *const name[R_TENANTS] = { "m", "n" };
	struct mm_tenant_info ti;
	u32 i;

	for (i = 0; i < R_TENANTS; i++) {
		ASSERT_EQ(mm_tenant_get(m->t.mm, name[i], &m->tenant[i]), 0);
		ASSERT_EQ(mm_tenant_info(m->t.mm, m->tenant[i], &ti), 0);
		if (ti.high_bytes != m->high_next[i])
			ASSERT_EQ(ti.high_bytes, m->high[i]);
		m->high[i] = m->high_next[i] = ti.high_bytes;
		if (!i)
			m->charged = ti.charged_bytes;
	}
}

/* Each of them is whole, or not there. */
static void check_reports(struct model *m)
{
	u64 seq, end = mm_oom_next(m->t.mm);

	for (seq = end > MM_OOM_MAX ? end - MM_OOM_MAX : 1; seq < end; seq++) {
		const struct mm_oom *r = mm_oom_get(m->t.mm, seq);

		if (!r)
			continue;
		EXPECT_TRUE(r->nr_tenants && r->nr_clients);
		EXPECT_EQ(r->device_bytes, m->t.cfg.device_bytes);
	}
	EXPECT_FALSE(mm_oom_get(m->t.mm, end));
}

static void r_recover(struct model *m)
{
	u32 lost = nr_lost(m);
	u32 i;

	requests_end(m);
	m->point = 0;
	if (roll(m, 4))
		block_move(m);
	else
		block_convert(m);
	recover_through_deaths(m);
	EXPECT_LE(nr_lost(m), lost);
	mt_check(&m->t);
	if (m->asked)
		m->answered = known_answer(m, m->asked);
	check_tenants(m);
	check_reports(m);
	mm_recover_end(m->t.mm);
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

/* Nobody will find there what was there. */
static void r_discarded(struct model *m)
{
	u64 first =
		m->discard_off / R_UNIT + m->t.mm->tier[m->discard_tier].first;

	memset(m->swapped[first], 0xdd,
	       m->discard_bytes / R_UNIT * sizeof(m->swapped[0]));
}

static void r_demote(struct mt *t, const struct mm_swap_io *io)
{
	struct model *m = the_model;
	u64 from = t->mm->tier[io->from].first + io->from_off / SLOT_UNIT;

	memcpy(m->swapped[io->slot], m->swapped[from], sizeof(m->rows[0]));
}

static u64 *page_rows(struct model *m, u32 area, u32 entry)
{
	return m->rows[(u64)entry * (r_bytes[area] / R_UNIT)];
}

#endif
