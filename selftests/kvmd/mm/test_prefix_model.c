/* SPDX-License-Identifier: MIT */
/*
 * test_prefix_model.c - published prefixes against a model of every row
 *
 * Random clients with random sequences publish, map, fork, truncate, write and
 * die; what each page holds is kept row by row, so that every row a step reads
 * can be compared with what its tokens call for.
 */
#include <errno.h>

#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

static void set_len(struct mt *t, u32 client, u32 space, u64 len)
{
	kv_store_release(&t->cl[client].status->space[space].len, len);
}

#define M_CLIENTS 3u
#define M_SPACES  6u
#define M_LEN	  200u
#define M_UNIT	  4096u
#define M_AREAS	  2u

struct m_space {
	bool live;
	u32 slot;
	u32 len;
	u32 published;
	u32 tokens[M_LEN + 64];
};

/* A step that runs: what it reads has to be there until it ends. */
struct m_step {
	bool runs;
	u64 number;
	u32 nr;
	u32 entry[M_AREAS * 16], unit[M_AREAS * 16], rows[M_AREAS * 16];
	u64 want[M_AREAS * 16][16];
};

struct model {
	struct mt t;
	u64 rnd;
	u64 (*rows)[16]; /* [device unit][row]: hash of the tokens up to it */
	struct {
		u32 id, geom[M_AREAS];
		struct m_space space[M_SPACES];
		struct m_step step;
	} c[M_CLIENTS];
	u32 tenant;
	u64 nr_rows, nr_maps, nr_hits;
};

static struct model *the_model;
static const u32 m_window[M_AREAS] = { 0, 40 };
static const u32 m_bytes[M_AREAS] = { 128 << 10, 64 << 10 };

static u32 roll(struct model *m, u32 n)
{
	return (u32)(hash_random(&m->rnd) % n);
}

static u64 row_of(const u32 *tokens, u32 pos, u32 area)
{
	return hash_add(hash_bytes(tokens, (pos + 1) * sizeof(*tokens), 1),
			area);
}

static void model_move(struct mt *t, u64 src, u64 dst, u32 bytes)
{
	struct model *m = the_model;

	(void)t;
	(void)bytes;
	memcpy(m->rows[dst / M_UNIT], m->rows[src / M_UNIT],
	       sizeof(m->rows[0]));
}

static void model_scrub(struct mt *t, u32 extent)
{
	struct model *m = the_model;
	u64 per = KV_EXTENT_SIZE / M_UNIT;

	(void)t;
	memset(m->rows[extent * per], 0, per * sizeof(m->rows[0]));
}

static u64 *page_rows(struct model *m, u32 area, u32 entry)
{
	return m->rows[(u64)entry * (m_bytes[area] / M_UNIT)];
}

/* Remember what a step reads of a space. */
static void step_reads(struct model *m, u32 c, const struct m_space *s)
{
	struct m_step *st = &m->c[c].step;
	u32 k, page, first, r, pos;

	st->nr = 0;
	for (k = 0; k < M_AREAS; k++) {
		first = m_window[k] && s->len > m_window[k]
				? s->len - m_window[k]
				: 0;
		for (page = first / 16; page * 16 < s->len; page++) {
			kv_pte_t pte =
				mt_pte(&m->t, m->c[c].id, s->slot, k, page);
			u32 i = st->nr++;

			ASSERT_TRUE(kv_pte_can(pte, 0));
			st->entry[i] = kv_pte_frame(pte);
			st->unit[i] = k;
			st->rows[i] = 0;
			for (r = 0; r < 16; r++) {
				pos = page * 16 + r;
				st->want[i][r] = 0;
				if (pos >= first && pos < s->len) {
					st->want[i][r] =
						row_of(s->tokens, pos, k);
					st->rows[i] |= 1u << r;
				}
			}
		}
	}
}

static void step_verify(struct model *m, const struct m_step *st)
{
	u32 i, r;

	for (i = 0; i < st->nr; i++)
		for (r = 0; r < 16; r++)
			if (st->rows[i] & (1u << r)) {
				ASSERT_EQ(page_rows(m, st->unit[i],
						    st->entry[i])[r],
					  st->want[i][r]);
				m->nr_rows++;
			}
}

static void step_ends(struct model *m, u32 c)
{
	struct m_step *st = &m->c[c].step;

	if (!st->runs)
		return;
	step_verify(m, st);
	st->runs = false;
	kv_step_end(&m->t.cl[m->c[c].id].status->rank[0], st->number);
}

