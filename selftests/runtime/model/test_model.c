/* SPDX-License-Identifier: MIT */
/*
 * test_model.c - both networks on tiny random files of every tensor type,
 *	against an fp64 evaluation that shares no code with them
 *
 * What remains is the rounding to bf16 before each product and of K and V:
 * the error's energy is below a two-thousandth of the logits'. A wrong base,
 * window, scale or norm is a hundred times that.
 */
#include "runtime/engine/kv_backend.h"
#include "runtime/model/forward.h"
#include "runtime/model/gguf.h"
#include "runtime/model/model.h"
#include "selftests/runtime/tiny_model.h"

#define NR_TOKENS 75 /* four pages and a part; three windows */
#define NMSE_MAX  5e-4

static void random_ids(u32 *ids, u32 nr, u32 vocab, u64 seed)
{
	for (u32 i = 0; i < nr; i++)
		ids[i] = (u32)(test_rand(&seed) % vocab);
}

/* Logits of all positions by the product, in two chunks. */
static void product_forward(const struct tiny *t, const char *isa,
			    const u32 *ids, u32 nr, float *logits)
{
	struct kern_exec x;
	struct gguf *g;
	struct model *m;
	struct kv_backend *b;
	struct forward *f;
	struct forward_caps caps = { nr, 1, nr, nr };
	char err[KV_ERRLEN] = "";
	u32 space, rows[NR_TOKENS], split = nr / 3;

	ASSERT_EQ(0, kern_exec_init(&x, isa, 2));
	ASSERT_EQ(0, gguf_open_mem(t->buf, t->len, "tiny", &g, err));
	ASSERT_EQ(0, model_load(g, NULL, NULL, &m, err));
	ASSERT_EQ(0, kv_contig_create(m, 1, nr, &b, err));
	ASSERT_EQ(0, b->ops->space_create(b, &space));
	ASSERT_EQ(0, forward_create(m, &x, b->kv, &caps, &f, err));
	for (u32 at = 0, n; at < nr; at += n) {
		struct forward_seq seq = { .pos0 = at };
		struct forward_batch batch = { .nr_seqs = 1,
					       .seqs = &seq,
					       .ids = ids + at,
					       .out_rows = rows };

		n = at ? nr - at : split;
		for (u32 i = 0; i < n; i++)
			rows[i] = i;
		for (u32 a = 0; a < m->nr_areas; a++)
			seq.table[a] = b->ops->space_table(b, space, a);
		seq.nr_rows = batch.nr_tokens = batch.nr_out = n;
		ASSERT_EQ(0, forward_run(f, &batch));
		memcpy(logits + (size_t)at * t->c.vocab,
		       forward_logits(f, 0, n, NULL, NULL),
		       (size_t)n * t->c.vocab * sizeof(float));
	}
	forward_free(f);
	b->ops->destroy(b);
	model_free(m);
	gguf_close(g);
	kern_exec_fini(&x);
}

static double nmse(const struct tiny_cfg *c, const char *isa)
{
	struct tiny t;
	u32 ids[NR_TOKENS];
	size_t n = (size_t)NR_TOKENS * c->vocab;
	double *want = malloc(n * sizeof(*want)), err = 0, ref = 0;
	float *got = malloc(n * sizeof(*got));

	if (!want || !got)
		abort();
	tiny_build(&t, c);
	random_ids(ids, NR_TOKENS, c->vocab, test_seed());
	tiny_forward(&t, ids, NR_TOKENS, want);
	product_forward(&t, isa, ids, NR_TOKENS, got);
	for (size_t i = 0; i < n; i++) {
		double d = (double)got[i] - want[i];

		err += d * d;
		ref += want[i] * want[i];
	}
	TH_LOG("nmse %.3g, logits rms %.3g", err / ref, sqrt(ref / (double)n));
	free(want);
	free(got);
	tiny_free(&t);
	return err / ref;
}

FIXTURE(type)
{
	int unused;
};

FIXTURE_VARIANT(type)
{
	u32 type;
};

FIXTURE_SETUP(type)
{
	self->unused = 0;
}

FIXTURE_TEARDOWN(type)
{
}

FIXTURE_VARIANT_ADD(type, f32){ .type = KV_DTYPE_F32 };
FIXTURE_VARIANT_ADD(type, f16){ .type = KV_DTYPE_F16 };
FIXTURE_VARIANT_ADD(type, bf16){ .type = KV_DTYPE_BF16 };
FIXTURE_VARIANT_ADD(type, q4_0){ .type = KV_DTYPE_Q4_0 };
FIXTURE_VARIANT_ADD(type, q5_0){ .type = KV_DTYPE_Q5_0 };
FIXTURE_VARIANT_ADD(type, q8_0){ .type = KV_DTYPE_Q8_0 };
FIXTURE_VARIANT_ADD(type, q4_k){ .type = KV_DTYPE_Q4_K };
FIXTURE_VARIANT_ADD(type, q5_k){ .type = KV_DTYPE_Q5_K };
FIXTURE_VARIANT_ADD(type, q6_k){ .type = KV_DTYPE_Q6_K };

