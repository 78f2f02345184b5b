/* SPDX-License-Identifier: MIT */
/* timeout: 300 */
/*
 * test_paged.c - the engine over pages of a real kvmd
 *
 * The same tokens and bits as over contiguous memory; the bytes of frames are
 * those of a closed form over lengths, samples and the beams' ids.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "runtime/engine/kv_none.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/paged.h"

#define P MODEL_PAGE_TOKENS

FIXTURE(paged)
{
	struct test_kvmd d;
};

FIXTURE_SETUP(paged)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "128M",
				     NULL));
}

FIXTURE_TEARDOWN(paged)
{
	if (!self->d.pid)
		return;
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static u64 asked(const struct test_kvmd *d, const char *object, const char *key)
{
	char *json = test_kvmd_ctl(d, object);
	u64 v = ~0ull;

	ASSERT_TRUE(json != NULL);
	EXPECT_EQ(0, test_json_u64(json, key, &v));
	free(json);
	return v;
}

static u64 meminfo(const struct test_kvmd *d, const char *key)
{
	return asked(d, "meminfo", key);
}

/*
 * First page of an area. A window gives pages back when a step reserves: by
 * the first row of that step, at position @resv.
 */
static u32 first_page(const struct model_area *a, u32 resv)
{
	if (!a->window || resv + 1 <= a->window)
		return 0;
	return (resv + 1 - a->window) / P;
}

/*
 * Do two sequences share what lies before position @upto? Samples part at the
 * end of the prompt, even if they choose the same tokens; beams where their
 * ids do.
 */
static bool is_shared(const struct seq *a, const struct seq *b, u32 upto)
{
	if (a->req->p.kind == REQUEST_GENERATE)
		return upto <= a->req->p.nr_prompt;
	return !memcmp(a->ids, b->ids, upto * sizeof(u32));
}

/* Will the next token go to a page that two of them share? */
static bool will_copy(struct seq *const *seqs, u32 nr)
{
	u32 i, j;

	for (i = 0; i < nr; i++)
		for (j = 0; j < i; j++)
			if (is_shared(seqs[i], seqs[j], seqs[i]->nr_computed))
				return true;
	return false;
}

/* Bytes of frames of live sequences that share by prefix. */
static u64 closed_form(const struct model *m, struct seq *const *seqs, u32 nr,
		       u32 resv)
{
	u64 bytes = 0;
	u32 a, i, j, k;

	for (a = 0; a < m->nr_areas; a++)
		for (i = 0; i < nr; i++) {
			u32 done = seqs[i]->nr_computed;

			for (k = first_page(&m->area[a], resv); k * P < done;
			     k++) {
				u32 upto = min((k + 1) * P, done);

				/* count a page at its first owner */
				for (j = 0; j < i; j++)
					if (is_shared(seqs[i], seqs[j], upto))
						break;
				if (j == i)
					bytes += m->area[a].geom.page_bytes;
			}
		}
	return bytes;
}

TEST_F(paged, pages_give_the_bits_of_contiguous_memory)
{
	static const u32 lens[] = { 1, 16, 17, 90, 33, 64 };
	struct request *want[6], *got[6];
	struct request_params p;
	struct paged pg;
	struct rig r;
	u32 ids[128];

	for (int model = 0; model < 2; model++) {
		struct tiny_cfg c = config(model);

		rig_open(&r, &c, 1, 512);
		open_paged(&pg, &c, self->d.socket, 70);
		for (u32 i = 0; i < 6; i++) {
			rig_ids(&r, ids, lens[i], i);
			p = rig_params(ids, lens[i], 40);
			want[i] = rig_submit(&r, &p);
			got[i] = rig_submit(&pg.r, &p);
		}
		rig_run(&r);
		rig_run(&pg.r);
		for (u32 i = 0; i < 6; i++)
			EXPECT_TRUE(
				rig_same(want[i]->seqs[0], got[i]->seqs[0]));
		rig_close(&r);
		close_paged(&pg);
	}
}

/* Run to the end, comparing books and closed form after every step. */
static void run_and_count(struct paged *pg, const struct test_kvmd *d,
			  struct request *q)
{
	u32 steps = 0, resv = 0, pos;
	int rc;

