/* SPDX-License-Identifier: MIT */
/*
 * hparams.c - hyper-parameters of gemma3 and qwen2 from GGUF metadata
 *
 * Both architectures are one network with switches: a decoder with RMS norm,
 * rotary positions, grouped query heads and a gated FFN. gemma3 adds norms of
 * q and k and after each half of a layer, a scaled embedding, and windows in
 * all layers but every sixth; qwen2 adds biases to q, k and v. The switches
 * are set here once and the forward pass only looks at them.
 *
 * Keys follow the file format: "<architecture>.<name>". A key that the
 * format leaves out when it has its usual value has that value here.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/model/hparams.h"
#include "runtime/model/gguf.h"
#include "kernels/include/kern.h"

#define HP_LAYERS_MAX 512u
#define HP_DIM_MAX    65536u
#define HP_HEADS_MAX  1024u
#define HP_VOCAB_MAX  (1u << 22)
#define HP_CTX_MAX    (1u << 28)
/* What the attention kernels take (attn_plan.h). */
#define HP_HEAD_STEP 16u
#define HP_HEAD_MAX  256u
#define HP_GROUP_MAX 64u /* query heads of a KV head */

/* Gemma 3's usual values, left out of files that have them. */
#define GEMMA3_GLOBAL_EVERY 6
#define GEMMA3_LOCAL_BASE   10000.0
#define GEMMA3_27B_LAYERS   62

struct reader {
	const struct gguf *g;
	const char *arch;
	char *err;
	char key[96];
};

static const char *rd_key(struct reader *r, const char *name)
{
	snprintf(r->key, sizeof(r->key), "%s.%s", r->arch, name);
	return r->key;
}

/* A count in [lo, hi]; with @def it may be left out. */
static int rd_u32(struct reader *r, const char *name, const u32 *def, u32 lo,
		  u32 hi, u32 *out)
{
	const char *key = rd_key(r, name);
	int rc;

	if (def && !gguf_has(r->g, key)) {
		*out = *def;
		return 0;
	}
	rc = gguf_get_u32(r->g, key, out, r->err);
	if (rc)
		return rc == -ENOENT ? -EINVAL : rc;
	if (*out < lo || *out > hi)
		return err_set(r->err, -EINVAL,
			       "%s: %s is %u, which is outside %u..%u",
			       gguf_name(r->g), key, *out, lo, hi);
	return 0;
}

/* A finite number >= 0; with @def it may be left out. */
static int rd_f32(struct reader *r, const char *name, const float *def,
		  float *out)
{
	const char *key = rd_key(r, name);
	int rc;

	if (def && !gguf_has(r->g, key)) {
		*out = *def;
		return 0;
	}
	rc = gguf_get_f32(r->g, key, out, r->err);
	if (rc)
		return rc == -ENOENT ? -EINVAL : rc;
	if (!isfinite(*out) || *out < 0.0f)
		return err_set(r->err, -EINVAL,
			       "%s: %s is no number that makes sense",
			       gguf_name(r->g), key);
	return 0;
}

static int read_sizes(struct reader *r, struct model_hparams *hp)
{
	const struct gguf_tensor *t;
	u32 def;
	int rc;

	rc = rd_u32(r, "block_count", NULL, 1, HP_LAYERS_MAX, &hp->nr_layers);
	if (!rc)
		rc = rd_u32(r, "embedding_length", NULL, 1, HP_DIM_MAX,
			    &hp->dim);
	if (!rc)
		rc = rd_u32(r, "feed_forward_length", NULL, 1, HP_DIM_MAX * 4,
			    &hp->ffn_dim);
	if (!rc)
		rc = rd_u32(r, "attention.head_count", NULL, 1, HP_HEADS_MAX,
			    &hp->nr_heads);
	if (!rc)
		rc = rd_u32(r, "attention.head_count_kv", &hp->nr_heads, 1,
			    HP_HEADS_MAX, &hp->nr_kv_heads);
	if (!rc)
		rc = rd_u32(r, "context_length", NULL, 1, HP_CTX_MAX,
			    &hp->context);
	if (rc)
		return rc;
	if (hp->nr_heads % hp->nr_kv_heads)
		return err_set(r->err, -EINVAL,
			       "%s: %u query heads cannot share %u KV heads",
			       gguf_name(r->g), hp->nr_heads, hp->nr_kv_heads);
	if (hp->nr_heads / hp->nr_kv_heads > HP_GROUP_MAX)
		return err_set(
			r->err, -EINVAL,
			"%s: %u query heads for each KV head: %u at most",
			gguf_name(r->g), hp->nr_heads / hp->nr_kv_heads,
			HP_GROUP_MAX);

	t = gguf_tensor(r->g, "token_embd.weight");
	if (!t || t->nr_dims != 2 || t->ne[1] > HP_VOCAB_MAX)
		return err_set(r->err, -EINVAL,
			       "%s: tensor token_embd.weight is %s",
			       gguf_name(r->g),
			       t ? "no matrix of a usable size" : "missing");
	hp->vocab = (u32)t->ne[1];

	def = hp->dim / hp->nr_heads;
	rc = rd_u32(r, "attention.key_length", &def, 2, 1024, &hp->head_dim);
	if (!rc)
		rc = rd_u32(r, "attention.value_length", &hp->head_dim,
			    hp->head_dim, hp->head_dim, &def);
	if (!rc)
		rc = rd_u32(r, "rope.dimension_count", &hp->head_dim, 2,
			    hp->head_dim, &hp->rot);
	if (rc)
		return rc;
	if (hp->head_dim < HP_HEAD_STEP || hp->head_dim % HP_HEAD_STEP ||
	    hp->head_dim > HP_HEAD_MAX || hp->rot % 2 ||
	    (u64)hp->nr_heads * hp->head_dim > 4 * HP_DIM_MAX)
		return err_set(r->err, -EINVAL,
			       "%s: heads of %u dimensions, %u of them rotated,"
			       " are not supported",
			       gguf_name(r->g), hp->head_dim, hp->rot);
	return 0;
}

