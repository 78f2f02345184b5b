/* SPDX-License-Identifier: MIT */
/*
 * onednn.c - oneDNN by its C API, found at run time
 *
 * The layout of w is oneDNN's choice, by the CPU and maybe by m: it is asked
 * with a product's sizes, and each copy of w is put in that order before
 * anything is timed. x and y lie row by row, as they do for us.
 */
#include "tools/kvbench/onednn.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernels/include/kern.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/onednn_abi.h"

#define CHECKED 64 /* elements of a product */

static struct {
	struct onednn_calls call;
	void *engine, *stream;
	bool is_loaded;
} lib;

#define CALL(n)                                                            \
	{                                                                  \
		.name = "dnnl_" #n, .at = offsetof(struct onednn_calls, n) \
	}
#define OMP_CALL(n)                                                \
	{                                                          \
		.name = #n, .at = offsetof(struct onednn_calls, n) \
	}

static const struct {
	const char *name;
	size_t at;
} symbols[] = {
	CALL(version),
	CALL(engine_create),
	CALL(stream_create),
	CALL(stream_wait),
	CALL(memory_desc_init_by_tag),
	CALL(memory_desc_get_size),
	CALL(memory_create),
	CALL(memory_destroy),
	CALL(matmul_desc_init),
	CALL(reorder_primitive_desc_create),
	CALL(primitive_desc_create),
	CALL(primitive_desc_query_md),
	CALL(primitive_desc_destroy),
	CALL(primitive_create),
	CALL(primitive_execute),
	CALL(primitive_destroy),
	OMP_CALL(omp_set_num_threads),
	OMP_CALL(omp_pause_resource_all),
};

_Static_assert(ARRAY_SIZE(symbols) * sizeof(void *) ==
		       sizeof(struct onednn_calls),
	       "each call has its symbol");

/* What a call returned, as an errno. */
static int failed(int status)
{
	switch (status) {
	case ONEDNN_SUCCESS:
		return 0;
	case ONEDNN_OUT_OF_MEMORY:
		return -ENOMEM;
	case ONEDNN_UNIMPLEMENTED:
		return -EOPNOTSUPP;
	}
	return -EIO;
}

/* ---- the library ---- */

static int find_symbols(void *so, char *note)
{
	const struct onednn_version *v;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *at = dlsym(so, symbols[i].name);

		if (!at) {
			snprintf(note, ONEDNN_NOTE, "%s has no %s",
				 ONEDNN_SONAME, symbols[i].name);
			return -EOPNOTSUPP;
		}
		memcpy((char *)&lib.call + symbols[i].at, &at, sizeof(at));
	}
	v = lib.call.version();
	if (v->major == ONEDNN_MAJOR)
		return 0;
	snprintf(note, ONEDNN_NOTE, "%s is of version %d, not %d",
		 ONEDNN_SONAME, v->major, ONEDNN_MAJOR);
	return -EOPNOTSUPP;
}

static u32 count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	u32 n = 0;

	while (dir && (e = readdir(dir)))
		n += e->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

/* Enough for any number of threads to have their share of. */
static int probe(void)
{
	struct onednn_product p = {
		.m = 1024, .n = 4096, .k = 64, .copies = 1
	};
	u16 *x = calloc((size_t)p.m * p.k, sizeof(*x));
	float *w = calloc((size_t)p.n * p.k, sizeof(*w));
	float *y = calloc((size_t)p.m * p.n, sizeof(*y));
	int rc = -ENOMEM;

	p.x = x;
	p.w = w;
	p.y = y;
	if (x && w && y)
		rc = onednn_product_init(&p);
	if (!rc)
		rc = onednn_product_run(&p, 0);
	onednn_product_fini(&p);
	free(x);
	free(w);
	free(y);
	return rc;
}

