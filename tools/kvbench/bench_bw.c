/* SPDX-License-Identifier: MIT */
/*
 * bench_bw.c - what this machine can do: read bandwidth, multiply-adds
 *
 * read	every thread sums its own part of a buffer far larger than the caches,
 *	with loads as wide as the CPU has; the best of several passes, as STREAM
 *	counts. This is the bound of everything that reads weights or KV.
 * reread	the same with a buffer of a given size, over and over: from the
 *	caches if it fits. The bound of what finds its operands there.
 * fma	every thread runs chains of multiply-adds in registers, long enough to
 *	hide their latency: fp32, bf16 pairs where the CPU has them, and
 *	pairs of int16 to a sum of int32, which AVX2 adds in a second step.
 * amx	the same with products of tiles of bf16, four sums at a time; of numbers
 *	that look like weights, since on zeros the clock is a quarter faster.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/cpu/amx.h"
#include "kernels/include/kern.h"

#define BW_THREADS_MAX 256
#define FMA_CHAINS     12
#define MADD_CHAINS    8
#define FMA_ROUNDS     1000000
#define REREAD_BYTES   (256u << 20) /* of all rounds of a thread */

struct bw_thread {
	pthread_t thread;
	pthread_barrier_t *barrier;
	double (*work)(const struct bw_thread *t);
	const char *p;
	size_t bytes;
	u32 rounds;
	double sink; /* what work returned: keeps its loop alive */
	double start, end;
};

/*
 * Four streams a quarter apart, eight lines ahead by hand: this is what the
 * hardware's own prefetch does not always do.
 */
__attribute__((target("avx512f"))) static double sum_avx512(const char *p,
							    size_t bytes)
{
	size_t quarter = bytes / 4, i;
	__m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;

	for (i = 0; i < quarter; i += 64) {
		_mm_prefetch(p + i + 1024, _MM_HINT_T0);
		_mm_prefetch(p + quarter + i + 1024, _MM_HINT_T0);
		_mm_prefetch(p + 2 * quarter + i + 1024, _MM_HINT_T0);
		_mm_prefetch(p + 3 * quarter + i + 1024, _MM_HINT_T0);
		a = _mm512_add_epi64(a, _mm512_load_si512(p + i));
		b = _mm512_add_epi64(b, _mm512_load_si512(p + quarter + i));
		c = _mm512_add_epi64(c, _mm512_load_si512(p + 2 * quarter + i));
		d = _mm512_add_epi64(d, _mm512_load_si512(p + 3 * quarter + i));
	}
	a = _mm512_add_epi64(_mm512_add_epi64(a, b), _mm512_add_epi64(c, d));
	return (double)_mm512_reduce_add_epi64(a);
}

__attribute__((target("avx2"))) static double sum_avx2(const char *p,
						       size_t bytes)
{
	size_t quarter = bytes / 4, i;
	__m256i a[4] = { _mm256_setzero_si256() };
	u64 lanes[4];
	u32 s;

	a[1] = a[2] = a[3] = a[0];
	for (i = 0; i < quarter; i += 64) {
#pragma GCC unroll 4
		for (s = 0; s < 4; s++) {
			const char *at = p + s * quarter + i;
			const __m256i *v = (const __m256i *)(const void *)at;

			_mm_prefetch(at + 1024, _MM_HINT_T0);
			a[s] = _mm256_add_epi64(a[s], _mm256_load_si256(v));
			a[s] = _mm256_add_epi64(a[s], _mm256_load_si256(v + 1));
		}
	}
	a[0] = _mm256_add_epi64(_mm256_add_epi64(a[0], a[1]),
				_mm256_add_epi64(a[2], a[3]));
	_mm256_storeu_si256((__m256i *)(void *)lanes, a[0]);
	return (double)(lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

static double sum_plain(const char *p, size_t bytes)
{
	const u64 *v = (const u64 *)(const void *)p;
	u64 a = 0, b = 0, c = 0, d = 0;
	size_t i;

	for (i = 0; i < bytes / 8; i += 4) {
		a += v[i];
		b += v[i + 1];
		c += v[i + 2];
		d += v[i + 3];
	}
	return (double)(a + b + c + d);
}

/* 12 chains of 16 or 8 lanes: two units of latency 4 want eight at least. */
__attribute__((target("avx2,fma"))) static double fma_avx2(u32 rounds)
{
	__m256 acc[FMA_CHAINS], x = _mm256_set1_ps(0.999f);
	float lanes[8];
	u32 i, c;

	for (c = 0; c < FMA_CHAINS; c++)
		acc[c] = _mm256_set1_ps((float)c);
	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 12
		for (c = 0; c < FMA_CHAINS; c++)
			acc[c] = _mm256_fmadd_ps(acc[c], x, x);
	}
	for (c = 1; c < FMA_CHAINS; c++)
		acc[0] = _mm256_add_ps(acc[0], acc[c]);
	_mm256_storeu_ps(lanes, acc[0]);
	return (double)lanes[0] + (double)lanes[7];
}

__attribute__((target("avx512f"))) static double fma_avx512(u32 rounds)
{
	__m512 acc[FMA_CHAINS], x = _mm512_set1_ps(0.999f);
	u32 i, c;

	for (c = 0; c < FMA_CHAINS; c++)
		acc[c] = _mm512_set1_ps((float)c);
	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 12
		for (c = 0; c < FMA_CHAINS; c++)
			acc[c] = _mm512_fmadd_ps(acc[c], x, x);
	}
	for (c = 1; c < FMA_CHAINS; c++)
		acc[0] = _mm512_add_ps(acc[0], acc[c]);
	return (double)_mm512_reduce_add_ps(acc[0]);
}

