/* SPDX-License-Identifier: MIT */
/*
 * bench_prefill.c - attention of a prompt: tiled, and with its scores stored
 *
 * The unfused form is the textbook's, made of what the tiled one is made of:
 * scores = q k' by the project's own product into a matrix of N x N floats, a
 * pass over it for the softmax that leaves bf16 weights, and weights x v by the
 * product again. It reads v transposed, which is not on the clock. It is causal
 * by masking, so it multiplies all N x N; what a tile needs not look at, the
 * tiled kernel does not touch. The two round differently (q and the weights to
 * bf16 here), so the outputs are close and not equal.
 *
 * Scratch is what a run of the tiled kernel has written to: the thread's
 * scratch is filled with a pattern before it.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cpu/pool.h"
#include "kernels/include/kern.h"

#define PREFILL_PAGE  16u
#define PREFILL_DIM   256u
#define PREFILL_HEADS 4u /* query heads, one KV head */
#define PREFILL_ROWS  32u /* of an item of the softmax */
#define PREFILL_RUNS  5u
#define FILL_BYTE     0xa5

struct prefill {
	u32 n;
	float scale;
	struct kern_exec exec;
	struct kern_attn attn;
	struct kern_attn_seq seq;
	struct kern_attn_plan plan;
	u32 *table;
	u16 *kv; /* [page][K, V][16][dim], as a page of one layer lies */
	u16 *k, *vt; /* [n][dim], [dim][n] */
	float *q; /* [n][heads][dim] */
	u16 *qh; /* [heads][n][dim] */
	float *out; /* [n][heads][dim] */
	float *scores; /* [n][n] */
	u16 *weights; /* [n][n] */
	float *o; /* [n][dim] of one head */
	float *unfused; /* as out */
};

static void prefill_free(struct prefill *b)
{
	kern_attn_plan_fini(&b->plan);
	if (b->exec.ops)
		kern_exec_fini(&b->exec);
	free(b->table);
	free(b->kv);
	free(b->k);
	free(b->vt);
	free(b->q);
	free(b->qh);
	free(b->out);
	free(b->scores);
	free(b->weights);
	free(b->o);
	free(b->unfused);
}

static void *floats(size_t nr)
{
	return aligned_alloc(64, ALIGN_UP(nr * sizeof(float), 64));
}

static int prefill_alloc(struct prefill *b, bool unfused)
{
	size_t n = b->n, row = PREFILL_HEADS * PREFILL_DIM;

	b->table = calloc(n / PREFILL_PAGE, sizeof(*b->table));
	b->kv = floats(n * PREFILL_DIM);
	b->k = floats(n * PREFILL_DIM / 2);
	b->vt = floats(n * PREFILL_DIM / 2);
	b->q = floats(n * row);
	b->qh = floats(n * row / 2);
	b->out = floats(n * row);
	if (unfused) {
		b->scores = floats(n * n);
		b->weights = floats(n * n / 2);
		b->o = floats(n * PREFILL_DIM);
		b->unfused = floats(n * row);
	}
	return !b->table || !b->kv || !b->k || !b->vt || !b->q || !b->qh ||
			       !b->out ||
			       (unfused && (!b->scores || !b->weights ||
					    !b->o || !b->unfused))
		       ? -ENOMEM
		       : 0;
}

/* The same values everywhere they lie. */
static void prefill_fill(struct prefill *b, struct bench_rng *rng)
{
	const size_t half = PREFILL_PAGE * PREFILL_DIM;
	size_t t, d, h;

	for (t = 0; t < b->n; t++) {
		u16 *page = b->kv + t / PREFILL_PAGE * 2 * half +
			    t % PREFILL_PAGE * PREFILL_DIM;

		for (d = 0; d < PREFILL_DIM; d++) {
			u16 k = kern_f32_to_bf16(
				(float)(bench_uniform(rng) * 2 - 1));
			u16 v = kern_f32_to_bf16(
				(float)(bench_uniform(rng) * 2 - 1));

			page[d] = b->k[t * PREFILL_DIM + d] = k;
			page[half + d] = b->vt[d * b->n + t] = v;
		}
		for (h = 0; h < PREFILL_HEADS; h++)
			for (d = 0; d < PREFILL_DIM; d++) {
				float q = (float)(bench_uniform(rng) * 2 - 1);

				b->q[(t * PREFILL_HEADS + h) * PREFILL_DIM +
				     d] = q;
				b->qh[(h * b->n + t) * PREFILL_DIM + d] =
					kern_f32_to_bf16(q);
			}
	}
	for (t = 0; t < b->n / PREFILL_PAGE; t++)
		b->table[t] = (u32)t;
}

