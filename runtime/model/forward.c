/* SPDX-License-Identifier: MIT */
/*
 * forward.c - the layers, as calls of whole operations
 *
 * Every operation goes through struct kern_exec_ops, in an order that
 * depends on the network and on nothing else: a recorder can stand in for
 * the table and play the step again.
 *
 * Numbers. The residual stream x is fp32 from the embedding to the last
 * norm. What enters a matrix product is rounded to bf16 by the operation
 * that makes it (norm, attention, gated activation). K and V are bf16 in
 * their pages; q stays fp32. So a token's bits depend on its sequence only.
 *
 * The last layer writes K and V of all rows, but what follows its attention is
 * computed for the rows that want logits alone: nobody reads the others. These
 * rows are copied into buffers of their own, through the table as well. A batch
 * without such rows ends there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/forward.h"
#include "kernels/cpu/pool.h"

struct forward {
	const struct model *m;
	struct kern_exec *x;
	struct forward_caps caps;
	u32 q_len, kv_len; /* floats of a row of q, and of k or v */

	u32 *pos; /* [tokens], of the batch */

	/* per area */
	struct kern_kv kv[KV_AREA_MAX];
	float *cos_sin[KV_AREA_MAX]; /* [tokens][2][rot / 2] */
	u64 *rows[KV_AREA_MAX]; /* [tokens] */
	struct kern_attn_seq *seqs[KV_AREA_MAX]; /* [seqs] */
	struct kern_attn_plan plan[KV_AREA_MAX];

	/* activations, [tokens] rows each */
	float *res; /* [dim] the residual stream */
	float *tmp; /* [dim] */
	float *q, *k, *v;
	u16 *h; /* [dim] input of a product */
	u16 *att; /* [q_len] */
	u16 *act; /* [ffn_dim] */

	/* the rows that want logits, [out_rows] each */
	struct kern_copy *copies; /* [2] how they get here */
	float *out_res; /* [dim] */
	u16 *out_att; /* [q_len] */
	u16 *out; /* [dim] normed */
	float *logits; /* [logit_rows][vocab] */
	u32 nr_threads;
	void *slab; /* all of the above, one allocation */
};

/* What a layer goes on with behind its attention. */
struct rows {
	float *res; /* [nr][dim] */
	const u16 *att; /* [nr][q_len] */
	u32 nr;
};

/* Two passes over one list: the first adds up, the second hands out. */
struct carve {
	u8 *base; /* NULL in the first pass */
	size_t used;
};

static void *carve(struct carve *c, size_t rows, size_t len, size_t size)
{
	size_t at = c->used;

	c->used += ALIGN_UP(rows * len * size, 64);
	return c->base ? c->base + at : NULL;
}

static void carve_all(struct forward *f, struct carve *c)
{
	const struct model_hparams *hp = &f->m->hp;
	size_t t = f->caps.tokens;
	u32 i;

	f->pos = carve(c, t, 1, sizeof(u32));
	for (i = 0; i < f->m->nr_areas; i++) {
		f->cos_sin[i] = carve(c, t, hp->rot, sizeof(float));
		f->rows[i] = carve(c, t, 1, sizeof(u64));
		f->seqs[i] = carve(c, f->caps.seqs, 1, sizeof(**f->seqs));
	}
	f->res = carve(c, t, hp->dim, sizeof(float));
	f->tmp = carve(c, t, hp->dim, sizeof(float));
	f->q = carve(c, t, f->q_len, sizeof(float));
	f->k = carve(c, t, f->kv_len, sizeof(float));
	f->v = carve(c, t, f->kv_len, sizeof(float));
	f->h = carve(c, t, hp->dim, sizeof(u16));
	f->att = carve(c, t, f->q_len, sizeof(u16));
	f->act = carve(c, t, hp->ffn_dim, sizeof(u16));
	f->copies = carve(c, f->caps.out_rows, 2, sizeof(*f->copies));
	f->out_res = carve(c, f->caps.out_rows, hp->dim, sizeof(float));
	f->out_att = carve(c, f->caps.out_rows, f->q_len, sizeof(u16));
	f->out = carve(c, f->caps.out_rows, hp->dim, sizeof(u16));
	f->logits = carve(c, f->caps.logit_rows, hp->vocab, sizeof(float));
}