	do {
		pos = q->seqs[0]->nr_computed;
		if (pos % P == 0 || will_copy(q->seqs, q->nr_seqs))
			resv = pos;
		rc = engine_step(pg->r.e, pg->r.err);
		if (q->state != REQUEST_RUNNING)
			break;
		if (!EXPECT_EQ(closed_form(pg->r.m, q->seqs, q->nr_seqs, resv),
			       meminfo(d, "frame_bytes")))
			TH_LOG("step %u, %u sequences of %u", steps, q->nr_seqs,
			       q->seqs[0]->nr_computed);
		steps++;
	} while (rc == 1);
	EXPECT_EQ(0, engine_step(pg->r.e, pg->r.err));
}

static void count(const struct test_kvmd *d, enum request_kind kind, u32 n)
{
	static const u32 lens[] = { 5, 16, 41, 64 };
	struct kv_backend_ops ops;
	struct engine_opts eo = { .step_tokens = 512,
				  .max_seqs = 64,
				  .one_by_one = true };

	for (int model = 0; model < 2; model++)
		for (u32 i = 0; i < 4; i++) {
			struct tiny_cfg c = config(model);
			struct request_params p;
			struct paged pg;
			struct request *q;
			u32 ids[128];

			open_paged_as(&pg, &c, d->socket, &eo);
			/* what is asked for ahead is held before it is used */
			ops = *pg.r.b->ops;
			ops.step_prefetch = kv_none_step_prefetch;
			pg.r.b->ops = &ops;
			rig_ids(&pg.r, ids, lens[i], i);
			p = rig_params(ids, lens[i], 36);
			p.kind = kind;
			p.n = n;
			p.sampling.temperature = 2.0f;
			q = rig_submit(&pg.r, &p);
			run_and_count(&pg, d, q);
			EXPECT_EQ(0, q->error);
			EXPECT_EQ(0, meminfo(d, "frame_bytes"));
			close_paged(&pg);
		}
}

TEST_F(paged, samples_2_4_6_hold_the_pages_of_the_closed_form)
{
	count(&self->d, REQUEST_GENERATE, 2);
	count(&self->d, REQUEST_GENERATE, 4);
	count(&self->d, REQUEST_GENERATE, 6);
}

TEST_F(paged, beams_2_4_6_hold_the_pages_of_the_closed_form)
{
	count(&self->d, REQUEST_BEAM, 2);
	count(&self->d, REQUEST_BEAM, 4);
	count(&self->d, REQUEST_BEAM, 6);
}

/* Of several samples or beams; what was asked for of their pages. */
static void ask_ahead(const struct test_kvmd *d, enum request_kind kind,
		      u32 prompt, enum engine_prefill prefill,
		      struct kv_counters *nr)
{
	struct engine_opts eo = { .step_tokens = 512,
				  .max_seqs = 64,
				  .prefill = prefill };
	struct tiny_cfg c = config(1);
	struct request *want, *got;
	struct request_params p;
	struct paged pg;
	struct rig r;
	u32 ids[64], i;

	rig_open(&r, &c, 1, 512);
	open_paged_as(&pg, &c, d->socket, &eo);
	rig_ids(&pg.r, ids, prompt, 1);
	p = rig_params(ids, prompt, 6 * P);
	p.kind = kind;
	p.n = 3;
	p.sampling.temperature = 2.0f;
	want = rig_submit(&r, &p);
	got = rig_submit(&pg.r, &p);
	rig_run(&r);
	rig_run(&pg.r);
	ASSERT_EQ(request_nr_answers(want), request_nr_answers(got));
	for (i = 0; i < request_nr_answers(want); i++)
		EXPECT_TRUE(rig_same(request_answer(want, i),
				     request_answer(got, i)));
	kv_counters_get(pg.kv, nr);
	EXPECT_EQ(0, nr->forgotten_errors);
	close_paged(&pg);
	rig_close(&r);
}

TEST_F(paged, pages_of_samples_are_asked_for_ahead)
{
	struct kv_counters nr;

	ask_ahead(&self->d, REQUEST_GENERATE, 40, ENGINE_PREFILL_CHUNKED, &nr);
	/* at 40, where they part, 48, 64, 80, 96, 112 and 128: of all three */
	EXPECT_EQ(7, nr.prefetches);
	/* and nothing else but the prompt's pages */
	EXPECT_EQ(1 + 7, nr.reservations);
}