__attribute__((target("avx512f,avx512bf16"))) static double fma_bf16(u32 rounds)
{
	__m512 acc[FMA_CHAINS];
	__m512bh x = (__m512bh)_mm512_set1_epi32(0x3f003f00);
	u32 i, c;

	for (c = 0; c < FMA_CHAINS; c++)
		acc[c] = _mm512_set1_ps((float)c);
	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 12
		for (c = 0; c < FMA_CHAINS; c++)
			acc[c] = _mm512_dpbf16_ps(acc[c], x, x);
	}
	for (c = 1; c < FMA_CHAINS; c++)
		acc[0] = _mm512_add_ps(acc[0], acc[c]);
	return (double)_mm512_reduce_add_ps(acc[0]);
}

/*
 * The product is not the same each time, as far as the compiler knows; with
 * more chains it would keep some in memory.
 */
__attribute__((target("avx2"))) static double madd_avx2(u32 rounds)
{
	__m256i acc[MADD_CHAINS] = { 0 }, x = _mm256_set1_epi16(3), y = x;
	u32 lanes[8], i, c;

	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 8
		for (c = 0; c < MADD_CHAINS; c++) {
			asm("" : "+x"(y));
			acc[c] = _mm256_add_epi32(acc[c],
						  _mm256_madd_epi16(x, y));
		}
	}
	for (c = 1; c < MADD_CHAINS; c++)
		acc[0] = _mm256_add_epi32(acc[0], acc[c]);
	_mm256_storeu_si256((__m256i *)(void *)lanes, acc[0]);
	return (double)lanes[0] + (double)lanes[7];
}

__attribute__((target("avx512f,avx512vnni"))) static double
madd_vnni(u32 rounds)
{
	__m512i acc[FMA_CHAINS], x = _mm512_set1_epi16(3);
	u32 i, c;

	for (c = 0; c < FMA_CHAINS; c++)
		acc[c] = _mm512_set1_epi32((int)c);
	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 12
		for (c = 0; c < FMA_CHAINS; c++)
			acc[c] = _mm512_dpwssd_epi32(acc[c], x, x);
	}
	for (c = 1; c < FMA_CHAINS; c++)
		acc[0] = _mm512_add_epi32(acc[0], acc[c]);
	return (double)_mm512_reduce_add_epi32(acc[0]);
}

/* 16 products a round: 16 x 16 x 32 multiply-adds each. */
__attribute__((target("amx-tile,amx-bf16"))) static double amx_bf16(u32 rounds)
{
	static _Thread_local float c[256] __attribute__((aligned(64)));
	static _Thread_local u16 x[4 * 16 * 32] __attribute__((aligned(64)));
	struct bench_rng rng = { 1 };
	u32 i, n;

	for (i = 0; i < ARRAY_SIZE(x); i++) /* +-1/2 to 1 */
		x[i] = (u16)(bench_rand(&rng) & 0x807f) | 0x3f00;
	amx_begin();
	amx_zero(0);
	amx_zero(1);
	amx_zero(2);
	amx_zero(3);
	amx_load(4, x, 64);
	amx_load(5, x + 512, 64);
	amx_load(6, x + 1024, 64);
	amx_load(7, x + 1536, 64);
	for (i = 0; i < rounds; i++) {
#pragma GCC unroll 4
		for (n = 0; n < 4; n++) {
			amx_product(0, 4, 6);
			amx_product(1, 4, 7);
			amx_product(2, 5, 6);
			amx_product(3, 5, 7);
		}
	}
	amx_store(0, c, 64);
	amx_end();
	return (double)c[0];
}

