/* SPDX-License-Identifier: MIT */
/*
 * test_attn.c - paged attention: ref's bits, exact arithmetic, no stray read
 *
 * K and V of a batch lie in a pool of shuffled pages. Every byte that no row
 * may read (rows past kv_len, pages of nobody) is a NaN, and table entries
 * before a window point outside the address space.
 *
 * san: address
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

#define MAX_SEQS 4
#define WILD	 0xfffffff0u

static u8 scratch[KERN_SCRATCH_BYTES] __attribute__((aligned(64)));

struct setup {
	u32 heads, kv_heads, dim, page;
	u32 nr_seqs;
	u32 pos0[MAX_SEQS], rows[MAX_SEQS], window[MAX_SEQS];
};

struct batch {
	struct kern_attn a;
	struct kern_attn_seq seqs[MAX_SEQS];
	u32 *tables[MAX_SEQS];
	float *q, *out;
	u16 *out16;
	u32 t;
};

/* Head-major or token-major pages, two layers each, the second is used. */
static void lay_out(struct kern_kv *kv, const struct setup *s, bool head_major)
{
	u64 row = 2 * s->dim, half;

	kv->page_tokens = s->page;
	kv->nr_kv_heads = s->kv_heads;
	kv->head_dim = s->dim;
	kv->tok_stride = head_major ? row : row * s->kv_heads;
	kv->head_stride = head_major ? row * s->page : row;
	half = row * s->page * s->kv_heads;
	kv->k_off = 0;
	kv->v_off = half;
	kv->layer_off = 2 * half;
	kv->unit = 4 * half;
}

static void fill_row(u64 *seed, struct kern_kv *kv, u64 row)
{
	for (u32 h = 0; h < kv->nr_kv_heads; h++) {
		u8 *p = kv->base + kv->layer_off + row + h * kv->head_stride;
		u16 *k = (u16 *)(void *)(p + kv->k_off);
		u16 *v = (u16 *)(void *)(p + kv->v_off);

		for (u32 d = 0; d < kv->head_dim; d++) {
			k[d] = kern_f32_to_bf16(kt_normal(seed));
			v[d] = kern_f32_to_bf16(kt_normal(seed));
		}
	}
}

/* The first position that row 0 of a sequence sees. */
static u32 first_seen(const struct kern_attn_seq *s)
{
	return s->window && s->pos0 + 1 > s->window ? s->pos0 + 1 - s->window
						    : 0;
}

static void make_batch(u64 *seed, struct batch *b, const struct setup *s)
{
	u32 nr_pages = 0, next = 0, *ids;

	*b = (struct batch){ 0 };
	lay_out(&b->a.kv, s, kt_below(seed, 2));
	for (u32 i = 0; i < s->nr_seqs; i++) {
		struct kern_attn_seq *q = &b->seqs[i];

		q->row0 = b->t;
		q->nr_rows = s->rows[i];
		q->pos0 = s->pos0[i];
		q->kv_len = q->pos0 + q->nr_rows;
		q->window = s->window[i];
		b->t += q->nr_rows;
		nr_pages += DIV_ROUND_UP(q->kv_len, s->page) + 1;
	}
	ids = kt_alloc(nr_pages * sizeof(*ids));
	for (u32 i = 0; i < nr_pages; i++) {
		u32 j = kt_below(seed, i + 1);

		ids[i] = ids[j];
		ids[j] = i;
	}
	b->a.kv.base = kt_alloc(nr_pages * b->a.kv.unit);
	memset(b->a.kv.base, 0xff, nr_pages * b->a.kv.unit);
	for (u32 i = 0; i < s->nr_seqs; i++) {
		struct kern_attn_seq *q = &b->seqs[i];
		u32 pages = DIV_ROUND_UP(q->kv_len, s->page);
		u32 from = first_seen(q);

		b->tables[i] = kt_alloc((pages + 1) * sizeof(u32));
		for (u32 p = 0; p < pages; p++)
			b->tables[i][p] = p < from / s->page ? WILD
							     : ids[next++];
		for (u32 p = from; p < q->kv_len; p++)
			fill_row(seed, &b->a.kv,
				 kern_kv_row(&b->a.kv, b->tables[i], p));
		q->table = b->tables[i];
	}
	free(ids);
	b->a.seqs = b->seqs;
	b->a.nr_seqs = s->nr_seqs;
	b->a.nr_heads = s->heads;
	b->a.q_stride = s->heads * s->dim + kt_below(seed, 2) * 16;
	b->a.scale = 1.0f / sqrtf((float)s->dim);
	b->q = kt_floats(seed, (size_t)b->t * b->a.q_stride, 1.5f);
	b->a.q = b->q;
	b->out = kt_alloc((size_t)b->t * s->heads * s->dim * 4);
	b->out16 = kt_alloc((size_t)b->t * s->heads * s->dim * 2);
}

