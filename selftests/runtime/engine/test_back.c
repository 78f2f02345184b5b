/* SPDX-License-Identifier: MIT */
/*
 * test_back.c - pages that have left the device are read, computed, or both
 *
 * Whatever is chosen, and whoever has its turn, each token and each bit of its
 * log-probability is that of a run over contiguous memory.
 */
#include "kv.h"
#include "runtime/engine/kv_backend.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

#define P     MODEL_PAGE_TOKENS
#define HOGS  64u
#define IDS   900u
#define TURNS 4u

struct back {
	struct test_kvmd d;
	struct rig r, plain;
	struct kv *kv;
};

static struct tiny_cfg config(int i)
{
	return i ? tiny_qwen(KV_DTYPE_Q8_0) : tiny_gemma(KV_DTYPE_Q8_0);
}

static void back_open(struct back *b, int model, const char *delay,
		      const struct engine_opts *eo)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao) };
	struct kv_namespace ns = { .salt = 1 };
	struct tiny_cfg c = config(model);

	if (delay)
		setenv("KV_DELAY", delay, 1);
	ASSERT_EQ(0,
		  test_kvmd_start(&b->d, test_tmpdir(), "--size", "64M",
				  "--device", delay ? "delay:cpu" : "cpu",
				  "--limit", "8M", "--swap-ram", "64M", NULL));
	unsetenv("KV_DELAY");
	ao.socket = b->d.socket;
	rig_load(&b->r, &c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &b->kv));
	ASSERT_EQ(0, kv_paged_create(b->kv, b->r.m, &ns, &b->r.b, b->r.err));
	rig_start(&b->r, eo);
	rig_open(&b->plain, &c, 1, 512);
}

static void back_close(struct back *b)
{
	rig_close(&b->r);
	rig_close(&b->plain);
	kv_detach(b->kv);
	EXPECT_EQ(0, test_kvmd_check(&b->d));
	EXPECT_EQ(0, test_kvmd_stop(&b->d));
}

static u64 out_of(const struct back *b, const struct request *q)
{
	const struct seq *s = q->seqs[0];

	return b->r.b->ops->space_out(b->r.b, s->space, s->nr_computed);
}

/* Spaces that want memory, one by one, until no page is left but the first
 * @head tokens', which are asked for again. */
static void push_out(struct back *b, const struct request *q, u32 head)
{
	const struct kv_backend_ops *ops = b->r.b->ops;
	const struct seq *s = q->seqs[0];
	/* within a page: of one that begins there nothing would be read */
	struct kv_resv_item it = { s->space, 1, head + P / 2 };
	u64 want = kv_space_bytes(b->r.b, s->nr_computed) / 2;
	u32 hog[HOGS], n = 0, i;

	while (n < HOGS && out_of(b, q) < want) {
		struct kv_resv_item more = { .nr_tokens = 800 };

		ASSERT_EQ(0, ops->space_create(b->r.b, &hog[n]));
		more.space = hog[n++];
		ASSERT_EQ(0, ops->step_prepare(b->r.b, &more, 1, 10000));
		ops->step_abandon(b->r.b);
	}
	EXPECT_GE(out_of(b, q), want);
	for (i = 0; i < n; i++)
		ops->space_destroy(b->r.b, hog[i]);
	if (!head)
		return;
	ASSERT_EQ(0, ops->step_prepare(b->r.b, &it, 1, 10000));
	ops->step_abandon(b->r.b);
	EXPECT_GT(out_of(b, q), 0);
}

