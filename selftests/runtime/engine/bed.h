/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_ENGINE_BED_H
#define SELFTESTS_ENGINE_BED_H
/*
 * bed.h - an engine on pages that are only counted and in time that is not real
 */
#include "selftests/runtime/engine/rig.h"
#include "selftests/runtime/engine/sim_pages.h"

struct bed {
	struct rig r;
	struct sim_pages p;
	struct sim_machine m;
};

static inline void bed_open(struct bed *b, struct engine_opts o, u32 frames)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);

	memset(b, 0, sizeof(*b));
	rig_load(&b->r, &c, 1);
	sim_machine_init(&b->m, b->r.m);
	b->p.b.ops = &sim_ops;
	b->p.b.nr_areas = 1;
	b->p.b.law[0] = (struct kv_area_law){ .page_tokens = SIM_P,
					      .page_bytes = SIM_BYTES };
	b->p.nr_frames = frames;
	b->r.b = &b->p.b;
	o.machine = &b->m.m;
	o.context = SIM_PAGES * SIM_P;
	rig_start(&b->r, &o);
}

static inline void bed_close(struct bed *b)
{
	rig_close(&b->r);
	EXPECT_EQ(0, b->p.nr_used);
	EXPECT_EQ(0, b->p.nr_out);
	EXPECT_EQ(0, b->p.nr_spaces);
}

static inline const struct engine_stats *stats(const struct bed *b)
{
	return engine_stats(b->r.e);
}

static inline struct request *submit(struct bed *b, u32 prompt, u32 max_new,
				     s32 prio, u32 n)
{
	static u32 ids[SIM_PAGES * SIM_P];
	struct request_params p = { .prompt = ids,
				    .nr_prompt = prompt,
				    .max_new = max_new,
				    .n = n,
				    .priority = prio,
				    .sampling = SAMPLING_GREEDY };

	return rig_submit(&b->r, &p);
}

static inline int step(struct bed *b)
{
	return rig_step(&b->r);
}

/* Steps until all are done, @most; the number of them. */
static inline u32 run(struct bed *b, u32 most)
{
	u32 n = 0;

	while (n < most && step(b) == 1)
		n++;
	return n;
}

static inline u32 tokens_of(const struct request *q)
{
	u32 i, n = 0;

	for (i = 0; i < q->nr_seqs; i++)
		n += seq_nr_new(q->seqs[i]);
	return n;
}

#endif
