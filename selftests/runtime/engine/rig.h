/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_ENGINE_RIG_H
#define SELFTESTS_ENGINE_RIG_H
/*
 * rig.h - an engine over a tiny network, and what it decided
 */
#include "runtime/engine/engine.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "selftests/runtime/tiny_model.h"

struct rig {
	struct tiny t;
	struct gguf *g;
	struct model *m;
	struct kern_exec x;
	struct kv_backend *b; /* destroyed by rig_close() */
	struct engine *e;
	char err[KV_ERRLEN];
};

/* All but the backend and the engine. */
static inline void rig_load(struct rig *r, const struct tiny_cfg *c,
			    u32 threads)
{
	memset(r, 0, sizeof(*r));
	tiny_build(&r->t, c);
	ASSERT_EQ(0, gguf_open_mem(r->t.buf, r->t.len, "tiny", &r->g, r->err));
	ASSERT_EQ(0, model_load(r->g, NULL, NULL, &r->m, r->err));
	ASSERT_EQ(0, kern_exec_init(&r->x, NULL, threads));
}

static inline void rig_start(struct rig *r, const struct engine_opts *o)
{
	ASSERT_EQ(0, engine_create(r->m, &r->x, r->b, o, &r->e, r->err));
}

/* With the contiguous backend. */
static inline void rig_open(struct rig *r, const struct tiny_cfg *c,
			    u32 threads, u32 step_tokens)
{
	struct engine_opts o = { .step_tokens = step_tokens, .max_seqs = 64 };

	rig_load(r, c, threads);
	ASSERT_EQ(0, kv_contig_create(r->m, 64, 1024, &r->b, r->err));
	rig_start(r, &o);
}

static inline void rig_close(struct rig *r)
{
	engine_destroy(r->e);
	if (r->b)
		r->b->ops->destroy(r->b);
	kern_exec_fini(&r->x);
	model_free(r->m);
	gguf_close(r->g);
	tiny_free(&r->t);
}

static inline void rig_ids(const struct rig *r, u32 *ids, u32 nr, u64 seed)
{
	u32 i;

	for (i = 0; i < nr; i++)
		ids[i] = (u32)(test_rand(&seed) % r->m->hp.vocab);
}

/* Greedy, @max_new tokens, the three best of each kept. */
static inline struct request_params rig_params(const u32 *ids, u32 nr,
					       u32 max_new)
{
	return (struct request_params){
		.prompt = ids,
		.nr_prompt = nr,
		.max_new = max_new,
		.n = 1,
		.nr_logprobs = 3,
		.sampling = SAMPLING_GREEDY,
	};
}

static inline struct request *rig_submit(struct rig *r,
					 const struct request_params *p)
{
	struct request *q = NULL;

	if (!EXPECT_EQ(0, engine_submit(r->e, p, &q, r->err)))
		TH_LOG("%s", r->err);
	return q;
}

/* One step, and what must hold after it. */
static inline int rig_step(struct rig *r)
{
	int rc = engine_step(r->e, r->err);

	if (!EXPECT_LE(0, rc))
		TH_LOG("%s", r->err);
	if (!EXPECT_EQ(0, engine_check(r->e, r->err)))
		TH_LOG("%s", r->err);
	return rc;
}

static inline void rig_run(struct rig *r)
{
	int rc;

	do
		rc = engine_step(r->e, r->err);
	while (rc == 1);
	if (!EXPECT_EQ(0, rc))
		TH_LOG("%s", r->err);
}

/* The same tokens with the same bits of log-probability? */
static inline bool rig_same(const struct seq *a, const struct seq *b)
{
	u32 k = a->req->p.nr_logprobs, nr = seq_nr_new(a);

	if (nr != seq_nr_new(b) || k != b->req->p.nr_logprobs)
		return false;
	return !memcmp(a->ids + a->req->p.nr_prompt,
		       b->ids + b->req->p.nr_prompt, nr * sizeof(u32)) &&
	       !memcmp(a->lps, b->lps, (size_t)nr * k * sizeof(*a->lps));
}

/* All of their sequences? */
static inline bool rig_same_all(const struct request *a,
				const struct request *b)
{
	u32 i;

	if (a->nr_seqs != b->nr_seqs)
		return false;
	for (i = 0; i < a->nr_seqs; i++)
		if (!rig_same(a->seqs[i], b->seqs[i]))
			return false;
	return true;
}

#endif
