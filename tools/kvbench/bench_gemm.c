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
 *
 * With --peer onednn each product is also made by oneDNN, on as many threads
 * and in turn with ours, so that a slow moment of the machine meets both. That
 * is two ways to the same y, and not the same work: oneDNN gets weights of
 * fp32, or of bf16 where it knows such products on this CPU, put before into
 * the layout that it wants for this M (plain rows of k with AVX2, whatever M
 * is). It reads 4 or 2 bytes a weight where ours are 0.56 (Q4_K) to 1.06
 * (Q8_0), and has nothing to unpack and no x to quantise; so few rows of x
 * favour us, and many of them oneDNN. A model held for it would be 2 to 7 times
 * as large. Some elements of each of its products are held against sums in
 * double, or there is no figure. Both are run once before they are timed: their
 * threads are awake then, and warm weights warm. The fastest runs of both
 * count: on a machine that others use too, the slower ones say who waits worse
 * for a thread that does not run.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/include/kern.h"
#include "kernels/include/pack.h"
#include "tools/kvbench/onednn.h"

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

enum gemm_peer { PEER_F32, PEER_BF16, PEER_NR };

struct gemm_result {
	double seconds, bytes, flop;
	double peer[PEER_NR]; /* seconds; 0 = no such product */
	u32 runs;
};

struct gemm_bench {
	struct kern_exec x;
	struct kern_gemm g;
	u8 *w; /* copies of one */
	size_t one, bytes;
	u32 copies;
	u16 *in;
	float *out;
	float *plain; /* the weights, for peers; or NULL */
	struct onednn_product peer[PEER_NR];
	bool has_peer[PEER_NR];
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

static u32 cold_copies(const struct bench_opts *o, size_t one, bool warm)
{
	return o->tiny || warm ? 1 : (u32)(GEMM_COLD_BYTES / one) + 1;
}

static void gemm_free(struct gemm_bench *b)
{
	u32 i;

	for (i = 0; i < PEER_NR; i++)
		if (b->has_peer[i])
			onednn_product_fini(&b->peer[i]);
	if (b->x.ops)
		kern_exec_fini(&b->x);
	if (b->w)
		munmap(b->w, b->bytes);
	free(b->in);
	free(b->out);
	free(b->plain);
}

static int gemm_alloc(struct gemm_bench *b)
{
	u32 m = b->g.m, n = b->g.w.rows, k = b->g.w.cols;

	b->bytes = b->one * b->copies + 64;
	b->w = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->w == MAP_FAILED)
		b->w = NULL;
	b->in = aligned_alloc(64, ALIGN_UP(2ul * m * k, 64));
	b->out = aligned_alloc(64, ALIGN_UP(4ul * m * n, 64));
	if (!b->w || !b->in || !b->out)
		return -ENOMEM;
	madvise(b->w, b->bytes, MADV_HUGEPAGE);
	memset(b->out, 0, 4ul * m * n);
	return 0;
}

static int gemm_init(struct gemm_bench *b, const struct bench_opts *o,
		     const struct gemm_case *c, u32 layout, u32 m, bool warm)
{
	bool strips = layout == KERN_LAYOUT_STRIP;
	struct bench_rng rng = { o->seed };
	u32 i;
	int rc;

	memset(b, 0, sizeof(*b));
	b->g.w = (struct kern_mat){ .rows = o->tiny ? 64 : c->n,
				    .cols = c->k,
				    .dtype = c->dtype,
				    .layout = layout };
	b->g.w.stride = strips ? kern_strip_bytes(c->dtype, c->k)
			       : dtype_row_bytes(c->dtype, c->k);
	b->g.m = m;
	b->g.x_stride = c->k;
	b->g.y_stride = b->g.w.rows;
	b->one = b->g.w.stride *
		 (strips ? b->g.w.rows / KERN_STRIP : b->g.w.rows);
	b->copies = cold_copies(o, b->one, warm);
	rc = gemm_alloc(b);
	if (rc)
		return rc;
	fill_weights(c->dtype, b->w, b->bytes, &rng);
	for (i = 0; i < m * c->k; i++)
		b->in[i] = kern_f32_to_bf16((float)bench_uniform(&rng) - 0.5f);
	b->g.w.data = b->w;
	b->g.x = b->in;
	b->g.y = b->out;
	return kern_exec_init(&b->x, NULL, o->threads);
}