/* A conversation in turns; before each of them all but @head is pushed out. */
static void converse(struct back *b, enum engine_back how, u32 head)
{
	struct request *got, *want;
	struct request_params p;
	static u32 ids[IDS];
	u32 turn, nr;

	rig_ids(&b->r, ids, IDS, 5);
	p = rig_params(ids, 600, 10);
	p.keep = true;
	got = rig_submit(&b->r, &p);
	want = rig_submit(&b->plain, &p);
	rig_run(&b->r);
	rig_run(&b->plain);
	engine_set_back(b->r.e, how);
	for (turn = 0; turn < TURNS; turn++) {
		push_out(b, got, head);
		nr = want->seqs[0]->nr;
		memcpy(ids, want->seqs[0]->ids, nr * sizeof(*ids));
		nr += 20;
		ASSERT_EQ(0, engine_extend(b->r.e, got, ids, nr, 10, b->r.err));
		ASSERT_EQ(0, engine_extend(b->plain.e, want, ids, nr, 10,
					   b->plain.err));
		rig_run(&b->r);
		rig_run(&b->plain);
		EXPECT_EQ(0, got->error);
		EXPECT_TRUE(rig_same(want->seqs[0], got->seqs[0]));
	}
	engine_forget(b->r.e, got);
	engine_forget(b->plain.e, want);
}

TEST_TIMEOUT(back, read_or_computed_the_tokens_are_the_same, 120)
{
	struct engine_opts eo = { .step_tokens = 512, .max_seqs = 64 };
	const struct engine_stats *st;
	u64 read, again;
	struct back b;
	int model;

	for (model = 0; model < 2; model++) {
		memset(&b, 0, sizeof(b));
		back_open(&b, model, NULL, &eo);
		st = engine_stats(b.r.e);
		converse(&b, ENGINE_BACK_READ, 0);
		read = st->nr_read;
		EXPECT_GT(read, 0);
		EXPECT_EQ(0, st->nr_again);
		converse(&b, ENGINE_BACK_COMPUTE, 0);
		again = st->nr_again;
		EXPECT_EQ(read, st->nr_read);
		EXPECT_GE(again, TURNS * 600);
		/* of a part that is out only that is computed, if it can be */
		if (model) {
			converse(&b, ENGINE_BACK_COMPUTE, 400);
			EXPECT_LT(st->nr_again - again, TURNS * 300);
			EXPECT_GE(st->nr_again - again, TURNS * 180);
		}
		EXPECT_EQ(0, st->nr_split);
		back_close(&b);
	}
}

/* What takes as long as computing: the rate for KV_DELAY. */
static void even_rate(char *delay, size_t len)
{
	struct tiny_cfg c = config(1);
	struct request_params p;
	u32 ids[IDS], i;
	double s = 1e9, from, bytes;
	struct rig r;

	rig_open(&r, &c, 1, 512);
	rig_ids(&r, ids, IDS, 5);
	for (i = 0; i < 3; i++) {
		p = rig_params(ids, 600, 1);
		rig_submit(&r, &p);
		from = th_now();
		rig_run(&r);
		s = fmin(s, th_now() - from);
	}
	bytes = 600.0 / MODEL_PAGE_TOKENS * r.m->area[0].geom.page_bytes;
	snprintf(delay, len, "write:0/%.0f", fmax(1, bytes / s / (1 << 20)));
	rig_close(&r);
}

TEST_TIMEOUT(back, in_part_read_and_in_part_computed_they_are_too, 400)
{
	struct engine_opts eo = { .step_tokens = 512, .max_seqs = 64 };
	struct engine_stats st = { 0 };
	struct back b;
	char delay[40];
	u64 read = 0;
	u32 try;

	/* a machine that does other things may change its pace in between */
	for (try = 0; try < 5 && !st.nr_split; try++) {
		memset(&b, 0, sizeof(b));
		even_rate(delay, sizeof(delay));
		back_open(&b, 1, delay, &eo);
		converse(&b, ENGINE_BACK_READ, 0); /* it learns the rates */
		read = engine_stats(b.r.e)->nr_read;
		converse(&b, ENGINE_BACK_CHEAPER, 0);
		converse(&b, ENGINE_BACK_CHEAPER, 160);
		st = *engine_stats(b.r.e);
		TH_LOG("%s: %llu turns in part, %llu tokens computed, %llu KiB "
		       "read",
		       delay, (unsigned long long)st.nr_split,
		       (unsigned long long)st.nr_again,
		       (unsigned long long)(st.nr_read - read) >> 10);
		back_close(&b);
	}
	EXPECT_GT(st.nr_split, 0);
	EXPECT_GT(st.nr_again, 0);
	EXPECT_GT(st.nr_read, read);
}

