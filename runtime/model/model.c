/* SPDX-License-Identifier: MIT */
/*
 * model.c - find the tensors of a network and check their shapes
 *
 * Everything a kernel will trust is checked here: that a matrix has the rows
 * and columns the hyper-parameters ask for, that its rows are whole blocks
 * and that it lies inside the mapping. A tensor the network does not know is
 * an error too, because a model that is computed without it would be wrong
 * and would not say so.
 *
 * A page of an area holds, for each layer of the group and each KV head, the
 * K rows of its tokens and then their V rows: what one head of one sequence
 * reads is one run of memory per page.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/model.h"
#include "runtime/model/gguf.h"
#include "runtime/model/packing.h"

#define PAGE_ALIGN 4096u

struct loader {
	const struct gguf *g;
	const u8 *weights; /* NULL: the mapping of the file */
	const struct packing *packing;
	struct model *m;
	char *err;
	u64 nr_used; /* tensors of the file that the network has */
};

static const struct gguf_tensor *find(struct loader *l, const char *name)
{
	const struct gguf_tensor *t = gguf_tensor(l->g, name);

	if (t)
		l->nr_used++;
	else
		err_set(l->err, -EINVAL, "%s: tensor %s is missing",
			gguf_name(l->g), name);
	return t;
}

static int wrong_shape(struct loader *l, const struct gguf_tensor *t, u32 rows,
		       u32 cols)
{
	const struct dtype_info *d = dtype_info(t->type);

	return err_set(l->err, -EINVAL,
		       "%s: tensor %s is %llu x %llu (%u dimensions, type %s), "
		       "not %u x %u",
		       gguf_name(l->g), t->name, (unsigned long long)t->ne[1],
		       (unsigned long long)t->ne[0], t->nr_dims,
		       d ? d->name : "?", rows, cols);
}

static int load_mat(struct loader *l, const char *name, u32 rows, u32 cols,
		    struct kern_mat *mat)
{
	const struct gguf_tensor *t = find(l, name);
	u64 row_bytes;

	if (!t)
		return -EINVAL;
	row_bytes = dtype_row_bytes(t->type, cols);
	if (t->nr_dims != 2 || t->ne[0] != cols || t->ne[1] != rows ||
	    !row_bytes || t->nr_bytes != row_bytes * rows)
		return wrong_shape(l, t, rows, cols);
	*mat = (struct kern_mat){
		.data = t->data,
		.stride = row_bytes,
		.rows = rows,
		.cols = cols,
		.dtype = t->type,
		.layout = KERN_LAYOUT_GGUF,
	};
	if (l->weights) {
		const struct packed_tensor *k = packing_of(l->packing, t);

		mat->data = l->weights + k->at;
		mat->stride = k->stride;
		mat->layout = k->layout;
	}
	return 0;
}

/* The bytes of the mapping, of which the digest is known, or of the file. */
static int copy_vec(struct loader *l, const struct gguf_tensor *t, void *dst)
{
	if (!l->weights)
		return gguf_read(l->g, t, 0, dst, t->nr_bytes, l->err);
	/* fewer rows than a strip: it lies there as in the file */
	memcpy(dst, l->weights + packing_of(l->packing, t)->at, t->nr_bytes);
	return 0;
}

static float half_to_f32(u16 h)
{
	u32 sign = (u32)(h & 0x8000) << 16;
	u32 exp = h >> 10 & 31, man = h & 1023;
	union {
		u32 u;
		float f;
	} v;

	if (exp == 0) { /* zero and denormals: man * 2^-24 */
		v.f = (float)man * 0x1p-24f;
		v.u |= sign;
		return v.f;
	}
	v.u = sign | (exp == 31 ? 0x7f800000 : (exp + 112) << 23) | man << 13;
	return v.f;
}

/* A vector of @n floats of type F32, F16 or BF16, copied. */
static int load_vec(struct loader *l, const char *name, u32 n,
		    const float **out)
{
	const struct gguf_tensor *t = find(l, name);
	struct model *m = l->m;
	float *dst = m->vectors + m->nr_vectors;
	u16 *half = (u16 *)(void *)dst;
	u32 i;
	int rc;

	if (!t)
		return -EINVAL;
	if (t->nr_elems != n || t->ne[0] != n ||
	    (t->type != KV_DTYPE_F32 && t->type != KV_DTYPE_F16 &&
	     t->type != KV_DTYPE_BF16))
		return wrong_shape(l, t, 1, n);
	if (m->nr_vectors + n > m->max_vectors) /* sized by the same numbers */
		return err_set(l->err, -EINVAL, "%s: tensor %s is too much",
			       gguf_name(l->g), name);
	rc = copy_vec(l, t, dst);
	if (rc)
		return rc;
	/* From the end: a float is written over halves that are done with. */
	for (i = n; t->type != KV_DTYPE_F32 && i-- > 0;)
		dst[i] = t->type == KV_DTYPE_BF16 ? kern_bf16_to_f32(half[i])
						  : half_to_f32(half[i]);
	m->nr_vectors += n;
	*out = dst;
	return 0;
}