/* The first copy of the weights for oneDNN, as often as it is ours. */
static int gemm_init_peers(struct gemm_bench *b, const struct bench_opts *o,
			   bool warm)
{
	struct kern_dequant d = { .w = b->g.w };
	u32 n = b->g.w.rows, k = b->g.w.cols, i;
	int rc;

	b->plain = d.f32 = aligned_alloc(64, ALIGN_UP(4ul * n * k, 64));
	if (!d.f32)
		return -ENOMEM;
	b->x.ops->dequant(&b->x, &d, n);
	for (i = 0; i < PEER_NR; i++) {
		size_t one = (i == PEER_BF16 ? 2ul : 4ul) * n * k;

		b->peer[i] = (struct onednn_product){
			.bf16 = i == PEER_BF16,
			.m = b->g.m,
			.n = n,
			.k = k,
			.copies = cold_copies(o, one, warm),
			.x = b->in,
			.w = b->plain,
			.y = b->out,
		};
		rc = onednn_product_init(&b->peer[i]);
		if (rc && rc != -EOPNOTSUPP)
			return rc;
		b->has_peer[i] = !rc;
	}
	return 0;
}

static double gemm_once(struct gemm_bench *b, size_t turn)
{
	double start;

	b->g.w.data = b->w + b->one * (turn % b->copies);
	start = clock_s();
	b->x.ops->gemm(&b->x, &b->g, 1);
	return clock_s() - start;
}

/* A run, and a timed one. */
static int peer_once(const struct gemm_bench *b, struct onednn_product *p,
		     size_t turn, double *s)
{
	double start;
	int rc;

	if (!turn) /* y is not checked as somebody else left it */
		memset(b->out, 0xff, 4ul * b->g.m * b->g.w.rows);
	rc = onednn_product_run(p, (u32)(2 * turn % p->copies));
	start = clock_s();
	if (!rc)
		rc = onednn_product_run(p, (u32)((2 * turn + 1) % p->copies));
	*s = clock_s() - start;
	if (!rc && !turn)
		rc = onednn_product_check(p);
	onednn_rest();
	return rc;
}

static int gemm_time(struct gemm_bench *b, const struct bench_opts *o,
		     bool warm, struct gemm_result *res)
{
	static double t[GEMM_RUNS_MAX], peer[PEER_NR][GEMM_RUNS_MAX];
	double end = clock_s() + o->seconds / 2;
	size_t n = 0;
	u32 i;
	int rc = 0;

	if (warm)
		gemm_once(b, 0);
	do {
		if (b->plain)
			gemm_once(b, 2 * n);
		t[n] = gemm_once(b, b->plain ? 2 * n + 1 : n);
		for (i = 0; !rc && i < PEER_NR; i++)
			if (b->has_peer[i])
				rc = peer_once(b, &b->peer[i], n, &peer[i][n]);
		n++;
	} while (!rc && n < GEMM_RUNS_MAX && (n < 3 || clock_s() < end));
	res->seconds = b->plain ? bench_percentile(t, n, 0)
				: bench_median(t, n);
	for (i = 0; i < PEER_NR; i++)
		if (b->has_peer[i])
			res->peer[i] = bench_percentile(peer[i], n, 0);
	res->runs = (u32)n;
	return rc;
}

static int gemm_measure(const struct bench_opts *o, const struct gemm_case *c,
			u32 layout, u32 m, bool warm, struct gemm_result *res)
{
	struct gemm_bench b;
	int rc = gemm_init(&b, o, c, layout, m, warm);

	if (!rc && o->peer)
		rc = gemm_init_peers(&b, o, warm);
	if (!rc)
		rc = gemm_time(&b, o, warm, res);
	res->bytes = (double)b.one;
	res->flop = 2.0 * m * b.g.w.rows * c->k;
	gemm_free(&b);
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
	/* with a peer */
	{ "onednn_f32_us", "oneDNN f32", 1 },
	{ "over_onednn_f32", "x", 2 },
	{ "onednn_bf16_us", "bf16", 1 },
	{ "over_onednn_bf16", "x", 2 },
};
#define GEMM_PEER_COLS (2 * PEER_NR)

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