TEST_F(type, gemma3_gives_the_logits_of_the_fp64_forward)
{
	struct tiny_cfg c = tiny_gemma(variant->type);

	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

TEST_F(type, qwen2_gives_the_logits_of_the_fp64_forward)
{
	struct tiny_cfg c = tiny_qwen(variant->type);

	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

TEST(model, the_reference_kernels_give_them_too)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);

	EXPECT_LT(nmse(&c, "ref"), NMSE_MAX);
	c = tiny_qwen(KV_DTYPE_Q4_K);
	EXPECT_LT(nmse(&c, "ref"), NMSE_MAX);
}

TEST(model, linear_rope_scaling_moves_global_layers_only)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_F16);

	c.linear = 8;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
	c = tiny_qwen(KV_DTYPE_BF16);
	c.linear = 2.5;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

TEST(model, an_own_head_and_soft_caps_are_used)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q6_K);

	c.own_head = true;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
	c = tiny_gemma(KV_DTYPE_F16);
	c.own_head = true;
	c.softcap_attn = 5;
	c.softcap_logits = 1;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

TEST(model, norms_and_biases_may_be_half_precision)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);

	c.vec_type = KV_DTYPE_F16;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
	c.vec_type = KV_DTYPE_BF16;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

TEST(model, odd_sizes_work)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);

	c.dim = 72;
	c.ffn = 100;
	c.heads = 6;
	c.kv_heads = 3;
	c.head_dim = 48;
	c.vocab = 37;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
	c = tiny_gemma(KV_DTYPE_F32);
	c.layers = 1; /* no global layer at all */
	c.window = 1; /* sees itself only */
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
	c.window = 0; /* every layer is global */
	c.layers = 2;
	EXPECT_LT(nmse(&c, NULL), NMSE_MAX);
}

/* ---- what is refused, and how ---- */

static int load(const void *buf, size_t len, char *err)
{
	struct gguf *g;
	struct model *m = NULL;
	int rc = gguf_open_mem(buf, len, "x.gguf", &g, err);

	if (rc)
		return rc;
	rc = model_load(g, NULL, NULL, &m, err);
	model_free(m);
	gguf_close(g);
	return rc;
}

#define EXPECT_SENTENCE(err, part)                               \
	do {                                                     \
		if (!EXPECT_TRUE(strstr((err), (part)) != NULL)) \
			TH_LOG("not in: %s", (err));             \
		EXPECT_TRUE(strstr((err), "x.gguf") != NULL);    \
	} while (0)

TEST(model, an_unknown_architecture_is_named)
{
	struct gguf_writer w = { 0 };
	char err[KV_ERRLEN] = "";
	size_t len;
	u8 *buf;

	gw_str(&w, "general.architecture", "mamba7");
	buf = gw_finish(&w, &len);
	EXPECT_EQ(-EOPNOTSUPP, load(buf, len, err));
	EXPECT_SENTENCE(err, "mamba7");
	free(buf);
	gw_str(&w, "general.architecture", "\x1b]0;x\x07");
	buf = gw_finish(&w, &len);
	EXPECT_EQ(-EOPNOTSUPP, load(buf, len, err));
	EXPECT_SENTENCE(err, "\"?]0;x?\"");
	free(buf);
	buf = gw_finish(&w, &len);
	EXPECT_EQ(-EINVAL, load(buf, len, err));
	EXPECT_SENTENCE(err, "general.architecture");
	free(buf);
}

/* A qwen2 with one thing changed by @change. */
static void refused(void (*change)(struct tiny_cfg *, struct gguf_writer *),
		    int want, const char *part)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	struct tiny m = { 0 };
	struct gguf_writer w = { 0 };
	char err[KV_ERRLEN] = "";
	u64 seed = 1;

	c.layers = 1;
	change(&c, &w);
	m.c = c;
	tiny_keys(&c, &w);
	tiny_add(&m, &w, "token_embd.weight", c.type, c.vocab, c.dim, 0, 1,
		 &seed);
	tiny_add(&m, &w, "output_norm.weight", 0, 1, c.dim, 1, 0.2, &seed);
	tiny_layer(&m, &w, 0, &seed);
	m.buf = gw_finish(&w, &m.len);
	EXPECT_EQ(want, load(m.buf, m.len, err));
	EXPECT_SENTENCE(err, part);
	tiny_free(&m);
}