/* ---- what a thread does, and a clock around it ---- */

static double do_read(const struct bw_thread *t)
{
	if (__builtin_cpu_supports("avx512f"))
		return sum_avx512(t->p, t->bytes);
	if (__builtin_cpu_supports("avx2"))
		return sum_avx2(t->p, t->bytes);
	return sum_plain(t->p, t->bytes);
}

static double do_reread(const struct bw_thread *t)
{
	double sum = 0;
	u32 i;

	for (i = 0; i < t->rounds; i++)
		sum += do_read(t);
	return sum;
}

static double do_f32(const struct bw_thread *t)
{
	return __builtin_cpu_supports("avx512f") ? fma_avx512(t->rounds)
						 : fma_avx2(t->rounds);
}

static double do_bf16(const struct bw_thread *t)
{
	return fma_bf16(t->rounds);
}

static double do_madd(const struct bw_thread *t)
{
	return madd_avx2(t->rounds);
}

static double do_vnni(const struct bw_thread *t)
{
	return madd_vnni(t->rounds);
}

static double do_amx(const struct bw_thread *t)
{
	return amx_bf16(t->rounds);
}

static void *timed(void *arg)
{
	struct bw_thread *t = arg;

	pthread_barrier_wait(t->barrier);
	t->start = clock_s();
	t->sink = t->work(t);
	t->end = clock_s();
	return NULL;
}

/* Seconds from the first start to the last end, or a negative errno. */
static double run_threads(struct bw_thread *t, u32 nr,
			  double (*work)(const struct bw_thread *t))
{
	pthread_barrier_t barrier;
	double start, end;
	u32 i;

	pthread_barrier_init(&barrier, NULL, nr);
	for (i = 0; i < nr; i++) {
		t[i].barrier = &barrier;
		t[i].work = work;
	}
	for (i = 1; i < nr; i++) {
		if (pthread_create(&t[i].thread, NULL, timed, &t[i]))
			abort(); /* the others wait at the barrier for ever */
	}
	timed(&t[0]);
	start = t[0].start;
	end = t[0].end;
	for (i = 1; i < nr; i++) {
		pthread_join(t[i].thread, NULL);
		start = min(start, t[i].start);
		end = max(end, t[i].end);
	}
	pthread_barrier_destroy(&barrier);
	return end - start;
}

