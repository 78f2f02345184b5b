/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_ATTN_TESTS_H
#define SELFTESTS_ATTN_TESTS_H
/*
 * attn_tests.h - attention: ref's bits, exact arithmetic, no stray read
 *
 * The tests of paged attention, over the rows that the including file gives.
 * Each is compared with the row of ref that has its numerics.
 *
 * K and V of a batch lie in a pool of shuffled pages. Every byte that no row
 * may read (rows past kv_len, pages of nobody) is a NaN, and table entries
 * before a window point outside the address space.
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

#define MAX_SEQS 12
#define WILD	 0xfffffff0u

/* Row i to test, NULL behind the last one. */
static const struct kern_ops *attn_row(u32 i);

/* First in every test: skips it where the rows cannot run. */
static void attn_begin(void);

#define for_each_attn(ops) for (u32 at_i = 0; (ops = attn_row(at_i)); at_i++)

/* The definition that a row has. */
static const struct kern_ops *ref_of(const struct kern_ops *ops)
{
	return kern_select(ops->numerics == KERN_NUMERICS_BF16_ATTN
				   ? "refbf16attn"
				   : "ref");
}

static u8 scratch[KERN_SCRATCH_BYTES] __attribute__((aligned(64)));

struct setup {
	u32 heads, kv_heads, dim, page;
	u32 nr_seqs;
	u32 pos0[MAX_SEQS], rows[MAX_SEQS], window[MAX_SEQS];
	/* whole pages of tokens that it shares with sequence @with */
	u32 shared[MAX_SEQS], with[MAX_SEQS];
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
		u32 from = first_seen(q), own = s->shared[i];

		b->tables[i] = kt_alloc((pages + 1) * sizeof(u32));
		for (u32 p = 0; p < pages; p++) {
			if (p < from / s->page)
				b->tables[i][p] = WILD;
			else if (p < own / s->page)
				b->tables[i][p] = b->tables[s->with[i]][p];
			else
				b->tables[i][p] = ids[next++];
		}
		for (u32 p = max(from, own); p < q->kv_len; p++)
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
	ops->attn_merge(&a, &plan, 0, plan.nr_merges * a.nr_heads);
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

static double worst_error(const struct batch *b, const float *out)
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
	return worst;
}

/*
 * A weight in bf16 is off by 2^-8 of itself at most, and the next one by
 * another share: the mean of values of at most 1 is off by less than 2e-3.
 * kt_normal() gives up to 3.5.
 */
static void check_exact(const struct batch *b, const struct kern_ops *ref,
			const float *out)
{
	if (ref->numerics == KERN_NUMERICS_BF16)
		EXPECT_LT(worst_error(b, out), 1e-5);
	else
		EXPECT_LT(worst_error(b, out), 2e-3 * 3.5);
}