static void op_create(struct model *m, u32 c, struct m_space *s)
{
	struct kv_space_args args = { .nr_areas = M_AREAS };
	u32 k, seq, n = 1 + roll(m, M_LEN - 20);
	int rc;

	for (k = 0; k < M_AREAS; k++) {
		args.area[k].geom = m->c[c].geom[k];
		args.area[k].window = m_window[k];
	}
	rc = mm_space_create(m->t.mm, m->c[c].id, &args);
	ASSERT_GE(rc, 0);
	memset(s, 0, sizeof(*s));
	s->live = true;
	s->slot = (u32)rc;
	/* few different beginnings, which part in many places */
	for (k = 0; k < M_LEN + 64; k++)
		s->tokens[k] = k / 50 * 1000 + roll(m, roll(m, 30) ? 1 : 3);
	rc = mm_prefix_map(m->t.mm, m->c[c].id, s->slot, s->tokens, n, &seq);
	mt_drain(&m->t);
	ASSERT_GE(rc, 0);
	ASSERT_LE(rc, (int)n);
	m->nr_maps++;
	m->nr_hits += rc > 0;
	s->len = (u32)rc;
	s->published = s->len / 16 * 16;
	set_len(&m->t, m->c[c].id, s->slot, s->len);
}

static void op_append(struct model *m, u32 c, struct m_space *s)
{
	u32 n = min(1 + roll(m, 40), M_LEN + 40 - s->len), id = m->c[c].id;
	struct m_step *st = &m->c[c].step;
	struct mt_resv r;
	u32 k, pos;
	int rc, i;

	if (s->len >= M_LEN)
		return;
	step_ends(m, c); /* its number has to be below the new one's */
	rc = mt_reserve(&m->t, id, s->slot, s->len, n, 0, &r);
	if (rc == -ENODATA) { /* it gave its prefix up */
		ASSERT_EQ(mm_space_truncate(m->t.mm, id, s->slot, 0), 0);
		s->len = s->published = 0;
		set_len(&m->t, id, s->slot, 0);
		return;
	}
	if (rc == -EAGAIN)
		return;
	ASSERT_GE(rc, 0);
	kv_step_mark(&m->t.cl[id].status->space[s->slot], m->t.cl[id].step);
	for (i = 0; i < rc; i++)
		memcpy(page_rows(m, r.copies[i].geom, r.copies[i].dst),
		       page_rows(m, r.copies[i].geom, r.copies[i].src),
		       r.copies[i].tokens * sizeof(u64));
	for (pos = s->len; pos < s->len + n; pos++)
		for (k = 0; k < M_AREAS; k++) {
			kv_pte_t pte = mt_pte(&m->t, id, s->slot, k, pos / 16);

			ASSERT_TRUE(kv_pte_can(pte, 1));
			page_rows(m, k, kv_pte_frame(pte))[pos % 16] =
				row_of(s->tokens, pos, k);
		}
	s->len += n;
	set_len(&m->t, id, s->slot, s->len);
	step_reads(m, c, s);
	st->runs = true;
	st->number = m->t.cl[id].step;
	if (roll(m, 2))
		step_ends(m, c);
}

static void op_publish(struct model *m, u32 c, struct m_space *s)
{
	u32 seq, from = s->published, nr = s->len;
	int rc;

	if (from > nr)
		from = nr / 16 * 16;
	rc = mm_prefix_publish(m->t.mm, m->c[c].id, s->slot, from,
			       s->tokens + from, nr - from, roll(m, 2), &seq);
	mt_drain(&m->t);
	if (rc == -ENODATA) {
		s->published = 0;
		return;
	}
	ASSERT_GE(rc, 0);
	ASSERT_LE(rc, (int)nr);
	s->published = (u32)rc / 16 * 16;
}

static void op_fork(struct model *m, u32 c, const struct m_space *s,
		    struct m_space *to)
{
	u32 len = s->len ? roll(m, s->len + 1) : 0, k;
	int rc;

	if (to->live || to == s)
		return;
	rc = mm_space_fork(m->t.mm, m->c[c].id, s->slot, len);
	if (rc == -ENODATA)
		return;
	ASSERT_GE(rc, 0);
	*to = *s;
	to->slot = (u32)rc;
	to->len = len;
	to->published = min(s->published, len / 16 * 16);
	for (k = len; k < M_LEN + 64; k++)
		to->tokens[k] = 7 + roll(m, 3);
	set_len(&m->t, m->c[c].id, to->slot, len);
}

