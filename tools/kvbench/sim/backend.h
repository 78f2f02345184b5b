/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_BACKEND_H
#define TOOLS_KVBENCH_SIM_BACKEND_H
/*
 * backend.h - the engine's pages from the core of the simulated world
 */
#include "runtime/engine/kv_backend.h"
#include "tools/kvbench/mmhost.h"
#include "tools/kvbench/sim/world.h"

/* What K and V of a token take, by groups of layers. */
struct simkv_shape {
	const char *name;
	u32 page_tokens, nr_areas;
	struct {
		u32 nr_layers, nr_kv_heads, head_dim, window;
	} area[KV_AREA_MAX];
};

/**
 * simkv_create - a client of the world's core
 * @w: outlives it
 * @tenant: whose memory it is
 * @shape: outlives it
 * @out: on success only; out->ops->destroy() it
 *
 * Calls that wait are for a task of the world.
 */
int __must_check simkv_create(struct world *w, const char *tenant,
			      const struct simkv_shape *shape,
			      struct kv_backend **out);
/* Bytes that others have asked this one for since the last call. */
u64 simkv_wanted(struct kv_backend *b);
/* Steps so far that libkv would have refused: there should be none. */
u32 simkv_bad(const struct kv_backend *b);

#endif