TEST_F(paged, samples_that_begin_with_a_page_ask_for_it_ahead)
{
	struct kv_counters nr;

	ask_ahead(&self->d, REQUEST_GENERATE, 48, ENGINE_PREFILL_CHUNKED, &nr);
	/* at 48 before the prompt is forked and afterwards */
	EXPECT_EQ(2 + 5, nr.prefetches);
	EXPECT_EQ(1 + 7, nr.reservations);
}

TEST_F(paged, samples_of_a_step_without_a_plan_ask_ahead)
{
	struct kv_counters nr;

	ask_ahead(&self->d, REQUEST_GENERATE, 40, ENGINE_PREFILL_APART, &nr);
	/* from 48 on; at 40 they are about to be forked */
	EXPECT_EQ(6, nr.prefetches);
	EXPECT_EQ(2 + 6, nr.reservations);
}

TEST_F(paged, beams_ask_ahead_where_they_part_first_and_begin_pages)
{
	struct kv_counters nr;

	ask_ahead(&self->d, REQUEST_BEAM, 40, ENGINE_PREFILL_CHUNKED, &nr);
	EXPECT_EQ(7, nr.prefetches);
	/* where beams have ended, their copies or pages: of 95 steps */
	TH_LOG("%llu of %llu reservations ahead",
	       (unsigned long long)nr.prefetches,
	       (unsigned long long)nr.reservations);
	EXPECT_LT(1 + 7, nr.reservations);
}

TEST_F(paged, n_samples_save_n_minus_1_times_the_prompts_full_pages)
{
	const u32 len = 70, new = 20, n = 4;
	struct tiny_cfg c = config(1);
	struct request_params p;
	struct paged pg;
	u32 ids[128];
	u64 page;

	open_paged(&pg, &c, self->d.socket, 512);
	page = pg.r.m->area[0].geom.page_bytes;
	rig_ids(&pg.r, ids, len, 1);
	p = rig_params(ids, len, new);
	p.n = n;
	p.keep = true;
	p.sampling.temperature = 2.0f;
	rig_submit(&pg.r, &p);
	rig_run(&pg.r);
	EXPECT_EQ((n - 1) * (len / P) * page, meminfo(&self->d, "saved_bytes"));
	/* the last token is not computed */
	EXPECT_EQ((len / P + n * (DIV_ROUND_UP(len + new - 1, P) - len / P)) *
			  page,
		  meminfo(&self->d, "frame_bytes"));
	close_paged(&pg);
}

TEST_F(paged, a_window_gives_its_frames_back)
{
	struct tiny_cfg c = config(0);
	struct request_params p;
	struct paged pg;
	struct request *q, *want;
	struct rig r;
	u32 ids[128];
	u64 local;

	open_paged(&pg, &c, self->d.socket, 512);
	rig_open(&r, &c, 1, 512);
	rig_ids(&r, ids, 100, 1);
	p = rig_params(ids, 100, 150);
	p.keep = true;
	want = rig_submit(&r, &p);
	rig_run(&r);
	q = rig_submit(&pg.r, &p);
	rig_run(&pg.r);
	EXPECT_TRUE(rig_same(want->seqs[0], q->seqs[0]));
	/* 249 tokens in all pages, 24 of them in at most 3 of the window */
	local = meminfo(&self->d, "frame_bytes") -
		16 * pg.r.m->area[0].geom.page_bytes;
	EXPECT_LE(local, 3 * pg.r.m->area[1].geom.page_bytes);
	EXPECT_GE(local, 2 * pg.r.m->area[1].geom.page_bytes);
	rig_close(&r);
	close_paged(&pg);
}

TEST_F(paged, a_conversation_goes_on_in_its_space)
{
	for (int model = 0; model < 2; model++) {
		struct tiny_cfg c = config(model);
		struct request *a, *b;
		struct request_params p;
		struct paged pg;
		struct rig r;
		u32 ids[300], nr;

		open_paged(&pg, &c, self->d.socket, 512);
		rig_open(&r, &c, 1, 512);
		rig_ids(&r, ids, 300, 3);
		p = rig_params(ids, 70, 10);
		p.keep = true;
		a = rig_submit(&pg.r, &p);
		rig_run(&pg.r);
		for (int turn = 0; turn < 3; turn++) {
			nr = a->seqs[0]->nr - (turn == 1 ? 8 : 0);
			memcpy(ids, a->seqs[0]->ids, nr * sizeof(*ids));
			nr += 20;
			ASSERT_EQ(0, engine_extend(pg.r.e, a, ids, nr, 10,
						   pg.r.err));
			rig_run(&pg.r);
			p = rig_params(ids, nr, 10);
			b = rig_submit(&r, &p);
			rig_run(&r);
			EXPECT_TRUE(rig_same(a->seqs[0], b->seqs[0]));
		}
		rig_close(&r);
		close_paged(&pg);
	}
}

