/* SPDX-License-Identifier: MIT */
/*
 * bench_attn.c - attention through page tables against contiguous memory
 *
 * The same rows of K and V lie twice in memory: in pages as the daemon lays
 * them out (all layers of a group in a page, pages in random order), and one
 * layer and sequence after the other, seen through an identity table. The
 * same kernel runs over both, one run after the other, so that a slow moment
 * of the machine meets both; the figure is the median of the ratios. The
 * outputs have to be equal bit for bit, else there is no figure.
 *
 * Where sequences share a prefix, they have it once in the pages and a copy
 * each in contiguous memory: that ratio is what a cascade saves.
 *
 *	cold	A run goes over all layers; together they are larger than the
 *		caches, as in a real step.
 *	warm	It goes over the first layer as many times, and has done so just
 *		before: the caches hold it as far as they can.
 *
 * bytes counts each K and V row that a sequence's rows see once
 * per layer: what has to come from memory at least.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/include/kern.h"

#define ATTN_PAGE 16u

struct attn_case {
	const char *name;
	u32 heads, kv_heads, dim, layers;
	u32 seqs, ctx, rows, window;
	u32 shared; /* tokens, whole pages */
};

static const struct attn_case attn_cases[] = {
	{ "gemma decode 8 x 4096", 4, 1, 256, 3, 8, 4096, 1, 0, 0 },
	{ "gemma decode 1 x 8192", 4, 1, 256, 12, 1, 8192, 1, 0, 0 },
	{ "gemma window 32 x 512", 4, 1, 256, 15, 32, 2048, 1, 512, 0 },
	{ "qwen decode 8 x 4096", 12, 2, 128, 4, 8, 4096, 1, 0, 0 },
	{ "qwen prefill 256 at 2048", 12, 2, 128, 2, 1, 2048, 256, 0, 0 },
};

static const struct attn_case cascade_cases[] = {
	{ "gemma 32 over 2048", 4, 1, 256, 2, 32, 2080, 1, 0, 2048 },
	{ "qwen 32 over 2048", 12, 2, 128, 2, 32, 2080, 1, 0, 2048 },
};

struct attn_bench {
	struct attn_case c;
	struct kern_exec exec;
	struct kern_attn_plan plan[2]; /* of contiguous memory, of pages */
	struct kern_attn_seq *paged_seqs, *flat_seqs;
	u32 *paged_tables, *flat_tables;
	u8 *paged, *flat;
	size_t bytes;
	float *q, *out[2];
	u32 pages; /* of one sequence */
	bool warm;
	struct kern_attn attn;
};

