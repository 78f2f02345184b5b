/* SPDX-License-Identifier: MIT */
/*
 * test_exec.c - whole operations leave the bits of one undivided call
 *
 * san: address thread
 */
#include <math.h>

#include "kernels/cpu/pool.h"
#include "selftests/kernels/kern_test.h"

#define T   300 /* enough rows to be cut into several items */
#define LEN 640

FIXTURE(exec)
{
	struct kern_exec x;
	u64 seed;
	float *a, *b, *want, *got;
};

FIXTURE_VARIANT(exec)
{
	u32 threads;
};

FIXTURE_VARIANT_ADD(exec, one_thread){
	.threads = 1,
};
FIXTURE_VARIANT_ADD(exec, three_threads){
	.threads = 3,
};

FIXTURE_SETUP(exec)
{
	self->seed = test_seed();
	ASSERT_EQ(0, kern_exec_init(&self->x, NULL, variant->threads));
	self->a = kt_floats(&self->seed, T * LEN, 1);
	self->b = kt_floats(&self->seed, T * LEN, 1);
	self->want = kt_alloc(T * LEN * 4);
	self->got = kt_alloc(T * LEN * 4);
}

FIXTURE_TEARDOWN(exec)
{
	if (self->x.pool)
		kern_exec_fini(&self->x);
	free(self->a);
	free(self->b);
	free(self->want);
	free(self->got);
}

TEST_F(exec, rows_of_a_norm)
{
	struct kern_rmsnorm p = { .x = self->a,
				  .weight = self->b,
				  .f32 = self->want,
				  .x_stride = LEN,
				  .out_stride = LEN,
				  .heads = 1,
				  .len = LEN,
				  .eps = 1e-6f };

	self->x.kern->rmsnorm(&p, 0, T);
	p.f32 = self->got;
	self->x.ops->rmsnorm(&self->x, &p, 1, T);
	EXPECT_SAME(self->got, self->want, T * LEN, "rmsnorm");
}

TEST_F(exec, a_norm_of_what_another_one_has_written)
{
	struct kern_rmsnorm p[2] = {
		{ .x = self->a,
		  .weight = self->b,
		  .f32 = self->got,
		  .x_stride = LEN,
		  .out_stride = LEN,
		  .heads = 1,
		  .len = LEN,
		  .eps = 1e-6f },
	};
	u16 *out = kt_alloc(2 * T * LEN * sizeof(u16));

	p[1] = p[0];
	p[1].x = self->got;
	p[1].f32 = NULL;
	p[1].bf16 = out;
	self->x.kern->rmsnorm(&p[0], 0, T);
	self->x.kern->rmsnorm(&p[1], 0, T);
	p[1].bf16 = out + T * LEN;
	memset(self->got, 0, T * LEN * sizeof(float));
	self->x.ops->rmsnorm(&self->x, p, 2, T);
	EXPECT_SAME(out + T * LEN, out, T * LEN, "norms");
	free(out);
}

TEST_F(exec, rows_of_pointwise_operations)
{
	struct kern_add s = { self->a, self->b, self->want, LEN };
	struct kern_round r = { self->a, (u16 *)self->want, LEN, LEN, LEN };

	self->x.kern->round(&r, 0, T);
	r.out = (u16 *)self->got;
	self->x.ops->round(&self->x, &r, T);
	EXPECT_SAME((u16 *)self->got, (u16 *)self->want, T * LEN, "round");

	self->x.kern->add(&s, 0, T);
	s.out = self->got;
	self->x.ops->add(&self->x, &s, T);
	EXPECT_SAME(self->got, self->want, T * LEN, "add");
}

TEST_F(exec, rows_of_an_embedding)
{
	struct kern_mat w = kt_mat(&self->seed, KV_DTYPE_Q8_0, 50, LEN);
	u32 ids[T];
	struct kern_embed p = { w, ids, self->want, 25.25f };

	for (u32 i = 0; i < T; i++)
		ids[i] = kt_below(&self->seed, 50);
	self->x.kern->embed(&p, 0, T);
	p.out = self->got;
	self->x.ops->embed(&self->x, &p, T);
	EXPECT_SAME(self->got, self->want, T * LEN, "embed");
	free((void *)w.data);
}