TEST(paged_limit, under_a_real_limit_the_latest_gives_way)
{
	struct tiny_cfg c = config(1);
	struct request *got[14], *want;
	struct request_params p;
	struct test_kvmd d;
	struct paged pg;
	struct rig r;
	u32 ids[512], i;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", NULL));
	open_paged(&pg, &c, d.socket, 512);
	rig_open(&r, &c, 2, 512);
	for (i = 0; i < 14; i++) {
		rig_ids(&r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 30);
		got[i] = rig_submit(&pg.r, &p);
	}
	rig_run(&pg.r);
	TH_LOG("%llu preempted, %u at a time",
	       (unsigned long long)engine_stats(pg.r.e)->nr_preempted,
	       engine_stats(pg.r.e)->max_running);
	EXPECT_GT(engine_stats(pg.r.e)->nr_preempted, 0);
	EXPECT_EQ(0, got[0]->nr_preempted);
	for (i = 0; i < 14; i++) {
		EXPECT_EQ(0, got[i]->error);
		rig_ids(&r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 30);
		want = rig_submit(&r, &p);
		rig_run(&r);
		EXPECT_TRUE(rig_same(want->seqs[0], got[i]->seqs[0]));
	}
	/* and one that never fits fails with a sentence */
	close_paged(&pg);
	c.context = 100000;
	open_paged(&pg, &c, d.socket, 512);
	{
		static u32 many[8000];

		p = rig_params(many, 8000, 1);
		want = rig_submit(&pg.r, &p);
		rig_run(&pg.r);
		EXPECT_NE(0, want->error);
		TH_LOG("%s", want->message);
	}
	close_paged(&pg);
	rig_close(&r);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/*
 * The same 14 requests at the same limit, each on its own in @want; between
 * steps @poke may do something, once it returns true never again.
 */
static void run_scarce(struct paged *pg, struct rig *r,
		       bool (*poke)(const struct test_kvmd *d,
				    const char *file),
		       const struct test_kvmd *d, const char *file)
{
	struct request *got[14], *want;
	struct request_params p;
	bool poked = !poke;
	u32 ids[512], i;
	int rc;

	for (i = 0; i < 14; i++) {
		rig_ids(r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 30);
		got[i] = rig_submit(&pg->r, &p);
	}
	do {
		rc = engine_step(pg->r.e, pg->r.err);
		poked = poked || poke(d, file);
	} while (rc > 0);
	ASSERT_EQ(0, rc);
	EXPECT_TRUE(poked);
	for (i = 0; i < 14; i++) {
		EXPECT_EQ(0, got[i]->error);
		rig_ids(r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 30);
		want = rig_submit(r, &p);
		rig_run(r);
		EXPECT_TRUE(rig_same(want->seqs[0], got[i]->seqs[0]));
	}
}

FIXTURE(paged_swap)
{
	char file[300];
};

FIXTURE_VARIANT(paged_swap)
{
	bool file;
};

FIXTURE_VARIANT_ADD(paged_swap, memory){ .file = false };
FIXTURE_VARIANT_ADD(paged_swap, file){ .file = true };

FIXTURE_SETUP(paged_swap)
{
	snprintf(self->file, sizeof(self->file), "%s/swap", test_tmpdir());
}

FIXTURE_TEARDOWN(paged_swap)
{
}

TEST_F(paged_swap, what_gives_way_comes_back_and_is_not_computed_again)
{
	const struct engine_stats *st;
	struct tiny_cfg c = config(1);
	struct test_kvmd d;
	struct paged pg;
	struct rig r;

	if (variant->file)
		ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
					     "--limit", "8M", "--swap-file",
					     self->file, "--swap-size", "64M",
					     NULL));
	else
		ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
					     "--limit", "8M", "--swap-ram",
					     "64M", NULL));
	open_paged(&pg, &c, d.socket, 512);
	engine_set_back(pg.r.e, ENGINE_BACK_READ); /* however slow the disk */
	rig_open(&r, &c, 2, 512);
	run_scarce(&pg, &r, NULL, &d, NULL);
	st = engine_stats(pg.r.e);
	TH_LOG("%llu preempted, %llu of them to swap, %u at a time",
	       (unsigned long long)st->nr_preempted,
	       (unsigned long long)st->nr_paused, st->max_running);
	EXPECT_GT(st->nr_paused, 0);
	EXPECT_EQ(st->nr_paused, st->nr_preempted);
	EXPECT_EQ(14 * 420 + 91, st->nr_prefill); /* 420 .. 433 tokens */
	close_paged(&pg);
	rig_close(&r);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
	EXPECT_NE(0, access(self->file, F_OK));
}