static void *map_buffer(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static void kv_paged(const struct attn_bench *b, u32 layer, struct kern_kv *kv)
{
	const struct attn_case *c = &b->c;

	memset(kv, 0, sizeof(*kv));
	kv->base = b->paged;
	kv->tok_stride = 4ull * c->kv_heads * c->dim;
	kv->unit = kv->tok_stride * ATTN_PAGE * c->layers;
	kv->layer_off = layer * kv->tok_stride * ATTN_PAGE;
	kv->v_off = 2ull * c->kv_heads * c->dim;
	kv->head_stride = 2ull * c->dim;
	kv->page_tokens = ATTN_PAGE;
	kv->nr_kv_heads = c->kv_heads;
	kv->head_dim = c->dim;
}

static void kv_flat(const struct attn_bench *b, u32 layer, struct kern_kv *kv)
{
	kv_paged(b, layer, kv);
	kv->base = b->flat;
	kv->unit = kv->tok_stride * ATTN_PAGE;
	kv->layer_off = layer * kv->unit * b->pages * b->c.seqs;
}

/* Values of about 1 in bf16, the same in both places. */
static void fill(struct attn_bench *b, struct bench_rng *rng)
{
	const struct attn_case *c = &b->c;
	u32 n = b->pages * c->seqs, layer, page;
	struct kern_kv p, f;
	u64 i, unit;

	for (layer = 0; layer < c->layers; layer++) {
		kv_paged(b, layer, &p);
		kv_flat(b, layer, &f);
		unit = f.unit;
		for (page = 0; page < n; page++) {
			u8 *src = f.base + f.layer_off + page * unit;
			u16 *v = (u16 *)(void *)src;

			if (page >= b->pages &&
			    page % b->pages < c->shared / ATTN_PAGE) {
				memcpy(src,
				       f.base + f.layer_off +
					       page % b->pages * unit,
				       unit);
				continue;
			}
			for (i = 0; i < unit / 2; i += 4) {
				u64 r = bench_rand(rng) & 0x80ff80ff80ff80ffull;

				r |= 0x3f003f003f003f00ull;
				memcpy(v + i, &r, 8);
			}
			memcpy(p.base + p.layer_off +
				       b->paged_tables[page] * p.unit,
			       src, unit);
		}
	}
}

static void shuffle(u32 *v, u32 n, struct bench_rng *rng)
{
	u32 i, j, x;

	for (i = n; i > 1; i--) {
		j = (u32)(bench_rand(rng) % i);
		x = v[i - 1];
		v[i - 1] = v[j];
		v[j] = x;
	}
}

static void bench_free(struct attn_bench *b)
{
	kern_attn_plan_fini(&b->plan[0]);
	kern_attn_plan_fini(&b->plan[1]);
	if (b->exec.ops)
		kern_exec_fini(&b->exec);
	free(b->paged_seqs);
	free(b->flat_seqs);
	free(b->paged_tables);
	free(b->flat_tables);
	if (b->paged)
		munmap(b->paged, b->bytes);
	if (b->flat)
		munmap(b->flat, b->bytes);
	free(b->q);
	free(b->out[0]);
	free(b->out[1]);
}

static int bench_alloc(struct attn_bench *b)
{
	const struct attn_case *c = &b->c;
	u32 n = b->pages * c->seqs, t = c->seqs * c->rows;

	b->bytes = 4ull * c->kv_heads * c->dim * ATTN_PAGE * c->layers * n;
	b->paged = map_buffer(b->bytes);
	b->flat = map_buffer(b->bytes);
	b->paged_tables = calloc(n, sizeof(u32));
	b->flat_tables = calloc(n, sizeof(u32));
	b->paged_seqs = calloc(c->seqs, sizeof(*b->paged_seqs));
	b->flat_seqs = calloc(c->seqs, sizeof(*b->flat_seqs));
	b->q = aligned_alloc(64, ALIGN_UP(t * c->heads * c->dim * 4ul, 64));
	b->out[0] = calloc((size_t)t * c->heads * c->dim, 4);
	b->out[1] = calloc((size_t)t * c->heads * c->dim, 4);
	return b->paged && b->flat && b->paged_tables && b->flat_tables &&
			       b->paged_seqs && b->flat_seqs && b->q &&
			       b->out[0] && b->out[1]
		       ? 0
		       : -ENOMEM;
}

static int bench_init(struct attn_bench *b, const struct bench_opts *o,
		      const struct attn_case *c)
{
	struct bench_rng rng = { o->seed };
	u32 i, t = c->seqs * c->rows;
	int rc;

	memset(b, 0, sizeof(*b));
	b->c = *c;
	if (o->tiny) {
		b->c.ctx = max(c->rows, 64u);
		b->c.layers = 1;
		b->c.shared = min(c->shared, 48u);
	}
	b->pages = DIV_ROUND_UP(b->c.ctx, ATTN_PAGE);
	rc = bench_alloc(b);
	if (!rc)
		rc = kern_exec_init(&b->exec, NULL, o->threads);
	if (rc)
		return rc;
	for (i = 0; i < b->pages * c->seqs; i++)
		b->flat_tables[i] = b->paged_tables[i] = i;
	shuffle(b->paged_tables, b->pages * c->seqs, &rng);
	for (i = 0; i < c->seqs; i++)
		memcpy(b->paged_tables + i * b->pages, b->paged_tables,
		       b->c.shared / ATTN_PAGE * sizeof(u32));
	for (i = 0; i < t * c->heads * c->dim; i++)
		b->q[i] = (float)(bench_uniform(&rng) * 2 - 1);
	fill(b, &rng);
	for (i = 0; i < c->seqs; i++) {
		struct kern_attn_seq s = { .row0 = i * c->rows,
					   .nr_rows = c->rows,
					   .pos0 = b->c.ctx - c->rows,
					   .kv_len = b->c.ctx,
					   .window = c->window };

		s.table = b->flat_tables + i * b->pages;
		b->flat_seqs[i] = s;
		s.table = b->paged_tables + i * b->pages;
		b->paged_seqs[i] = s;
	}
	b->attn.q = b->q;
	b->attn.nr_seqs = c->seqs;
	b->attn.nr_heads = c->heads;
	b->attn.q_stride = c->heads * c->dim;
	b->attn.scale = 1 / sqrtf((float)c->dim);
	kv_flat(b, 0, &b->attn.kv);
	for (i = 0; !rc && i < 2; i++) {
		b->attn.seqs = i ? b->paged_seqs : b->flat_seqs;
		rc = kern_attn_plan(&b->plan[i], &b->attn, bench_threads(o));
	}
	return rc;
}

/* All layers once; seconds. */
static double pass_once(struct attn_bench *b, bool paged)
{
	double start = clock_s();
	u32 i, l;

	b->attn.seqs = paged ? b->paged_seqs : b->flat_seqs;
	b->attn.f32 = b->out[paged];
	for (i = 0; i < b->c.layers; i++) {
		l = b->warm ? 0 : i;
		if (paged)
			kv_paged(b, l, &b->attn.kv);
		else
			kv_flat(b, l, &b->attn.kv);
		b->exec.ops->attn(&b->exec, &b->attn, &b->plan[paged]);
	}
	return clock_s() - start;
}

static double pass(struct attn_bench *b, bool paged)
{
	if (b->warm)
		pass_once(b, paged);
	return pass_once(b, paged);
}

static double bytes_seen(const struct attn_case *c)
{
	u32 seen = c->window ? min(c->ctx, c->window + c->rows - 1) : c->ctx;

	return 4.0 * c->kv_heads * c->dim * c->layers *
	       (c->shared + (double)(seen - c->shared) * c->seqs);
}

static double flop_done(const struct attn_case *c)
{
	double keys = 0;
	u32 r;

	for (r = 0; r < c->rows; r++) {
		u32 hi = c->ctx - c->rows + r + 1;

		keys += c->window ? min(hi, c->window) : hi;
	}
	return 4.0 * keys * c->dim * c->heads * c->seqs * c->layers;
}

struct attn_result {
	double paged_s, flat_s, ratio, bytes, flop;
	u32 runs;
};

#define ATTN_RUNS_MAX 400

static int attn_measure_in(const struct bench_opts *o,
			   const struct attn_case *c, bool warm,
			   struct attn_result *res)
{
	static double p[ATTN_RUNS_MAX], f[ATTN_RUNS_MAX], r[ATTN_RUNS_MAX];
	struct attn_bench b;
	double end;
	size_t n = 0, out_bytes;
	int rc = bench_init(&b, o, c);

	if (rc)
		goto out_free;
	b.warm = warm;
	pass(&b, true);
	pass(&b, false);
	out_bytes = 4ul * c->seqs * c->rows * c->heads * c->dim;
	if (memcmp(b.out[0], b.out[1], out_bytes)) {
		rc = -EBADMSG;
		goto out_free;
	}
	end = clock_s() + 2 * o->seconds;
	do {
		bool first = n & 1; /* who goes first takes turns */
		double x = pass(&b, first), y = pass(&b, !first);

		p[n] = first ? x : y;
		f[n] = first ? y : x;
		r[n] = p[n] / f[n];
		n++;
	} while (n < ATTN_RUNS_MAX && (n < 5 || clock_s() < end));
	res->runs = (u32)n;
	res->paged_s = bench_median(p, n);
	res->flat_s = bench_median(f, n);
	res->ratio = bench_median(r, n);
	res->bytes = bytes_seen(&b.c);
	res->flop = flop_done(&b.c);
out_free:
	bench_free(&b);
	return rc;
}

static int attn_measure(const struct bench_opts *o, const struct attn_case *c,
			struct attn_result *res)
{
	return attn_measure_in(o, c, false, res);
}

static int run_ratio(const struct bench_opts *o, struct figure_result *r)
{
	struct attn_result res;
	char worst[64] = "";
	double share = 0;
	unsigned int i;
	int rc;

	for (i = 0; i < ARRAY_SIZE(attn_cases); i++) {
		rc = attn_measure(o, &attn_cases[i], &res);
		if (rc)
			return rc;
		share = max(share, res.bytes / res.paged_s / bw_read_peak(o));
		if (res.ratio <= r->measured)
			continue;
		r->measured = res.ratio;
		snprintf(worst, sizeof(worst), "%s", attn_cases[i].name);
	}
	snprintf(r->note, sizeof(r->note),
		 "worst of %u shapes: %s; bits equal; best read share %.0f %%",
		 i, worst, 100 * share);
	return 0;
}

/*
 * What a decode waits for: if it reads no faster where keys and values come
 * from the caches, it is what it computes with them.
 */
static int say_decode_bound(const struct bench_opts *o,
			    const struct attn_case *c, double rate, double read,
			    struct figure_result *r)
{
	struct attn_case few = *c;
	struct attn_result res;
	double cached;
	int rc;

	few.seqs = 1;
	few.ctx = 1024;
	rc = attn_measure_in(o, &few, true, &res);
	if (rc)
		return rc;
	cached = res.bytes / res.paged_s;
	snprintf(r->note, sizeof(r->note),
		 "%s: %.1f of %.1f GB/s; 1,024 keys from the caches %.1f: %s "
		 "bounds it",
		 c->name, rate / 1e9, read / 1e9, cached / 1e9,
		 cached < 0.85 * read ? "computing" : "reading");
	return 0;
}

/* The shape that reads at the lowest share counts. */
static int run_decode_bw(const struct bench_opts *o, struct figure_result *r)
{
	const struct attn_case *worst = NULL;
	double read = bw_read_peak(o), rate = INFINITY;
	struct attn_result res;
	unsigned int i;
	int rc;

	for (i = 0; i < ARRAY_SIZE(attn_cases); i++) {
		const struct attn_case *c = &attn_cases[i];

		if (c->rows > 1 || c->window)
			continue;
		rc = attn_measure(o, c, &res);
		if (rc)
			return rc;
		if (res.bytes / res.paged_s < rate) {
			rate = res.bytes / res.paged_s;
			worst = c;
		}
	}
	r->measured = rate / read;
	return say_decode_bound(o, worst, rate, read, r);
}

static int run_cascade(const struct bench_opts *o, struct figure_result *r)
{
	struct attn_result res;
	double fma = bw_fma_peak(o);
	unsigned int i;
	int n = 0;

	snprintf(r->bound_what, sizeof(r->bound_what),
		 "nothing but its multiply-adds, at their peak");
	for (i = 0; i < ARRAY_SIZE(cascade_cases); i++) {
		const struct attn_case *c = &cascade_cases[i];
		int rc = attn_measure(o, c, &res);

		if (rc)
			return rc;
		if (res.ratio > r->measured) {
			r->measured = res.ratio;
			r->bound = fma > 0 ? res.flop / fma / res.flat_s : 0;
		}
		n += snprintf(r->note + n, sizeof(r->note) - (size_t)n,
			      "%s%s: %.0f against %.0f us a layer",
			      i ? "; " : "", c->name,
			      res.paged_s * 1e6 / c->layers,
			      res.flat_s * 1e6 / c->layers);
	}
	return 0;
}

/* One thread and two, in turn; the best of each. */
static int run_two_cores(const struct bench_opts *o, struct figure_result *r)
{
	struct bench_opts one = *o, two = *o;
	struct attn_result a, b;
	double best[2] = { INFINITY, INFINITY };
	u32 i;
	int rc = 0;

	if (bench_threads(o) < 2) {
		snprintf(r->note, sizeof(r->note), "there is one core");
		return -EOPNOTSUPP;
	}
	one.threads = 1;
	two.threads = 2;
	one.seconds = two.seconds = o->seconds / 4;
	for (i = 0; !rc && i < (o->tiny ? 1u : 3u); i++) {
		rc = attn_measure(&one, &attn_cases[1], &a);
		if (!rc)
			rc = attn_measure(&two, &attn_cases[1], &b);
		best[0] = min(best[0], rc ? INFINITY : a.paged_s);
		best[1] = min(best[1], rc ? INFINITY : b.paged_s);
	}
	r->measured = best[0] / best[1];
	snprintf(r->note, sizeof(r->note), "%s: %.0f and %.0f us a layer",
		 attn_cases[1].name, best[0] * 1e6 / attn_cases[1].layers,
		 best[1] * 1e6 / attn_cases[1].layers);
	return rc;
}

FIGURE(attn_two_cores, .name = "attn.two_cores",
       .what = "time of one decode over 8,192 tokens on one core, over two",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 1.7, .run = run_two_cores);
FIGURE(attn_cascade, .name = "attn.cascade",
       .what = "time of attention of 32 sequences over one prefix, over 32 "
	       "copies of it",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 0.25, .run = run_cascade);
FIGURE(attn_paged, .name = "attn.paged",
       .what = "time of paged attention over the same kernel on contiguous "
	       "memory",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1.25, .run = run_ratio);
FIGURE(attn_decode, .name = "attn.decode_bw",
       .what = "rate at which paged decode attention reads K and V, over the "
	       "best read rate of the same run",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.85, .run = run_decode_bw);

static const struct report_col attn_cols[] = {
	{ "case", "case", 0 },	       { "cache", "cache", 0 },
	{ "paged_us", "paged us", 1 }, { "contiguous_us", "contig us", 1 },
	{ "ratio", "ratio", 3 },       { "mbytes", "MB", 1 },
	{ "mflop", "MFLOP", 1 },       { "gbps", "GB/s", 2 },
	{ "gflops", "GFLOP/s", 1 },    { "bound", "bound", 1 },
	{ "bound_what", "of", 0 },     { "share", "share", 2 },
	{ "runs", "runs", 0 },
};

static int attn_row(const struct bench_opts *o, struct report *rep,
		    const struct attn_case *c, bool warm)
{
	double bw, fma = bw_fma_peak(o), gbps, gflops;
	struct attn_result res;
	bool compute;
	int rc = attn_measure_in(o, c, warm, &res);

	if (rc)
		return rc;
	bw = warm ? bw_reread_peak(o, res.bytes / c->layers) : bw_read_peak(o);
	gbps = res.bytes / res.paged_s;
	gflops = res.flop / res.paged_s;
	compute = fma > 0 && gflops / fma > gbps / bw;
	report_row(rep,
		   json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
			     "s:f, s:s, s:f, s:i}",
			     "case", c->name, "cache", warm ? "warm" : "cold",
			     "paged_us", res.paged_s * 1e6, "contiguous_us",
			     res.flat_s * 1e6, "ratio", res.ratio, "mbytes",
			     res.bytes / 1e6, "mflop", res.flop / 1e6, "gbps",
			     gbps / 1e9, "gflops", gflops / 1e9, "bound",
			     (compute ? fma : bw) / 1e9, "bound_what",
			     compute ? "fp32 fma"
			     : warm  ? "reread"
				     : "read",
			     "share", compute ? gflops / fma : gbps / bw,
			     "runs", (int)res.runs));
	return 0;
}

static int attn_rows(const struct bench_opts *o, struct report *rep,
		     const struct attn_case *c, unsigned int nr)
{
	unsigned int i;
	int rc = 0;

	for (i = 0; !rc && i < nr; i++) {
		rc = attn_row(o, rep, &c[i], false);
		if (!rc)
			rc = attn_row(o, rep, &c[i], true);
	}
	return rc;
}

static int run_attn(const struct bench_opts *o, struct report *rep)
{
	int rc;

	rep->cols = attn_cols;
	rep->nr_cols = ARRAY_SIZE(attn_cols);
	rc = attn_rows(o, rep, attn_cases, ARRAY_SIZE(attn_cases));
	if (!rc)
		rc = attn_rows(o, rep, cascade_cases,
			       ARRAY_SIZE(cascade_cases));
	return rc;
}

SUBJECT(attention, .name = "attention",
	.what = "attention kernels: paged against contiguous, share of bound",
	.run = run_attn, .nr_keys = 2, .time = "paged_us");
