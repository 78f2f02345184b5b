/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_MODEL_H
#define RUNTIME_MODEL_MODEL_H
/*
 * model.h - a network: hyper-parameters, where its weights are, layer groups
 *
 * A model owns none of its matrices: they lie in the mapping of weights that
 * kvmd holds for all runtimes, or in the mapping of the file. Norms and
 * biases are private fp32 copies from there, or read from the file by pread.
 */
#include "uapi/kv/geometry.h"
#include "kernels/include/kern.h"
#include "runtime/model/hparams.h"

struct gguf;
struct packing;

#define MODEL_PAGE_TOKENS 16u

/* Layers whose K and V live and die together: a page never mixes two groups. */
struct model_area {
	u32 nr_layers;
	u32 window; /* tokens a row sees, itself included; 0 = all */
	struct model_rope rope;
	struct kv_geometry geom; /* kvmd's fields are zero */
};

struct model_layer {
	struct kern_mat q, k, v, o; /* attention */
	struct kern_mat gate, up, down; /* FFN */
	const float *attn_norm, *ffn_norm; /* [dim] */
	const float *q_norm, *k_norm; /* [head_dim] or NULL */
	const float *post_attn_norm, *post_ffn_norm; /* [dim] or NULL */
	const float *q_bias, *k_bias, *v_bias; /* or NULL */
	u32 area; /* the group it belongs to */
	u32 index; /* which layer of the group */
};

struct model {
	struct model_hparams hp;
	struct kern_mat embed; /* [vocab][dim] */
	struct kern_mat head; /* [vocab][dim], embed if the file has none */
	const float *out_norm; /* [dim] */
	struct model_layer *layers; /* [hp.nr_layers] */
	struct model_area area[KV_AREA_MAX];
	u32 nr_areas;
	float *vectors; /* every norm and bias, one allocation */
	size_t nr_vectors, max_vectors; /* floats */
};

/**
 * model_load - find and check every tensor of the network
 * @g: the file; not needed afterwards unless @weights is NULL
 * @packing: the plan by which @weights was filled; not needed afterwards
 * @weights: a filled mapping that outlives the model; NULL, with a NULL
 *	@packing, to use the file's bytes in the mapping of @g
 * @out: the model, on success only
 * @err: KV_ERRLEN bytes: the sentence for a refusal
 *
 * Return: 0, -EOPNOTSUPP for an unknown architecture, -EINVAL for a tensor
 * that is missing or has the wrong shape or for K and V of which a page does
 * not fit an extent, -ENOMEM, what reading returned.
 */
int __must_check model_load(const struct gguf *g, const struct packing *packing,
			    const void *weights, struct model **out, char *err);
void model_free(struct model *m);

/* Offsets within a page of an area, as kern_kv wants them; base is NULL. */
void model_area_kv(const struct model_area *a, struct kern_kv *kv);

#endif