static void free_batch(struct batch *b)
{
	for (u32 i = 0; i < b->a.nr_seqs; i++)
		free(b->tables[i]);
	free(b->a.kv.base);
	free(b->q);
	free(b->out);
	free(b->out16);
}

static size_t out_len(const struct batch *b)
{
	return (size_t)b->t * b->a.nr_heads * b->a.kv.head_dim;
}

/* Run with a plan for @threads into fresh arrays. */
static void run(const struct kern_ops *ops, struct batch *b, u32 threads,
		float *f32, u16 *bf16)
{
	struct kern_attn_plan plan = { 0 };
	struct kern_attn a = b->a;

	a.f32 = f32;
	a.bf16 = bf16;
	ASSERT_EQ(0, kern_attn_plan(&plan, &a, threads));
	ops->attn(&a, &plan, 0, plan.nr_items, scratch);
	ops->attn_merge(&a, &plan, 0, plan.nr_merges);
	kern_attn_plan_fini(&plan);
}

static float *run_new(const struct kern_ops *ops, struct batch *b, u32 threads)
{
	float *out = kt_alloc(out_len(b) * sizeof(*out));

	run(ops, b, threads, out, NULL);
	return out;
}

/* The textbook formula in double. */
static void naive_row(const struct batch *b, const struct kern_attn_seq *s,
		      u32 r, u32 head, double *o)
{
	const struct kern_kv *kv = &b->a.kv;
	u32 group = b->a.nr_heads / kv->nr_kv_heads, pos = s->pos0 + r;
	u32 lo = s->window && pos + 1 > s->window ? pos + 1 - s->window : 0;
	const float *q = b->q + (size_t)(s->row0 + r) * b->a.q_stride +
			 head * kv->head_dim;
	double *x = kt_alloc((pos + 1) * sizeof(*x)), m = -INFINITY, sum = 0;

	memset(o, 0, kv->head_dim * sizeof(*o));
	for (int pass = 0; pass < 2; pass++) {
		for (u32 j = lo; j <= pos; j++) {
			const u8 *row = kv->base + kv->layer_off +
					kern_kv_row(kv, s->table, j) +
					head / group * kv->head_stride;
			const u16 *k =
				(const u16 *)(const void *)(row + kv->k_off);
			const u16 *v =
				(const u16 *)(const void *)(row + kv->v_off);
			double dot = 0;

			if (pass) {
				double e = exp(x[j] - m);

				sum += e;
				for (u32 d = 0; d < kv->head_dim; d++)
					o[d] += e *
						(double)kern_bf16_to_f32(v[d]);
				continue;
			}
			for (u32 d = 0; d < kv->head_dim; d++)
				dot += (double)q[d] *
				       (double)kern_bf16_to_f32(k[d]);
			dot *= (double)b->a.scale;
			if (b->a.softcap > 0)
				dot = (double)b->a.softcap *
				      tanh(dot / (double)b->a.softcap);
			x[j] = dot;
			m = fmax(m, dot);
		}
	}
	for (u32 d = 0; d < kv->head_dim; d++)
		o[d] /= sum;
	free(x);
}

static void check_exact(const struct batch *b, const float *out)
{
	double o[256], worst = 0;
	u32 dim = b->a.kv.head_dim;

	for (u32 i = 0; i < b->a.nr_seqs; i++) {
		const struct kern_attn_seq *s = &b->seqs[i];

		for (u32 n = 0; n < s->nr_rows * b->a.nr_heads; n++) {
			u32 r = n / b->a.nr_heads, h = n % b->a.nr_heads;
			size_t at = (size_t)(s->row0 + r) * b->a.nr_heads + h;

			naive_row(b, s, r, h, o);
			for (u32 d = 0; d < dim; d++) {
				double e =
					fabs((double)out[at * dim + d] - o[d]);

				worst = isnan(e) ? INFINITY : fmax(worst, e);
			}
		}
	}
	EXPECT_LT(worst, 1e-5);
}

