/* SPDX-License-Identifier: MIT */
/*
 * test_step.c - the step protocol, explored over the functions of step.h
 *
 * timeout: 900
 *
 * One client with two spaces and up to three steps, its device stream, kvmd;
 * three frames. Space 0 owns frame 0; a fork makes space 1 share it, a kill
 * frees space 0. kvmd serves requests, frees what has passed its pin, and
 * moves frames whenever the rules let it. The ghost knows what each frame
 * holds and what each space should read; a freed frame holds garbage at once.
 *
 * Checks: a step's stream finds its space's content from its first touch to
 * its last; in the end no space looks busy, so that nothing is held for ever.
 *
 * Each rule of the protocol can be taken away (enum rule); without it some
 * scenario has to fail. The order of kvmd's acts is that of move.c, fork.c
 * and resv.c.
 */
#define KV_ATOMIC_SHIM "selftests/explore/shim.h"
#include <kv/step.h>
#include "include/kv/types.h"
#include "selftests/harness.h"

#define FRAMES	3
#define GARBAGE 255
#define NO_SRC	15

enum rule {
	RULE_NONE,
	C1_MARK,
	C2_FENCE,
	C3_GEN_FIRST,
	C3_CACHE_UNDER_EARLIER,
	C5_RESTORE_MARK,
	C6_AFTER_LAST_TOUCH,
	K0_LOOK_FIRST,
	K1_NOT_PRESENT,
	K2_BUMP,
	K2_AFTER_ENTRY,
	K3_FENCE,
	K4_EVERY_MAPPER,
	K4_LOOK,
	K5_PUT_BACK_BUMP,
	K5_NEVER_DOWN,
	K6_RESV,
	K6_BUMP,
	K7_PIN_SOURCE,
	K7_PIN_MAPPING,
	K7_HEED_PIN,
	K8_QUARANTINE,
	K2_RELEASE, /* matters where stores pass each other */
	K6_RELEASE,
	NR_RULES
};

static const char *const rule_name[NR_RULES] = {
	"none",
	"C1 mark",
	"C2 fence",
	"C3 generation first",
	"C3 cache under the earlier one",
	"C5 restore the mark",
	"C6 after the last touch",
	"K0 look first",
	"K1 not present",
	"K2 bump",
	"K2 after K1",
	"K3 fence",
	"K4 every mapper",
	"K4 look",
	"K5 bump",
	"K5 generation never down",
	"K6 resv",
	"K6 bump",
	"K7 pin the source",
	"K7 pin what goes",
	"K7 heed the pin",
	"K8 quarantine",
	"K2 release",
	"K6 release",
};

static struct {
	enum rule off;
	u8 steps, moves;
	bool fork, kill, crash, reads;
} sc;

#define HAS(rule) (sc.off != (rule))

/* The words that client, stream and kvmd share; only addresses matter. */
static struct {
	struct kv_space_status status[2];
	struct kv_rank_status rank;
	struct kv_space_desc desc[2];
	kv_pte_t pte[2];
	u32 req, rep;
} w;

struct job {
	u8 nr, space, write, frame, src, fork;
};

struct ghost {
	u8 token[FRAMES], content[2];
	u8 nr_jobs, busy, client_done, crashed;
	struct job job[3];
	struct job req; /* nr, space, write of the request */
	u8 rep_src;
};

struct client {
	u64 gen[2];
	kv_pte_t pte[2];
	u8 nr, prev[2], forked, killed, nr_reqs;
};

struct kvmd {
	u64 gen[2];
	kv_pte_t pte[2];
	u8 pin[FRAMES], is_free[FRAMES], resv[2];
	u8 moves, served, gone;
};

enum { OP_RESERVE, OP_FORK, OP_KILL };

#define RW (KV_PTE_PRESENT | KV_PTE_WRITE)

static u64 job_pack(struct job j)
{
	return j.nr | j.space << 8 | j.write << 12 | j.frame << 16 |
	       j.src << 20 | (u64)j.fork << 24;
}