/* @each: bytes of a thread, a multiple of 256; @rounds: times in a pass */
static double measure_read(const struct bench_opts *o, u32 nr, size_t each,
			   u32 rounds)
{
	static struct bw_thread t[BW_THREADS_MAX];
	double best = 0, s;
	char *p;
	u32 i, pass;

	nr = min(nr, (u32)BW_THREADS_MAX);
	p = mmap(NULL, each * nr + 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return 0;
	madvise(p, each * nr, MADV_HUGEPAGE);
	memset(p, 1, each * nr + 4096);
	for (i = 0; i < nr; i++) {
		t[i].p = p + i * each;
		t[i].bytes = each;
		t[i].rounds = rounds;
	}
	for (pass = 0; pass < (o->tiny ? 1u : 8u); pass++) {
		s = run_threads(t, nr, do_reread);
		if (s > 0)
			best = max(best, (double)each * nr * rounds / s);
	}
	munmap(p, each * nr + 4096);
	return best;
}

/* @flop: of a round of one thread */
static double measure_fma(const struct bench_opts *o,
			  double (*work)(const struct bw_thread *t),
			  double flop)
{
	static struct bw_thread t[BW_THREADS_MAX];
	u32 nr = min(bench_threads(o), (u32)BW_THREADS_MAX), i, pass;
	const u32 rounds = o->tiny ? 1000 : FMA_ROUNDS * 4;
	double best = 0, s;

	for (pass = 0; pass < 3; pass++) {
		for (i = 0; i < nr; i++)
			t[i].rounds = rounds;
		s = run_threads(t, nr, work);
		if (s > 0)
			best = max(best, flop * rounds * nr / s);
	}
	return best;
}

static size_t read_bytes(const struct bench_opts *o)
{
	return o->tiny ? 4u << 20 : 256u << 20;
}

double bw_read_peak(const struct bench_opts *o)
{
	static double memo;

	if (memo == 0)
		memo = measure_read(o, bench_threads(o), read_bytes(o), 1);
	return memo;
}

double bw_reread_peak(const struct bench_opts *o, double bytes)
{
	static double of, memo;
	size_t each = ALIGN_UP((size_t)(bytes / bench_threads(o)) + 1, 256);

	if (of != bytes)
		memo = measure_read(o, bench_threads(o), each,
				    o->tiny ? 1
					    : (u32)(REREAD_BYTES / each) + 1);
	of = bytes;
	return memo;
}

static double peak_f32(const struct bench_opts *o)
{
	if (__builtin_cpu_supports("avx512f"))
		return measure_fma(o, do_f32, 32 * FMA_CHAINS);
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return measure_fma(o, do_f32, 16 * FMA_CHAINS);
	return 0;
}

static double peak_bf16(const struct bench_opts *o)
{
	if (!__builtin_cpu_supports("avx512bf16"))
		return 0;
	return measure_fma(o, do_bf16, 64 * FMA_CHAINS);
}

static double peak_madd(const struct bench_opts *o)
{
	if (!__builtin_cpu_supports("avx2"))
		return 0;
	return measure_fma(o, do_madd, 32 * MADD_CHAINS);
}

static double peak_vnni(const struct bench_opts *o)
{
	if (!__builtin_cpu_supports("avx512vnni"))
		return 0;
	return measure_fma(o, do_vnni, 64 * FMA_CHAINS);
}

static double peak_amx(const struct bench_opts *o)
{
	if (!kern_select("amx")) /* also asks the kernel for the tiles */
		return 0;
	return measure_fma(o, do_amx, 16 * 2.0 * 16 * 16 * 32);
}

double bw_fma_peak(const struct bench_opts *o)
{
	static double memo;

	if (memo == 0)
		memo = peak_f32(o);
	return memo;
}

/* What a row of kernels multiplies with; others with fp32 multiply-adds. */
static const struct product {
	const char *row, *what;
	double (*peak)(const struct bench_opts *o);
} products[] = {
	{ "amx", "amx", peak_amx },
	{ "amxbf16attn", "amx", peak_amx },
	{ "avx512bf16", "bf16 dot", peak_bf16 },
	{ "avx512int16", "int16 dot", peak_vnni },
	{ "avx2int16", "int16 madd", peak_madd },
};

double bw_product_peak(const struct bench_opts *o, const char **what)
{
	static struct product p = { NULL, "fp32 fma", bw_fma_peak };
	static double memo;
	const struct kern_ops *k = kern_select(NULL);
	u32 i;

	for (i = 0; memo == 0 && k && i < ARRAY_SIZE(products); i++)
		if (!strcmp(products[i].row, k->name))
			p = products[i];
	if (memo == 0)
		memo = p.peak(o);
	*what = p.what;
	return memo;
}

static const struct report_col bw_cols[] = {
	{ "what", "what", 0 },
	{ "threads", "threads", 0 },
	{ "rate", "rate", 1 },
	{ "unit", "unit", 0 },
};

static void bw_row(struct report *r, const char *what, u32 threads, double rate,
		   const char *unit)
{
	report_row(r,
		   json_pack("{s:s, s:i, s:f, s:s}", "what", what, "threads",
			     (int)threads, "rate", rate / 1e9, "unit", unit));
}

static int run_bw(const struct bench_opts *o, struct report *r)
{
	u32 nr = bench_threads(o);

	r->cols = bw_cols;
	r->nr_cols = ARRAY_SIZE(bw_cols);
	bw_row(r, "read", 1, measure_read(o, 1, read_bytes(o), 1), "GB/s");
	bw_row(r, "read", nr, bw_read_peak(o), "GB/s");
	bw_row(r, "fma fp32", nr, bw_fma_peak(o), "GFLOP/s");
	bw_row(r, "madd int16", nr, peak_madd(o), "GFLOP/s");
	bw_row(r, "dot int16", nr, peak_vnni(o), "GFLOP/s");
	bw_row(r, "dot bf16", nr, peak_bf16(o), "GFLOP/s");
	bw_row(r, "amx bf16", nr, peak_amx(o), "GFLOP/s");
	return 0;
}

SUBJECT(bw, .name = "bw", .what = "the machine: read bandwidth, multiply-adds",
	.run = run_bw);
