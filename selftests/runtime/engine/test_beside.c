/* SPDX-License-Identifier: MIT */
/*
 * test_beside.c - what is done beside a step that computes, with threads and on
 *	kvmd's pages: the errand's worker is who calls libkv then
 *
 * san: thread
 */
#include "kv.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

#ifdef __SANITIZE_THREAD__
#define NR 6u /* a step takes a hundred times as long */
#else
#define NR 10u
#endif
#define SHARED 70u /* tokens that every other prompt begins with */

struct side {
	struct rig r;
	struct kv *kv; /* NULL: contiguous memory */
	struct request *q[NR];
};

static void side_open(struct side *s, const struct tiny_cfg *c, u32 threads,
		      const char *socket)
{
	struct engine_opts eo = { .step_tokens = 96,
				  .max_seqs = 16,
				  .logit_rows = 4,
				  .prefix_cache = socket != NULL,
				  .one_by_one = threads == 1 };
	struct kv_attach_opts ao = { .sz = sizeof(ao), .socket = socket };
	struct kv_namespace ns = { .salt = 1 };

	memset(s, 0, sizeof(*s));
	rig_load(&s->r, c, threads);
	if (socket) {
		ASSERT_EQ(0, kv_attach(&ao, &s->kv));
		ASSERT_EQ(0, kv_paged_create(s->kv, s->r.m, &ns, &s->r.b,
					     s->r.err));
	} else {
		ASSERT_EQ(0, kv_contig_create(s->r.m, 64, 1024, &s->r.b,
					      s->r.err));
	}
	rig_start(&s->r, &eo);
}

static void side_close(struct side *s)
{
	rig_close(&s->r);
	if (s->kv)
		kv_detach(s->kv);
}

static void ask(struct side *s, u32 i)
{
	u32 ids[256], nr = 60 + 11 * i;
	struct request_params p;

	rig_ids(&s->r, ids, nr, 40 + i);
	if (i % 2)
		rig_ids(&s->r, ids, min(nr, SHARED), 7);
	p = rig_params(ids, nr, 18 + 3 * i);
	p.n = i == 5 ? 3 : 1;
	p.sampling.temperature = i % 3 ? 0.0f : 0.9f;
	p.sampling.top_p = i % 3 ? 1.0f : 0.8f;
	p.sampling.seed = i;
	s->q[i] = rig_submit(&s->r, &p);
}

/* They come one after the other, and one of them goes. */
static void side_run(struct side *s)
{
	u32 i, at = 0;
	int rc = 1;

	for (i = 0; rc == 1 || at < NR; i++) {
		if (at < NR && i % 4 == 0)
			ask(s, at++);
		if (i == 14)
			engine_cancel(s->r.e, s->q[2]);
		rc = rig_step(&s->r);
	}
}

static void expect_same(const struct side *a, const struct side *b)
{
	u32 i;

	for (i = 0; i < NR; i++) {
		if (i == 2)
			continue; /* cancelled, sooner or later in its text */
		EXPECT_EQ(0, b->q[i]->error);
		if (!EXPECT_TRUE(rig_same_all(a->q[i], b->q[i])))
			TH_LOG("request %u", i);
	}
}

TEST_TIMEOUT(beside, a_worker_asks_for_pages_and_no_bit_changes, 120)
{
	const struct tiny_cfg cfg[] = { tiny_gemma(KV_DTYPE_Q8_0),
					tiny_qwen(KV_DTYPE_Q8_0) };
	static struct side plain, paged;
	const struct engine_stats *st;
	struct kv_counters nr;
	struct test_kvmd d;
	u32 i;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "128M", NULL));
	for (i = 0; i < ARRAY_SIZE(cfg); i++) {
		side_open(&plain, &cfg[i], 1, NULL);
		side_open(&paged, &cfg[i], 3, d.socket);
		side_run(&plain);
		side_run(&paged);
		expect_same(&plain, &paged);
		st = engine_stats(paged.r.e);
		kv_counters_get(paged.kv, &nr);
		TH_LOG("%llu of %llu steps as planned, %llu chunks of them, "
		       "%llu reservations ahead",
		       (unsigned long long)st->nr_planned,
		       (unsigned long long)st->nr_steps,
		       (unsigned long long)st->nr_planned_chunks,
		       (unsigned long long)nr.prefetches);
		EXPECT_GT(st->nr_planned, st->nr_steps * 9 / 10);
		/* also where windows may cut them */
		EXPECT_GT(st->nr_planned_chunks, 0);
		EXPECT_GT(st->host_beside_s, 0);
		EXPECT_GT(nr.prefetches, 5);
		side_close(&paged);
		side_close(&plain);
	}
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/* Three that share a prompt, whose pages a worker asks for. */
static void share(struct side *s, enum request_kind kind)
{
	struct request_params p;
	u32 ids[40];

	rig_ids(&s->r, ids, 40, 5);
	p = rig_params(ids, 40, 40);
	p.kind = kind;
	p.n = 3;
	p.sampling.temperature = 1.5f;
	s->q[0] = rig_submit(&s->r, &p);
	while (rig_step(&s->r) == 1)
		;
}

static void expect_same_answers(const struct request *a,
				const struct request *b)
{
	u32 i;

	ASSERT_EQ(request_nr_answers(a), request_nr_answers(b));
	for (i = 0; i < request_nr_answers(a); i++)
		EXPECT_TRUE(
			rig_same(request_answer(a, i), request_answer(b, i)));
}

TEST_TIMEOUT(beside, a_worker_asks_for_the_page_in_which_samples_part, 120)
{
	static const enum request_kind kinds[] = { REQUEST_GENERATE,
						   REQUEST_BEAM };
	const struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	static struct side plain, paged;
	struct kv_counters nr;
	struct test_kvmd d;
	u32 i;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "128M", NULL));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		side_open(&plain, &c, 1, NULL);
		side_open(&paged, &c, 3, d.socket);
		share(&plain, kinds[i]);
		share(&paged, kinds[i]);
		expect_same_answers(plain.q[0], paged.q[0]);
		kv_counters_get(paged.kv, &nr);
		/* at 40, 48 and 64 */
		EXPECT_EQ(3, nr.prefetches);
		if (kinds[i] == REQUEST_GENERATE)
			EXPECT_EQ(1 + 3, nr.reservations);
		side_close(&paged);
		side_close(&plain);
	}
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