static struct job job_unpack(u64 v)
{
	return (struct job){ .nr = v & 255,
			     .space = (v >> 8) & 15,
			     .write = (v >> 12) & 15,
			     .frame = (v >> 16) & 15,
			     .src = (v >> 20) & 15,
			     .fork = (v >> 24) & 15 };
}

/* ---- the device stream ---- */

static u64 dev_pop(void *ghost, u64 arg)
{
	struct ghost *g = ghost;
	u64 v;

	(void)arg;
	if (!g->nr_jobs)
		return g->client_done ? 0 : X_BLOCK;
	v = job_pack(g->job[0]) | 1ull << 32;
	g->nr_jobs--;
	memmove(&g->job[0], &g->job[1], sizeof(g->job[0]) * 2);
	memset(&g->job[2], 0, sizeof(g->job[2]));
	g->busy = 1;
	return v;
}

static u64 dev_begin(void *ghost, u64 arg)
{
	struct job j = job_unpack(arg);
	struct ghost *g = ghost;

	if (j.fork) {
		g->content[1] = g->content[0];
		return 0;
	}
	if (j.src != NO_SRC) {
		x_check(g->token[j.src] == g->content[j.space],
			"a copy reads a frame that is gone");
		g->token[j.frame] = g->token[j.src];
	}
	x_check(g->token[j.frame] == g->content[j.space],
		"a step begins with another content");
	return 0;
}

static u64 dev_write(void *ghost, u64 arg)
{
	struct job j = job_unpack(arg);
	struct ghost *g = ghost;

	x_check(g->token[j.frame] == g->content[j.space],
		"a step loses its content");
	if (j.write) {
		g->content[j.space] = (u8)(10 + j.nr);
		g->token[j.frame] = (u8)(10 + j.nr);
	}
	return 0;
}

static u64 dev_last(void *ghost, u64 arg)
{
	struct job j = job_unpack(arg);
	struct ghost *g = ghost;

	x_check(g->token[j.frame] == g->content[j.space],
		"a step loses what it wrote");
	return 0;
}

static u64 dev_idle(void *ghost, u64 arg)
{
	(void)arg;
	((struct ghost *)ghost)->busy = 0;
	return 0;
}

static bool dev_run(void *locals)
{
	u64 v = x_do(dev_pop, 0);
	struct job j;

	(void)locals;
	if (!v)
		return true;
	j = job_unpack(v);
	x_do(dev_begin, v);
	if (j.fork) {
		x_do(dev_idle, 0);
		return false;
	}
	if (!HAS(C6_AFTER_LAST_TOUCH))
		kv_step_end(&w.rank, j.nr);
	x_do(dev_write, v);
	x_do(dev_last, v);
	if (HAS(C6_AFTER_LAST_TOUCH))
		kv_step_end(&w.rank, j.nr);
	x_do(dev_idle, 0);
	return false;
}

/* ---- the client ---- */

static u64 client_launch(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	if (g->nr_jobs == 2)
		return X_BLOCK;
	g->job[g->nr_jobs++] = job_unpack(arg);
	return 0;
}

static u64 client_post(void *ghost, u64 arg)
{
	((struct ghost *)ghost)->req = job_unpack(arg);
	return 0;
}

static u64 client_answer(void *ghost, u64 arg)
{
	(void)arg;
	return ((struct ghost *)ghost)->rep_src;
}

static u64 client_end(void *ghost, u64 crashed)
{
	((struct ghost *)ghost)->client_done = 1;
	((struct ghost *)ghost)->crashed = (u8)crashed;
	return 0;
}

/* Ask kvmd and wait for the answer. Return: source of a copy, or NO_SRC. */
static u8 client_ask(struct client *c, u8 nr, u8 space, u8 write, u8 op)
{
	struct job j = { .nr = nr, .space = space, .write = write, .fork = op };

	x_do(client_post, job_pack(j));
	kv_store_release(&w.req, ++c->nr_reqs);
	x_wait(&w.rep, c->nr_reqs);
	return (u8)x_do(client_answer, 0);
}

