/* SPDX-License-Identifier: MIT */
/*
 * test_compact_model.c - pages that move, among everything else that happens
 *
 * timeout: 120
 *
 * Clients of one tenant with pages of four geometries reserve, fork, truncate,
 * publish, map, destroy and die at random, on a device that is too small now
 * and then, so that pages go to swap as well; copies, moves and the disk take
 * their time, and fail. What each page holds is kept row by row, and every row
 * that a step reads is compared with what its tokens call for, when the step
 * begins and again when it ends.
 *
 * In the end everybody is idle, and what is pinned comes near what is held.
 */
#include <errno.h>

#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

#define MS	1000000ull
#define CLIENTS 2u
#define SPACES	40u
#define LEN	480u /* tokens, about */
#define ROOM	(LEN + 64)
#define PT	16u /* tokens of a page */
#define UNIT	4096u
#define GEOMS	4u
#define AREAS	2u
#define PAGES	(AREAS * ROOM / PT)

/* Slabs of one chunk, two, one, one; of each kind of space two geometries. */
static const u32 bytes_of[GEOMS] = { 48 << 10, 448 << 10, 128 << 10,
				     320 << 10 };
static const u32 window_of[GEOMS] = { 0, 100, 0, 0 };

struct row_space {
	bool live;
	u32 slot, kind, len, published;
	u32 tokens[ROOM];
};

struct row_page {
	u64 off; /* on the device */
	u32 rows; /* bits: that are read */
	u64 want[PT];
};

/* A step that runs: what it reads has to be there until it ends. */
struct row_step {
	bool runs;
	u64 number;
	u32 nr;
	struct row_page page[PAGES];
};

struct model {
	struct mt t;
	u64 rnd, now;
	u64 (*rows)[PT]; /* [device unit]: hash of the tokens up to each */
	u64 (*slots)[PT]; /* [swap unit] */
	struct {
		u32 id, geom[GEOMS];
		struct row_space space[SPACES];
		struct row_step step;
	} c[CLIENTS];
	u32 tenant;
	u64 nr_rows, nr_deaths;
};

static struct model *the_model;

static u32 roll(struct model *m, u32 n)
{
	return (u32)(hash_random(&m->rnd) % n);
}

static u64 row_of(const u32 *tokens, u32 pos, u32 geom)
{
	return hash_add(hash_bytes(tokens, (pos + 1) * sizeof(*tokens), 1),
			geom);
}

/* ---- the device and the disk ---- */

static void rows_move(struct mt *t, u64 src, u64 dst, u32 bytes)
{
	struct model *m = the_model;

	(void)t;
	(void)bytes;
	memcpy(m->rows[dst / UNIT], m->rows[src / UNIT], sizeof(m->rows[0]));
}

static void rows_scrub(struct mt *t, u32 extent)
{
	u64 per = KV_EXTENT_SIZE / UNIT;

	(void)t;
	memset(the_model->rows[extent * per], 0,
	       per * sizeof(the_model->rows[0]));
}

static void rows_swap(struct mt *t, const struct mm_swap_io *io, bool in)
{
	u64 *dev = the_model->rows[io->dev_off / UNIT];
	u64 *slot = the_model->slots[io->tier_off / UNIT];

	(void)t;
	memcpy(in ? dev : slot, in ? slot : dev, PT * sizeof(*dev));
}

static u64 page_off(u32 geom, u32 entry)
{
	u32 bytes = bytes_of[geom];

	return (u64)entry * (bytes & -bytes);
}

static u64 *page_rows(struct model *m, u64 off)
{
	return m->rows[off / UNIT];
}

/* ---- steps ---- */

static kv_pte_t pte_of(struct model *m, u32 c, const struct row_space *s, u32 k,
		       u32 page)
{
	return mt_pte(&m->t, m->c[c].id, s->slot, k, page);
}

static u32 first_read(const struct row_space *s, u32 geom)
{
	u32 w = window_of[geom];

	return w && s->len > w ? s->len - w : 0;
}

static void step_verify(struct model *m, const struct row_step *st)
{
	u32 i, r;

	for (i = 0; i < st->nr; i++)
		for (r = 0; r < PT; r++) {
			if (!(st->page[i].rows & (1u << r)))
				continue;
			ASSERT_EQ(page_rows(m, st->page[i].off)[r],
				  st->page[i].want[r]);
			m->nr_rows++;
		}
}