/* Linear scaling, under its new and its old name; anything else is refused. */
static int read_rope(struct reader *r, struct model_hparams *hp)
{
	static const float zero, ten_k = 10000.0f;
	char show[GGUF_SHOW_LEN];
	struct gguf_str type;
	float base, factor;
	int rc;

	rc = rd_f32(r, "rope.freq_base", &ten_k, &base);
	if (rc)
		return rc;
	if (base <= 1.0f)
		return err_set(r->err, -EINVAL, "%s: %s is %g", gguf_name(r->g),
			       rd_key(r, "rope.freq_base"), (double)base);
	rd_key(r, "rope.scaling.type");
	if (gguf_has(r->g, r->key)) {
		rc = gguf_get_str(r->g, r->key, &type, r->err);
		if (rc)
			return rc;
		if (!gguf_str_is(r->g, r->key, "linear") &&
		    !gguf_str_is(r->g, r->key, "none"))
			return err_set(r->err, -EOPNOTSUPP,
				       "%s: rope scaling \"%s\" is not "
				       "supported (linear is)",
				       gguf_name(r->g), gguf_show(type, show));
		if (gguf_str_is(r->g, r->key, "none")) {
			hp->global = (struct model_rope){ base, 1.0 };
			return 0;
		}
	}
	rc = rd_f32(r, "rope.scale_linear", &zero, &factor);
	if (!rc)
		rc = rd_f32(r, "rope.scaling.factor", &factor, &factor);
	if (rc)
		return rc;
	if (factor == 0.0f) /* the format's word for "none" */
		factor = 1.0f;
	hp->global = (struct model_rope){ base, 1.0 / (double)factor };
	return 0;
}

static int read_gemma3(struct reader *r, struct model_hparams *hp)
{
	static const u32 zero, six = GEMMA3_GLOBAL_EVERY;
	static const float none, local_base = GEMMA3_LOCAL_BASE;
	float base;
	int rc;

	rc = rd_u32(r, "attention.sliding_window", &zero, 0, HP_CTX_MAX,
		    &hp->window);
	if (!rc)
		rc = rd_u32(r, "attention.sliding_window_pattern", &six, 1,
			    HP_LAYERS_MAX, &hp->global_every);
	if (!rc)
		rc = rd_f32(r, "rope.freq_base_swa", &local_base, &base);
	if (!rc)
		rc = rd_f32(r, "attn_logit_softcapping", &none,
			    &hp->attn_softcap);
	if (!rc)
		rc = rd_f32(r, "final_logit_softcapping", &none,
			    &hp->logit_softcap);
	if (rc)
		return rc;
	if (hp->global_every == 1)
		hp->window = 0;
	/* Scaled contexts scale the global layers only. */
	hp->local = (struct model_rope){ base, 1.0 };
	hp->act = KERN_ACT_GELU_TANH;
	hp->embed_scale = sqrtf((float)hp->dim);
	/* The largest of the family divides by the width per head instead. */
	if (hp->nr_layers == GEMMA3_27B_LAYERS)
		hp->attn_scale =
			1.0f / sqrtf((float)hp->dim / (float)hp->nr_heads);
	hp->has_qk_norm = true;
	hp->has_post_norms = true;
	return 0;
}

int hparams_read(const struct gguf *g, struct model_hparams *hp, char *err)
{
	struct reader r = { .g = g, .err = err };
	char show[GGUF_SHOW_LEN];
	struct gguf_str arch;
	int rc;

	memset(hp, 0, sizeof(*hp));
	rc = gguf_get_str(g, "general.architecture", &arch, err);
	if (rc)
		return rc == -ENOENT ? -EINVAL : rc;
	if (gguf_str_is(g, "general.architecture", "gemma3")) {
		hp->arch = MODEL_GEMMA3;
		hp->arch_name = "gemma3";
	} else if (gguf_str_is(g, "general.architecture", "qwen2")) {
		hp->arch = MODEL_QWEN2;
		hp->arch_name = "qwen2";
	} else {
		return err_set(err, -EOPNOTSUPP,
			       "%s: architecture \"%s\" is not supported "
			       "(gemma3 and qwen2 are)",
			       gguf_name(g), gguf_show(arch, show));
	}
	r.arch = hp->arch_name;
	rc = read_sizes(&r, hp);
	if (!rc)
		rc = rd_f32(&r, "attention.layer_norm_rms_epsilon", NULL,
			    &hp->eps);
	if (!rc)
		rc = read_rope(&r, hp);
	if (rc)
		return rc;
	hp->attn_scale = 1.0f / sqrtf((float)hp->head_dim);
	hp->embed_scale = 1.0f;
	hp->global_every = 1;
	if (hp->arch == MODEL_GEMMA3)
		return read_gemma3(&r, hp);
	hp->act = KERN_ACT_SILU;
	hp->has_qkv_bias = true;
	return 0;
}
