/* SPDX-License-Identifier: MIT */
/*
 * bench_gemm.c - the matrix product for each weight type and batch
 *
 *	cold	Weights of a model lie in memory one after the other and are
 *		read once a step, so each run takes the next of several copies
 *		that together are larger than the caches.
 *	warm	Each run takes the same copy, which the caches keep as far as
 *		they can.
 *
 * The bound is what the machine allows: the weights' bytes at the rate at which
 * it reads memory, or as many bytes again and again; or the products at the
 * rate of its multiply-adds (tiles where the kernels use them), whichever takes
 * longer. x and y are not counted: with many rows there is more of y than of
 * weights, but its 4 bytes take as long as 2 K multiply-adds only if K is less
 * than twice what the machine computes while it moves a byte (25 with AVX2, 300
 * with tiles).
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/include/kern.h"
#include "kernels/include/pack.h"

#define GEMM_COLD_BYTES (192u << 20)
#define GEMM_RUNS_MAX	2000

struct gemm_case {
	u32 dtype, n, k;
};

static const struct gemm_case gemm_cases[] = {
	{ KV_DTYPE_Q4_K, 8960, 1536 }, { KV_DTYPE_Q6_K, 1536, 8960 },
	{ KV_DTYPE_Q5_0, 2048, 640 },  { KV_DTYPE_Q8_0, 32768, 640 },
	{ KV_DTYPE_Q4_0, 4096, 2048 }, { KV_DTYPE_BF16, 4096, 2048 },
	{ KV_DTYPE_F32, 2048, 2048 },
};
static const u32 gemm_batches[] = { 1, 8, 32, 64, 256, 512, 2048 };

struct gemm_result {
	double seconds, bytes, flop;
	u32 runs;
};

/*
 * Any byte pattern is a block; these make every fp16 scale a finite number
 * of ordinary size. Numbers without blocks are +-1/2 to 1: small ones would
 * slow down some CPUs.
 */
static void fill_weights(u32 dtype, u8 *p, size_t bytes, struct bench_rng *rng)
{
	u64 mask = 0x2f2f2f2f2f2f2f2full, ones = 0;
	size_t i;

	if (dtype == KV_DTYPE_F32) {
		mask = 0x807fffff807fffffull;
		ones = 0x3f0000003f000000ull;
	} else if (dtype == KV_DTYPE_BF16) {
		mask = 0x807f807f807f807full;
		ones = 0x3f003f003f003f00ull;
	}
	for (i = 0; i + 8 <= bytes; i += 8) {
		u64 v = (bench_rand(rng) & mask) | ones;

		memcpy(p + i, &v, 8);
	}
}

static const char *const gemm_layouts[] = {
	[KERN_LAYOUT_GGUF] = "rows",
	[KERN_LAYOUT_STRIP] = "strips",
};

static int gemm_measure(const struct bench_opts *o, const struct gemm_case *c,
			u32 layout, u32 m, bool warm, struct gemm_result *res)
{
	static double t[GEMM_RUNS_MAX];
	u32 n_rows = o->tiny ? 64 : c->n;
	bool strips = layout == KERN_LAYOUT_STRIP;
	u64 stride = strips ? kern_strip_bytes(c->dtype, c->k)
			    : dtype_row_bytes(c->dtype, c->k);
	u64 one = stride * (strips ? n_rows / KERN_STRIP : n_rows);
	u32 copies = o->tiny || warm ? 1 : (u32)(GEMM_COLD_BYTES / one) + 1, i;
	struct bench_rng rng = { o->seed };
	struct kern_exec x = { 0 };
	struct kern_gemm g = { .m = m, .x_stride = c->k, .y_stride = n_rows };
	size_t bytes = one * copies + 64, n = 0;
	u16 *in = aligned_alloc(64, ALIGN_UP(2ul * m * c->k, 64));
	float *out = aligned_alloc(64, ALIGN_UP(4ul * m * n_rows, 64));
	u8 *w = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	double end;
	int rc = -ENOMEM;

	if (w == MAP_FAILED || !in || !out)
		goto out_free;
	madvise(w, bytes, MADV_HUGEPAGE);
	memset(out, 0, 4ul * m * n_rows);
	fill_weights(c->dtype, w, bytes, &rng);
	for (i = 0; i < m * c->k; i++)
		in[i] = kern_f32_to_bf16((float)bench_uniform(&rng) - 0.5f);
	rc = kern_exec_init(&x, NULL, o->threads);
	if (rc)
		goto out_free;
	g.w = (struct kern_mat){ .stride = stride,
				 .rows = n_rows,
				 .cols = c->k,
				 .dtype = c->dtype,
				 .layout = layout };
	g.x = in;
	g.y = out;
	g.w.data = w;
	if (warm)
		x.ops->gemm(&x, &g, 1);
	end = clock_s() + o->seconds / 2;
	do {
		double start;

		g.w.data = w + one * (n % copies);
		start = clock_s();
		x.ops->gemm(&x, &g, 1);
		t[n++] = clock_s() - start;
	} while (n < GEMM_RUNS_MAX && (n < 3 || clock_s() < end));
	kern_exec_fini(&x);
	res->seconds = bench_median(t, n);
	res->bytes = (double)one;
	res->flop = 2.0 * m * n_rows * c->k;
	res->runs = (u32)n;
out_free:
	if (w != MAP_FAILED)
		munmap(w, bytes);
	free(in);
	free(out);
	return rc;
}