/* ---- turns ---- */

enum { NR = 20, PROMPT = 420, NEW = 300 };

static u32 nr_begun, begun_at_end;

static void on_token(struct request *q, u32 seq, u32 id, void *ctx)
{
	nr_begun += seq_nr_new(q->seqs[0]) == 1;
}

static void on_done(struct request *q, void *ctx)
{
	begun_at_end = begun_at_end ? begun_at_end : nr_begun;
}

/* More than there is memory for; some are cancelled as the seed says. */
static void take_turns(struct back *b, u64 seed, bool cancels)
{
	static const struct request_events events = { .token = on_token,
						      .done = on_done };
	struct request *got[NR], *want[NR];
	struct request_params p;
	static u32 ids[IDS];
	u32 i, steps = 0;
	int rc;

	nr_begun = begun_at_end = 0;
	for (i = 0; i < NR; i++) {
		rig_ids(&b->r, ids, IDS, seed + i);
		p = rig_params(ids, PROMPT + i, NEW);
		want[i] = rig_submit(&b->plain, &p);
		p.events = &events;
		p.keep = i % 3 == 0;
		got[i] = rig_submit(&b->r, &p);
	}
	do {
		rc = engine_step(b->r.e, b->r.err);
		steps++;
		if (cancels && rc > 0 && test_rand(&seed) % 40 == 0)
			engine_cancel(b->r.e, got[test_rand(&seed) % NR]);
	} while (rc > 0);
	ASSERT_EQ(0, rc);
	rig_run(&b->plain);
	for (i = 0; i < NR; i++) {
		struct seq *s = got[i]->seqs[0];

		EXPECT_EQ(0, got[i]->error);
		if (!cancels) {
			EXPECT_TRUE(rig_same(want[i]->seqs[0], s));
		} else {
			EXPECT_EQ(0, memcmp(want[i]->seqs[0]->ids, s->ids,
					    s->nr * sizeof(*s->ids)));
		}
		engine_forget(b->r.e, got[i]);
		engine_forget(b->plain.e, want[i]);
	}
}

TEST_TIMEOUT(turns, most_advance_before_the_first_has_ended, 400)
{
	struct engine_opts eo = { .step_tokens = 128,
				  .max_seqs = 64,
				  .slice_ms = 1 };
	const struct engine_stats *st;
	struct back b = { 0 };
	u32 try;

	back_open(&b, 1, NULL, &eo);
	st = engine_stats(b.r.e);
	/* how many is a matter of how long steps take here */
	for (try = 0; try < 4 && begun_at_end < NR * 3 / 5; try++)
		take_turns(&b, 100 + NR * try, false);
	TH_LOG("%llu turns, %llu preempted, %llu KiB read, %u of %u begun",
	       (unsigned long long)st->nr_turns,
	       (unsigned long long)st->nr_preempted,
	       (unsigned long long)st->nr_read >> 10, begun_at_end, NR);
	EXPECT_GT(st->nr_turns, 0);
	EXPECT_GE(begun_at_end, NR * 3 / 5);
	back_close(&b);
}

TEST_TIMEOUT(turns, with_a_slow_tier_and_cancels_tokens_are_the_same, 120)
{
	struct engine_opts eo = { .step_tokens = 128,
				  .max_seqs = 64,
				  .slice_ms = 1 };
	const struct engine_stats *st;
	struct back b = { 0 };
	char delay[40];

	even_rate(delay, sizeof(delay));
	back_open(&b, 1, delay, &eo);
	st = engine_stats(b.r.e);
	take_turns(&b, test_seed(), false);
	take_turns(&b, test_seed() + 50, true);
	TH_LOG("%s: %llu turns, %llu in part, %llu cheaper, %llu KiB read",
	       delay, (unsigned long long)st->nr_turns,
	       (unsigned long long)st->nr_split,
	       (unsigned long long)st->nr_cheaper,
	       (unsigned long long)st->nr_read >> 10);
	back_close(&b);
}

TEST_HARNESS_MAIN