/* Remember what a step reads of a space. */
static void step_reads(struct model *m, u32 c, const struct row_space *s)
{
	struct row_step *st = &m->c[c].step;
	u32 k, g, page, r, pos;

	st->nr = 0;
	for (k = 0; k < AREAS; k++) {
		g = s->kind * AREAS + k;
		for (page = first_read(s, g) / PT; page * PT < s->len; page++) {
			struct row_page *p = &st->page[st->nr++];
			kv_pte_t pte = pte_of(m, c, s, k, page);

			ASSERT_TRUE(kv_pte_can(pte, 0));
			p->off = page_off(g, kv_pte_frame(pte));
			p->rows = 0;
			for (r = 0; r < PT; r++) {
				pos = page * PT + r;
				if (pos < first_read(s, g) || pos >= s->len)
					continue;
				p->want[r] = row_of(s->tokens, pos, g);
				p->rows |= 1u << r;
			}
		}
	}
	step_verify(m, st);
}

static void step_ends(struct model *m, u32 c)
{
	struct row_step *st = &m->c[c].step;

	if (!st->runs)
		return;
	step_verify(m, st);
	st->runs = false;
	kv_step_end(&m->t.cl[m->c[c].id].status->rank[0], st->number);
}

static void set_len(struct model *m, u32 c, struct row_space *s, u32 len)
{
	s->len = len;
	s->published = min(s->published, len / PT * PT);
	kv_store_release(&m->t.cl[m->c[c].id].status->space[s->slot].len,
			 (u64)len);
}

/* Whatever is on its way arrives, until nothing is. */
static void all_arrive(struct model *m)
{
	bool moves = m->t.hold_moves, swap = m->t.hold_swap;

	m->t.hold_moves = m->t.hold_swap = m->t.hold_copies = false;
	do {
		mt_copy_answer(&m->t, 0);
		mt_move_answer(&m->t, 0);
		mt_swap_answer(&m->t, 0);
		mt_drain(&m->t);
	} while (m->t.nr_copy | m->t.nr_moving | m->t.nr_io);
	m->t.hold_moves = moves;
	m->t.hold_swap = swap;
	m->t.hold_copies = true;
}

/* ---- operations ---- */

static void tokens_from(struct model *m, struct row_space *s, u32 at)
{
	/* few different beginnings, which part in many places */
	for (; at < ROOM; at++)
		s->tokens[at] = at / 100 * 1000 + roll(m, roll(m, 60) ? 1 : 3);
}

static void op_create(struct model *m, u32 c, struct row_space *s)
{
	struct kv_space_args args = { .nr_areas = AREAS };
	u32 k, seq, kind = roll(m, 2);
	int rc;

	for (k = 0; k < AREAS; k++) {
		args.area[k].geom = m->c[c].geom[kind * AREAS + k];
		args.area[k].window = window_of[kind * AREAS + k];
	}
	rc = mm_space_create(m->t.mm, m->c[c].id, &args);
	ASSERT_GE(rc, 0);
	memset(s, 0, sizeof(*s));
	s->live = true;
	s->slot = (u32)rc;
	s->kind = kind;
	tokens_from(m, s, 0);
	rc = 0;
	if (roll(m, 2))
		rc = mm_prefix_map(m->t.mm, m->c[c].id, s->slot, s->tokens,
				   1 + roll(m, LEN), &seq);
	mt_drain(&m->t);
	ASSERT_GE(rc, 0);
	set_len(m, c, s, (u32)rc);
	s->published = s->len / PT * PT;
}

static void write_rows(struct model *m, u32 c, struct row_space *s, u32 n)
{
	u32 pos, k, g;

	for (pos = s->len; pos < s->len + n; pos++)
		for (k = 0; k < AREAS; k++) {
			kv_pte_t pte = pte_of(m, c, s, k, pos / PT);

			g = s->kind * AREAS + k;
			ASSERT_TRUE(kv_pte_can(pte, 1));
			page_rows(m, page_off(g, kv_pte_frame(pte)))[pos % PT] =
				row_of(s->tokens, pos, g);
		}
}

static void op_append(struct model *m, u32 c, struct row_space *s)
{
	u32 n = min(1 + roll(m, 200), LEN + 40 - s->len), id = m->c[c].id;
	u32 nr_done = m->t.nr_done;
	struct mt_resv r;
	int rc, i;

	if (s->len >= LEN)
		return;
	step_ends(m, c); /* its number has to be below the new one's */
	rc = mt_reserve(&m->t, id, s->slot, s->len, n, 0, &r);
	if (rc == -EINPROGRESS) { /* pages of it are on their way */
		all_arrive(m);
		ASSERT_EQ(m->t.nr_done, nr_done + 1);
		rc = m->t.done[nr_done % MT_DONE].cqe.res;
		memcpy(r.copies, m->t.done[nr_done % MT_DONE].copies,
		       sizeof(r.copies));
	}
	if (rc == -ENODATA) { /* it gave its prefix up */
		ASSERT_EQ(mm_space_truncate(m->t.mm, id, s->slot, 0), 0);
		set_len(m, c, s, 0);
		return;
	}
	if (rc == -EAGAIN || rc == -E2BIG)
		return;
	ASSERT_GE(rc, 0);
	kv_step_mark(&m->t.cl[id].status->space[s->slot], m->t.cl[id].step);
	for (i = 0; i < rc; i++) {
		u32 g = r.copies[i].geom;

		memcpy(page_rows(m, page_off(g, r.copies[i].dst)),
		       page_rows(m, page_off(g, r.copies[i].src)),
		       r.copies[i].tokens * sizeof(u64));
	}
	write_rows(m, c, s, n);
	set_len(m, c, s, s->len + n);
	step_reads(m, c, s);
	m->c[c].step.runs = true;
	m->c[c].step.number = m->t.cl[id].step;
	if (roll(m, 2))
		step_ends(m, c);
}