static int prefill_init(struct prefill *b, const struct bench_opts *o, u32 n,
			u32 threads, bool unfused)
{
	struct bench_rng rng = { o->seed };
	int rc;

	*b = (struct prefill){ .n = o->tiny ? 512 : n };
	b->scale = 1 / sqrtf((float)PREFILL_DIM);
	rc = prefill_alloc(b, unfused);
	if (!rc)
		rc = kern_exec_init(&b->exec, NULL, threads);
	if (rc)
		return rc;
	prefill_fill(b, &rng);
	b->seq = (struct kern_attn_seq){ .table = b->table,
					 .nr_rows = b->n,
					 .kv_len = b->n };
	b->attn = (struct kern_attn){
		.q = b->q,
		.f32 = b->out,
		.seqs = &b->seq,
		.nr_seqs = 1,
		.nr_heads = PREFILL_HEADS,
		.q_stride = PREFILL_HEADS * PREFILL_DIM,
		.scale = b->scale,
		.kv = { .base = (u8 *)b->kv,
			.unit = 4ull * PREFILL_PAGE * PREFILL_DIM,
			.v_off = 2ull * PREFILL_PAGE * PREFILL_DIM,
			.tok_stride = 2ull * PREFILL_DIM,
			.page_tokens = PREFILL_PAGE,
			.nr_kv_heads = 1,
			.head_dim = PREFILL_DIM },
	};
	return kern_attn_plan(&b->plan, &b->attn, threads);
}

/* ---- the unfused form ---- */