static int start(u32 threads, char *note)
{
	u32 before = count_threads(), took;
	int rc;

	lib.call.omp_set_num_threads((int)threads);
	rc = failed(lib.call.engine_create(&lib.engine, ONEDNN_CPU, 0));
	if (!rc)
		rc = failed(lib.call.stream_create(&lib.stream, lib.engine,
						   ONEDNN_STREAM_DEFAULT));
	if (!rc)
		rc = probe();
	if (rc) {
		snprintf(note, ONEDNN_NOTE, "oneDNN does not multiply: %.60s",
			 strerror(-rc));
		return rc;
	}
	took = count_threads() - before + 1;
	onednn_rest();
	if (took == threads)
		return 0;
	snprintf(note, ONEDNN_NOTE, "oneDNN computes on %u threads, not on %u",
		 took, threads);
	return -EINVAL;
}

int onednn_load(u32 threads, char *note)
{
	void *so;
	int rc;

	if (lib.is_loaded)
		return 0;
	so = dlopen(ONEDNN_SONAME, RTLD_NOW | RTLD_LOCAL);
	if (!so) {
		snprintf(note, ONEDNN_NOTE,
			 "oneDNN is not here: apt-get install libdnnl2 (%.80s)",
			 dlerror());
		return -EOPNOTSUPP;
	}
	rc = find_symbols(so, note);
	if (!rc)
		rc = start(threads, note);
	lib.is_loaded = !rc;
	return rc;
}

void onednn_version(char *buf, size_t len)
{
	const struct onednn_version *v = lib.call.version();

	snprintf(buf, len, "%d.%d.%d", v->major, v->minor, v->patch);
}

void onednn_rest(void)
{
	if (lib.call.omp_pause_resource_all)
		lib.call.omp_pause_resource_all(ONEDNN_OMP_PAUSE_HARD);
}

/* ---- a product ---- */

static int matrix(struct onednn_md *md, u32 rows, u32 cols, int type, int tag)
{
	const int64_t dims[ONEDNN_DIMS_MAX] = { rows, cols };

	return failed(lib.call.memory_desc_init_by_tag(md, 2, dims, type, tag));
}

static int run_once(void *primitive, const struct onednn_arg *args, int nr)
{
	int rc = failed(
		lib.call.primitive_execute(primitive, lib.stream, nr, args));

	return rc ? rc : failed(lib.call.stream_wait(lib.stream));
}

/* All copies of w, fp32 as it lies, to the layout and type of @md. */
static int put_weights(struct onednn_product *p, const struct onednn_md *md)
{
	struct onednn_arg args[] = { { ONEDNN_ARG_SRC, NULL },
				     { ONEDNN_ARG_DST, NULL } };
	void *pd = NULL, *reorder = NULL;
	struct onednn_md plain;
	u32 i;
	int rc = matrix(&plain, p->k, p->n, ONEDNN_F32, ONEDNN_BA);

	if (!rc)
		rc = failed(lib.call.memory_create(&args[0].memory, &plain,
						   lib.engine,
						   (void *)(uintptr_t)p->w));
	if (!rc)
		rc = failed(lib.call.reorder_primitive_desc_create(
			&pd, &plain, lib.engine, md, lib.engine, NULL));
	if (!rc)
		rc = failed(lib.call.primitive_create(&reorder, pd));
	for (i = 0; !rc && i < p->copies; i++) {
		rc = failed(lib.call.memory_create(&p->weights[i], md,
						   lib.engine,
						   p->data + i * p->stride));
		args[1].memory = p->weights[i];
		if (!rc)
			rc = run_once(reorder, args, ARRAY_SIZE(args));
	}
	if (reorder)
		lib.call.primitive_destroy(reorder);
	if (pd)
		lib.call.primitive_desc_destroy(pd);
	if (args[0].memory)
		lib.call.memory_destroy(args[0].memory);
	return rc;
}

static int make_weights(struct onednn_product *p, const struct onednn_md *md)
{
	p->stride = ALIGN_UP(lib.call.memory_desc_get_size(md), 64);
	p->weights = calloc(p->copies, sizeof(*p->weights));
	p->data = mmap(NULL, p->stride * p->copies, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->data == MAP_FAILED)
		p->data = NULL;
	if (!p->data || !p->weights)
		return -ENOMEM;
	madvise(p->data, p->stride * p->copies, MADV_HUGEPAGE);
	return put_weights(p, md);
}