static void client_refresh(struct client *c, u8 s)
{
	kv_pte_t pte;
	u64 gen;

	if (HAS(C3_GEN_FIRST)) {
		gen = kv_step_gen(&w.desc[s]);
		if (gen == c->gen[s])
			return;
		pte = kv_step_pte(&w.pte[s]);
		if (!HAS(C3_CACHE_UNDER_EARLIER))
			gen = kv_step_gen(&w.desc[s]);
	} else {
		pte = kv_step_pte(&w.pte[s]);
		gen = kv_step_gen(&w.desc[s]);
		if (gen == c->gen[s])
			return;
	}
	c->gen[s] = gen;
	c->pte[s] = pte;
}

static void client_step(struct client *c, u8 s, u8 write)
{
	u8 nr = ++c->nr, src = NO_SRC;
	struct job j;

	if (HAS(C1_MARK))
		kv_step_mark(&w.status[s], nr);
	if (HAS(C2_FENCE))
		kv_step_fence();
	client_refresh(c, s);
	if (kv_pte_can(c->pte[s], write)) {
		c->prev[s] = nr;
	} else {
		kv_step_unmark(&w.status[s],
			       HAS(C5_RESTORE_MARK) ? c->prev[s] : 0);
		src = client_ask(c, nr, s, write, OP_RESERVE);
		client_refresh(c, s);
		x_check(kv_pte_can(c->pte[s], write),
			"a reservation left its page missing");
	}
	j = (struct job){ .nr = nr,
			  .space = s,
			  .write = write,
			  .frame = (u8)kv_pte_frame(c->pte[s]),
			  .src = src };
	x_do(client_launch, job_pack(j));
}

static bool client_run(void *locals)
{
	struct client *c = locals;
	struct job fork = { .fork = 1 };
	u8 op[8], nr = 0;

	if (c->nr == sc.steps) {
		x_do(client_end, 0);
		return true;
	}
	if (!c->killed)
		op[nr++] = 0;
	if (c->forked)
		op[nr++] = 1;
	if (sc.fork && !c->forked)
		op[nr++] = 2;
	if (sc.kill && c->forked && !c->killed)
		op[nr++] = 3;
	if (sc.crash)
		op[nr++] = 4;
	if (sc.reads && !c->killed)
		op[nr++] = 5;
	switch (op[nr > 1 ? x_choose(nr) : 0]) {
	case 0:
		client_step(c, 0, 1);
		break;
	case 1:
		client_step(c, 1, 1);
		break;
	case 2:
		client_ask(c, 0, 0, 0, OP_FORK);
		x_do(client_launch, job_pack(fork));
		c->forked = 1;
		break;
	case 3:
		client_ask(c, 0, 0, 0, OP_KILL);
		c->killed = 1;
		break;
	case 4:
		x_do(client_end, 1);
		return true;
	case 5:
		client_step(c, 0, 0);
		break;
	}
	return false;
}

/* ---- kvmd ---- */

static bool kvmd_maps(const struct kvmd *k, u8 s, u8 f)
{
	return kv_pte_is_present(k->pte[s]) && kv_pte_frame(k->pte[s]) == f;
}

static u8 kvmd_refs(const struct kvmd *k, u8 f)
{
	return (u8)(kvmd_maps(k, 0, f) + kvmd_maps(k, 1, f));
}

static u8 kvmd_pick(struct kvmd *k)
{
	u8 f;

	for (f = 0; f < FRAMES; f++) {
		if (k->is_free[f]) {
			k->is_free[f] = 0;
			return f;
		}
	}
	return FRAMES;
}

static u64 kvmd_request(void *ghost, u64 arg)
{
	(void)arg;
	return job_pack(((struct ghost *)ghost)->req);
}

static u64 kvmd_reply(void *ghost, u64 src)
{
	((struct ghost *)ghost)->rep_src = (u8)src;
	return 0;
}

static u64 kvmd_scrap(void *ghost, u64 frame)
{
	((struct ghost *)ghost)->token[frame] = GARBAGE;
	return 0;
}

static u64 kvmd_copy(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	g->token[arg & 15] = g->token[arg >> 4];
	return 0;
}