static int load_blk_mat(struct loader *l, u32 layer, const char *name, u32 rows,
			u32 cols, struct kern_mat *mat)
{
	char full[64];

	snprintf(full, sizeof(full), "blk.%u.%s.weight", layer, name);
	return load_mat(l, full, rows, cols, mat);
}

static int load_blk_vec(struct loader *l, u32 layer, const char *name, u32 n,
			const float **out)
{
	char full[64];

	snprintf(full, sizeof(full), "blk.%u.%s", layer, name);
	return load_vec(l, full, n, out);
}

static int load_layer_vectors(struct loader *l, u32 i, struct model_layer *ly)
{
	const struct model_hparams *hp = &l->m->hp;
	u32 q_len = hp->nr_heads * hp->head_dim;
	u32 kv_len = hp->nr_kv_heads * hp->head_dim;
	const struct {
		bool want;
		const char *name;
		u32 n;
		const float **out;
	} v[] = {
		{ true, "attn_norm.weight", hp->dim, &ly->attn_norm },
		{ true, "ffn_norm.weight", hp->dim, &ly->ffn_norm },
		{ hp->has_qk_norm, "attn_q_norm.weight", hp->head_dim,
		  &ly->q_norm },
		{ hp->has_qk_norm, "attn_k_norm.weight", hp->head_dim,
		  &ly->k_norm },
		{ hp->has_post_norms, "post_attention_norm.weight", hp->dim,
		  &ly->post_attn_norm },
		{ hp->has_post_norms, "post_ffw_norm.weight", hp->dim,
		  &ly->post_ffn_norm },
		{ hp->has_qkv_bias, "attn_q.bias", q_len, &ly->q_bias },
		{ hp->has_qkv_bias, "attn_k.bias", kv_len, &ly->k_bias },
		{ hp->has_qkv_bias, "attn_v.bias", kv_len, &ly->v_bias },
	};
	size_t j;
	int rc = 0;

	for (j = 0; j < ARRAY_SIZE(v) && !rc; j++)
		if (v[j].want)
			rc = load_blk_vec(l, i, v[j].name, v[j].n, v[j].out);
	return rc;
}

static int load_layer(struct loader *l, u32 i, struct model_layer *ly)
{
	const struct model_hparams *hp = &l->m->hp;
	u32 q_len = hp->nr_heads * hp->head_dim;
	u32 kv_len = hp->nr_kv_heads * hp->head_dim;
	const struct {
		const char *name;
		u32 rows, cols;
		struct kern_mat *mat;
	} w[] = {
		{ "attn_q", q_len, hp->dim, &ly->q },
		{ "attn_k", kv_len, hp->dim, &ly->k },
		{ "attn_v", kv_len, hp->dim, &ly->v },
		{ "attn_output", hp->dim, q_len, &ly->o },
		{ "ffn_gate", hp->ffn_dim, hp->dim, &ly->gate },
		{ "ffn_up", hp->ffn_dim, hp->dim, &ly->up },
		{ "ffn_down", hp->dim, hp->ffn_dim, &ly->down },
	};
	size_t j;
	int rc = 0;

	for (j = 0; j < ARRAY_SIZE(w) && !rc; j++)
		rc = load_blk_mat(l, i, w[j].name, w[j].rows, w[j].cols,
				  w[j].mat);
	return rc ? rc : load_layer_vectors(l, i, ly);
}

/* A page lies within one extent, and so each of its strides fits u32. */
static int area_geometry(struct loader *l, struct model_area *a)
{
	const struct model_hparams *hp = &l->m->hp;
	u32 row = hp->head_dim * 2, run = row * MODEL_PAGE_TOKENS;
	u64 layer = 2 * (u64)run * hp->nr_kv_heads;
	u64 page = ALIGN_UP(layer * a->nr_layers, PAGE_ALIGN);

	if (page > KV_EXTENT_SIZE)
		return err_set(l->err, -EINVAL,
			       "%s: %u layers with %u KV heads of %u "
			       "dimensions need pages of %llu bytes: %u at "
			       "most",
			       gguf_name(l->g), a->nr_layers, hp->nr_kv_heads,
			       hp->head_dim, (unsigned long long)page,
			       KV_EXTENT_SIZE);
	a->geom = (struct kv_geometry){
		.page_tokens = MODEL_PAGE_TOKENS,
		.nr_layers = (u16)a->nr_layers,
		.nr_kv_heads = (u16)hp->nr_kv_heads,
		.head_dim = (u16)hp->head_dim,
		.elem = KV_ELEM_BF16,
		.token_stride = row,
		.head_stride = 2 * run,
		.v_offset = run,
		.layer_stride = (u32)layer,
		.page_bytes = (u32)page,
	};
	return 0;
}