TEST_F(exec, rows_of_angles)
{
	u32 pos[T];
	struct kern_rope_table p = { pos, NULL, self->want, LEN, 1e4, 1 };

	for (u32 i = 0; i < T; i++)
		pos[i] = kt_below(&self->seed, 40000);
	self->x.kern->rope_table(&p, 0, T);
	p.cos_sin = self->got;
	self->x.ops->rope_table(&self->x, &p, T);
	EXPECT_SAME(self->got, self->want, T * LEN, "rope_table");
}

TEST_F(exec, rows_of_logits)
{
	u32 want[T], got[T];
	double lse[T], lse2[T];
	struct kern_logits p = {
		.x = self->a, .len = LEN, .argmax = want, .lse = lse
	};

	self->x.kern->logits(&p, 0, T);
	p.argmax = got;
	p.lse = lse2;
	self->x.ops->logits(&self->x, &p, T);
	EXPECT_SAME(got, want, T, "argmax");
	EXPECT_SAME(lse2, lse, T, "lse");
}

TEST_F(exec, items_of_attention_and_their_merges)
{
	enum { H = 8, D = 64, POS = 6000, PAGE = 16 };
	struct kern_attn_seq s[2] = {
		{ .nr_rows = 1, .pos0 = POS, .kv_len = POS + 1 },
		{ .row0 = 1, .nr_rows = 40, .pos0 = 10, .kv_len = 50 }
	};
	u32 pages = POS / PAGE + 1, *table = kt_alloc(pages * 4);
	u16 *kv = kt_bf16s(&self->seed, 2 * D * PAGE * pages, 1);
	struct kern_attn p = {
		.q = self->a,
		.f32 = self->want,
		.seqs = s,
		.nr_seqs = 2,
		.nr_heads = H,
		.q_stride = H * D,
		.scale = 0.125f,
		.kv = { .base = (u8 *)kv,
			.unit = 4 * D * PAGE,
			.v_off = 2 * D * PAGE,
			.tok_stride = 2 * D,
			.page_tokens = PAGE,
			.nr_kv_heads = 1,
			.head_dim = D },
	};
	struct kern_attn_plan plan = { 0 };

	for (u32 i = 0; i < pages; i++)
		table[i] = pages - 1 - i;
	s[0].table = s[1].table = table;
	ASSERT_EQ(0, kern_attn_plan(&plan, &p, 1));
	EXPECT_EQ(0, plan.nr_merges);
	self->x.ops->attn(&self->x, &p, &plan);
	p.f32 = self->got;
	ASSERT_EQ(0, kern_attn_plan(&plan, &p, 4));
	EXPECT_EQ(1, plan.nr_merges);
	self->x.ops->attn(&self->x, &p, &plan);
	EXPECT_SAME(self->got, self->want, 41 * H * D, "attn");
	kern_attn_plan_fini(&plan);
	free(table);
	free(kv);
}

/* ---- how operations are cut: a row that notes what it is given ---- */

struct span {
	const void *part; /* x of its rows */
	u32 lo, hi;
};

static struct {
	const void *w; /* whose columns are noted */
	u32 nr; /* atomic */
	struct span of[1024];
} noted;

static void note(const void *part, u32 lo, u32 hi)
{
	u32 i = __atomic_fetch_add(&noted.nr, 1, __ATOMIC_RELAXED);

	if (i < ARRAY_SIZE(noted.of))
		noted.of[i] = (struct span){ part, lo, hi };
}

static void note_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *mem)
{
	if (p->w.data == noted.w)
		note(p->x, lo, hi);
}

static void note_merge(const struct kern_attn *p,
		       const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	note(NULL, lo, hi);
}

static void pack_nothing(const struct kern_gemm *p, void *to, u32 lo, u32 hi)
{
}

static void gate_nothing(const struct kern_gated *p, u32 lo, u32 hi)
{
}