/*
 * Conversations that wait for their next turn hold their pages: four times
 * what the tenant may have on the device, the rest is in memory and in a file.
 */
enum { TURNS_NR = 52, TURNS = 3 };

static void run_turns(struct paged *pg, struct rig *r)
{
	static u32 ids[TURNS_NR][900];
	struct request *req[TURNS_NR], *want;
	struct request_params p;
	u32 i, turn, nr;

	for (turn = 0; turn < TURNS; turn++) {
		for (i = 0; i < TURNS_NR; i++) {
			rig_ids(r, ids[i], 900, i);
			if (!turn) {
				p = rig_params(ids[i], 350 + i, 10);
				p.keep = true;
				req[i] = rig_submit(&pg->r, &p);
				continue;
			}
			nr = req[i]->seqs[0]->nr;
			memcpy(ids[i], req[i]->seqs[0]->ids,
			       nr * sizeof(*ids[i]));
			ASSERT_EQ(0, engine_extend(pg->r.e, req[i], ids[i],
						   nr + 17, 10, pg->r.err));
		}
		rig_run(&pg->r);
	}
	for (i = 0; i < TURNS_NR; i += 7) {
		u32 last = req[i]->seqs[0]->nr - 10;

		EXPECT_EQ(0, req[i]->error);
		p = rig_params(req[i]->seqs[0]->ids, last, 10);
		want = rig_submit(r, &p);
		rig_run(r);
		EXPECT_TRUE(rig_same(want->seqs[0], req[i]->seqs[0]));
	}
}

TEST(paged_swap_turns, four_times_the_device_keeps_every_token)
{
	struct tiny_cfg c = config(1);
	struct test_kvmd d;
	struct paged pg;
	char file[300];
	struct rig r;

	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", "--swap-ram", "8M",
				     "--swap-lz4", "8M", "--swap-file", file,
				     "--swap-size", "64M", NULL));
	open_paged(&pg, &c, d.socket, 512);
	/* however fast this machine would compute them again */
	engine_set_back(pg.r.e, ENGINE_BACK_READ);
	rig_open(&r, &c, 2, 512);
	run_turns(&pg, &r);
	TH_LOG("%llu KiB in swap, %llu pages demoted",
	       (unsigned long long)meminfo(&d, "swap_used_bytes") >> 10,
	       (unsigned long long)asked(&d, "vmstat", "demoted"));
	EXPECT_GT(meminfo(&d, "swap_used_bytes"), 20u << 20);
	EXPECT_GT(asked(&d, "vmstat", "demoted"), 0);
	EXPECT_EQ(engine_stats(pg.r.e)->nr_preempted,
		  engine_stats(pg.r.e)->nr_paused);
	close_paged(&pg);
	rig_close(&r);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(paged_swap_discard, room_that_nobody_uses_leaves_the_file)
{
	struct tiny_cfg c = config(1);
	struct stat before, after;
	struct test_kvmd d;
	struct paged pg;
	char file[300];
	struct rig r;
	u32 i;

	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "64M", "--limit",
				  "8M", "--swap-file", file, "--swap-size",
				  "64M", "--swap-discard", NULL));
	ASSERT_EQ(0, stat(file, &before));
	open_paged(&pg, &c, d.socket, 512);
	rig_open(&r, &c, 2, 512);
	run_turns(&pg, &r); /* while it goes on, too, every token is right */
	close_paged(&pg);
	rig_close(&r);
	for (i = 0; i < 600; i++) {
		ASSERT_EQ(0, stat(file, &after));
		if ((before.st_blocks - after.st_blocks) * 512 > 24 << 20)
			break;
		usleep(50000);
	}
	EXPECT_LT(i, 600);
	TH_LOG("%llu KiB in %llu discards",
	       (unsigned long long)asked(&d, "vmstat",
					 "swap_discarded_bytes") >>
		       10,
	       (unsigned long long)asked(&d, "vmstat", "swap_discards"));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/* One bit of every 4 KiB of the file, when something has been written. */