static const struct report_col gemm_cols[] = {
	{ "dtype", "type", 0 },
	{ "layout", "layout", 0 },
	{ "m", "M", 0 },
	{ "n", "N", 0 },
	{ "k", "K", 0 },
	{ "cache", "cache", 0 },
	{ "us", "us", 1 },
	{ "mbytes", "MB", 2 },
	{ "mflop", "MFLOP", 1 },
	{ "gbps", "GB/s", 2 },
	{ "gflops", "GFLOP/s", 1 },
	{ "bound_us", "bound us", 1 },
	{ "bound_what", "of", 0 },
	{ "share", "share", 2 },
	{ "runs", "runs", 0 },
};

/* The product of a type without quants is in floats whatever others do. */
static double product_peak(const struct bench_opts *o,
			   const struct gemm_case *c, const char **what)
{
	const struct kern_ops *k = kern_select(NULL);

	if (k && k->numerics == KERN_NUMERICS_INT16 &&
	    !kern_strip_bytes(c->dtype, c->k)) {
		*what = "fp32 fma";
		return bw_fma_peak(o);
	}
	return bw_product_peak(o, what);
}

static int gemm_row(const struct bench_opts *o, struct report *rep,
		    const struct gemm_case *c, u32 layout, u32 m, bool warm)
{
	const char *unit;
	double rate = product_peak(o, c, &unit), mem, mul, bound;
	struct gemm_result r;
	int rc = gemm_measure(o, c, layout, m, warm, &r);

	if (rc)
		return rc;
	mem = r.bytes / (warm ? bw_reread_peak(o, r.bytes) : bw_read_peak(o));
	mul = rate > 0 ? r.flop / rate : 0;
	bound = max(mem, mul);
	report_row(rep,
		   json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:f, s:f, s:f, "
			     "s:f, s:f, s:f, s:s, s:f, s:i}",
			     "dtype", dtype_name(c->dtype), "layout",
			     gemm_layouts[layout], "m", (int)m, "n", (int)c->n,
			     "k", (int)c->k, "cache", warm ? "warm" : "cold",
			     "us", r.seconds * 1e6, "mbytes", r.bytes / 1e6,
			     "mflop", r.flop / 1e6, "gbps",
			     r.bytes / r.seconds / 1e9, "gflops",
			     r.flop / r.seconds / 1e9, "bound_us", bound * 1e6,
			     "bound_what",
			     mem <= mul ? unit
			     : warm	? "reread"
					: "read",
			     "share", bound / r.seconds, "runs", (int)r.runs));
	return 0;
}

static int gemm_rows(const struct bench_opts *o, struct report *rep,
		     const struct gemm_case *c, u32 layout)
{
	unsigned int b;
	int rc = 0;

	for (b = 0; !rc && b < ARRAY_SIZE(gemm_batches); b++) {
		rc = gemm_row(o, rep, c, layout, gemm_batches[b], false);
		if (!rc)
			rc = gemm_row(o, rep, c, layout, gemm_batches[b], true);
	}
	return rc;
}

static int run_gemm(const struct bench_opts *o, struct report *rep)
{
	unsigned int i;
	int rc = 0;

	rep->cols = gemm_cols;
	rep->nr_cols = ARRAY_SIZE(gemm_cols);
	for (i = 0; !rc && i < ARRAY_SIZE(gemm_cases); i++) {
		const struct gemm_case *c = &gemm_cases[i];

		rc = gemm_rows(o, rep, c, KERN_LAYOUT_GGUF);
		if (!rc && kern_strip_bytes(c->dtype, c->k))
			rc = gemm_rows(o, rep, c, KERN_LAYOUT_STRIP);
	}
	return rc;
}

SUBJECT(gemm, .name = "gemm",
	.what = "matrix product by weight type and batch, share of bound",
	.run = run_gemm, .nr_keys = 6, .time = "us");