/* Global layers first, then local ones, each group only if it has layers. */
static int make_areas(struct loader *l)
{
	struct model *m = l->m;
	const struct model_hparams *hp = &m->hp;
	int pass, rc;
	u32 i;

	for (pass = 0; pass < 2; pass++) {
		struct model_area *a = &m->area[m->nr_areas];
		bool global = pass == 0;

		for (i = 0; i < hp->nr_layers; i++) {
			if (hparams_is_global(hp, i) != global)
				continue;
			m->layers[i].area = m->nr_areas;
			m->layers[i].index = a->nr_layers++;
		}
		if (!a->nr_layers)
			continue;
		a->window = global ? 0 : hp->window;
		a->rope = global ? hp->global : hp->local;
		rc = area_geometry(l, a);
		if (rc)
			return rc;
		m->nr_areas++;
	}
	return 0;
}

static int alloc_model(struct loader *l)
{
	struct model *m = l->m;
	const struct model_hparams *hp = &m->hp;
	size_t per_layer =
		4 * (size_t)hp->dim + 2 * hp->head_dim +
		((size_t)hp->nr_heads + 2 * hp->nr_kv_heads) * hp->head_dim;

	m->max_vectors = per_layer * hp->nr_layers + hp->dim;
	m->layers = calloc(hp->nr_layers, sizeof(*m->layers));
	m->vectors = malloc(m->max_vectors * sizeof(float));
	if (!m->layers || !m->vectors)
		return err_set(l->err, -ENOMEM, "%s: no memory for its norms",
			       gguf_name(l->g));
	return 0;
}

static int load_tensors(struct loader *l)
{
	struct model *m = l->m;
	const struct model_hparams *hp = &m->hp;
	u32 i;
	int rc;

	rc = load_mat(l, "token_embd.weight", hp->vocab, hp->dim, &m->embed);
	if (!rc)
		rc = load_vec(l, "output_norm.weight", hp->dim, &m->out_norm);
	if (rc)
		return rc;
	m->head = m->embed;
	if (gguf_tensor(l->g, "output.weight"))
		rc = load_mat(l, "output.weight", hp->vocab, hp->dim, &m->head);
	for (i = 0; i < hp->nr_layers && !rc; i++)
		rc = load_layer(l, i, &m->layers[i]);
	if (rc)
		return rc;
	if (l->nr_used != gguf_nr_tensors(l->g))
		return err_set(l->err, -EOPNOTSUPP,
			       "%s: %llu of its %llu tensors are unknown to "
			       "architecture %s",
			       gguf_name(l->g),
			       (unsigned long long)(gguf_nr_tensors(l->g) -
						    l->nr_used),
			       (unsigned long long)gguf_nr_tensors(l->g),
			       hp->arch_name);
	return 0;
}

int model_load(const struct gguf *g, const struct packing *packing,
	       const void *weights, struct model **out, char *err)
{
	struct loader l = {
		.g = g, .weights = weights, .packing = packing, .err = err
	};
	int rc;

	l.m = calloc(1, sizeof(*l.m));
	if (!l.m)
		return err_set(err, -ENOMEM, "%s: no memory", gguf_name(g));
	rc = hparams_read(g, &l.m->hp, err);
	if (!rc)
		rc = alloc_model(&l);
	if (!rc)
		rc = make_areas(&l);
	if (!rc)
		rc = load_tensors(&l);
	if (rc) {
		model_free(l.m);
		return rc;
	}
	*out = l.m;
	return 0;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	free(m->layers);
	free(m->vectors);
	free(m);
}

void model_area_kv(const struct model_area *a, struct kern_kv *kv)
{
	*kv = (struct kern_kv){
		.unit = a->geom.page_bytes,
		.v_off = a->geom.v_offset,
		.tok_stride = a->geom.token_stride,
		.head_stride = a->geom.head_stride,
		.page_tokens = a->geom.page_tokens,
		.nr_kv_heads = a->geom.nr_kv_heads,
		.head_dim = a->geom.head_dim,
	};
}