static void put_peers(json_t *row, const struct gemm_result *r)
{
	static const char *const us[] = { "onednn_f32_us", "onednn_bf16_us" };
	static const char *const over[] = { "over_onednn_f32",
					    "over_onednn_bf16" };
	u32 i;

	for (i = 0; row && i < PEER_NR; i++) {
		if (r->peer[i] <= 0)
			continue;
		json_object_set_new(row, us[i], json_real(r->peer[i] * 1e6));
		json_object_set_new(row, over[i],
				    json_real(r->seconds / r->peer[i]));
	}
}

static int gemm_row(const struct bench_opts *o, struct report *rep,
		    const struct gemm_case *c, u32 layout, u32 m, bool warm)
{
	const char *unit;
	double rate = product_peak(o, c, &unit), mem, mul, bound;
	struct gemm_result r = { 0 };
	json_t *row;
	int rc = gemm_measure(o, c, layout, m, warm, &r);

	if (rc == -EBADMSG)
		snprintf(rep->note, sizeof(rep->note),
			 "oneDNN's product of %s weights, M %u, N %u, K %u is "
			 "wrong",
			 dtype_name(c->dtype), m, c->n, c->k);
	if (rc)
		return rc;
	mem = r.bytes / (warm ? bw_reread_peak(o, r.bytes) : bw_read_peak(o));
	mul = rate > 0 ? r.flop / rate : 0;
	bound = max(mem, mul);
	row = json_pack("{s:s, s:s, s:i, s:i, s:i, s:s, s:f, s:f, s:f, "
			"s:f, s:f, s:f, s:s, s:f, s:i}",
			"dtype", dtype_name(c->dtype), "layout",
			gemm_layouts[layout], "m", (int)m, "n", (int)c->n, "k",
			(int)c->k, "cache", warm ? "warm" : "cold", "us",
			r.seconds * 1e6, "mbytes", r.bytes / 1e6, "mflop",
			r.flop / 1e6, "gbps", r.bytes / r.seconds / 1e9,
			"gflops", r.flop / r.seconds / 1e9, "bound_us",
			bound * 1e6, "bound_what",
			mem <= mul ? unit
			: warm	   ? "reread"
				   : "read",
			"share", bound / r.seconds, "runs", (int)r.runs);
	put_peers(row, &r);
	report_row(rep, row);
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

static int find_peer(const struct bench_opts *o, struct report *rep)
{
	char version[32];
	int rc;

	if (strcmp(o->peer, "onednn")) {
		snprintf(rep->note, sizeof(rep->note),
			 "there is no peer \"%.40s\"; there is onednn",
			 o->peer);
		return -EINVAL;
	}
	rc = onednn_load(bench_threads(o), rep->note);
	if (rc)
		return rc;
	onednn_version(version, sizeof(version));
	snprintf(rep->note, sizeof(rep->note),
		 "oneDNN %s on %u threads; fastest runs; x: our time over its",
		 version, bench_threads(o));
	json_object_set_new(rep->extra, "onednn", json_string(version));
	return 0;
}

/* Beside a peer in the layout only that a model's weights are held in. */
static int gemm_case(const struct bench_opts *o, struct report *rep,
		     const struct gemm_case *c)
{
	bool strips = kern_strip_bytes(c->dtype, c->k) > 0;
	int rc = 0;

	if (!o->peer || !strips)
		rc = gemm_rows(o, rep, c, KERN_LAYOUT_GGUF);
	if (!rc && strips)
		rc = gemm_rows(o, rep, c, KERN_LAYOUT_STRIP);
	return rc;
}

static int run_gemm(const struct bench_opts *o, struct report *rep)
{
	unsigned int i;
	int rc = o->peer ? find_peer(o, rep) : 0;

	rep->cols = gemm_cols;
	rep->nr_cols = ARRAY_SIZE(gemm_cols) - (o->peer ? 0 : GEMM_PEER_COLS);
	for (i = 0; !rc && i < ARRAY_SIZE(gemm_cases); i++)
		rc = gemm_case(o, rep, &gemm_cases[i]);
	return rc;
}

SUBJECT(gemm, .name = "gemm",
	.what = "matrix product by weight type and batch, share of bound",
	.run = run_gemm, .nr_keys = 6, .time = "us");