/* K8: has the stream ended, and its last store arrived? */
static u64 kvmd_gone(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	if (!HAS(K8_QUARANTINE))
		return g->crashed;
	return g->crashed && !g->nr_jobs && !g->busy && x_drained(1);
}

static u64 kvmd_all_quiet(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	return g->client_done && !g->nr_jobs && !g->busy && x_drained(0) &&
	       x_drained(1);
}

static void kvmd_bump(struct kvmd *k, u8 s)
{
	k->gen[s]++;
	if (HAS(K2_RELEASE))
		kv_move_bump(&w.desc[s], k->gen[s]);
	else
		kv_store_relaxed(&w.desc[s].gen, k->gen[s]);
}

static u8 later(u64 a, u64 b)
{
	return (u8)max(a, b);
}

static void kvmd_fork(struct kvmd *k)
{
	k->pte[0] &= ~KV_PTE_WRITE;
	k->pte[1] = k->pte[0];
	kv_store_relaxed(&w.pte[0], k->pte[0]);
	kv_store_relaxed(&w.pte[1], k->pte[1]);
	kvmd_bump(k, 1);
	kvmd_bump(k, 0);
}

static void kvmd_kill(struct kvmd *k)
{
	u8 f = (u8)kv_pte_frame(k->pte[0]);
	u8 pin = later(kv_move_active(&w.status[0]), k->resv[0]);

	k->pte[0] = 0;
	kv_store_relaxed(&w.pte[0], 0);
	if (HAS(K7_PIN_MAPPING))
		k->pin[f] = later(k->pin[f], pin);
	kvmd_bump(k, 0);
}

/* Return: source of a copy, or NO_SRC. */
static u8 kvmd_reserve(struct kvmd *k, struct job q)
{
	u8 s = q.space, f = (u8)kv_pte_frame(k->pte[s]), src = NO_SRC, to;

	if (!kv_pte_can(k->pte[s], q.write)) {
		if (kvmd_refs(k, f) == 1) {
			k->pte[s] |= KV_PTE_WRITE;
		} else {
			to = kvmd_pick(k);
			src = f;
			if (HAS(K7_PIN_SOURCE))
				k->pin[f] = later(k->pin[f], q.nr);
			k->pte[s] = RW | to;
		}
		kv_store_relaxed(&w.pte[s], k->pte[s]);
		if (HAS(K6_RESV))
			k->resv[s] = q.nr;
		if (HAS(K6_BUMP))
			kvmd_bump(k, s);
	} else if (HAS(K6_RESV)) {
		k->resv[s] = q.nr;
	}
	return src;
}

static void kvmd_serve(struct kvmd *k)
{
	u32 req = kv_load_acquire(&w.req);
	u8 src = NO_SRC;
	struct job q;

	if (req == k->served)
		return;
	q = job_unpack(x_do(kvmd_request, 0));
	if (q.fork == OP_FORK)
		kvmd_fork(k);
	else if (q.fork == OP_KILL)
		kvmd_kill(k);
	else
		src = kvmd_reserve(k, q);
	x_do(kvmd_reply, src);
	if (HAS(K6_RELEASE))
		kv_store_release(&w.rep, req);
	else
		kv_store_relaxed(&w.rep, req);
	k->served = (u8)req;
}

static bool kvmd_is_busy(const struct kvmd *k, u8 s)
{
	u64 active = kv_move_active(&w.status[s]);
	u64 done = kv_move_completed(&w.rank);

	return kv_move_is_busy(active, k->resv[s], done);
}

static bool kvmd_unpinned(const struct kvmd *k, u8 f)
{
	return !HAS(K7_HEED_PIN) || !k->pin[f] || k->gone ||
	       k->pin[f] <= kv_move_completed(&w.rank);
}

static void kvmd_free(struct kvmd *k, u8 f)
{
	if (k->is_free[f] || kvmd_refs(k, f) || !kvmd_unpinned(k, f))
		return;
	x_do(kvmd_scrap, f);
	k->is_free[f] = 1;
	k->pin[f] = 0;
}

