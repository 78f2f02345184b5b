/* SPDX-License-Identifier: MIT */
/*
 * test_prefix.c - engines of several clients over one cache of prefixes
 * timeout: 240
 *
 * What one of them has computed, the others map; every request says what it
 * says over contiguous memory, token by token and bit by bit.
 */
#include <pthread.h>
#include <unistd.h>

#include "kv.h"
#include "runtime/engine/kv_backend.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

struct user {
	struct rig r;
	struct kv *kv;
};

/*
 * Who waits here is waited for by nobody outside: however slow the machine is,
 * no wait is to end for good before the test does.
 */
#define WAIT_MS 60000

static void user_open_as(struct user *u, const struct tiny_cfg *c,
			 const char *socket, bool prefix_cache,
			 enum engine_prefill prefill)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao), .socket = socket };
	struct engine_opts eo = { .step_tokens = 128,
				  .max_seqs = 32,
				  .wait_ms = WAIT_MS,
				  .twin_ms = WAIT_MS,
				  .prefill = prefill,
				  .prefix_cache = prefix_cache };
	struct kv_namespace ns = { .salt = 1 };

	rig_load(&u->r, c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &u->kv));
	ASSERT_EQ(0, kv_paged_create(u->kv, u->r.m, &ns, &u->r.b, u->r.err));
	rig_start(&u->r, &eo);
}

static void user_open(struct user *u, const struct tiny_cfg *c,
		      const char *socket, bool prefix_cache)
{
	user_open_as(u, c, socket, prefix_cache, ENGINE_PREFILL_CHUNKED);
}

static void user_close(struct user *u)
{
	rig_close(&u->r);
	kv_detach(u->kv);
}

/*
 * What somebody has published is filled: a publication is answered when its
 * copies have been asked for, and is found when they have ended.
 */
static void settle(const struct test_kvmd *d)
{
	static const char key[] = "\"pages_copying\":";
	const char *at;
	u64 copying;
	char *json;

	do {
		copying = 0;
		json = test_kvmd_ctl(d, "cache list");
		ASSERT_TRUE(json != NULL);
		for (at = json; (at = strstr(at, key)); at += strlen(key))
			copying += strtoull(at + strlen(key), NULL, 10);
		free(json);
		if (copying)
			usleep(1000);
	} while (copying);
}

/* kvmd has seen that every client is gone, and what they had asked for. */
static void wait_until_gone(const struct test_kvmd *d)
{
	bool any;
	char *json;

	do {
		json = test_kvmd_ctl(d, "client list");
		ASSERT_TRUE(json != NULL);
		any = strstr(json, "\"name\":");
		free(json);
		if (any)
			usleep(1000);
	} while (any);
}

/* The same prompt over contiguous memory. */
static void expect_same(struct rig *want, const struct request *got,
			const struct request_params *p)
{
	struct request *r = rig_submit(want, p);

	rig_run(want);
	EXPECT_EQ(0, got->error);
	EXPECT_TRUE(rig_same_all(r, got));
}

static struct tiny_cfg config(int i)
{
	return i ? tiny_qwen(KV_DTYPE_Q8_0) : tiny_gemma(KV_DTYPE_Q8_0);
}

FIXTURE(prefix)
{
	struct test_kvmd d;
};

FIXTURE_SETUP(prefix)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "128M",
				     NULL));
}

