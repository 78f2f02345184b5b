/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_ENGINE_PAGED_H
#define SELFTESTS_ENGINE_PAGED_H
/*
 * paged.h - an engine over pages of a real kvmd
 */
#include "kv.h"
#include "runtime/engine/kv_backend.h"
#include "selftests/runtime/engine/rig.h"

static inline struct tiny_cfg config(int i)
{
	return i ? tiny_qwen(KV_DTYPE_Q8_0) : tiny_gemma(KV_DTYPE_Q8_0);
}

struct paged {
	struct rig r;
	struct kv *kv;
};

static inline void open_paged_as(struct paged *p, const struct tiny_cfg *c,
				 const char *socket,
				 const struct engine_opts *eo)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao), .socket = socket };
	struct kv_namespace ns = { .salt = 1 };

	rig_load(&p->r, c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &p->kv));
	ASSERT_EQ(0, kv_paged_create(p->kv, p->r.m, &ns, &p->r.b, p->r.err));
	rig_start(&p->r, eo);
}

static inline void open_paged(struct paged *p, const struct tiny_cfg *c,
			      const char *socket, u32 step_tokens)
{
	struct engine_opts eo = { .step_tokens = step_tokens, .max_seqs = 64 };

	open_paged_as(p, c, socket, &eo);
}

static inline void close_paged(struct paged *p)
{
	rig_close(&p->r);
	kv_detach(p->kv);
}

#endif