/* All rows against their ref, split and whole, and ref against fp64. */
static void check(u64 *seed, const struct setup *s, float softcap)
{
	const struct kern_ops *ref = NULL, *ops;
	struct batch b;
	float *want = NULL;
	char what[96];

	make_batch(seed, &b, s);
	b.a.softcap = softcap;
	for_each_attn(ops)
	{
		if (ref != ref_of(ops)) {
			ref = ref_of(ops);
			free(want);
			want = run_new(ref, &b, 1);
			check_exact(&b, ref, want);
		}
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
	free(want);
	free_batch(&b);
}

TEST(attn, gives_the_reference_bits_for_every_head_shape)
{
	static const u32 groups[] = { 1, 2, 3, 4, 5, 6, 8 };
	static const u32 dims[] = { 32, 64, 128, 256 };
	u64 seed = test_seed();

	attn_begin();
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

	attn_begin();
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

	attn_begin();
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

	attn_begin();
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

	attn_begin();
	make_batch(&seed, &b, &s);
	for_each_attn(ops)
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

	attn_begin();
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
	for_each_attn(ops)
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

/* Each sequence in a call of its own. */
static float *run_alone(const struct kern_ops *ops, struct batch *b)
{
	float *out = kt_alloc(out_len(b) * sizeof(*out));
	struct batch one = *b;

	one.a.nr_seqs = 1;
	for (u32 i = 0; i < b->a.nr_seqs; i++) {
		one.a.seqs = &b->seqs[i];
		run(ops, &one, 1, out, NULL);
	}
	return out;
}

/* Segments of items, each counted once per KV head and item. */
static u64 segments_read(const struct batch *b, u32 threads)
{
	struct kern_attn_plan plan = { 0 };
	u64 nr = 0;

	ASSERT_EQ(0, kern_attn_plan(&plan, &b->a, threads));
	for (u32 i = 0; i < plan.nr_items; i++)
		nr += plan.items[i].seg1 - plan.items[i].seg0;
	kern_attn_plan_fini(&plan);
	return nr;
}

static void check_cascade(u64 *seed, const struct setup *s, u64 segments)
{
	const struct kern_ops *ref = NULL, *ops;
	struct batch b;
	float *want = NULL;

	check(seed, s, 0);
	make_batch(seed, &b, s);
	EXPECT_EQ(segments, segments_read(&b, 1));
	for_each_attn(ops)
	{
		if (ref != ref_of(ops)) {
			ref = ref_of(ops);
			free(want);
			want = run_alone(ref, &b);
		}
		for (u32 threads = 1; threads < 8; threads += 3) {
			memset(b.out, 0xa5, out_len(&b) * 4);
			run(ops, &b, threads, b.out, NULL);
			EXPECT_SAME(b.out, want, out_len(&b), ops->name);
		}
	}
	free(want);
	free_batch(&b);
}

TEST(attn, pages_that_sequences_share_are_read_once_for_all)
{
	/* 0, 1 and 2 share three segments, 3 and 4 five, two of them all */
	const struct setup tree = {
		.heads = 4,
		.kv_heads = 1,
		.dim = 64,
		.page = 16,
		.nr_seqs = 6,
		.pos0 = { 800, 900, 768, 1300, 1400, 300 },
		.rows = { 1, 1, 2, 1, 1, 1 },
		.shared = { 0, 768, 768, 512, 1280, 0 },
		.with = { 0, 0, 0, 0, 3, 0 },
	};
	/* a prompt's chunk beside three samples with 17 pages in common */
	const struct setup mixed = {
		.heads = 6,
		.kv_heads = 2,
		.dim = 128,
		.page = 16,
		.nr_seqs = 4,
		.pos0 = { 280, 0, 290, 272 },
		.rows = { 1, 50, 1, 1 },
		.shared = { 0, 0, 272, 272 },
	};
	/* rows that end inside what they share, and just at its end */
	const struct setup ends = {
		.heads = 1,
		.kv_heads = 1,
		.dim = 64,
		.page = 32,
		.nr_seqs = 4,
		.pos0 = { 600, 511, 255, 256 },
		.rows = { 1, 1, 1, 4 },
		.shared = { 0, 512, 256, 256 },
	};
	u64 seed = test_seed();

	attn_begin();
	/* segments 0, 1: once; 2: once of three and once of two; and so on */
	check_cascade(&seed, &tree, 2 + 1 + 3 + 3 + 2 + 2);
	/* the prompt's rows are 3 blocks; 1 shared and 3 of their own */
	check_cascade(&seed, &mixed, 2 * (3 + 1 + 3));
	check_cascade(&seed, &ends, 1 + 1 + 1 + 1);
}

TEST(attn, windows_share_what_they_have_in_common)
{
	struct setup s = {
		.heads = 4,
		.kv_heads = 1,
		.dim = 256,
		.page = 16,
		.nr_seqs = 3,
		.pos0 = { 1030, 1040, 2000 },
		.rows = { 1, 1, 1 },
		.window = { 512, 512, 512 },
		.shared = { 0, 1024, 1024 },
	};
	u64 seed = test_seed();

	attn_begin();
	/* the first two: 2 of each (their windows differ), 3 shared, 4 of each
	 */
	check_cascade(&seed, &s, 2 + 1 + 2 + 3);
	s.pos0[1] = s.pos0[0];
	/* now 2 is shared too */
	check_cascade(&seed, &s, 1 + 1 + 2 + 3);
}

/* As many sequences as there may be, in a random tree of prefixes. */
TEST(attn, any_tree_of_prefixes_gives_the_bits_of_each_alone)
{
	u64 seed = test_seed();

	attn_begin();
	for (u32 round = 0; round < 6; round++) {
		struct setup s = {
			.heads = 4,
			.kv_heads = 2,
			.dim = 64,
			.page = 16u << kt_below(&seed, 3),
			.nr_seqs = MAX_SEQS,
		};
		const struct kern_ops *ref = NULL, *ops;
		struct batch b;
		float *want = NULL;

		for (u32 i = 0; i < MAX_SEQS; i++) {
			u32 with = i ? kt_below(&seed, i) : 0;
			u32 most = i ? s.pos0[with] / s.page * s.page : 0;

			s.pos0[i] = kt_below(&seed, 1200);
			s.rows[i] = 1 + kt_below(&seed, 3);
			s.with[i] = with;
			s.shared[i] = min(most, s.pos0[i] / s.page * s.page);
		}
		make_batch(&seed, &b, &s);
		for_each_attn(ops)
		{
			if (ref != ref_of(ops)) {
				ref = ref_of(ops);
				free(want);
				want = run_alone(ref, &b);
			}
			run(ops, &b, 1 + round, b.out, NULL);
			EXPECT_SAME(b.out, want, out_len(&b), ops->name);
		}
		free(want);
		free_batch(&b);
	}
}

/* K or V of a key of sequence 0, KV head 0. */
static u16 *key_values(const struct batch *b, u32 pos, bool is_v)
{
	const struct kern_kv *kv = &b->a.kv;
	u8 *row = kv->base + kv->layer_off + kern_kv_row(kv, b->tables[0], pos);

	return (u16 *)(void *)(row + (is_v ? kv->v_off : kv->k_off));
}

/*
 * Rows that see @pos of sequence 0 have a NaN or an infinity, as ref has; the
 * others are what they are without it.
 */
static void check_poisoned(const struct batch *b, u32 pos, const float *clean,
			   const float *want, const float *got,
			   const char *what)
{
	const struct kern_attn_seq *s = &b->seqs[0];
	size_t len = (size_t)b->a.nr_heads * b->a.kv.head_dim;

	for (u32 r = 0; r < s->nr_rows; r++) {
		u32 at = s->pos0 + r, bad = 0, odd = 0;
		bool sees = pos <= at && (!s->window || pos + s->window > at);

		for (size_t i = r * len; i < (r + 1) * len; i++) {
			odd += !isfinite(got[i]);
			if (isnan(got[i]))
				bad += !isnan(want[i]);
			else
				bad += memcmp(got + i, want + i, 4) != 0;
			if (!sees)
				bad += memcmp(got + i, clean + i, 4) != 0;
		}
		if (!bad && !!odd == sees)
			continue;
		TH_LOG("%s: key %u, row %u: %u differ, %u not finite", what,
		       pos, r, bad, odd);
		EXPECT_EQ(0, bad);
		EXPECT_EQ(sees, odd > 0);
	}
}

/* A prompt's rows share blocks of keys at the causal and the window's edge. */
TEST(attn, a_nan_or_infinity_reaches_only_the_rows_that_see_it)
{
	static const u16 poison[] = { 0x7fc0, 0x7f80, 0xff80, 0xffff };
	u64 seed = test_seed();

	attn_begin();
	for (u32 round = 0; round < 16; round++) {
		struct setup s = { .heads = 1 + round % 5,
				   .kv_heads = 1,
				   .dim = round & 1 ? 64 : 80,
				   .page = 16,
				   .nr_seqs = 1,
				   .pos0 = { 200 + kt_below(&seed, 60) },
				   .rows = { 20 + kt_below(&seed, 60) },
				   .window = { round & 2 ? 40 : 0 } };
		bool is_v = round & 4;
		const struct kern_ops *ops;
		struct batch b;
		u16 *at, was;
		u32 pos;

		make_batch(&seed, &b, &s);
		pos = s.pos0[0] + kt_below(&seed, s.rows[0]);
		at = key_values(&b, pos, is_v);
		was = *at;
		for_each_attn(ops)
		{
			float *clean = run_new(ops, &b, 1), *want;

			/* an infinite score might be one of weight 0 */
			*at = is_v ? poison[round / 8 * 2 + round % 2]
				   : poison[0];
			want = run_new(ref_of(ops), &b, 1);
			run(ops, &b, 1, b.out, NULL);
			check_poisoned(&b, pos, clean, want, b.out, ops->name);
			*at = was;
			free(clean);
			free(want);
		}
		free_batch(&b);
	}
}

/* Sums of such values are flushed to a zero of either sign on the way. */
TEST(attn, values_near_the_smallest_float_give_the_reference_bits)
{
	u64 seed = test_seed();

	attn_begin();
	for (u32 round = 0; round < 8; round++) {
		struct setup s = { .heads = 3,
				   .kv_heads = 1,
				   .dim = 64,
				   .page = 16,
				   .nr_seqs = 1,
				   .pos0 = { 500 + 40 * round },
				   .rows = { 70 },
				   .window = { round & 1 ? 50 : 0 } };
		const struct kern_ops *ops;
		struct batch b;

		make_batch(&seed, &b, &s);
		for (u32 pos = first_seen(b.seqs); pos < b.seqs[0].kv_len;
		     pos++) {
			u16 *v = key_values(&b, pos, true);

			for (u32 d = 0; d < s.dim; d++)
				v[d] = kern_f32_to_bf16(kt_normal(&seed) *
							0x1p-125f);
		}
		for_each_attn(ops)
		{
			float *want = run_new(ref_of(ops), &b, 1);

			run(ops, &b, 1, b.out, NULL);
			EXPECT_SAME(b.out, want, out_len(&b), ops->name);
			free(want);
		}
		free_batch(&b);
	}
}

/*
 * The large parts of q cancel: what a score is of lies below the bits that bf16
 * keeps. Two keys, of scores 1 and -1 and values likewise: tanh(1).
 */
TEST(attn, no_bit_of_q_that_counts_is_rounded_off)
{
	struct setup s = { 1, 1, 64, 16, 1, .pos0 = { 1 }, .rows = { 1 } };
	const struct kern_ops *ops;
	u64 seed = test_seed();
	struct batch b;

	attn_begin();
	make_batch(&seed, &b, &s);
	b.a.scale = 0.125f;
	for (u32 d = 0; d < s.dim; d++) {
		b.q[d] = (d & 1 ? -1.0f : 1.0f) + 0x1p-9f;
		for (u32 pos = 0; pos < 2; pos++) {
			float sign = pos ? -1.0f : 1.0f;

			key_values(&b, pos, false)[d] =
				kern_f32_to_bf16(64 * sign);
			key_values(&b, pos, true)[d] = kern_f32_to_bf16(sign);
		}
	}
	for_each_attn(ops)
	{
		run(ops, &b, 1, b.out, NULL);
		for (u32 d = 0; d < s.dim; d++)
			EXPECT_NEAR(tanh(1), (double)b.out[d], 4e-3);
	}
	free_batch(&b);
}

#endif