/* K1 and K2 for every mapper. */
static void kvmd_unmap(struct kvmd *k, u8 f)
{
	u8 s;

	for (s = 0; s < 2; s++) {
		if (!kvmd_maps(k, s, f))
			continue;
		if (!HAS(K2_AFTER_ENTRY))
			kvmd_bump(k, s);
		if (HAS(K1_NOT_PRESENT))
			kv_move_begin(&w.pte[s], k->pte[s]);
		if (HAS(K2_BUMP) && HAS(K2_AFTER_ENTRY))
			kvmd_bump(k, s);
	}
}

static bool kvmd_idle(struct kvmd *k, u8 f)
{
	bool idle = true;

	if (k->gone)
		return true;
	if (kvmd_maps(k, 0, f) && (HAS(K4_EVERY_MAPPER) || !kvmd_maps(k, 1, f)))
		idle &= !kvmd_is_busy(k, 0);
	if (kvmd_maps(k, 1, f))
		idle &= !kvmd_is_busy(k, 1);
	return idle;
}

/* K5: put @to into every entry that @f stood in. */
static void kvmd_map(struct kvmd *k, u8 f, u8 to)
{
	bool mapped[2] = { kvmd_maps(k, 0, f), kvmd_maps(k, 1, f) };
	u8 s;

	for (s = 0; s < 2; s++) {
		if (!mapped[s])
			continue;
		k->pte[s] = (k->pte[s] & ~KV_PTE_FRAME) | to;
		kv_move_end(&w.pte[s], k->pte[s]);
		if (f == to && !HAS(K5_NEVER_DOWN))
			kv_move_bump(&w.desc[s], --k->gen[s]);
		else if (HAS(K5_PUT_BACK_BUMP))
			kvmd_bump(k, s);
	}
}

static void kvmd_move(struct kvmd *k)
{
	u8 f, to;

	if (k->moves == sc.moves)
		return;
	f = (u8)x_choose(FRAMES);
	if (!kvmd_refs(k, f) || !kvmd_unpinned(k, f))
		return;
	if (HAS(K0_LOOK_FIRST) && !kvmd_idle(k, f))
		return;
	to = kvmd_pick(k);
	if (to == FRAMES)
		return;
	k->moves++;
	kvmd_unmap(k, f);
	if (HAS(K3_FENCE))
		kv_move_fence();
	if (HAS(K4_LOOK) && !kvmd_idle(k, f)) {
		kvmd_map(k, f, f);
		k->is_free[to] = 1;
		return;
	}
	x_do(kvmd_copy, (u64)f << 4 | to);
	kvmd_map(k, f, to);
	x_do(kvmd_scrap, f);
	k->is_free[f] = 1;
	k->pin[f] = 0;
}

/* Nobody runs any more: nothing may look busy for ever. */
static bool kvmd_end(struct kvmd *k)
{
	u8 s;

	if (!x_do(kvmd_all_quiet, 0))
		return false;
	for (s = 0; s < 2; s++)
		if (kv_pte_is_present(k->pte[s]) && !k->gone && !sc.crash)
			x_check(!kvmd_is_busy(k, s), "reclaim is starved");
	return true;
}

static bool kvmd_run(void *locals)
{
	struct kvmd *k = locals;
	u64 what = x_choose(sc.crash ? 7 : 6);

	if (what == 0)
		kvmd_serve(k);
	else if (what == 1)
		kvmd_move(k);
	else if (what < 5)
		kvmd_free(k, (u8)(what - 2));
	else if (what == 5)
		return kvmd_end(k);
	else if (!k->gone)
		k->gone = (u8)x_do(kvmd_gone, 0);
	return false;
}