/* x as it computes with it. */
static int make_operands(struct onednn_product *p, const struct onednn_md *src,
			 const struct onednn_md *dst)
{
	void *x = (void *)(uintptr_t)p->x;
	size_t i, nr = (size_t)p->m * p->k;
	int rc;

	if (!p->bf16) {
		x = p->x_f32 = aligned_alloc(64, ALIGN_UP(nr * 4, 64));
		if (!x)
			return -ENOMEM;
		for (i = 0; i < nr; i++)
			p->x_f32[i] = kern_bf16_to_f32(p->x[i]);
	}
	rc = failed(lib.call.memory_create(&p->src, src, lib.engine, x));
	return rc ? rc
		  : failed(lib.call.memory_create(&p->dst, dst, lib.engine,
						  p->y));
}

int onednn_product_init(struct onednn_product *p)
{
	int type = p->bf16 ? ONEDNN_BF16 : ONEDNN_F32;
	struct onednn_md src, any, dst;
	static struct onednn_opd opd; /* too large for a frame */
	void *pd = NULL;
	int rc = matrix(&src, p->m, p->k, type, ONEDNN_AB);

	if (!rc)
		rc = matrix(&any, p->k, p->n, type, ONEDNN_ANY);
	if (!rc)
		rc = matrix(&dst, p->m, p->n, ONEDNN_F32, ONEDNN_AB);
	if (!rc)
		rc = failed(lib.call.matmul_desc_init(&opd, &src, &any, NULL,
						      &dst));
	if (!rc)
		rc = failed(lib.call.primitive_desc_create(&pd, &opd, NULL,
							   lib.engine, NULL));
	if (!rc)
		rc = failed(lib.call.primitive_create(&p->matmul, pd));
	if (!rc)
		rc = make_weights(p, lib.call.primitive_desc_query_md(
					     pd, ONEDNN_QUERY_WEIGHTS_MD, 0));
	if (!rc)
		rc = make_operands(p, &src, &dst);
	if (pd)
		lib.call.primitive_desc_destroy(pd);
	if (rc)
		onednn_product_fini(p);
	return rc;
}

void onednn_product_fini(struct onednn_product *p)
{
	u32 i;

	for (i = 0; p->weights && i < p->copies; i++)
		if (p->weights[i])
			lib.call.memory_destroy(p->weights[i]);
	if (p->src)
		lib.call.memory_destroy(p->src);
	if (p->dst)
		lib.call.memory_destroy(p->dst);
	if (p->matmul)
		lib.call.primitive_destroy(p->matmul);
	if (p->data)
		munmap(p->data, p->stride * p->copies);
	free(p->weights);
	free(p->x_f32);
	p->weights = NULL;
	p->x_f32 = NULL;
	p->data = NULL;
	p->src = p->dst = p->matmul = NULL;
}

int onednn_product_run(struct onednn_product *p, u32 copy)
{
	const struct onednn_arg args[] = {
		{ ONEDNN_ARG_SRC, p->src },
		{ ONEDNN_ARG_WEIGHTS, p->weights[copy] },
		{ ONEDNN_ARG_DST, p->dst },
	};

	return run_once(p->matmul, args, ARRAY_SIZE(args));
}

static bool is_right(const struct onednn_product *p, u32 row, u32 col)
{
	double sum = 0, size = 0;
	u32 i;

	for (i = 0; i < p->k; i++) {
		float w = p->w[(size_t)col * p->k + i];
		double one;

		if (p->bf16)
			w = kern_bf16_to_f32(kern_f32_to_bf16(w));
		one = (double)w *
		      kern_bf16_to_f32(p->x[(size_t)row * p->k + i]);
		sum += one;
		size += fabs(one);
	}
	return fabs((double)p->y[(size_t)row * p->n + col] - sum) <=
	       1e-4 * size;
}

int onednn_product_check(const struct onednn_product *p)
{
	struct bench_rng rng = { 1 };
	u32 i;

	for (i = 0; i < CHECKED; i++) {
		u32 row = (u32)(bench_rand(&rng) % p->m);
		u32 col = (u32)(bench_rand(&rng) % p->n);

		if (!is_right(p, i ? row : p->m - 1, i ? col : p->n - 1))
			return -EBADMSG;
	}
	return 0;
}