static const struct kern_ops notes = {
	.name = "notes",
	.pack_rows = 32,
	.pack_bytes = 64,
	.gemm = note_gemm,
	.gemm_pack = pack_nothing,
	.gated = gate_nothing,
	.attn_merge = note_merge,
};

static int by_place(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	if (x->part != y->part)
		return x->part < y->part ? -1 : 1;
	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/*
 * Each part's columns are there once, no item has more than @most units of
 * @unit columns, and no thread's first share a unit more than another's.
 */
static void expect_even(u32 threads, u32 cols, u32 parts, u32 unit, u32 most)
{
	u32 nr = noted.nr, least = ~0u, largest = 0, at = 0, units, i = 0;

	ASSERT_LE(nr, ARRAY_SIZE(noted.of));
	qsort(noted.of, nr, sizeof(noted.of[0]), by_place);
	for (u32 t = 0; t < threads; t++) {
		for (units = 0; i < DIV_ROUND_UP(nr * (t + 1), threads); i++) {
			EXPECT_EQ(at % cols, noted.of[i].lo);
			at += noted.of[i].hi - noted.of[i].lo;
			EXPECT_LE(noted.of[i].hi - noted.of[i].lo, unit * most);
			units += DIV_ROUND_UP(noted.of[i].hi - noted.of[i].lo,
					      unit);
		}
		least = min(least, units);
		largest = max(largest, units);
	}
	EXPECT_EQ(parts * cols, at);
	EXPECT_LE(largest, least + 1);
	noted.nr = 0;
}

TEST_F(exec, columns_come_out_even_for_all_threads)
{
	static const u32 cols[] = { 20, 640, 1152, 1536, 6912, 8960, 9000 };
	static const u32 threads[] = { 1, 2, 3, 8 };
	u16 *x = (u16 *)self->a;

	for (u32 i = 0; i < ARRAY_SIZE(cols) * ARRAY_SIZE(threads); i++) {
		u32 t = threads[i % ARRAY_SIZE(threads)];
		u32 n = cols[i / ARRAY_SIZE(threads)];
		struct kern_mat w = { .data = x, .rows = n, .cols = 64 };
		struct kern_gemm p = { .w = w, .x = x, .m = 1 };
		struct kern_gemm_gated g = {
			.gate = w, .up = w, .x = x, .out = x, .m = 1
		};
		struct kern_exec e;

		ASSERT_EQ(0, kern_exec_init(&e, NULL, t));
		e.kern = &notes;
		noted.w = w.data;
		g.up.data = self->b;
		p.x_stride = g.x_stride = 64;
		e.ops->gemm(&e, &p, 1);
		expect_even(t, n, 1, 32, 16);
		e.ops->gemm_gated(&e, &g);
		expect_even(t, n, 1, 32, 8);
		p.m = 448;
		e.ops->gemm(&e, &p, 1);
		expect_even(t, n, t > 1 ? 2 : 1, 32, 8);
		kern_exec_fini(&e);
	}
}

TEST_F(exec, a_lone_row_is_merged_by_all_threads)
{
	enum { H = 12, D = 128 };
	struct kern_attn p = { .nr_heads = H, .kv = { .head_dim = D } };
	struct kern_attn_plan plan = { .nr_merges = 1 };

	for (u32 t = 2; t <= 8; t += 3) {
		struct kern_exec e;

		ASSERT_EQ(0, kern_exec_init(&e, NULL, t));
		e.kern = &notes;
		plan.nr_parts = 3 * H; /* too few to wake anybody for */
		e.ops->attn(&e, &p, &plan);
		EXPECT_EQ(1, noted.nr);
		expect_even(1, H, 1, 1, H);
		plan.nr_parts = 100 * H;
		e.ops->attn(&e, &p, &plan);
		expect_even(t, H, 1, 1, DIV_ROUND_UP(H, t));
		kern_exec_fini(&e);
	}
}

/*
 * Two with one x, of other layouts; one in place and one shorter, with
 * another; two with that and one layout.
 */
static void products(struct exec_self *self, u32 m)
{
	enum { K = 288, N = 80, NR = 5 };
	struct kern_mat w = kt_mat(&self->seed, KV_DTYPE_Q5_0, N, K);
	struct kern_mat strips = kt_strips(&w);
	u16 *x = kt_bf16s(&self->seed, 2 * m * K, 1);
	float *y = kt_alloc(2 * NR * m * N * 4);
	u8 *scratch = kt_alloc(KERN_SCRATCH_BYTES);
	struct kern_gemm p[NR];

	for (u32 i = 0; i < NR; i++)
		p[i] = (struct kern_gemm){ .w = i == 1 ? w : strips,
					   .x = i < 2 ? x : x + m * K,
					   .y = y + i * m * N,
					   .bias = i & 1 ? self->b : NULL,
					   .m = i >= 3 ? min(40u, m) : m,
					   .x_stride = K,
					   .y_stride = N };
	memset(y, 0, 2 * NR * m * N * 4);
	memcpy(p[2].y, self->a, m * N * 4);
	memcpy(p[2].y + NR * m * N, self->a, m * N * 4);
	p[2].residual = p[2].y;
	p[0].w.rows = 64;
	p[3].w.rows = 48;
	self->x.ops->gemm(&self->x, p, NR);
	for (u32 i = 0; i < NR; i++) {
		p[i].y += NR * m * N;
		if (i == 2)
			p[i].residual = p[i].y;
		self->x.kern->gemm(&p[i], 0, p[i].w.rows, scratch);
	}
	EXPECT_SAME(y, y + NR * m * N, NR * m * N, "products");
	free((void *)w.data);
	free((void *)strips.data);
	free(x);
	free(y);
	free(scratch);
}

/*
 * Rows of one part; of two, one of which the short ones have none of; of more
 * than a pass.
 */
TEST_F(exec, columns_of_products_that_share_x_or_do_not)
{
	static const u32 ms[] = { 33, 100, 450, 530, 800 };

	for (u32 i = 0; i < ARRAY_SIZE(ms); i++)
		products(self, ms[i]);
}

/*
 * Many columns are the same here, so that equal ones lie in several items, and
 * one row is of NaN, one of zeros, of which the negative ones are no smaller.
 */
static void best_of_rows(struct exec_self *self, const char *isa, u32 m)
{
	enum { K = 64, N = 3000 };
	struct kern_mat w = kt_mat(&self->seed, KV_DTYPE_Q8_0, N, K);
	struct kern_mat strips;
	u16 *x = kt_bf16s(&self->seed, m * K, 1);
	float *y = kt_alloc(m * N * 4);
	struct kern_best *best = kt_alloc(m * sizeof(*best));
	u32 *want = kt_alloc(m * sizeof(*want));
	struct kern_gemm p;
	struct kern_exec e;

	for (u32 n = 50; n < N; n++)
		memcpy((u8 *)w.data + n * w.stride,
		       (const u8 *)w.data +
			       kt_below(&self->seed, 50) * w.stride,
		       w.stride);
	strips = kt_strips(&w);
	memset(x, 0xff, K * sizeof(*x));
	for (u32 k = 0; k < K; k++)
		x[(m - 1) * K + k] = (u16)(k % 2 << 15);
	p = kt_gemm(strips, x, y, m);
	ASSERT_EQ(0, kern_exec_init(&e, isa, pool_nr_threads(self->x.pool)));
	e.ops->gemm(&e, &p, 1);
	e.ops->logits(&e,
		      &(struct kern_logits){ .x = y, .len = N, .argmax = want },
		      m);
	for (u32 i = 0; i < m; i++)
		best[i] = KERN_BEST_NONE;
	p.best = best;
	p.y = NULL;
	e.ops->gemm(&e, &p, 1);
	for (u32 i = 0; i < m; i++) {
		bool nan = i == 0 && m > 1;

		EXPECT_EQ(want[i], best[i].id);
		EXPECT_EQ(nan ? -INFINITY : y[i * N + want[i]], best[i].max);
	}
	kern_exec_fini(&e);
	free((void *)w.data);
	free((void *)strips.data);
	free(x);
	free(y);
	free(best);
	free(want);
}

TEST_F(exec, the_best_of_a_row_is_the_first_of_the_largest)
{
	static const u32 ms[] = { 1, 9, 40, 64, 70, 530 };

	for (u32 i = 0; i < ARRAY_SIZE(ms); i++) {
		best_of_rows(self, NULL, ms[i]);
		best_of_rows(self, "avx2", ms[i]);
	}
}

TEST_F(exec, rows_of_logits_that_are_not_kept_are_left_alone)
{
	u32 argmax[T];
	bool keep[T];
	struct kern_logits p = {
		.x = self->a, .len = LEN, .keep = keep, .argmax = argmax
	};

	for (u32 i = 0; i < T; i++) {
		keep[i] = i % 5 == 0;
		argmax[i] = ~0u;
	}
	self->x.ops->logits(&self->x, &p, T);
	for (u32 i = 0; i < T; i++)
		EXPECT_EQ(keep[i], argmax[i] != ~0u);
}

/* Few rows, some, more than a pass; ends of columns that fill no tile. */
static void gated_rows(struct exec_self *self, const char *isa, u32 m, u32 n,
		       bool strips, bool other)
{
	enum { K = 288 };
	struct kern_mat gate = kt_mat(&self->seed, KV_DTYPE_Q5_0, n, K);
	struct kern_mat up = kt_mat(&self->seed, KV_DTYPE_Q8_0, n, K);
	struct kern_mat gs = kt_strips(&gate), us = kt_strips(&up);
	u16 *x = kt_bf16s(&self->seed, m * (K + 5), 1);
	u16 *want = kt_alloc(m * n * 2), *got = kt_alloc(m * (n + 3) * 2);
	struct kern_gemm_gated p = { .gate = strips ? gs : gate,
				     .up = strips && !other ? us : up,
				     .x = x,
				     .out = got,
				     .m = m,
				     .x_stride = K + 5,
				     .out_stride = n + 3,
				     .act = m % 2 };
	struct kern_exec e;

	ASSERT_EQ(0, kern_exec_init(&e, isa, 3));
	kt_gated(e.kern, &p, want);
	e.ops->gemm_gated(&e, &p);
	for (u32 i = 0; i < m; i++)
		EXPECT_SAME(got + i * (n + 3), want + i * n, n, isa);
	kern_exec_fini(&e);
	free((void *)gate.data);
	free((void *)up.data);
	free((void *)gs.data);
	free((void *)us.data);
	free(x);
	free(want);
	free(got);
}

TEST_F(exec, columns_of_gated_products_on_every_row)
{
	static const u32 ms[] = { 1, 5, 33, 64, 65, 100, 450, 530 };
	u32 i = 0;

	for (const char *const *isa = kern_isa_list(); *isa; isa++, i++) {
		gated_rows(self, *isa, ms[i % ARRAY_SIZE(ms)], 50 + i % 3 * 300,
			   true, false);
		gated_rows(self, *isa, ms[(i + 3) % ARRAY_SIZE(ms)], 80, i & 1,
			   i & 2);
	}
	for (i = 0; i < ARRAY_SIZE(ms); i++)
		gated_rows(self, NULL, ms[i], 150 + i, i != 2, i == 4);
	/* more columns than the threads have items of the largest size */
	gated_rows(self, NULL, 2, 13000, true, false);
}

TEST_F(exec, copies_and_nothing_at_all)
{
	struct kern_copy list[20];
	struct kern_gemm none = { .w = { .rows = 64, .cols = 64 } };

	for (u32 i = 0; i < 20; i++)
		list[i] = (struct kern_copy){ self->got + i * LEN,
					      self->a + i * LEN, LEN * 4 };
	self->x.ops->copy(&self->x, list, 20);
	EXPECT_SAME(self->got, self->a, 20 * LEN, "copy");
	self->x.ops->copy(&self->x, list, 0);
	self->x.ops->gemm(&self->x, &none, 1);
	self->x.ops->gemm(&self->x, &none, 0);
	self->x.ops->gemm_gated(&self->x, &(struct kern_gemm_gated){ .m = 0 });
}

TEST_HARNESS_MAIN
