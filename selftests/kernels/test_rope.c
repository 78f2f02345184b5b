/* SPDX-License-Identifier: MIT */
/*
 * test_rope.c - rotary positions and the write into the pages
 *
 * san: address
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

#define T     5
#define PAGES 3

struct shape {
	u32 heads, kv_heads, dim, rot, page;
};

struct io {
	struct kern_rope p;
	float *q, *k, *v, *cos_sin;
	u64 rows[T];
	size_t q_len, pool_len;
};

static void make(u64 *seed, struct io *io, struct shape s)
{
	static const u32 table[PAGES] = { 2, 0, 1 };
	u32 pos[T], start = kt_below(seed, 3), kvd = s.kv_heads * s.dim;
	struct kern_kv *kv = &io->p.kv;
	struct kern_rope_table t = {
		.pos = pos, .rot = s.rot, .base = 1e4, .scale = 0.5
	};

	*io = (struct io){ 0 };
	*kv = (struct kern_kv){
		.unit = 64,
		.k_off = 32,
		.v_off = 32 + 2 * (u64)kvd * s.page,
		.layer_off = 64,
		.tok_stride = 2 * (u64)kvd,
		.head_stride = 2 * (u64)s.dim,
		.page_tokens = s.page,
		.nr_kv_heads = s.kv_heads,
		.head_dim = s.dim,
	};
	kv->unit = ALIGN_UP(128 + 4 * (u64)kvd * s.page, 64);
	io->pool_len = kv->unit * PAGES + 64;
	for (u32 i = 0; i < T; i++) {
		pos[i] = start + i;
		io->rows[i] = kern_kv_row(kv, table, pos[i]);
	}
	io->p.nr_heads = s.heads;
	io->p.rot = s.rot;
	io->p.q_stride = s.heads * s.dim + 3;
	io->p.k_stride = io->p.v_stride = kvd;
	io->q_len = (size_t)T * io->p.q_stride;
	io->p.q = io->q = kt_floats(seed, io->q_len, 2);
	io->p.k = io->k = kt_floats(seed, T * kvd, 2);
	io->p.v = io->v = kt_floats(seed, T * kvd, 2);
	io->p.rows = io->rows;
	io->p.cos_sin = t.cos_sin = io->cos_sin = kt_alloc(T * s.rot * 4);
	kern_select(NULL)->rope_table(&t, 0, T);
}

static void fini(struct io *io)
{
	free(io->q);
	free(io->k);
	free(io->v);
	free(io->cos_sin);
}

TEST(rope, gives_the_reference_bits_and_writes_nothing_else)
{
	static const struct shape shapes[] = {
		{ 12, 2, 128, 128, 4 }, { 4, 1, 256, 256, 16 },
		{ 3, 3, 80, 20, 7 },	{ 8, 2, 64, 64, 3 },
		{ 2, 1, 16, 2, 5 },
	};
	const struct kern_ops *ref = kern_select("ref"), *ops;
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(shapes); i++) {
		struct io io;
		u8 *want, *got;
		float *q, *q2;

		make(&seed, &io, shapes[i]);
		want = kt_alloc(io.pool_len);
		got = kt_alloc(io.pool_len);
		q = kt_alloc(io.q_len * 4);
		q2 = kt_alloc(io.q_len * 4);
		memcpy(q, io.q, io.q_len * 4);
		io.p.kv.base = want;
		io.p.q = q;
		ref->rope(&io.p, 0, T);
		for_each_row(ops)
		{
			memset(got, 0xa5, io.pool_len);
			memcpy(q2, io.q, io.q_len * 4);
			io.p.kv.base = got;
			io.p.q = q2;
			ops->rope(&io.p, 0, T);
			EXPECT_SAME(q2, q, io.q_len, ops->name);
			EXPECT_SAME(got, want, io.pool_len, ops->name);
		}
		fini(&io);
		free(want);
		free(got);
		free(q);
		free(q2);
	}
}

TEST(rope, turns_pair_i_by_its_angle)
{
	enum { DIM = 64 };
	u32 pos[2] = { 7, 100000 };
	float cs[2 * DIM], factors[DIM / 2], q[2 * DIM], k[DIM] = { 0 };
	u8 pool[4 * DIM];
	u64 rows[2] = { 0, 0 };

	kern_thread_init();
	for (u32 i = 0; i < DIM / 2; i++)
		factors[i] = 1 + (float)(i % 3);
	for (u32 i = 0; i < 2 * DIM; i++)
		q[i] = i % DIM < DIM / 2 ? 1 : 0;
	struct kern_rope_table t = { pos, factors, cs, DIM, 1e6, 0.25 };
	struct kern_rope p = {
		.q = q,
		.k = k,
		.v = k,
		.cos_sin = cs,
		.rows = rows,
		.kv = { .base = pool,
			.v_off = 2 * DIM,
			.page_tokens = 1,
			.nr_kv_heads = 1,
			.head_dim = DIM },
		.q_stride = DIM,
		.nr_heads = 1,
		.rot = DIM,
	};

	kern_select(NULL)->rope_table(&t, 0, 2);
	kern_select(NULL)->rope(&p, 0, 2);
	for (u32 i = 0; i < DIM; i++) {
		u32 r = i / (DIM / 2), j = i % (DIM / 2);
		double a = pos[r] * 0.25 * pow(1e6, -2.0 * j / DIM) /
			   (double)factors[j];

		EXPECT_LT(fabs((double)q[r * DIM + j] - cos(a)), 1e-7);
		EXPECT_LT(fabs((double)q[r * DIM + DIM / 2 + j] - sin(a)),
			  1e-7);
	}
}

TEST_HARNESS_MAIN
