/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_HPARAMS_H
#define RUNTIME_MODEL_HPARAMS_H
/*
 * hparams.h - what a file's metadata says about the network
 */
#include "kv/errbuf.h"
#include "kv/types.h"

struct gguf;

enum model_arch {
	MODEL_GEMMA3,
	MODEL_QWEN2,
};

/* angle of dimension pair i at position p: p * scale * base^(-2i / rot) */
struct model_rope {
	double base;
	double scale; /* 1 / the linear factor */
};

struct model_hparams {
	enum model_arch arch;
	const char *arch_name; /* the metadata's prefix, a constant */
	u32 nr_layers, dim, ffn_dim;
	u32 nr_heads, nr_kv_heads, head_dim;
	u32 rot; /* rotated dimensions of a head */
	u32 vocab, context;
	u32 act; /* enum kern_act */
	u32 window; /* tokens a row of a local layer sees, itself included */
	u32 global_every; /* layer l is global if (l + 1) % this == 0 */
	float eps;
	float embed_scale; /* 1 for none */
	float attn_scale;
	float attn_softcap, logit_softcap; /* 0 = none */
	struct model_rope global, local;
	/* what else a layer has */
	bool has_qkv_bias, has_qk_norm, has_post_norms;
};

/**
 * hparams_read - read and check the hyper-parameters
 * @g: the file
 * @hp: filled in on success
 * @err: KV_ERRLEN bytes: the sentence for a refusal
 *
 * The vocabulary's size is that of the tensor token_embd.weight; every other
 * number is bounded here, and so is nr_heads * head_dim. Larger products want
 * u64.
 *
 * Return: 0, -EOPNOTSUPP for an architecture or a rope scaling that is not
 * known, -EINVAL for a key that is missing or out of range.
 */
int __must_check hparams_read(const struct gguf *g, struct model_hparams *hp,
			      char *err);

/* Does this layer see everything before it (true) or a window? */
static inline bool hparams_is_global(const struct model_hparams *hp, u32 layer)
{
	return !hp->window || (layer + 1) % hp->global_every == 0;
}

#endif