/* All rows of the table against ref, split and whole, and against fp64. */
static void check(u64 *seed, const struct setup *s, float softcap)
{
	const struct kern_ops *ref = kern_select("ref"), *ops;
	struct batch b;
	float *want;
	char what[96];

	make_batch(seed, &b, s);
	b.a.softcap = softcap;
	want = run_new(ref, &b, 1);
	check_exact(&b, want);
	for_each_row(ops)
	{
		for (u32 threads = 1; threads < 6; threads += 4) {
			snprintf(what, sizeof(what), "%s %u/%u x %u, page %u",
				 ops->name, s->heads, s->kv_heads, s->dim,
				 s->page);
			memset(b.out, 0xa5, out_len(&b) * 4);
			run(ops, &b, threads, b.out, b.out16);
			EXPECT_SAME(b.out, want, out_len(&b), what);
			for (size_t i = 0; i < out_len(&b); i++)
				if (b.out16[i] != kern_f32_to_bf16(want[i]))
					EXPECT_EQ(i, ~0ull);
		}
	}
	run(ref, &b, 5, b.out, NULL);
	EXPECT_SAME(b.out, want, out_len(&b), "ref, split");
	free(want);
	free_batch(&b);
}

TEST(attn, gives_the_reference_bits_for_every_head_shape)
{
	static const u32 groups[] = { 1, 4, 6, 8 }, dims[] = { 64, 128, 256 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 g = 0; g < ARRAY_SIZE(groups); g++) {
		for (u32 d = 0; d < ARRAY_SIZE(dims); d++) {
			struct setup s = {
				.heads = groups[g] * (1 + g % 2),
				.kv_heads = 1 + g % 2,
				.dim = dims[d],
				.page = 16,
				.nr_seqs = 3,
				.pos0 = { kt_below(&seed, 600), 0,
					  kt_below(&seed, 300) },
				.rows = { 1, 1 + kt_below(&seed, 40),
					  kt_below(&seed, 20) },
			};

			check(&seed, &s, 0);
		}
	}
}

TEST(attn, holds_at_the_edges_of_pages_and_segments)
{
	static const u32 lens[] = { 1,	 15,  16,  17,	31,  32, 33,
				    255, 256, 257, 271, 272, 513 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		struct setup s = {
			.heads = 4,
			.kv_heads = 1,
			.dim = 64,
			.page = 16,
			.nr_seqs = 3,
			.pos0 = { lens[i] - 1, lens[i], 0 },
			.rows = { 1, 2, min(lens[i], 70u) },
		};

		check(&seed, &s, 0);
	}
}

TEST(attn, never_touches_what_lies_before_the_window)
{
	static const u32 windows[] = { 1, 16, 17, 100, 256, 512 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(windows); i++) {
		u32 w = windows[i];
		struct setup s = {
			.heads = 4,
			.kv_heads = 1,
			.dim = 64,
			.page = 8,
			.nr_seqs = 4,
			.pos0 = { 700, w, 0, 3 * w + 5 },
			.rows = { 1, 30, 40, 3 },
			.window = { w, w, w, w },
		};

		check(&seed, &s, 0);
	}
}

TEST(attn, takes_odd_page_lengths_head_sizes_and_a_softcap)
{
	static const u32 dims[] = { 16, 80, 96, 112 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(dims); i++) {
		struct setup s = {
			.heads = 6,
			.kv_heads = 3,
			.dim = dims[i],
			.page = 1 + kt_below(&seed, 40),
			.nr_seqs = 2,
			.pos0 = { 130, 0 },
			.rows = { 9, 50 },
		};

		check(&seed, &s, i & 1 ? 20.0f : 0);
	}
}

