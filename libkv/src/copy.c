/* SPDX-License-Identifier: MIT */
/*
 * copy.c - the copies that a step was told to make, done by the processor
 *
 * A copy moves the first tokens of a page, for all layers, K and V, and
 * nothing else: rows above are not in use and another layout may keep other
 * bytes there. Rows that lie next to each other are moved together:
 *
 *	token-major	heads of a token adjacent: one move per layer, K and V
 *	head-major	tokens of a head adjacent: one per layer, head, K and V
 *	neither		one per row
 */
#include "libkv/src/client.h"
#include <string.h>

struct rows {
	size_t bytes; /* of one move */
	u32 nr_outer, nr_inner;
	size_t outer, inner; /* strides */
};

static struct rows plan(const struct kv_geometry *g, u32 tokens)
{
	size_t row = (size_t)g->head_dim * 2; /* bf16, the only element */
	struct rows r = { .bytes = row,
			  .nr_outer = tokens,
			  .outer = g->token_stride,
			  .nr_inner = g->nr_kv_heads,
			  .inner = g->head_stride };

	if (g->head_stride == row || g->nr_kv_heads == 1) {
		r.bytes = row * g->nr_kv_heads;
		r.nr_inner = 1;
		if (g->token_stride == r.bytes) {
			r.bytes *= tokens;
			r.nr_outer = 1;
		}
	} else if (g->token_stride == row) {
		r.bytes = row * tokens;
		r.nr_outer = 1;
	}
	return r;
}

static void copy_page(u8 *dst, const u8 *src, const struct kv_geometry *g,
		      u32 tokens)
{
	struct rows r = plan(g, min(tokens, g->page_tokens));
	u32 layer, kv, o, i;

	for (layer = 0; layer < g->nr_layers; layer++) {
		for (kv = 0; kv < 2; kv++) {
			size_t at = (size_t)layer * g->layer_stride +
				    (size_t)kv * g->v_offset;

			for (o = 0; o < r.nr_outer; o++) {
				for (i = 0; i < r.nr_inner; i++) {
					size_t off =
						at + o * r.outer + i * r.inner;

					memcpy(dst + off, src + off, r.bytes);
				}
			}
		}
	}
}

void copy_run(struct kv *kv, const struct kv_copy *copies, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		const struct kv_copy *c = &copies[i];
		const struct kv_geometry *g;

		if (i == nr / 2)
			KV_POINT(STEP_COPIED);
		if (c->geom >= kv->nr_geoms)
			continue;
		g = &kv->geom[c->geom];
		copy_page(kv->base + (u64)c->dst * g->unit_bytes,
			  kv->base + (u64)c->src * g->unit_bytes, g, c->tokens);
	}
}

void kv_step_run_copies(struct kv *kv, const struct kv_step *step)
{
	copy_run(kv, step->copies, step->nr_copies);
}