static void op_publish(struct model *m, u32 c, struct row_space *s)
{
	u32 seq, from = min(s->published, s->len / PT * PT);
	int rc;

	rc = mm_prefix_publish(m->t.mm, m->c[c].id, s->slot, from,
			       s->tokens + from, s->len - from, roll(m, 2),
			       &seq);
	mt_drain(&m->t);
	if (rc == -ENODATA) {
		s->published = 0;
		return;
	}
	ASSERT_GE(rc, 0);
	s->published = (u32)rc / PT * PT;
}

static void op_fork(struct model *m, u32 c, const struct row_space *s,
		    struct row_space *to)
{
	u32 len = s->len ? roll(m, s->len + 1) : 0;
	int rc;

	if (to->live || to == s)
		return;
	rc = mm_space_fork(m->t.mm, m->c[c].id, s->slot, len);
	if (rc == -ENODATA)
		return;
	ASSERT_GE(rc, 0);
	*to = *s;
	to->slot = (u32)rc;
	tokens_from(m, to, len);
	set_len(m, c, to, len);
}

static void op_truncate(struct model *m, u32 c, struct row_space *s)
{
	u32 len = roll(m, s->len + 1);
	int rc = mm_space_truncate(m->t.mm, m->c[c].id, s->slot, len);

	if (rc == -ENODATA)
		return;
	ASSERT_EQ(rc, 0);
	tokens_from(m, s, len);
	set_len(m, c, s, len);
}

static void op_destroy(struct model *m, u32 c, struct row_space *s)
{
	ASSERT_EQ(mm_space_destroy(m->t.mm, m->c[c].id, s->slot), 0);
	s->live = false;
}

static void client_begin(struct model *m, u32 c)
{
	u32 g;

	memset(&m->c[c], 0, sizeof(m->c[c]));
	m->c[c].id = mt_attach(&m->t, m->tenant);
	for (g = 0; g < GEOMS; g++) {
		m->c[c].geom[g] = mt_geom(&m->t, m->c[c].id, bytes_of[g]);
		ASSERT_EQ(m->c[c].geom[g], g);
	}
}

static void client_dies(struct model *m, u32 c)
{
	step_ends(m, c);
	mm_client_exit(m->t.mm, m->c[c].id);
	mt_check(&m->t);
	mm_client_gone(m->t.mm, m->c[c].id);
	mt_drain(&m->t);
	mt_check(&m->t);
	all_arrive(m);
	client_begin(m, c);
	m->nr_deaths++;
}

static void some_arrive(struct model *m)
{
	m->t.hold_copies = roll(m, 4);
	m->t.hold_moves = roll(m, 4);
	m->t.hold_swap = roll(m, 4);
	if (!roll(m, 3))
		mt_copy_answer(&m->t, roll(m, 20) ? 0 : -EIO);
	if (!roll(m, 3))
		mt_move_answer(&m->t, roll(m, 20) ? 0 : -EIO);
	if (!roll(m, 3))
		mt_swap_answer(&m->t, 0);
	mt_drain(&m->t);
}

static void op_one(struct model *m)
{
	u32 c = roll(m, CLIENTS), what = roll(m, 100);
	struct row_space *s = &m->c[c].space[roll(m, SPACES)];

	some_arrive(m);
	if (!roll(m, 1500))
		client_dies(m, c);
	else if (!s->live)
		op_create(m, c, s);
	else if (what < 7)
		op_destroy(m, c, s);
	else if (what < 15)
		op_truncate(m, c, s);
	else if (what < 25)
		op_fork(m, c, s, &m->c[c].space[roll(m, SPACES)]);
	else if (what < 28)
		op_publish(m, c, s);
	else
		op_append(m, c, s);
	mt_drain(&m->t);
	if (roll(m, 2))
		step_ends(m, c);
	m->now += roll(m, 20) * MS;
	mm_tick(m->t.mm, m->now);
	mt_drain(&m->t);
}

