/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - ring and step protocol with both ends as threads
 *
 * timeout: 900
 * san: thread
 *
 * The client, its device stream and kvmd are three threads of one process
 * that share what the processes share: table, status words, rings. kvmd is
 * the real core, moving pages all the time. Fake memory is plain memory, one
 * tag per token: what the protocol does not order is a data race that
 * ThreadSanitizer reports, and a wrong token that the stream finds.
 */
#include <pthread.h>
#include <sched.h>

#include "selftests/kvmd/mm/mmtest.h"

#define SPACES	4u
#define LEN	240u
#define PAGES	(LEN / 16)
#define PER_4K	16u /* tags per 4 KiB */
#define EXTENTS 4u

enum { OP_RESERVE, OP_FORK, OP_DESTROY, OP_CREATE, OP_QUIT };

struct request {
	u32 op, space;
	u64 step, pos;
};

struct answer {
	int rc;
	struct kv_copy copy;
};

/* A launched step: all that a kernel would be given. */
struct job {
	u64 step;
	u32 pos, tags[LEN + 1], entry[PAGES + 1];
	u32 nr_copies;
	struct kv_copy copy;
};

static struct {
	struct mt t;
	u32 client, geom, unit;
	u32 *mem;
	struct kv_ring_index sq_tail, sq_head, cq_tail, cq_head;
	struct kv_ring_index job_tail, job_head;
	struct request req[2];
	struct answer ans[2];
	struct job job[2];
	u64 steps, moves, busy;
} w;

static u32 *tag(u32 entry, u32 i)
{
	return &w.mem[(size_t)entry * w.unit / 4096 * PER_4K + i];
}

/* ---- kvmd ---- */

static void copy_page(void *ctx, u64 src, u64 dst, u64 bytes)
{
	(void)ctx;
	memcpy(&w.mem[dst / 4096 * PER_4K], &w.mem[src / 4096 * PER_4K],
	       bytes / 4096 * PER_4K * 4);
}

static struct answer serve(const struct request *q)
{
	struct kv_resv_item it = { .space = q->space,
				   .nr_tokens = 1,
				   .pos = q->pos };
	struct mm_resv r = { .step = q->step, .items = &it, .nr_items = 1 };
	struct kv_copy copies[KV_AREA_MAX] = { { 0 } };
	struct answer a = { 0 };
	u64 extra;
	u32 seq;

	if (q->op == OP_RESERVE)
		a.rc = mm_reserve(w.t.mm, w.client, &r, copies, &seq, &extra);
	else if (q->op == OP_FORK)
		a.rc = mm_space_fork(w.t.mm, w.client, q->space, q->pos);
	else if (q->op == OP_DESTROY)
		a.rc = mm_space_destroy(w.t.mm, w.client, q->space);
	else if (q->op == OP_CREATE)
		a.rc = mt_space2(&w.t, w.client, w.geom, 0, MM_NONE, 0);
	a.copy = copies[0];
	mt_drain(&w.t);
	return a;
}

static void *kvmd_thread(void *arg)
{
	u64 rng = 77;
	u32 head = 0, tail = 0;
	struct request q;
	int rc;

	(void)arg;
	for (;;) {
		if (kv_ring_avail(&w.sq_tail) != head) {
			q = w.req[head & 1];
			kv_ring_release(&w.sq_head, ++head);
			if (q.op == OP_QUIT)
				return NULL;
			w.ans[tail & 1] = serve(&q);
			kv_ring_publish(&w.cq_tail, ++tail);
			continue;
		}
		rc = mm_move_page(
			w.t.mm, w.client, (u32)(hash_random(&rng) % SPACES), 0,
			(u32)(hash_random(&rng) % PAGES), copy_page, NULL);
		w.moves += !rc;
		w.busy += rc == -EBUSY;
		sched_yield();
	}
}

/* ---- the device stream ---- */

static void run_job(const struct job *j)
{
	u32 i, bad = 0;

	if (j->nr_copies)
		memcpy(tag(j->copy.dst, 0), tag(j->copy.src, 0),
		       4 * j->copy.tokens);
	for (i = 0; i < j->pos; i++)
		bad += *tag(j->entry[i / 16], i % 16) != j->tags[i];
	*tag(j->entry[j->pos / 16], j->pos % 16) = j->tags[j->pos];
	for (i = 0; i <= j->pos; i++)
		bad += *tag(j->entry[i / 16], i % 16) != j->tags[i];
	EXPECT_EQ(bad, 0);
}

static void *stream_thread(void *arg)
{
	struct kv_status *st = w.t.cl[w.client].status;
	u32 head = 0;
	struct job *j;

	(void)arg;
	for (;;) {
		if (kv_ring_avail(&w.job_tail) == head) {
			sched_yield();
			continue;
		}
		j = &w.job[head & 1];
		if (!j->step)
			return NULL;
		run_job(j);
		kv_step_end(&st->rank[0], j->step);
		kv_ring_release(&w.job_head, ++head);
	}
}

/* ---- the client ---- */

struct seq {
	bool used;
	u32 slot, len, tags[LEN + 1];
	u64 gen, mark;
	kv_pte_t pte[PAGES + 1];
};

static struct answer ask(u32 op, u32 space, u64 step, u64 pos)
{
	static u32 sq, cq;
	struct answer a;