static bool flip_bits(const struct test_kvmd *d, const char *file)
{
	static unsigned char block[4096];
	int fd, n;
	off_t at;

	if (!meminfo(d, "swap_used_bytes"))
		return false;
	fd = open(file, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	for (at = 0; at < 64 << 20; at += 4096) {
		n = (int)pread(fd, block, sizeof(block), at);
		ASSERT_EQ((int)sizeof(block), n);
		block[at / 4096 % 4096] ^= 1;
		ASSERT_EQ(n, (int)pwrite(fd, block, sizeof(block), at));
	}
	fsync(fd);
	close(fd);
	return true;
}

TEST(paged_swap_file, a_flipped_bit_is_computed_again_and_never_used)
{
	struct tiny_cfg c = config(1);
	struct test_kvmd d;
	struct paged pg;
	struct rig r;
	char file[300];

	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", "--swap-file", file,
				     "--swap-size", "64M", NULL));
	open_paged(&pg, &c, d.socket, 512);
	rig_open(&r, &c, 2, 512);
	run_scarce(&pg, &r, flip_bits, &d, file);
	TH_LOG("%llu requests lost pages",
	       (unsigned long long)engine_stats(pg.r.e)->nr_lost);
	EXPECT_GT(engine_stats(pg.r.e)->nr_lost, 0);
	close_paged(&pg);
	rig_close(&r);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/*
 * Every kind of fault on every I/O. What is found is counted, what is not
 * would be other tokens; afterwards nothing is left in any tier.
 */
static void run_faulty(const char *fault, const char *io, const char *ram,
		       struct test_kvmd *d)
{
	struct tiny_cfg c = config(1);
	struct paged pg;
	char file[300];
	struct rig r;
	u64 faults, errors, lost, late;

	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", "--io", io, "--swap-ram",
				     ram, "--swap-file", file, "--swap-size",
				     "64M", "--swap-fault", fault,
				     "--swap-deadline", "250", NULL));
	rig_open(&r, &c, 2, 512);
	open_paged(&pg, &c, d->socket, 512);
	run_turns(&pg, &r);
	close_paged(&pg);
	open_paged(&pg, &c, d->socket, 512);
	run_scarce(&pg, &r, NULL, d, NULL);
	close_paged(&pg);
	rig_close(&r);
	faults = asked(d, "vmstat", "swap_faults");
	errors = asked(d, "vmstat", "swap_errors");
	lost = asked(d, "vmstat", "swap_lost");
	late = asked(d, "vmstat", "swap_late");
	TH_LOG("%llu faults of %llu pages out and %llu in: %llu found, %llu "
	       "lost, %llu late",
	       (unsigned long long)faults,
	       (unsigned long long)asked(d, "vmstat", "swap_out"),
	       (unsigned long long)asked(d, "vmstat", "swap_in"),
	       (unsigned long long)errors, (unsigned long long)lost,
	       (unsigned long long)late);
	EXPECT_GT(faults, 0);
	EXPECT_LE(lost, errors);
	EXPECT_LE(late, errors);
	/* two pages for one that was misdirected; what meets a late one */
	EXPECT_LE(errors, 2 * faults + late);
	EXPECT_EQ(0, test_kvmd_settle(d, 0, 5000));
	EXPECT_EQ(0, meminfo(d, "swap_used_bytes"));
	EXPECT_EQ(0, test_kvmd_check(d));
	EXPECT_EQ(0, test_kvmd_stop(d));
	EXPECT_NE(0, access(file, F_OK));
}

TEST_TIMEOUT(paged_faults, of_a_hundredth_no_token_is_another, 120)
{
	struct test_kvmd d;

	run_faulty("all:0.01:1", "auto", "8M", &d);
}

TEST_TIMEOUT(paged_faults, of_a_thousandth_no_token_is_another, 120)
{
	struct test_kvmd d;

	run_faulty("all:0.001:2", "epoll", "0", &d);
}

TEST_HARNESS_MAIN