/* Everybody is idle for a minute. */
static void rest(struct model *m)
{
	u32 i;

	for (i = 0; i < CLIENTS; i++)
		step_ends(m, i);
	all_arrive(m);
	m->t.hold_moves = m->t.hold_swap = m->t.hold_copies = false;
	for (i = 0; i < 6000; i++) {
		m->now += 10 * MS;
		mm_tick(m->t.mm, m->now);
		mt_drain(&m->t);
	}
	mt_check(&m->t);
}

struct sums {
	u64 pinned, held;
};

static void add_client(struct mt *t, u32 client, struct sums *sum)
{
	struct mm_client_info ci;

	ASSERT_EQ(mm_client_info(t->mm, client, &ci), 0);
	sum->pinned += ci.held_bytes;
	sum->held += ci.frame_bytes;
}

static struct sums measure(struct model *m)
{
	struct sums s = { 0 };
	u32 i;

	for (i = 0; i < CLIENTS; i++)
		add_client(&m->t, m->c[i].id, &s);
	return s;
}

static void every_space_is_right(struct model *m)
{
	u32 c, i, page, k;

	for (c = 0; c < CLIENTS; c++)
		for (i = 0; i < SPACES; i++) {
			struct row_space *s = &m->c[c].space[i];
			bool here = s->live;

			for (k = 0; here && k < AREAS; k++) {
				u32 g = s->kind * AREAS + k;

				for (page = first_read(s, g) / PT;
				     page * PT < s->len; page++)
					here &= kv_pte_is_present(
						pte_of(m, c, s, k, page));
			}
			if (here)
				step_reads(m, c, s);
		}
}

static void model_run(u64 seed, u32 extents, u32 nr_ops, bool measured)
{
	static struct model m;
	size_t units = (size_t)extents * (KV_EXTENT_SIZE / UNIT);
	u64 swap = 64ull << 20;
	struct sums before, after;
	struct mm_counts n;
	u32 i;

	memset(&m, 0, sizeof(m));
	the_model = &m;
	m.rnd = seed;
	m.rows = mt_map(units * sizeof(m.rows[0]), PROT_READ | PROT_WRITE);
	m.slots = mt_map(swap / UNIT * sizeof(m.slots[0]),
			 PROT_READ | PROT_WRITE);
	mt_init_swap(&m.t, extents, 1, swap, 0);
	m.t.move = rows_move;
	m.t.scrub = rows_scrub;
	m.t.swap = rows_swap;
	m.tenant = mt_tenant(&m.t, "m", MM_LIMIT_NONE);
	mm_tenant_swap_limit(m.t.mm, m.tenant, MM_LIMIT_NONE);
	for (i = 0; i < CLIENTS; i++)
		client_begin(&m, i);
	for (i = 0; i < nr_ops; i++) {
		op_one(&m);
		if (i % 64 == 0)
			mt_check(&m.t);
	}
	before = measure(&m);
	rest(&m);
	after = measure(&m);
	every_space_is_right(&m);
	mm_counts_get(m.t.mm, &n);
	EXPECT_EQ(n.invalid, 0);
	EXPECT_GT(n.compact_moved, 0);
	EXPECT_GT(n.compact_freed_extents, 0);
	if (measured)
		EXPECT_LE((double)after.pinned, 1.1 * (double)after.held);
	printf("# seed %llu: %llu rows compared, %llu deaths; %llu pages moved, "
	       "%llu back, %llu swapped out, %llu published; pinned / held "
	       "%.3f, then %.3f of %llu MiB; %.2f bytes moved a byte freed\n",
	       (unsigned long long)seed, (unsigned long long)m.nr_rows,
	       (unsigned long long)m.nr_deaths,
	       (unsigned long long)n.compact_moved,
	       (unsigned long long)n.compact_back,
	       (unsigned long long)n.swap_out,
	       (unsigned long long)n.prefix_published,
	       (double)before.pinned / (double)before.held,
	       (double)after.pinned / (double)after.held,
	       (unsigned long long)(after.held >> 20),
	       (double)n.compact_bytes /
		       (double)(n.compact_freed_extents * KV_EXTENT_SIZE));
	mt_fini(&m.t);
	munmap(m.rows, units * sizeof(m.rows[0]));
	munmap(m.slots, swap / UNIT * sizeof(m.slots[0]));
}

TEST(compact_model, every_row_a_step_reads_is_what_its_tokens_call_for)
{
	u64 seed;

	for (seed = 1; seed <= 4; seed++)
		model_run(seed, seed % 2 ? 40 : 24, 4000, false);
}

TEST(compact_model, what_is_pinned_comes_near_what_is_held)
{
	u64 seed;

	for (seed = 11; seed <= 13; seed++)
		model_run(seed, 160, 4000, true);
}

TEST_HARNESS_MAIN