int forward_create(const struct model *m, struct kern_exec *x,
		   const struct kern_kv *kv, const struct forward_caps *caps,
		   struct forward **out, char *err)
{
	struct forward *f = calloc(1, sizeof(*f));
	struct carve c = { 0 };

	if (!f)
		return err_set(err, -ENOMEM, "no memory for a batch");
	f->m = m;
	f->x = x;
	f->caps = *caps;
	f->q_len = m->hp.nr_heads * m->hp.head_dim;
	f->kv_len = m->hp.nr_kv_heads * m->hp.head_dim;
	f->nr_threads = pool_nr_threads(x->pool);
	memcpy(f->kv, kv, m->nr_areas * sizeof(*kv));
	carve_all(f, &c);
	if (posix_memalign(&f->slab, 4096, c.used)) {
		free(f);
		return err_set(err, -ENOMEM,
			       "no memory for a batch of %u tokens (%zu MiB)",
			       caps->tokens, c.used >> 20);
	}
	c = (struct carve){ .base = f->slab };
	carve_all(f, &c);
	*out = f;
	return 0;
}

void forward_free(struct forward *f)
{
	u32 i;

	if (!f)
		return;
	for (i = 0; i < f->m->nr_areas; i++)
		kern_attn_plan_fini(&f->plan[i]);
	free(f->slab);
	free(f);
}

static struct kern_attn attn_params(const struct forward *f, u32 area,
				    u32 nr_seqs)
{
	const struct model_hparams *hp = &f->m->hp;

	return (struct kern_attn){
		.q = f->q,
		.bf16 = f->att,
		.seqs = f->seqs[area],
		.kv = f->kv[area],
		.nr_seqs = nr_seqs,
		.nr_heads = hp->nr_heads,
		.q_stride = f->q_len,
		.scale = hp->attn_scale,
		.softcap = hp->attn_softcap,
	};
}

/* Positions, page rows, angles and the attention plan of each area. */
static int prepare(struct forward *f, const struct forward_batch *b)
{
	const struct model *m = f->m;
	u32 a, s, r, row = 0;
	int rc;

	for (s = 0; s < b->nr_seqs; s++)
		for (r = 0; r < b->seqs[s].nr_rows; r++)
			f->pos[row++] = b->seqs[s].pos0 + r;

	for (a = 0; a < m->nr_areas; a++) {
		struct kern_rope_table rt = {
			.pos = f->pos,
			.cos_sin = f->cos_sin[a],
			.rot = m->hp.rot,
			.base = m->area[a].rope.base,
			.scale = m->area[a].rope.scale,
		};
		struct kern_attn at = attn_params(f, a, b->nr_seqs);

		row = 0;
		for (s = 0; s < b->nr_seqs; s++) {
			const struct forward_seq *q = &b->seqs[s];

			f->seqs[a][s] = (struct kern_attn_seq){
				.table = q->table[a],
				.row0 = row,
				.nr_rows = q->nr_rows,
				.pos0 = q->pos0,
				.kv_len = q->pos0 + q->nr_rows,
				.window = m->area[a].window,
			};
			for (r = 0; r < q->nr_rows; r++, row++)
				f->rows[a][row] = kern_kv_row(
					&f->kv[a], q->table[a], f->pos[row]);
		}
		rc = kern_attn_plan(&f->plan[a], &at, f->nr_threads);
		if (rc)
			return rc;
		f->x->ops->rope_table(f->x, &rt, b->nr_tokens);
	}
	return 0;
}

/* Of rows as wide as the residual stream. */
static struct kern_rmsnorm norm(const struct forward *f, const float *x,
				const float *weight, u16 *out)
{
	return (struct kern_rmsnorm){
		.x = x,
		.weight = weight,
		.bf16 = out,
		.x_stride = f->m->hp.dim,
		.out_stride = f->m->hp.dim,
		.heads = 1,
		.len = f->m->hp.dim,
		.eps = f->m->hp.eps,
	};
}