static void init(void *ghost, void *locals[X_ACTORS])
{
	struct ghost *g = ghost;
	struct client *c = locals[0];
	struct kvmd *k = locals[2];

	x_word(&w.status[0].active_step, "active0", 0);
	x_word(&w.status[1].active_step, "active1", 0);
	x_word(&w.rank.completed, "completed", 0);
	x_word(&w.desc[0].gen, "gen0", 1);
	x_word(&w.desc[1].gen, "gen1", 1);
	x_word(&w.pte[0], "pte0", RW);
	x_word(&w.pte[1], "pte1", 0);
	x_word(&w.req, "req", 0);
	x_word(&w.rep, "rep", 0);
	g->token[0] = 1;
	g->token[1] = g->token[2] = GARBAGE;
	g->content[0] = 1;
	c->gen[0] = c->gen[1] = 1;
	c->pte[0] = RW;
	k->gen[0] = k->gen[1] = 1;
	k->pte[0] = RW;
	k->is_free[1] = k->is_free[2] = 1;
}

static const struct x_world step_world = {
	.actor = { { "client", client_run, sizeof(struct client) },
		   { "device", dev_run, 0 },
		   { "kvmd", kvmd_run, sizeof(struct kvmd) } },
	.nr_actors = 3,
	.init = init,
	.ghost_bytes = sizeof(struct ghost),
};

_Static_assert(sizeof(struct ghost) <= X_GHOST, "ghost");
_Static_assert(sizeof(struct kvmd) <= X_LOCALS, "kvmd");
_Static_assert(sizeof(struct client) <= X_LOCALS, "client");

static const struct scenario {
	const char *name;
	u8 steps, moves;
	bool fork, kill, crash, reads;
} scenarios[] = {
	/* name, steps, moves, fork, kill, crash, reads */
	{ "one space, two steps, one move", 2, 1, 0, 0, 0, 0 },
	{ "one space, two steps, two moves", 2, 2, 0, 0, 0, 1 },
	{ "fork, one step, one move", 1, 1, 1, 0, 0, 0 },
	{ "fork, two steps", 2, 0, 1, 0, 0, 1 },
	{ "fork and kill, two steps", 2, 0, 1, 1, 0, 0 },
	{ "two steps and death, one move", 2, 1, 0, 0, 1, 0 },
	{ "one space, three steps, one move", 3, 1, 0, 0, 0, 0 },
	{ "fork and kill, two steps, one move", 2, 1, 1, 1, 0, 0 },
};

static void explore(const struct scenario *s, enum rule off, bool pso,
		    bool show, struct x_result *r)
{
	struct x_world world = step_world;

	world.name = s->name;
	world.pso = pso;
	sc.off = off;
	sc.steps = s->steps;
	sc.moves = s->moves;
	sc.fork = s->fork;
	sc.kill = s->kill;
	sc.crash = s->crash;
	sc.reads = s->reads;
	x_explore(&world, show, r);
}

static void all_pass(bool pso)
{
	struct x_result r;
	double begin;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		begin = th_now();
		explore(&scenarios[i], RULE_NONE, pso, true, &r);
		TH_LOG("%s, %s: %llu states, %.1f s", scenarios[i].name,
		       pso ? "PSO" : "TSO", (unsigned long long)r.states,
		       th_now() - begin);
		EXPECT_TRUE(r.complete);
		EXPECT_TRUE(r.failed == NULL);
	}
}

TEST_TIMEOUT(step, holds_in_every_order_of_stores_under_tso, 240)
{
	all_pass(false);
}

TEST_TIMEOUT(step, holds_when_stores_pass_each_other, 240)
{
	all_pass(true);
}

TEST_TIMEOUT(step, fails_without_any_one_of_its_rules, 240)
{
	struct x_result r = { 0 };
	u32 rule, i, found = 0;

	for (rule = 1; rule < NR_RULES; rule++) {
		for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
			explore(&scenarios[i], rule, rule >= K2_RELEASE, false,
				&r);
			if (r.failed)
				break;
		}
		TH_LOG("without %s: %s (%s, %llu states)", rule_name[rule],
		       r.failed ? r.failed : "nothing found",
		       r.failed ? scenarios[i].name : "all",
		       (unsigned long long)r.states);
		EXPECT_TRUE(r.failed != NULL);
		found += r.failed != NULL;
	}
	TH_LOG("figure: explorer %u of %u rules missed when taken away", found,
	       NR_RULES - 1);
}

TEST_HARNESS_MAIN