FIXTURE_TEARDOWN(prefix)
{
	if (!self->d.pid)
		return;
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

TEST_F(prefix, a_second_client_computes_what_is_new_and_says_the_same)
{
	for (int model = 0; model < 2; model++) {
		struct tiny_cfg c = config(model);
		struct request_params p;
		struct user a, b;
		struct request *q;
		struct rig want;
		u32 ids[300], i;

		user_open(&a, &c, self->d.socket, true);
		user_open(&b, &c, self->d.socket, true);
		rig_open(&want, &c, 1, 128);
		rig_ids(&want, ids, 300, 3);
		p = rig_params(ids, 230, 12);
		q = rig_submit(&a.r, &p);
		rig_run(&a.r);
		expect_same(&want, q, &p);
		settle(&self->d);
		/* the same; one that parts in the middle of a page; longer */
		for (i = 0; i < 3; i++) {
			u64 was = engine_stats(b.r.e)->nr_mapped;

			ids[i == 1 ? 119 : 299] ^= i == 1;
			p = rig_params(ids, i == 2 ? 290 : 230, 12);
			q = rig_submit(&b.r, &p);
			rig_run(&b.r);
			expect_same(&want, q, &p);
			was = engine_stats(b.r.e)->nr_mapped - was;
			TH_LOG("model %d: %llu of %u tokens were there", model,
			       (unsigned long long)was, p.nr_prompt);
			if (i != 1 || model) /* windows: where they end */
				EXPECT_GE(was, i == 0 ? 229 : 119);
			settle(&self->d);
		}
		user_close(&b);
		user_close(&a);
		rig_close(&want);
	}
}

/*
 * A sequence gave its pages back as it ended, and published them then: nobody
 * found an answer, only its prompt.
 */
TEST_F(prefix, who_goes_on_from_an_answer_finds_it)
{
	for (int model = 0; model < 2; model++) {
		struct tiny_cfg c = config(model);
		struct request_params p;
		struct request *q, *next;
		struct rig want;
		struct user a;
		u32 ids[100], nr;

		user_open(&a, &c, self->d.socket, true);
		rig_open(&want, &c, 1, 128);
		rig_ids(&want, ids, 100, 11 + (u64)model);
		p = rig_params(ids, 40, 30);
		q = rig_submit(&a.r, &p);
		rig_run(&a.r);
		settle(&self->d);
		nr = q->seqs[0]->nr;
		ASSERT_EQ(70, nr);
		memcpy(ids, q->seqs[0]->ids, nr * sizeof(*ids));
		p = rig_params(ids, nr + 20, 5);
		next = rig_submit(&a.r, &p);
		rig_run(&a.r);
		expect_same(&want, next, &p);
		/* its last token was said and never computed */
		EXPECT_EQ(nr - 1, next->nr_cached);
		user_close(&a);
		rig_close(&want);
	}
}

/*
 * What is shared lies in an extent of the cache, and with that one of its own
 * is more than it may have; alone it has room.
 */
TEST_F(prefix, who_has_no_room_beside_what_is_shared_has_pages_of_its_own)
{
	struct tiny_cfg c = config(1);
	struct request_params p;
	struct user a, b;
	struct request *q;
	struct rig want;
	u32 ids[300];

	user_open(&a, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 300, 5);
	p = rig_params(ids, 230, 4);
	rig_submit(&a.r, &p);
	rig_run(&a.r);
	settle(&self->d);
	user_close(&a);
	wait_until_gone(&self->d);
	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=8M"));
	user_open(&b, &c, self->d.socket, true);
	p = rig_params(ids, 231, 12);
	q = rig_submit(&b.r, &p);
	rig_run(&b.r);
	expect_same(&want, q, &p);
	EXPECT_EQ(q->nr_preempted, 1);
	EXPECT_GT(engine_stats(b.r.e)->nr_mapped, 200);
	user_close(&b);
	rig_close(&want);
}

TEST_F(prefix, samples_share_a_prompt_that_another_client_has_computed)
{
	struct tiny_cfg c = config(1);
	struct request_params p;
	struct user a, b;
	struct request *q;
	struct rig want;
	u32 ids[100];

	user_open(&a, &c, self->d.socket, true);
	user_open(&b, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 100, 5);
	p = rig_params(ids, 100, 4);
	rig_submit(&a.r, &p);
	rig_run(&a.r);
	settle(&self->d);
	p.n = 4;
	p.sampling.temperature = 1;
	p.sampling.seed = 9;
	q = rig_submit(&b.r, &p);
	rig_run(&b.r);
	EXPECT_EQ(99, engine_stats(b.r.e)->nr_mapped);
	expect_same(&want, q, &p);
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

TEST_F(prefix, a_client_that_is_gone_leaves_what_it_has_computed)
{
	struct tiny_cfg c = config(1);
	struct request_params p;
	struct request *q;
	struct rig want;
	struct user u;
	u32 ids[200];

	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 200, 7);
	p = rig_params(ids, 200, 6);
	user_open(&u, &c, self->d.socket, true);
	rig_submit(&u.r, &p);
	rig_run(&u.r);
	user_close(&u);
	wait_until_gone(&self->d);
	settle(&self->d);
	user_open(&u, &c, self->d.socket, true);
	q = rig_submit(&u.r, &p);
	rig_run(&u.r);
	EXPECT_EQ(199, engine_stats(u.r.e)->nr_mapped);
	expect_same(&want, q, &p);
	user_close(&u);
	rig_close(&want);
}

/*
 * Two servers of one model are given the same prompt at once: the second one
 * waits for what the first computes, unless that gives up.
 */
static void twins(const struct test_kvmd *d, int model, bool cancel)
{
	struct tiny_cfg c = config(model);
	struct request_params p;
	struct request *first, *q;
	struct user a, b;
	struct rig want;
	u32 ids[400];

	user_open(&a, &c, d->socket, true);
	user_open(&b, &c, d->socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 400, 11 + 2 * (u64)model + cancel);
	p = rig_params(ids, 400, 5);
	first = rig_submit(&a.r, &p);
	ASSERT_EQ(1, engine_step(a.r.e, a.r.err));
	q = rig_submit(&b.r, &p);
	ASSERT_EQ(1, engine_step(b.r.e, b.r.err));
	EXPECT_EQ(REQUEST_WAITING, q->state);
	if (cancel) {
		engine_cancel(a.r.e, first);
	} else {
		rig_run(&a.r);
		expect_same(&want, first, &p);
	}
	settle(d); /* a last page on its way is not worth waiting for */
	rig_run(&b.r);
	expect_same(&want, q, &p);
	EXPECT_EQ(1, engine_stats(b.r.e)->nr_twins);
	/* after one step: what it takes, or what ends where windows are kept */
	EXPECT_EQ(!cancel ? 399
		  : model ? 128
			  : 32,
		  engine_stats(b.r.e)->nr_mapped);
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

TEST_F(prefix, the_second_of_two_servers_waits_for_the_prompt_of_the_first)
{
	twins(&self->d, 0, false);
	twins(&self->d, 1, false);
}

TEST_F(prefix, who_waits_for_another_server_goes_on_when_that_gives_up)
{
	twins(&self->d, 0, true);
	twins(&self->d, 1, true);
}

/*
 * Prompts that part inside a chunk, where the windows have no reason to be kept
 * but that somebody waits; then one of another server that parts where nobody
 * did, and one more there.
 */
TEST_F(prefix, windows_are_kept_where_prompts_part)
{
	struct tiny_cfg c = config(0);
	struct request_params p;
	struct request *q[2];
	struct user a, b;
	struct rig want;
	u32 ids[300], i;

	user_open(&a, &c, self->d.socket, true);
	user_open(&b, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 300, 31);
	for (i = 0; i < 2; i++) {
		ids[200] = i;
		p = rig_params(ids, 300, 4);
		q[i] = rig_submit(&a.r, &p);
	}
	rig_run(&a.r);
	expect_same(&want, q[1], &p);
	EXPECT_GE(engine_stats(a.r.e)->nr_mapped, 192);
	for (i = 0; i < 2; i++) {
		settle(&self->d);
		ids[100] = 3 + i - (ids[100] == 3 + i);
		p = rig_params(ids, 300, 4);
		q[i] = rig_submit(&b.r, &p);
		rig_run(&b.r);
		expect_same(&want, q[i], &p);
	}
	EXPECT_GE(engine_stats(b.r.e)->nr_mapped, 96);
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

/*
 * One prompt, computed by one server while nobody else was there; then others
 * of another server, that share more and more of it and have long rests of
 * their own. Windows are of 24 tokens, two pages.
 */
TEST_F(prefix, the_first_that_shares_a_part_finds_it)
{
	static const struct {
		u32 shared, found;
	} cases[] = { { 20, 20 },   { 50, 50 },	  { 64, 64 },  { 100, 64 },
		      { 150, 128 }, { 270, 256 }, { 299, 299 } };
	struct tiny_cfg c = config(0);
	struct request_params p;
	struct user a, b;
	struct rig want;
	u32 ids[400], i;
	u64 before;

	user_open(&a, &c, self->d.socket, true);
	user_open(&b, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 400, 41);
	p = rig_params(ids, 300, 4);
	rig_submit(&a.r, &p);
	rig_run(&a.r);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		u32 other[400], k;
		struct request *q;

		settle(&self->d);
		memcpy(other, ids, sizeof(other));
		for (k = cases[i].shared; k < 400; k++)
			other[k] = (ids[k] + 1 + i) % 90;
		p = rig_params(other, 400, 4);
		before = engine_stats(b.r.e)->nr_mapped;
		q = rig_submit(&b.r, &p);
		rig_run(&b.r);
		expect_same(&want, q, &p);
		EXPECT_EQ(cases[i].found,
			  engine_stats(b.r.e)->nr_mapped - before);
	}
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

/* The same while it is being computed: the second server waits for that part.
 */
TEST_F(prefix, the_second_of_two_servers_waits_for_the_part_that_it_shares)
{
	struct tiny_cfg c = config(0);
	struct request_params p;
	struct request *q;
	struct user a, b;
	struct rig want;
	u32 ids[400], i;

	user_open(&a, &c, self->d.socket, true);
	user_open(&b, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 400, 43);
	p = rig_params(ids, 400, 4);
	rig_submit(&a.r, &p);
	ASSERT_EQ(1, engine_step(a.r.e, a.r.err));
	for (i = 300; i < 400; i++)
		ids[i] = (ids[i] + 1) % 90;
	q = rig_submit(&b.r, &p);
	ASSERT_EQ(1, engine_step(b.r.e, b.r.err));
	EXPECT_EQ(REQUEST_WAITING, q->state);
	rig_run(&a.r);
	settle(&self->d);
	rig_run(&b.r);
	expect_same(&want, q, &p);
	EXPECT_EQ(1, engine_stats(b.r.e)->nr_twins);
	EXPECT_EQ(256, engine_stats(b.r.e)->nr_mapped);
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

/* Nothing is kept of a part of a prompt that is computed whole. */
TEST_F(prefix, nobody_waits_for_a_part_of_a_whole_prompt)
{
	struct tiny_cfg c = config(0);
	struct request *q, *own;
	struct request_params p;
	struct user a, b;
	struct rig want;
	u32 ids[400], i;

	user_open_as(&a, &c, self->d.socket, true, ENGINE_PREFILL_WHOLE);
	user_open(&b, &c, self->d.socket, true);
	rig_open(&want, &c, 1, 128);
	rig_ids(&want, ids, 400, 47);
	p = rig_params(ids, 400, 4);
	rig_submit(&a.r, &p);
	ASSERT_EQ(1, engine_step(a.r.e, a.r.err));
	for (i = 300; i < 400; i++)
		ids[i] = (ids[i] + 1) % 90;
	q = rig_submit(&b.r, &p);
	own = rig_submit(&a.r, &p);
	ASSERT_EQ(1, engine_step(b.r.e, b.r.err));
	EXPECT_EQ(REQUEST_RUNNING, q->state);
	rig_run(&b.r);
	rig_run(&a.r);
	expect_same(&want, q, &p);
	expect_same(&want, own, &p);
	EXPECT_EQ(0, engine_stats(b.r.e)->nr_twins);
	rig_ids(&want, ids, 400, 48);
	p = rig_params(ids, 60, 4);
	q = rig_submit(&a.r, &p);
	for (i = 40; i < 60; i++)
		ids[i] = (ids[i] + 1) % 90;
	own = rig_submit(&a.r, &p); /* a step has room for both */
	ASSERT_EQ(1, engine_step(a.r.e, a.r.err));
	EXPECT_EQ(REQUEST_RUNNING, q->state);
	EXPECT_EQ(REQUEST_RUNNING, own->state);
	rig_run(&a.r);
	expect_same(&want, own, &p);
	EXPECT_EQ(0, engine_stats(a.r.e)->nr_twins);
	user_close(&b);
	user_close(&a);
	rig_close(&want);
}

/*
 * Conversations that share a beginning, under a limit that they and the cache
 * do not fit in, with and without swap: whatever is evicted, given up, swapped
 * or computed again, every answer is the unlimited one. Where there is swap
 * every second one keeps its pages between its turns.
 */
struct scarce {
	struct user u;
	u32 ids[28][1000];
	struct request *q[28];
};

static void next_turn(struct scarce *s, u32 i, u32 turn, bool keep)
{
	struct request_params p;
	u32 nr = 800 + 2 * i;

	if (!turn) {
		rig_ids(&s->u.r, s->ids[i], 1000, i + 50);
		rig_ids(&s->u.r, s->ids[i], 160, i % 3);
	} else {
		nr = s->q[i]->seqs[0]->nr;
		memcpy(s->ids[i], s->q[i]->seqs[0]->ids, nr * sizeof(u32));
	}
	if (turn && keep) {
		ASSERT_EQ(0, engine_extend(s->u.r.e, s->q[i], s->ids[i],
					   nr + 17, 8, s->u.r.err));
		return;
	}
	if (turn)
		engine_forget(s->u.r.e, s->q[i]);
	p = rig_params(s->ids[i], nr + 17, 8);
	p.keep = keep;
	s->q[i] = rig_submit(&s->u.r, &p);
}

static void *run_one(void *arg)
{
	struct scarce *s = arg;

	rig_run(&s->u.r);
	return NULL;
}

/* Both at once, each on its thread, until both are done. */
static void run_both(struct scarce s[2])
{
	pthread_t t[2];
	int k;

	for (k = 0; k < 2; k++)
		ASSERT_EQ(0, pthread_create(&t[k], NULL, run_one, &s[k]));
	for (k = 0; k < 2; k++)
		pthread_join(t[k], NULL);
}

static void run_scarce(const char *swap, bool keep)
{
	static struct scarce s[2];
	struct tiny_cfg c = config(1);
	struct request_params p;
	struct test_kvmd d;
	struct rig want;
	u32 i, k, turn;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "64M", "--limit",
				  "24M", "--swap-ram", swap, NULL));
	rig_open(&want, &c, 1, 128);
	for (k = 0; k < 2; k++)
		user_open(&s[k].u, &c, d.socket, true);
	for (turn = 0; turn < 2; turn++) {
		for (k = 0; k < 2; k++)
			for (i = 0; i < ARRAY_SIZE(s[k].q); i++)
				next_turn(&s[k], i, turn, keep && i % 2);
		run_both(s);
		EXPECT_EQ(0, test_kvmd_check(&d));
	}
	for (k = 0; k < 2; k++) {
		const struct engine_stats *n = engine_stats(s[k].u.r.e);

		TH_LOG("swap %s: %llu computed, %llu found, %llu preempted, "
		       "%llu lost pages",
		       swap, (unsigned long long)n->nr_prefill,
		       (unsigned long long)n->nr_mapped,
		       (unsigned long long)n->nr_preempted,
		       (unsigned long long)n->nr_lost);
		EXPECT_GT(n->nr_mapped, 0);
		for (i = 0; i < ARRAY_SIZE(s[k].q); i += 9) {
			u32 nr = s[k].q[i]->seqs[0]->nr - 8;

			p = rig_params(s[k].q[i]->seqs[0]->ids, nr, 8);
			expect_same(&want, s[k].q[i], &p);
		}
		user_close(&s[k].u);
	}
	rig_close(&want);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(prefix_scarce, no_answer_changes_when_memory_is_short)
{
	run_scarce("0", false);
}

TEST(prefix_scarce, no_answer_changes_when_pages_go_to_swap_too)
{
	run_scarce("24M", true);
}

TEST_HARNESS_MAIN