	w.req[sq & 1] = (struct request){ op, space, step, pos };
	kv_ring_publish(&w.sq_tail, ++sq);
	if (op == OP_QUIT)
		return (struct answer){ 0 };
	while (kv_ring_avail(&w.cq_tail) == cq)
		sched_yield();
	a = w.ans[cq & 1];
	kv_ring_release(&w.cq_head, ++cq);
	return a;
}

static void look(struct seq *s)
{
	struct kv_table_hdr *table = w.t.cl[w.client].table;
	struct kv_space_desc *d = kv_table_space(table, s->slot);
	u64 gen = kv_step_gen(d);
	u32 leaf, i;

	if (gen == s->gen)
		return;
	leaf = kv_load_relaxed(&d->area[0].leaf[0]);
	for (i = 0; i <= PAGES; i++)
		s->pte[i] =
			leaf == KV_LEAF_NONE
				? 0
				: kv_step_pte(
					  &kv_table_leaf(table, leaf)->pte[i]);
	s->gen = gen;
}

static bool usable(const struct seq *s)
{
	u32 i, last = s->len / 16;

	for (i = 0; i <= last; i++)
		if (!kv_pte_can(s->pte[i], i == last))
			return false;
	return true;
}

static void launch(struct seq *s, u64 step, const struct answer *a)
{
	static u32 tail, next_tag;
	struct job *j = &w.job[tail & 1];
	u32 i;

	while (tail - kv_load_acquire(&w.job_head.v) == 2)
		sched_yield();
	s->tags[s->len] = ++next_tag;
	j->step = step;
	j->pos = s->len;
	memcpy(j->tags, s->tags, sizeof(j->tags));
	for (i = 0; i <= PAGES; i++)
		j->entry[i] = kv_pte_frame(s->pte[i]);
	j->nr_copies = a ? (u32)a->rc : 0;
	if (a)
		j->copy = a->copy;
	s->len++;
	kv_ring_publish(&w.job_tail, ++tail);
}

static void step(struct seq *s, u64 nr)
{
	struct kv_space_status *st = &w.t.cl[w.client].status->space[s->slot];
	struct answer a;

	kv_step_mark(st, nr);
	kv_step_fence();
	look(s);
	if (usable(s)) {
		s->mark = nr;
		launch(s, nr, NULL);
		return;
	}
	kv_step_unmark(st, s->mark);
	a = ask(OP_RESERVE, s->slot, nr, s->len);
	ASSERT_GE(a.rc, 0);
	look(s);
	ASSERT_TRUE(usable(s));
	launch(s, nr, &a);
}

static void client_run(u64 nr_steps)
{
	struct seq seqs[SPACES];
	struct answer a;
	u64 rng = 5, nr;
	bool fork;
	u32 i, k;

	memset(seqs, 0, sizeof(seqs));
	for (nr = 1; nr <= nr_steps; nr++) {
		struct seq *s = &seqs[i = (u32)(hash_random(&rng) % SPACES)];

		if (s->used && (s->len == LEN || hash_random(&rng) % 64 == 0)) {
			ASSERT_EQ(ask(OP_DESTROY, s->slot, 0, 0).rc, 0);
			s->used = false;
		}
		if (!s->used) {
			k = (i + 1) % SPACES;
			fork = seqs[k].used && seqs[k].len < LEN &&
			       hash_random(&rng) % 2;
			a = fork ? ask(OP_FORK, seqs[k].slot, 0, seqs[k].len)
				 : ask(OP_CREATE, 0, 0, 0);
			ASSERT_GE(a.rc, 0);
			memset(s, 0, sizeof(*s));
			s->used = true;
			s->slot = (u32)a.rc;
			if (fork) {
				s->len = seqs[k].len;
				memcpy(s->tags, seqs[k].tags, sizeof(s->tags));
			}
		}
		step(s, nr);
		w.steps++;
	}
}

TEST_TIMEOUT(threads, order_everything_that_they_share, 600)
{
	struct job *last;
	pthread_t kvmd, stream;

	mt_init(&w.t, EXTENTS, EXTENTS);
	w.client = mt_attach(&w.t, mt_tenant(&w.t, "a", MM_LIMIT_NONE));
	w.geom = mt_geom(&w.t, w.client, 48 * 1024);
	w.unit = mm_geom(w.t.mm, w.client, w.geom)->unit_bytes;
	w.mem = calloc(EXTENTS * (KV_EXTENT_SIZE / 4096) * PER_4K, 4);
	ASSERT_TRUE(w.mem != NULL);
	ASSERT_EQ(pthread_create(&kvmd, NULL, kvmd_thread, NULL), 0);
	ASSERT_EQ(pthread_create(&stream, NULL, stream_thread, NULL), 0);
	client_run(100000);
	while (kv_load_acquire(&w.job_head.v) != kv_load_relaxed(&w.job_tail.v))
		sched_yield();
	last = &w.job[kv_load_relaxed(&w.job_tail.v) & 1];
	last->step = 0;
	kv_ring_publish(&w.job_tail, kv_load_relaxed(&w.job_tail.v) + 1);
	ask(OP_QUIT, 0, 0, 0);
	pthread_join(stream, NULL);
	pthread_join(kvmd, NULL);
	mt_check(&w.t);
	TH_LOG("%llu steps, %llu moves, %llu times busy",
	       (unsigned long long)w.steps, (unsigned long long)w.moves,
	       (unsigned long long)w.busy);
	EXPECT_GT(w.moves, 0);
	free(w.mem);
	mt_fini(&w.t);
}

TEST_HARNESS_MAIN