/* e^x for x <= 0, 8 at a time; good to some 1e-7. */
__attribute__((target("avx2,fma"))) static inline __m256 exp8(__m256 x)
{
	static const float c[] = { 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6,
				   0.5f,       1,	   1 };
	__m256 n, r, p = _mm256_set1_ps(c[0]);
	u32 i;

	x = _mm256_max_ps(x, _mm256_set1_ps(-87));
	n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
			    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.69314718f), x);
	for (i = 1; i < 7; i++)
		p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c[i]));
	return _mm256_castsi256_ps(
		_mm256_add_epi32(_mm256_castps_si256(p),
				 _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}

/* One row of scores, of which the first @seen count, to bf16 weights. */
__attribute__((target("avx2,fma"))) static void
softmax_row(float *s, u32 n, u32 seen, float scale, u16 *out)
{
	const __m256 sv = _mm256_set1_ps(scale);
	__m256 sum = _mm256_setzero_ps(), inv;
	float max_ = -INFINITY, lane[8], total = 0;
	u32 j;

	for (j = 0; j < seen; j++)
		max_ = max(max_, s[j]);
	for (j = seen; j < n; j++)
		s[j] = -INFINITY;
	for (j = 0; j < n; j += 8) {
		__m256 x = _mm256_sub_ps(_mm256_loadu_ps(s + j),
					 _mm256_set1_ps(max_));
		__m256 e = _mm256_and_ps(
			exp8(_mm256_mul_ps(x, sv)),
			_mm256_cmp_ps(x, _mm256_set1_ps(-INFINITY),
				      _CMP_NEQ_OQ));

		sum = _mm256_add_ps(sum, e);
		_mm256_storeu_ps(s + j, e);
	}
	_mm256_storeu_ps(lane, sum);
	for (j = 0; j < 8; j++)
		total += lane[j];
	inv = _mm256_set1_ps(1 / total);
	for (j = 0; j < n; j += 8) {
		__m256i u = _mm256_castps_si256(
			_mm256_mul_ps(_mm256_loadu_ps(s + j), inv));

		u = _mm256_srli_epi32(
			_mm256_add_epi32(u, _mm256_set1_epi32(0x8000)), 16);
		u = _mm256_permute4x64_epi64(_mm256_packus_epi32(u, u), 0x08);
		_mm_storeu_si128((__m128i *)(void *)(out + j),
				 _mm256_castsi256_si128(u));
	}
}

static void softmax_item(void *arg, u32 item, void *scratch)
{
	struct prefill *b = arg;
	size_t n = b->n;
	u32 r;

	for (r = item * PREFILL_ROWS; r < (item + 1) * PREFILL_ROWS; r++)
		softmax_row(b->scores + r * n, b->n, r + 1, b->scale,
			    b->weights + r * n);
}

static void product(struct prefill *b, const u16 *w, u32 rows, u32 cols,
		    const u16 *x, float *y)
{
	const struct kern_gemm g = {
		.w = { .data = w,
		       .stride = 2ull * cols,
		       .rows = rows,
		       .cols = cols,
		       .dtype = KV_DTYPE_BF16,
		       .layout = KERN_LAYOUT_GGUF },
		.x = x,
		.y = y,
		.m = b->n,
		.x_stride = cols,
		.y_stride = rows,
	};

	b->exec.ops->gemm(&b->exec, &g, 1);
}

static void run_unfused(struct prefill *b)
{
	u32 h, t;

	for (h = 0; h < PREFILL_HEADS; h++) {
		product(b, b->k, b->n, PREFILL_DIM,
			b->qh + (size_t)h * b->n * PREFILL_DIM, b->scores);
		pool_run(b->exec.pool, softmax_item, b, b->n / PREFILL_ROWS);
		product(b, b->vt, PREFILL_DIM, b->n, b->weights, b->o);
		for (t = 0; t < b->n; t++)
			memcpy(b->unfused +
				       (t * PREFILL_HEADS + h) * PREFILL_DIM,
			       b->o + (size_t)t * PREFILL_DIM,
			       PREFILL_DIM * sizeof(float));
	}
}

static double furthest(const struct prefill *b)
{
	size_t i, nr = (size_t)b->n * PREFILL_HEADS * PREFILL_DIM;
	double far = 0;

	for (i = 0; i < nr; i++) {
		double d = fabs((double)(b->out[i] - b->unfused[i]));

		far = isnan(d) ? INFINITY : max(far, d);
	}
	return far;
}

/* ---- figures ---- */

static int run_ratio(const struct bench_opts *o, struct figure_result *r)
{
	double ratio[PREFILL_RUNS], tiled[PREFILL_RUNS], far;
	struct prefill b;
	u32 i, runs = o->tiny ? 1 : PREFILL_RUNS;
	int rc;

	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
		snprintf(r->note, sizeof(r->note), "this CPU has no AVX2");
		return -EOPNOTSUPP;
	}
	rc = prefill_init(&b, o, 4096, bench_threads(o), true);
	for (i = 0; !rc && i < runs; i++) {
		double start = clock_s(), between;

		b.exec.ops->attn(&b.exec, &b.attn, &b.plan);
		between = clock_s();
		run_unfused(&b);
		tiled[i] = between - start;
		ratio[i] = (clock_s() - between) / tiled[i];
	}
	far = rc ? 0 : furthest(&b);
	if (!rc && far > 0.02) {
		snprintf(r->note, sizeof(r->note), "the two differ by %g", far);
		rc = -EBADMSG;
	}
	if (!rc) {
		r->measured = bench_median(ratio, runs);
		snprintf(r->note, sizeof(r->note),
			 "N = %u, d = 256, 4 heads: %.1f ms tiled; outputs "
			 "within %.1e",
			 b.n, bench_median(tiled, runs) * 1e3, far);
	}
	prefill_free(&b);
	return rc;
}

static int run_scratch(const struct bench_opts *o, struct figure_result *r)
{
	struct prefill b;
	int rc = prefill_init(&b, o, 8192, 1, false);
	u32 used = KERN_SCRATCH_BYTES;

	if (!rc) {
		u8 *scratch = pool_scratch(b.exec.pool);

		memset(scratch, FILL_BYTE, KERN_SCRATCH_BYTES);
		b.exec.ops->attn(&b.exec, &b.attn, &b.plan);
		while (used && scratch[used - 1] == FILL_BYTE)
			used--;
		r->measured = (used + 4.0 * (double)b.plan.max_part_floats) /
			      (1 << 20);
		snprintf(r->note, sizeof(r->note),
			 "N = %u, a thread; the scores of a head would be "
			 "%.0f MiB",
			 b.n, 4.0 * b.n * b.n / (1 << 20));
	}
	prefill_free(&b);
	return rc;
}

FIGURE(attn_unfused, .name = "attn.unfused",
       .what = "time of a prompt's attention with its scores stored, over the "
	       "tiled kernel's",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 2, .run = run_ratio);
FIGURE(attn_scratch, .name = "attn.scratch",
       .what = "scratch that a prompt's attention writes to", .unit = "MiB",
       .cmp = CMP_AT_MOST, .target = 1, .run = run_scratch);