static void with_yarn(struct tiny_cfg *c, struct gguf_writer *w)
{
	gw_str(w, "qwen2.rope.scaling.type", "yarn");
	gw_f32(w, "qwen2.rope.scaling.factor", 4);
}

static void with_an_escape(struct tiny_cfg *c, struct gguf_writer *w)
{
	gw_str(w, "qwen2.rope.scaling.type", "ya\x1b[2Jrn");
}

static void with_a_stranger(struct tiny_cfg *c, struct gguf_writer *w)
{
	gw_tensor(w, "blk.0.ssm_a.weight", KV_DTYPE_F32, 1, (u64[]){ 8 }, NULL,
		  32);
}

static void with_bad_heads(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->heads = 4;
	c->kv_heads = 3;
}

static void with_a_wide_group(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->heads = 65;
	c->kv_heads = 1;
}

static void with_missing_layer(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->layers = 2;
}

static void with_no_layer(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->layers = 0;
}

static void with_other_width(struct tiny_cfg *c, struct gguf_writer *w)
{
	gw_u32(w, "qwen2.embedding_length", 320);
}

static void with_odd_rope(struct tiny_cfg *c, struct gguf_writer *w)
{
	gw_u32(w, "qwen2.rope.dimension_count", 63);
}

static void with_wild_base(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->rope_base = 0.5;
}

static void with_odd_heads(struct tiny_cfg *c, struct gguf_writer *w)
{
	c->head_dim = 24;
}

TEST(model, what_is_not_supported_or_wrong_is_named)
{
	refused(with_odd_heads, -EINVAL, "24 dimensions");
	refused(with_yarn, -EOPNOTSUPP, "yarn");
	refused(with_an_escape, -EOPNOTSUPP, "\"ya?[2Jrn\"");
	refused(with_a_stranger, -EOPNOTSUPP, "tensors are unknown");
	refused(with_bad_heads, -EINVAL, "3 KV heads");
	refused(with_a_wide_group, -EINVAL, "65 query heads for each");
	refused(with_missing_layer, -EINVAL, "blk.1.attn_q.weight");
	refused(with_no_layer, -EINVAL, "qwen2.block_count");
	refused(with_odd_rope, -EINVAL, "63");
	refused(with_wild_base, -EINVAL, "rope.freq_base");
}

/* Only the keys and the embedding: the rest would be large. */
static void page_refused(u32 layers, u32 heads, const char *part)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	struct tiny m = { 0 };
	struct gguf_writer w = { 0 };
	char err[KV_ERRLEN] = "";
	u64 seed = 1;

	c.layers = layers;
	c.heads = c.kv_heads = heads;
	c.head_dim = 256;
	m.c = c;
	tiny_keys(&c, &w);
	tiny_add(&m, &w, "token_embd.weight", c.type, c.vocab, c.dim, 0, 1,
		 &seed);
	m.buf = gw_finish(&w, &m.len);
	EXPECT_EQ(-EINVAL, load(m.buf, m.len, err));
	EXPECT_SENTENCE(err, part);
	tiny_free(&m);
}

TEST(model, a_page_that_does_not_fit_an_extent_is_refused)
{
	page_refused(1, 1024,
		     "1 layers with 1024 KV heads of 256 dimensions "
		     "need pages of 16777216 bytes");
	page_refused(33, 16, "need pages of 8650752 bytes");
	/* 16 MiB in 32 bits */
	page_refused(257, 1024, "need pages of 4311744512 bytes");
	/* one that fits is read on */
	page_refused(32, 16, "output_norm.weight");
}

TEST(model, a_tensor_of_another_shape_is_named)
{
	/* the first of two keys with one name, or the file is refused */
	refused(with_other_width, -EINVAL, "embedding_length");
}

TEST(model, a_truncated_or_flipped_file_never_crashes)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q4_0);
	char err[KV_ERRLEN];
	u64 seed = test_seed();
	struct tiny t;
	u8 *copy;

	c.layers = 1;
	tiny_build(&t, &c);
	copy = malloc(t.len);
	ASSERT_TRUE(copy != NULL);
	for (int i = 0; i < 400; i++) {
		size_t len = t.len;
		u32 flips = 1 + (u32)(test_rand(&seed) % 4);

		memcpy(copy, t.buf, t.len);
		if (i % 4 == 0)
			len = test_rand(&seed) % t.len;
		while (flips--)
			copy[test_rand(&seed) % min((size_t)3000, t.len)] ^=
				(u8)(1 << test_rand(&seed) % 8);
		(void)!load(copy, len, err);
	}
	free(copy);
	tiny_free(&t);
}

TEST_HARNESS_MAIN
