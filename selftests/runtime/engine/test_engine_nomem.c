/* SPDX-License-Identifier: MIT */
/*
 * test_engine_nomem.c - every allocation of the model and the engine fails
 *
 * The C library's allocator is replaced by one that counts, and fails the
 * n-th call. Load, samples, beams and a conversation run with n = 1, 2, 3,
 * ... until nothing fails any more: each time somebody must say -ENOMEM, and
 * nothing be left allocated.
 */
#include "selftests/runtime/engine/rig.h"

#ifndef __SANITIZE_ADDRESS__

#include "selftests/nomem.h"

static struct tiny tiny;
static struct kern_exec exec;

/* Run to the end; what failed, of the engine or of the request. */
static int finish(struct engine *e, const struct request *q)
{
	int rc;

	do
		rc = engine_step(e, NULL);
	while (rc == 1);
	return rc ? rc : q->error;
}

static int ask(struct engine *e, enum request_kind kind, bool keep)
{
	static const u32 ids[40], more[60] = { 0, 0, 1 };
	struct request_params p = {
		.kind = kind,
		.prompt = ids,
		.nr_prompt = 40,
		.max_new = 6,
		.n = keep ? 1 : 3,
		.nr_logprobs = 2,
		.keep = keep,
		.sampling = SAMPLING_GREEDY,
	};
	struct request *q;
	int rc = engine_submit(e, &p, &q, NULL);

	if (!rc)
		rc = finish(e, q);
	if (!rc && keep)
		rc = engine_extend(e, q, more, 60, 300, NULL);
	if (!rc && keep)
		rc = finish(e, q);
	if (!rc)
		engine_forget(e, q);
	return rc;
}

static int whole_path(void)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct kv_backend *b = NULL;
	struct engine *e = NULL;
	struct model *m = NULL;
	struct gguf *g = NULL;
	int rc = gguf_open_mem(tiny.buf, tiny.len, "tiny", &g, NULL);

	if (!rc)
		rc = model_load(g, NULL, NULL, &m, NULL);
	if (!rc)
		rc = kv_contig_create(m, 8, 512, &b, NULL);
	if (!rc)
		rc = engine_create(m, &exec, b, &o, &e, NULL);
	if (!rc)
		rc = ask(e, REQUEST_GENERATE, false);
	if (!rc)
		rc = ask(e, REQUEST_BEAM, false);
	if (!rc)
		rc = ask(e, REQUEST_GENERATE, true);
	engine_destroy(e);
	if (b)
		b->ops->destroy(b);
	model_free(m);
	if (g)
		gguf_close(g);
	return rc;
}

TEST(nomem, each_failed_allocation_is_said_and_nothing_is_left)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F32);
	long n = 0;
	int rc;

	c.layers = 1;
	c.dim = 64;
	c.ffn = 64;
	c.vocab = 32;
	tiny_build(&tiny, &c);
	ASSERT_EQ(0, kern_exec_init(&exec, NULL, 1));
	do {
		arm(++n);
		rc = whole_path();
		disarm();
		if (!EXPECT_EQ(fired ? -ENOMEM : 0, rc) ||
		    !EXPECT_EQ(0, nr_live)) {
			TH_LOG("allocation %ld", n);
			break;
		}
	} while (fired);
	TH_LOG("%ld allocations", n - 1);
	EXPECT_GT(n, 40);
	kern_exec_fini(&exec);
	tiny_free(&tiny);
}

#else

TEST(nomem, each_failed_allocation_is_said_and_nothing_is_left)
{
	SKIP("the allocator is the sanitizer's");
}

#endif

TEST_HARNESS_MAIN