/* One sequence in one piece, token by token, and in ragged chunks. */
TEST(attn, chunking_changes_no_bit)
{
	struct setup s = { .heads = 6,
			   .kv_heads = 1,
			   .dim = 128,
			   .page = 16,
			   .nr_seqs = 1,
			   .rows = { 330 },
			   .window = { 200 } };
	u64 seed = test_seed();
	const struct kern_ops *ops;
	struct batch b;

	kern_thread_init();
	make_batch(&seed, &b, &s);
	for_each_row(ops)
	{
		float *whole = run_new(ops, &b, 1);

		for (u32 pos = 0, nr; pos < s.rows[0]; pos += nr) {
			struct batch c = b;

			nr = min(1 + kt_below(&seed, 60), s.rows[0] - pos);
			c.seqs[0].pos0 = c.seqs[0].row0 = pos;
			c.seqs[0].nr_rows = nr;
			c.seqs[0].kv_len = pos + nr;
			c.a.seqs = c.seqs;
			run(ops, &c, 1 + kt_below(&seed, 8), b.out, NULL);
		}
		EXPECT_SAME(b.out, whole, out_len(&b), ops->name);
		free(whole);
	}
	free_batch(&b);
}

/* The same keys through a shuffled table and through an identity table. */
TEST(attn, pages_and_contiguous_memory_give_the_same_bits)
{
	struct setup s = { .heads = 4,
			   .kv_heads = 2,
			   .dim = 128,
			   .page = 16,
			   .nr_seqs = 1,
			   .pos0 = { 400 },
			   .rows = { 20 } };
	u64 seed = test_seed();
	const struct kern_ops *ops;
	struct batch b, c;
	u32 pages = DIV_ROUND_UP(420, 16), *id = kt_alloc(pages * 4);

	kern_thread_init();
	make_batch(&seed, &b, &s);
	c = b;
	c.a.seqs = c.seqs;
	c.a.kv.base = kt_alloc(pages * b.a.kv.unit);
	for (u32 i = 0; i < pages; i++) {
		id[i] = i;
		memcpy(c.a.kv.base + i * b.a.kv.unit,
		       b.a.kv.base + b.tables[0][i] * b.a.kv.unit, b.a.kv.unit);
	}
	c.seqs[0].table = id;
	for_each_row(ops)
	{
		float *x = run_new(ops, &b, 1), *y = run_new(ops, &c, 1);

		EXPECT_SAME(x, y, out_len(&b), ops->name);
		free(x);
		free(y);
	}
	free(c.a.kv.base);
	free(id);
	free_batch(&b);
}

TEST(attn, a_plan_covers_every_row_head_and_segment_once)
{
	u64 seed = test_seed();
	struct kern_attn_plan plan = { 0 };

	for (u32 round = 0; round < 200; round++) {
		struct kern_attn_seq s[3] = { 0 };
		struct kern_attn a = {
			.seqs = s,
			.nr_seqs = 3,
			.nr_heads = 6,
			.kv = { .nr_kv_heads = 2, .head_dim = 64 },
		};
		u64 want = 0, got = 0, parts = 0;

		for (u32 i = 0; i < 3; i++) {
			s[i].nr_rows = kt_below(&seed, 3) * kt_below(&seed, 60);
			s[i].pos0 = kt_below(&seed, 9000);
			want += s[i].nr_rows * 2;
		}
		ASSERT_EQ(0, kern_attn_plan(&plan, &a, 1 + round % 9));
		for (u32 i = 0; i < plan.nr_merges; i++) {
			struct kern_attn_item *m = &plan.merges[i];

			got += m->nr_rows;
			parts += (u64)m->nr_rows * 3 * (m->seg1 - m->seg0);
		}
		EXPECT_EQ(parts, plan.nr_parts);
		for (u32 i = 0; i < plan.nr_items; i++) {
			struct kern_attn_item *it = &plan.items[i];

			EXPECT_LE(it->nr_rows * 3, 64);
			EXPECT_LT(it->seg0, it->seg1);
			if (it->part == KERN_ATTN_WHOLE)
				got += it->nr_rows;
			else
				parts -= (u64)it->nr_rows * 3 *
					 (it->seg1 - it->seg0);
		}
		EXPECT_EQ(want, got);
		EXPECT_EQ(0, parts);
	}
	kern_attn_plan_fini(&plan);
}

TEST_HARNESS_MAIN