static void op_truncate(struct model *m, u32 c, struct m_space *s)
{
	u32 len = roll(m, s->len + 1), k;
	int rc = mm_space_truncate(m->t.mm, m->c[c].id, s->slot, len);

	if (rc == -ENODATA)
		return;
	ASSERT_EQ(rc, 0);
	s->len = len;
	s->published = min(s->published, len / 16 * 16);
	for (k = len; k < M_LEN + 64; k++)
		s->tokens[k] = 3 + roll(m, 3);
	set_len(&m->t, m->c[c].id, s->slot, len);
}

static void client_begin(struct model *m, u32 c)
{
	u32 k;

	memset(&m->c[c], 0, sizeof(m->c[c]));
	m->c[c].id = mt_attach(&m->t, m->tenant);
	for (k = 0; k < M_AREAS; k++)
		m->c[c].geom[k] = mt_geom(&m->t, m->c[c].id, m_bytes[k]);
}

static void op_one(struct model *m)
{
	u32 c = roll(m, M_CLIENTS);
	struct m_space *s = &m->c[c].space[roll(m, M_SPACES)];

	m->t.hold_copies = roll(m, 4);
	if (!roll(m, 3))
		mt_copy_answer(&m->t, roll(m, 20) ? 0 : -EIO);
	if (!roll(m, 400)) {
		step_ends(m, c);
		mm_client_gone(m->t.mm, m->c[c].id);
		mt_drain(&m->t);
		mt_copy_answer(&m->t, 0);
		mt_drain(&m->t);
		client_begin(m, c);
	} else if (!s->live) {
		op_create(m, c, s);
	} else if (!roll(m, 12)) {
		ASSERT_EQ(mm_space_destroy(m->t.mm, m->c[c].id, s->slot), 0);
		s->live = false;
	} else if (!roll(m, 8)) {
		op_truncate(m, c, s);
	} else if (!roll(m, 6)) {
		op_fork(m, c, s, &m->c[c].space[roll(m, M_SPACES)]);
	} else if (!roll(m, 300)) {
		mm_cache_drop(m->t.mm, m->tenant, false);
	} else if (roll(m, 2)) {
		op_publish(m, c, s);
	} else {
		op_append(m, c, s);
	}
	mt_drain(&m->t);
	if (!roll(m, 3)) {
		step_ends(m, c);
		mm_tick(m->t.mm, m->t.mm->now_ns + 1000000);
		mt_drain(&m->t);
	}
}

static void model_run(u64 seed, u32 extents, u32 nr_ops)
{
	static struct model m;
	struct mm_counts n;
	size_t bytes =
		(size_t)extents * (KV_EXTENT_SIZE / M_UNIT) * sizeof(m.rows[0]);
	u32 i;

	memset(&m, 0, sizeof(m));
	the_model = &m;
	m.rnd = seed;
	m.rows = mt_map(bytes, PROT_READ | PROT_WRITE);
	mt_init(&m.t, extents, 1);
	m.t.move = model_move;
	m.t.scrub = model_scrub;
	m.tenant = mt_tenant(&m.t, "m", MM_LIMIT_NONE);
	for (i = 0; i < M_CLIENTS; i++)
		client_begin(&m, i);
	for (i = 0; i < nr_ops; i++) {
		op_one(&m);
		if (i % 16 == 0)
			mt_check(&m.t);
	}
	for (i = 0; i < M_CLIENTS; i++)
		step_ends(&m, i);
	mm_counts_get(m.t.mm, &n);
	EXPECT_EQ(n.invalid, 0);
	EXPECT_GT(m.nr_hits, 0);
	EXPECT_GT(n.prefix_evicted, 0);
	printf("# seed %llu: %llu rows compared, %llu of %llu maps hit, "
	       "%llu pages published, %llu evicted, %llu copied on write\n",
	       (unsigned long long)seed, (unsigned long long)m.nr_rows,
	       (unsigned long long)m.nr_hits, (unsigned long long)m.nr_maps,
	       (unsigned long long)n.prefix_published,
	       (unsigned long long)n.prefix_evicted,
	       (unsigned long long)n.faults_cow);
	mt_copy_answer(&m.t, 0);
	mt_fini(&m.t);
	munmap(m.rows, bytes);
}

TEST(prefix_model, every_row_a_step_reads_is_what_its_tokens_call_for)
{
	u64 seed;

	for (seed = 1; seed <= 6; seed++)
		model_run(seed, seed % 2 ? 4 : 24, 4000);
}

TEST_HARNESS_MAIN