static struct kern_rmsnorm head_norm(const struct forward *f, float *x,
				     const float *weight, u32 heads)
{
	return (struct kern_rmsnorm){
		.x = x,
		.weight = weight,
		.f32 = x,
		.x_stride = heads * f->m->hp.head_dim,
		.out_stride = heads * f->m->hp.head_dim,
		.heads = heads,
		.len = f->m->hp.head_dim,
		.eps = f->m->hp.eps,
	};
}

static struct kern_gemm product(const struct kern_mat *w, const u16 *x,
				float *y, const float *bias, u32 t)
{
	return (struct kern_gemm){
		.w = *w,
		.x = x,
		.y = y,
		.bias = bias,
		.m = t,
		.x_stride = w->cols,
		.y_stride = w->rows,
	};
}

/*
 * x w, by its norm if there is one, is added onto the residual stream; then the
 * norm that whatever comes next begins with, while the row is in a cache.
 */
static void half_layer_end(struct forward *f, const struct kern_mat *w,
			   const u16 *x, const float *norm_weight,
			   const float *next_weight, u16 *next,
			   const struct rows *r)
{
	struct kern_gemm p =
		product(w, x, norm_weight ? f->tmp : r->res, NULL, r->nr);
	struct kern_rmsnorm norms[2];
	u32 nr = 0;

	if (norm_weight) {
		norms[nr] = norm(f, f->tmp, norm_weight, NULL);
		norms[nr].add = norms[nr].f32 = r->res;
		nr++;
	} else {
		p.residual = r->res;
	}
	norms[nr++] = norm(f, r->res, next_weight, next);
	f->x->ops->gemm(f->x, &p, 1);
	f->x->ops->rmsnorm(f->x, norms, nr, r->nr);
}

/* q, k and v of h, rotation; K and V into their pages. */
static void attn_in(struct forward *f, const struct model_layer *ly, u32 t)
{
	const struct model_hparams *hp = &f->m->hp;
	struct kern_rmsnorm norms[2];
	struct kern_gemm p[3];
	u32 nr = 0;
	struct kern_rope rope = {
		.q = f->q,
		.k = f->k,
		.v = f->v,
		.cos_sin = f->cos_sin[ly->area],
		.rows = f->rows[ly->area],
		.kv = f->kv[ly->area],
		.q_stride = f->q_len,
		.k_stride = f->kv_len,
		.v_stride = f->kv_len,
		.nr_heads = hp->nr_heads,
		.rot = hp->rot,
	};

	p[0] = product(&ly->q, f->h, f->q, ly->q_bias, t);
	p[1] = product(&ly->k, f->h, f->k, ly->k_bias, t);
	p[2] = product(&ly->v, f->h, f->v, ly->v_bias, t);
	f->x->ops->gemm(f->x, p, 3);
	if (ly->q_norm)
		norms[nr++] = head_norm(f, f->q, ly->q_norm, hp->nr_heads);
	if (ly->k_norm)
		norms[nr++] = head_norm(f, f->k, ly->k_norm, hp->nr_kv_heads);
	if (nr)
		f->x->ops->rmsnorm(f->x, norms, nr, t);
	rope.kv.layer_off =
		(u64)ly->index * f->m->area[ly->area].geom.layer_stride;
	f->x->ops->rope(f->x, &rope, t);
}

static void attention(struct forward *f, const struct model_layer *ly,
		      u32 nr_seqs)
{
	struct kern_attn p = attn_params(f, ly->area, nr_seqs);

	p.kv.layer_off =
		(u64)ly->index * f->m->area[ly->area].geom.layer_stride;
	f->x->ops->attn(f->x, &p, &f->plan[ly->area]);
}

/* act(h gate) * (h up) */
static void ffn_in(struct forward *f, const struct model_layer *ly, u32 t)
{
	const struct model_hparams *hp = &f->m->hp;
	const struct kern_gemm_gated p = {
		.gate = ly->gate,
		.up = ly->up,
		.x = f->h,
		.out = f->act,
		.m = t,
		.x_stride = hp->dim,
		.out_stride = hp->ffn_dim,
		.act = hp->act,
	};

	f->x->ops->gemm_gated(f->x, &p);
}

