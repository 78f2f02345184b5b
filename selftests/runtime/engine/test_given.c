/* SPDX-License-Identifier: MIT */
/* timeout: 300 */
/*
 * test_given.c - memory that others want is given, or taken, while the engine
 *	computes: the same tokens
 */
#include <pthread.h>
#include <unistd.h>
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/paged.h"

/* Takes memory again and again, until it is told. */
struct taker {
	const struct test_kvmd *d;
	pthread_t thread;
	bool stop; /* atomic */
	u32 nr;
};

static void *take(void *arg)
{
	struct taker *t = arg;

	while (!__atomic_load_n(&t->stop, __ATOMIC_ACQUIRE)) {
		usleep(15000 + 5000 * t->nr);
		free(test_kvmd_ctl(t->d, "client revoke 0 8M"));
		t->nr++;
	}
	return NULL;
}

FIXTURE(paged_revoke)
{
	struct test_kvmd d;
};

FIXTURE_VARIANT(paged_revoke)
{
	bool listens;
};

FIXTURE_VARIANT_ADD(paged_revoke, gives){ .listens = true };
FIXTURE_VARIANT_ADD(paged_revoke, deaf){ .listens = false };

FIXTURE_SETUP(paged_revoke)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--revoke-ask",
				     variant->listens ? "10000" : "1",
				     "--revoke-fence", "20000", NULL));
}

FIXTURE_TEARDOWN(paged_revoke)
{
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* Between two steps: what kvmd has to say, as kvrun hears it. */
static bool listen_to_kvmd(struct paged *pg)
{
	struct kv_event ev;

	while (kv_event_wait(pg->kv, &ev, 0) > 0)
		if (ev.type == KV_EVENT_SHRINK)
			engine_give_back(pg->r.e, ev.arg);
	return true;
}

TEST_F(paged_revoke, what_others_want_is_computed_again_and_the_same)
{
	struct taker t = { .d = &self->d };
	struct tiny_cfg c = config(1);
	struct request *got[14], *want;
	struct request_params p;
	struct paged pg;
	struct rig r;
	u32 ids[512], i;
	int rc;

	open_paged(&pg, &c, self->d.socket, 512);
	rig_open(&r, &c, 2, 512);
	for (i = 0; i < 14; i++) {
		rig_ids(&r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 60);
		p.n = i % 5 == 4 ? 2 : 1;
		p.sampling.temperature = p.n > 1 ? 1.0f : 0.0f;
		got[i] = rig_submit(&pg.r, &p);
	}
	ASSERT_EQ(0, pthread_create(&t.thread, NULL, take, &t));
	do
		rc = engine_step(pg.r.e, pg.r.err);
	while (rc == 1 && (!variant->listens || listen_to_kvmd(&pg)));
	__atomic_store_n(&t.stop, true, __ATOMIC_RELEASE);
	pthread_join(t.thread, NULL);
	if (!EXPECT_EQ(0, rc))
		TH_LOG("%s", pg.r.err);
	TH_LOG("asked %u times: %llu requests gave, %llu lost pages, %llu "
	       "stale steps",
	       t.nr, (unsigned long long)engine_stats(pg.r.e)->nr_given,
	       (unsigned long long)engine_stats(pg.r.e)->nr_lost,
	       (unsigned long long)engine_stats(pg.r.e)->nr_stale);
	EXPECT_GT(variant->listens ? engine_stats(pg.r.e)->nr_given
				   : engine_stats(pg.r.e)->nr_lost,
		  0);
	for (i = 0; i < 14; i++) {
		EXPECT_EQ(0, got[i]->error);
		rig_ids(&r, ids, 420 + i, i);
		p = rig_params(ids, 420 + i, 60);
		p.n = i % 5 == 4 ? 2 : 1;
		p.sampling.temperature = p.n > 1 ? 1.0f : 0.0f;
		want = rig_submit(&r, &p);
		rig_run(&r);
		for (u32 k = 0; k < p.n; k++)
			EXPECT_TRUE(rig_same(want->seqs[k], got[i]->seqs[k]));
	}
	close_paged(&pg);
	rig_close(&r);
}

TEST_HARNESS_MAIN
