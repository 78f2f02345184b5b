/* SPDX-License-Identifier: MIT */
/*
 * mmtest.h - a host for the core, in one process
 *
 * Plays the daemon: gives the core its memory, tables and status arrays,
 * drains its requests and answers them at once, or when a test says so
 * (hold_memory). What the core says to clients is kept: grants, completions,
 * events. Tables are sparse mappings; table_grow() makes the leaves
 * accessible only then, so that a core that uses a leaf too early faults.
 */
#ifndef SELFTESTS_KVMD_MM_MMTEST_H
#define SELFTESTS_KVMD_MM_MMTEST_H

#include "selftests/harness.h"
#include "kvmd/mm/mm.h"
#include "lib/hash.h"
#include <kv/step.h>
#include <kv/trace.h>

#define MT_CLIENTS 16u
#define MT_DONE	   56u

struct mt_done {
	u32 client;
	struct kv_cqe cqe;
	struct kv_copy copies[64];
	struct kv_holder holder; /* the first */
	u64 since_ns;
	struct mm_faults faults;
};

struct mt_client {
	bool live;
	u32 index;
	u64 step;
	struct kv_table_hdr *table;
	struct kv_status *status;
	u32 grants, withdraws, shared, seq, kills;
	u64 nr_events[8];
	u64 last_arg[8];
};

/* Charged for what nobody has open; 0 bytes: gone. */
struct mt_weights {
	u32 tenant;
	u64 bytes;
	bool goes;
};

struct mt {
	struct mm *mm;
	void *state;
	int state_fd; /* where it is mapped from */
	struct mm_config cfg;
	struct mt_client cl[MT_CLIENTS];
	bool hold_memory; /* keep populates and scrubs unanswered */
	int populate_err; /* answer populates with this */
	u32 grow_fail_in; /* the n-th table_grow fails, 0: none */
	u32 nr_grows;
	u32 held[1024], nr_held; /* extents waiting for an answer */
	bool held_scrub[1024];
	u32 nr_populate, nr_scrub, nr_release;
	bool hold_swap; /* keep writes and reads of pages unanswered */
	int swap_err; /* answer them with this */
	struct mm_swap_io io[256];
	enum mm_req_type io_type[256];
	u32 nr_io;
	u32 nr_swap_out, nr_swap_in, nr_demote;
	u32 stored_percent; /* of a page that a tier takes, 0: all of it */
	bool hold_copies; /* keep copies into page caches unanswered */
	int copy_err; /* answer them with this */
	struct mm_copy_io copy[1024];
	u32 nr_copy, nr_copied;
	bool hold_moves; /* keep moves of pages unanswered */
	int move_err; /* answer them with this */
	struct mm_move_io moving[64];
	u32 nr_moving, nr_moved;
	/* what a page holds, if a test wants to know; NULL */
	void (*move)(struct mt *t, u64 src, u64 dst, u32 bytes);
	void (*scrub)(struct mt *t, u32 extent);
	void (*swap)(struct mt *t, const struct mm_swap_io *io, bool in);
	void (*demote)(struct mt *t, const struct mm_swap_io *io);
	struct mt_done done[MT_DONE];
	u32 nr_done;
	u64 passed[KV_TP_MAX]; /* trace points */
	struct mt_weights idle[4]; /* the oldest first */
	bool reopen; /* what the core wants to go stays, and is idle no more */
	u32 mark_at; /* at this point the client marks this space */
	struct kv_space_status *mark;
};