/* The rows that want logits, in buffers of their own. */
static struct rows keep_out_rows(struct forward *f,
				 const struct forward_batch *b)
{
	size_t dim = f->m->hp.dim, q_len = f->q_len;
	u32 i;

	for (i = 0; i < b->nr_out; i++) {
		size_t r = b->out_rows[i];

		f->copies[2 * i] = (struct kern_copy){
			.dst = f->out_res + i * dim,
			.src = f->res + r * dim,
			.bytes = dim * sizeof(float),
		};
		f->copies[2 * i + 1] = (struct kern_copy){
			.dst = f->out_att + i * q_len,
			.src = f->att + r * q_len,
			.bytes = q_len * sizeof(u16),
		};
	}
	f->x->ops->copy(f->x, f->copies, 2 * b->nr_out);
	return (struct rows){ f->out_res, f->out_att, b->nr_out };
}

static int check(const struct forward *f, const struct forward_batch *b)
{
	u32 i, rows = 0;

	if (b->nr_tokens > f->caps.tokens || b->nr_seqs > f->caps.seqs ||
	    b->nr_out > f->caps.out_rows || !b->nr_tokens)
		return -EINVAL;
	for (i = 0; i < b->nr_seqs; i++)
		rows += b->seqs[i].nr_rows;
	for (i = 0; i < b->nr_out; i++)
		if (b->out_rows[i] >= b->nr_tokens)
			return -EINVAL;
	for (i = 0; i < b->nr_tokens; i++)
		if (b->ids[i] >= f->m->hp.vocab)
			return -EINVAL;
	return rows == b->nr_tokens ? 0 : -EINVAL;
}

int forward_run(struct forward *f, const struct forward_batch *b)
{
	const struct model *m = f->m;
	const struct kern_embed emb = {
		.w = m->embed,
		.ids = b->ids,
		.out = f->res,
		.scale = m->hp.embed_scale,
	};
	const struct kern_rmsnorm first =
		norm(f, f->res, m->layers[0].attn_norm, f->h);
	struct rows r = { f->res, f->att, b->nr_tokens };
	u32 t = b->nr_tokens, i;
	int rc;

	rc = check(f, b);
	if (!rc)
		rc = prepare(f, b);
	if (rc)
		return rc;
	f->x->ops->embed(f->x, &emb, t);
	f->x->ops->rmsnorm(f->x, &first, 1, t);
	for (i = 0; i < m->hp.nr_layers; i++) {
		const struct model_layer *ly = &m->layers[i];
		bool last = i + 1 == m->hp.nr_layers;

		attn_in(f, ly, t);
		if (last && !b->nr_out)
			return 0;
		attention(f, ly, b->nr_seqs);
		if (last)
			r = keep_out_rows(f, b);
		half_layer_end(f, &ly->o, r.att, ly->post_attn_norm,
			       ly->ffn_norm, f->h, &r);
		ffn_in(f, ly, r.nr);
		half_layer_end(f, &ly->down, f->act, ly->post_ffn_norm,
			       last ? m->out_norm : ly[1].attn_norm,
			       last ? f->out : f->h, &r);
	}
	return 0;
}

float *forward_logits(struct forward *f, u32 first, u32 nr,
		      struct kern_best *best, const bool *keep)
{
	struct kern_gemm p =
		product(&f->m->head, f->out + (size_t)first * f->m->hp.dim,
			best && !keep ? NULL : f->logits, NULL, nr);
	u32 i;

	for (i = 0; best && i < nr; i++)
		best[i] = KERN_BEST_NONE;
	p.best = best;
	p.keep = keep;
	f->x->ops->gemm(f->x, &p, 1);
	if (f->m->hp.logit_softcap > 0.0f) {
		const struct kern_softcap cap = {
			.x = f->logits,
			.len = f->m->hp.vocab,
			.cap = f->m->hp.logit_softcap,
		};

		f->x->ops->softcap(f->x, &cap, nr);
	}
	return f->logits;
}