static inline void *mt_map(size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

/* Memory for the core's block, as kvmd has it: a memfd. */
static inline void *mt_map_state(const struct mt *t, int *fd)
{
	size_t bytes = mm_state_bytes(&t->cfg);
	void *p;

	*fd = memfd_create("state", MFD_CLOEXEC);
	ASSERT_GE(*fd, 0);
	ASSERT_EQ(ftruncate(*fd, (off_t)bytes), 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

static inline int mt_grow(void *host, u32 client, u32 nr_leaves)
{
	struct mt *t = host;

	t->nr_grows++;
	if (t->grow_fail_in && !--t->grow_fail_in)
		return -ENOMEM;
	mprotect(t->cl[client].table,
		 KV_TABLE_LEAVES_OFF + (size_t)nr_leaves * 4096,
		 PROT_READ | PROT_WRITE);
	return 0;
}

static inline void mt_trace(void *host, u32 point, u32 client, u64 arg)
{
	struct mt *t = host;

	(void)client;
	(void)arg;
	t->passed[point]++;
	if (t->mark && point == t->mark_at)
		kv_step_mark(t->mark, ~0ull);
}

static inline u64 mt_spare(void *host, u32 tenant, u64 want, u64 most)
{
	struct mt *t = host;
	u64 got = 0;
	u32 i;

	for (i = 0; i < 4 && (!want || got < want); i++) {
		if (t->idle[i].tenant != tenant ||
		    t->idle[i].bytes > most - got)
			continue;
		got += t->idle[i].bytes;
		t->idle[i].goes |= want && t->idle[i].bytes;
	}
	return got;
}

static const struct mm_host_ops mt_ops = { .table_grow = mt_grow,
					   .trace = mt_trace,
					   .spare = mt_spare };

/* One more is on its way, now that all of it is written: whoever dies here
 * (recover_model.h) leaves no half of one. */
static inline void mt_kept(u32 *nr)
{
	__asm__ __volatile__("" ::: "memory");
	(*nr)++;
}

/* Answer what hold_memory kept. */
static inline void mt_answer(struct mt *t, int err)
{
	u32 i, n = t->nr_held;

	t->nr_held = 0;
	for (i = 0; i < n; i++) {
		if (t->held_scrub[i])
			mm_scrub_done(t->mm, t->held[i], err);
		else
			mm_populate_done(t->mm, t->held[i], err);
	}
}

static inline void mt_memory(struct mt *t, u32 extent, bool scrub)
{
	if (scrub)
		t->nr_scrub++;
	else
		t->nr_populate++;
	t->held[t->nr_held] = extent;
	t->held_scrub[t->nr_held] = scrub;
	mt_kept(&t->nr_held);
	if (!t->hold_memory)
		mt_answer(t, scrub ? 0 : t->populate_err);
}

/* Answer a write, read or copy of a page. A sum stands for the content. */
static inline void mt_swap_answer_one(struct mt *t, const struct mm_swap_io *io,
				      enum mm_req_type type, int err)
{
	if (type != MM_REQ_SWAP_OUT)
		EXPECT_EQ(io->sum, io->key * 3);
	if (type == MM_REQ_DEMOTE && t->demote && !err)
		t->demote(t, io);
	if (type != MM_REQ_DEMOTE && t->swap && !err)
		t->swap(t, io, type == MM_REQ_SWAP_IN);
	if (type != MM_REQ_SWAP_IN && t->stored_percent && !io->tier)
		mm_swap_stored(t->mm, io->slot,
			       io->bytes / 100 * t->stored_percent);
	mm_swap_done(t->mm, io->slot, err, io->key * 3);
}

/* Answer what hold_swap kept. */
static inline void mt_swap_answer(struct mt *t, int err)
{
	u32 i, n = t->nr_io;

	t->nr_io = 0;
	for (i = 0; i < n; i++)
		mt_swap_answer_one(t, &t->io[i], t->io_type[i], err);
}

static inline void mt_swap(struct mt *t, const struct mm_swap_io *io,
			   enum mm_req_type type)
{
	EXPECT_LE(io->tier_off + io->bytes, t->cfg.swap_bytes[io->tier]);
	EXPECT_LE(io->dev_off + io->bytes, t->cfg.device_bytes);
	if (type == MM_REQ_DEMOTE) {
		EXPECT_LT(io->from, io->tier);
		EXPECT_LE(io->from_off + io->bytes,
			  t->cfg.swap_bytes[io->from]);
	}
	t->nr_swap_in += type == MM_REQ_SWAP_IN;
	t->nr_swap_out += type == MM_REQ_SWAP_OUT;
	t->nr_demote += type == MM_REQ_DEMOTE;
	t->io[t->nr_io] = *io;
	t->io_type[t->nr_io] = type;
	mt_kept(&t->nr_io);
	if (!t->hold_swap)
		mt_swap_answer(t, t->swap_err);
}

/* Answer what hold_copies kept. */
static inline void mt_copy_answer(struct mt *t, int err)
{
	u32 i, n = t->nr_copy;

	t->nr_copy = 0;
	for (i = 0; i < n; i++) {
		const struct mm_copy_io *io = &t->copy[i];

		if (t->move && !err)
			t->move(t, io->src, io->dst, io->bytes);
		t->nr_copied++;
		mm_copy_done(t->mm, io->node, io->area, err);
	}
}

static inline void mt_copy(struct mt *t, const struct mm_copy_io *io)
{
	EXPECT_LE(io->src + io->bytes, t->cfg.device_bytes);
	EXPECT_LE(io->dst + io->bytes, t->cfg.device_bytes);
	EXPECT_NE(io->src, io->dst);
	t->copy[t->nr_copy] = *io;
	mt_kept(&t->nr_copy);
	if (!t->hold_copies)
		mt_copy_answer(t, t->copy_err);
}

/* Answer what hold_moves kept. */
static inline void mt_move_answer(struct mt *t, int err)
{
	u32 i, n = t->nr_moving;
	struct mm_move_io io[64];

	memcpy(io, t->moving, sizeof(io));
	t->nr_moving = 0;
	for (i = 0; i < n; i++) {
		if (t->move && !err)
			t->move(t, io[i].src, io[i].dst, io[i].bytes);
		t->nr_moved++;
		mm_move_done(t->mm, io[i].move, err);
	}
}

static inline void mt_move(struct mt *t, const struct mm_move_io *io)
{
	EXPECT_LE(io->src + io->bytes, t->cfg.device_bytes);
	EXPECT_LE(io->dst + io->bytes, t->cfg.device_bytes);
	EXPECT_NE(io->src, io->dst);
	t->moving[t->nr_moving] = *io;
	mt_kept(&t->nr_moving);
	if (!t->hold_moves)
		mt_move_answer(t, t->move_err);
}

static inline void mt_complete(struct mt *t, const struct mm_request *req)
{
	struct mt_done *d = &t->done[t->nr_done % MT_DONE];
	u32 nr;

	memset(d, 0, sizeof(*d));
	d->client = req->client;
	d->cqe = req->cqe;
	d->since_ns = req->since_ns;
	d->faults = req->faults;
	if (req->cqe.res >= 0) {
		nr = min((u32)req->cqe.res, 64u);
		memcpy(d->copies, req->copies, sizeof(d->copies[0]) * nr);
	} else if (req->cqe.out_len) {
		d->holder = req->holders[0];
	}
	t->nr_done++;
}

static inline void mt_requests(struct mt *t)
{
	struct mm_request req;
	struct mt_client *c;

	while (mm_next_request(t->mm, &req)) {
		c = req.client < MT_CLIENTS ? &t->cl[req.client] : NULL;
		switch (req.type) {
		case MM_REQ_POPULATE:
		case MM_REQ_SCRUB:
			if (t->scrub)
				t->scrub(t, req.extent);
			mt_memory(t, req.extent, req.type == MM_REQ_SCRUB);
			break;
		case MM_REQ_RELEASE:
			t->nr_release++;
			break;
		case MM_REQ_GRANT:
			c->grants++;
			c->shared += req.shared;
			EXPECT_EQ(++c->seq, req.seq);
			break;
		case MM_REQ_WITHDRAW:
			if (!req.shared)
				c->withdraws++;
			break;
		case MM_REQ_COMPLETE:
			EXPECT_LE(req.cqe.extent_seq, c->seq);
			mt_complete(t, &req);
			break;
		case MM_REQ_SWAP_OUT:
		case MM_REQ_SWAP_IN:
		case MM_REQ_DEMOTE:
			mt_swap(t, &req.swap, req.type);
			break;
		case MM_REQ_COPY:
			mt_copy(t, &req.copy);
			break;
		case MM_REQ_MOVE:
			mt_move(t, &req.move);
			break;
		case MM_REQ_KILL:
			c->kills++;
			break;
		case MM_REQ_EVENT:
			c->nr_events[req.event.type]++;
			c->last_arg[req.event.type] = req.event.arg;
			break;
		}
	}
}

/* Weights that the core wants to go do. Return: whether any was to. */
static inline bool mt_let_go(struct mt *t)
{
	bool some = false;
	u32 i;

	for (i = 0; i < 4; i++) {
		if (!t->idle[i].goes)
			continue;
		some = true;
		if (!t->reopen)
			mm_tenant_uncharge(t->mm, t->idle[i].tenant,
					   t->idle[i].bytes);
		memset(&t->idle[i], 0, sizeof(t->idle[i]));
	}
	if (some)
		mm_spared(t->mm);
	return some;
}

/* Do what the core asks for, until it asks for nothing. */
static inline void mt_drain(struct mt *t)
{
	do
		mt_requests(t);
	while (mt_let_go(t));
}

static inline void mt_report(void *ctx, const char *sentence)
{
	(void)ctx;
	printf("mm_check: %s\n", sentence);
}

static inline void mt_check(struct mt *t)
{
	ASSERT_EQ(mm_check(t->mm, mt_report, NULL), 0);
}

static inline void mt_init_cfg(struct mt *t, const struct mm_config *cfg)
{
	memset(t, 0, sizeof(*t));
	t->cfg = *cfg;
	t->state = mt_map_state(t, &t->state_fd);
	ASSERT_EQ(mm_create(&t->cfg, t->state, &mt_ops, t, &t->mm), 0);
	mt_drain(t);
}

/* With swap tiers of so many bytes. */
static inline void mt_init_swap(struct mt *t, u32 extents, u32 ready, u64 swap0,
				u64 swap1)
{
	const struct mm_config cfg = {
		.device_bytes = (u64)extents * KV_EXTENT_SIZE,
		.swap_bytes = { swap0, swap1 },
		.ready_extents = ready,
	};

	mt_init_cfg(t, &cfg);
}

static inline void mt_init(struct mt *t, u32 extents, u32 ready)
{
	mt_init_swap(t, extents, ready, 0, 0);
}

static inline void mt_fini(struct mt *t)
{
	u32 i;

	if (!t->mm)
		return;
	for (i = 0; i < MT_CLIENTS; i++) {
		if (!t->cl[i].table)
			continue;
		munmap(t->cl[i].table, KV_TABLE_SIZE_MAX);
		munmap(t->cl[i].status, sizeof(struct kv_status));
	}
	mm_destroy(t->mm);
	munmap(t->state, mm_state_bytes(&t->cfg));
	close(t->state_fd);
}

static inline u32 mt_tenant(struct mt *t, const char *name, u64 max_bytes)
{
	struct mm_limits lim = { .max_bytes = max_bytes };
	u32 id = MM_NONE;

	ASSERT_EQ(mm_tenant_get(t->mm, name, &id), 0);
	ASSERT_EQ(mm_tenant_limit(t->mm, id, &lim), 0);
	return id;
}

/* Weights of a tenant that nobody has open any more. */
static inline void mt_idle_weights(struct mt *t, u32 tenant, u64 bytes)
{
	u32 i = 0;

	ASSERT_EQ(mm_tenant_charge(t->mm, tenant, bytes), 0);
	while (t->idle[i].bytes)
		i++;
	ASSERT_LT(i, 4u);
	t->idle[i].tenant = tenant;
	t->idle[i].bytes = bytes;
	mm_spared(t->mm);
	mt_drain(t);
}

static inline u32 mt_attach(struct mt *t, u32 tenant)
{
	struct mm_attach at = { .tenant = tenant, .name = "test" };
	struct mt_client *c;
	u32 i = MM_NONE;

	at.table = mt_map(KV_TABLE_SIZE_MAX, PROT_NONE);
	mprotect(at.table, KV_TABLE_LEAVES_OFF, PROT_READ | PROT_WRITE);
	at.status = mt_map(sizeof(struct kv_status), PROT_READ | PROT_WRITE);
	ASSERT_EQ(mm_client_attach(t->mm, &at, &i), 0);
	ASSERT_LT(i, MT_CLIENTS);
	c = &t->cl[i];
	if (c->table) {
		munmap(c->table, KV_TABLE_SIZE_MAX);
		munmap(c->status, sizeof(struct kv_status));
	}
	memset(c, 0, sizeof(*c));
	c->live = true;
	c->index = i;
	c->table = at.table;
	c->status = at.status;
	mt_drain(t);
	return i;
}

/* A geometry of @page_bytes pages of 16 tokens. */
static inline struct kv_geometry mt_geometry(u32 page_bytes)
{
	return (struct kv_geometry){
		.page_tokens = 16,
		.nr_layers = 1,
		.nr_kv_heads = 1,
		.head_dim = (u16)(page_bytes / 64),
		.elem = KV_ELEM_BF16,
		.token_stride = page_bytes / 16,
		.head_stride = page_bytes / 16,
		.v_offset = page_bytes / 32,
		.layer_stride = page_bytes,
		.page_bytes = page_bytes,
	};
}

static inline u32 mt_geom(struct mt *t, u32 client, u32 page_bytes)
{
	struct kv_geometry g = mt_geometry(page_bytes);
	u32 id = MM_NONE;

	ASSERT_EQ(mm_geom_add(t->mm, client, &g, &id), 0);
	return id;
}

/* A space with one area per geometry given; window 0: all tokens. */
static inline int mt_space2(struct mt *t, u32 client, u32 g0, u32 w0, u32 g1,
			    u32 w1)
{
	struct kv_space_args a = { .nr_areas = g1 == MM_NONE ? 1 : 2 };

	a.area[0].geom = g0;
	a.area[0].window = w0;
	if (g1 != MM_NONE) {
		a.area[1].geom = g1;
		a.area[1].window = w1;
	}
	return mm_space_create(t->mm, client, &a);
}

static inline u32 mt_space(struct mt *t, u32 client, u32 geom)
{
	int rc = mt_space2(t, client, geom, 0, MM_NONE, 0);

	ASSERT_GE(rc, 0);
	return (u32)rc;
}

struct mt_resv {
	struct kv_copy copies[64];
	u32 seq;
	u64 extra;
};

/* Reserve [pos, pos + n) of one space in the client's next step. */
static inline int mt_reserve(struct mt *t, u32 client, u32 space, u64 pos,
			     u32 n, u32 flags, struct mt_resv *out)
{
	struct kv_resv_item it = { .space = space, .nr_tokens = n, .pos = pos };
	struct mm_resv r = { .step = ++t->cl[client].step,
			     .user_data = t->cl[client].step,
			     .items = &it,
			     .nr_items = 1,
			     .flags = flags,
			     .out_room = 4096 };
	u32 nr_done = t->nr_done;
	const struct mt_done *d = &t->done[nr_done % MT_DONE];
	struct mt_resv dummy;
	int rc;

	if (!out)
		out = &dummy;
	rc = mm_reserve(t->mm, client, &r, out->copies, &out->seq, &out->extra);
	mt_drain(t);
	if (rc != -EINPROGRESS || t->nr_done == nr_done)
		return rc;
	/* It had to wait for memory, which came at once. */
	memcpy(out->copies, d->copies, sizeof(out->copies));
	out->extra = d->cqe.extra;
	out->seq = d->cqe.extent_seq;
	return d->cqe.res;
}

/* All steps so far have ended on the device. */
static inline void mt_complete_all(struct mt *t, u32 client)
{
	struct mt_client *c = &t->cl[client];

	kv_step_end(&c->status->rank[0], c->step);
	mm_tick(t->mm, 1);
	mt_drain(t);
}

static inline kv_pte_t mt_pte(struct mt *t, u32 client, u32 space, u32 area,
			      u32 page)
{
	struct kv_table_hdr *table = t->cl[client].table;
	struct kv_area_desc *d = &kv_table_space(table, space)->area[area];
	u32 leaf = d->leaf[page / KV_LEAF_PTES];

	if (leaf == KV_LEAF_NONE)
		return 0;
	return kv_table_leaf(table, leaf)->pte[page % KV_LEAF_PTES];
}

static inline u64 mt_gen(struct mt *t, u32 client, u32 space)
{
	return kv_table_space(t->cl[client].table, space)->gen;
}

/* Pages of which so many fill an extent. */
#define MT_PAGE	      (512u << 10)
#define MT_PER_EXTENT 16u

/* A space of @pages pages that no step uses any more. */
static inline u32 mt_idle_space(struct mt *t, u32 client, u32 geom, u32 pages)
{
	u32 s = mt_space(t, client, geom);

	EXPECT_EQ(mt_reserve(t, client, s, 0, pages * 16, 0, NULL), 0);
	mt_complete_all(t, client);
	return s;
}

/* A tenant, a client of it, and that one's geometry. */
static inline void mt_join(struct mt *t, const char *name, u32 *tenant,
			   u32 *client, u32 *geom)
{
	*tenant = mt_tenant(t, name, MM_LIMIT_NONE);
	*client = mt_attach(t, *tenant);
	*geom = mt_geom(t, *client, MT_PAGE);
}

static inline u32 mt_extents(struct mt *t, u32 client)
{
	struct mm_client_info i;

	ASSERT_EQ(mm_client_info(t->mm, client, &i), 0);
	return i.nr_extents;
}

static inline u32 mt_nr_swapped(struct mt *t, u32 client, u32 space)
{
	struct mm_space_info si;

	ASSERT_EQ(mm_space_info(t->mm, client, space, &si), 0);
	return (u32)si.pages_swapped;
}

#endif
