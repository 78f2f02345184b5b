/* SPDX-License-Identifier: MIT */
/*
 * test_packing.c - the mapping has the file's weights, each where the plan says
 *
 * Small files of every tensor type are written, planned and packed, with one
 * thread and with three. A matrix in strips has the values that ref reads in
 * the file's own blocks, everything else the file's bytes; between tensors
 * there are zeros. Last, a whole network computes the same bits from both.
 *
 * san: address thread
 */
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernels/cpu/pool.h"
#include "lib/huge.h"
#include "runtime/model/packing.h"
#include "selftests/kernels/kern_test.h"
#include "selftests/runtime/engine/rig.h"

#define BUFFER_BYTES (4u << 20) /* packing.c reads so much at a time */

/* ---- a file, its plan, its mapping ---- */

struct packed {
	u8 *buf; /* the file's bytes */
	size_t len;
	int fd;
	u8 digest[DIGEST_BYTES];
	struct gguf *g;
	struct packing *p;
	u8 *dst; /* [packing_bytes()], zeroed */
	char err[KV_ERRLEN];
};

/* Zeros; where huge pages would fit, memory of a kind that can have some. */
static u8 *dst_alloc(u64 bytes)
{
	u8 *p = bytes < HUGE_PAGE ? kt_alloc(bytes) : huge_map(-1, bytes);

	ASSERT_TRUE(p != NULL);
	memset(p, 0, bytes);
	return p;
}

static void dst_free(u8 *dst, u64 bytes)
{
	if (bytes < HUGE_PAGE)
		free(dst);
	else
		munmap(dst, bytes);
}

/* @buf becomes the file's own. */
static void packed_open(struct packed *f, u8 *buf, size_t len)
{
	*f = (struct packed){ .buf = buf, .len = len };
	f->fd = memfd_create("gguf", MFD_CLOEXEC);
	ASSERT_EQ((ssize_t)len, write(f->fd, buf, len));
	SHA256(buf, len, f->digest);
	if (!EXPECT_EQ(0, gguf_open_fd(f->fd, "tiny", &f->g, f->err)))
		TH_LOG("%s", f->err);
	ASSERT_TRUE(f->g != NULL);
	ASSERT_EQ(0, packing_plan(f->g, &f->p, f->err));
	f->dst = dst_alloc(packing_bytes(f->p));
}

static void packed_close(struct packed *f)
{
	dst_free(f->dst, packing_bytes(f->p));
	packing_free(f->p);
	gguf_close(f->g);
	close(f->fd);
	free(f->buf);
}

static int packed_fill(struct packed *f, u32 threads)
{
	struct pool *pool;
	int rc;

	ASSERT_EQ(0, pool_create(threads, &pool));
	rc = packing_fill(f->p, f->fd, f->dst, f->digest, pool, f->err);
	pool_destroy(pool);
	return rc;
}

static const struct packed_tensor *place(const struct packed *f, u64 i)
{
	return packing_of(f->p, gguf_tensor_at(f->g, i));
}

/* ---- what has to hold of it ---- */

static bool is_plain(u32 type)
{
	return type == KV_DTYPE_F32 || type == KV_DTYPE_F16 ||
	       type == KV_DTYPE_BF16;
}

static void check_place(const struct packed *f, u64 i)
{
	const struct gguf_tensor *t = gguf_tensor_at(f->g, i);
	const struct packed_tensor *k = place(f, i);
	u64 j;

	EXPECT_EQ(0, k->at % KERN_STRIP_ALIGN);
	EXPECT_LE(k->at + k->bytes, packing_bytes(f->p));
	for (j = 0; j < i; j++) {
		const struct packed_tensor *o = place(f, j);

		EXPECT_TRUE(k->at + k->bytes <= o->at ||
			    o->at + o->bytes <= k->at);
		EXPECT_EQ(t->offset < gguf_tensor_at(f->g, j)->offset,
			  k->at < o->at);
	}
	if (t->nr_dims == 2 && t->ne[1] >= KERN_STRIP && !is_plain(t->type)) {
		EXPECT_EQ(KERN_LAYOUT_STRIP, k->layout);
		EXPECT_EQ(kern_strip_bytes(t->type, (u32)t->ne[0]), k->stride);
		EXPECT_EQ((t->ne[1] + 15) / 16 * k->stride, k->bytes);
	} else {
		EXPECT_EQ(KERN_LAYOUT_GGUF, k->layout);
		EXPECT_EQ(dtype_row_bytes(t->type, t->ne[0]), k->stride);
		EXPECT_EQ(t->nr_bytes, k->bytes);
	}
}

static u64 nr_other_values(const struct kern_mat *a, const struct kern_mat *b)
{
	const struct kern_ops *ref = kern_select("ref");
	float *x = kt_alloc(a->cols * sizeof(*x));
	float *y = kt_alloc(a->cols * sizeof(*y));
	u64 bad = 0;
	u32 row, k;

	for (row = 0; row < a->rows; row++) {
		ref->dequant(&(struct kern_dequant){ *a, row, x, NULL }, 0, 1);
		ref->dequant(&(struct kern_dequant){ *b, row, y, NULL }, 0, 1);
		for (k = 0; k < a->cols; k++)
			bad += x[k] != y[k]; /* but for the sign of a zero */
	}
	free(x);
	free(y);
	return bad;
}

static void check_values(const struct packed *f, u64 i)
{
	const struct gguf_tensor *t = gguf_tensor_at(f->g, i);
	const struct packed_tensor *k = place(f, i);
	const struct kern_mat file = {
		.data = f->buf + t->offset,
		.stride = dtype_row_bytes(t->type, t->ne[0]),
		.rows = (u32)t->ne[1],
		.cols = (u32)t->ne[0],
		.dtype = t->type,
		.layout = KERN_LAYOUT_GGUF,
	};
	struct kern_mat held = file;
	bool same;

	held.data = f->dst + k->at;
	held.stride = k->stride;
	held.layout = k->layout;
	if (k->layout == KERN_LAYOUT_STRIP)
		same = nr_other_values(&file, &held) == 0;
	else
		same = !memcmp(held.data, file.data, t->nr_bytes);
	if (!same)
		th_fail(__FILE__, __LINE__,
			"%s, %s %llu x %llu: not the file's", t->name,
			dtype_name(t->type), (unsigned long long)t->ne[1],
			(unsigned long long)t->ne[0]);
}

/* What no tensor has stays as it was. */
static void check_gaps(const struct packed *f)
{
	u8 *rest = kt_alloc(packing_bytes(f->p));
	u64 i, bad = 0;

	memcpy(rest, f->dst, packing_bytes(f->p));
	for (i = 0; i < gguf_nr_tensors(f->g); i++)
		memset(rest + place(f, i)->at, 0, place(f, i)->bytes);
	for (i = 0; i < packing_bytes(f->p); i++)
		bad += rest[i];
	EXPECT_EQ(0, bad);
	free(rest);
}

/* Plan and pack a file that gw_finish() made; it is freed. */
static void check_file(u8 *buf, size_t len)
{
	struct packed f;
	u8 *first;
	u64 i;

	kern_thread_init();
	packed_open(&f, buf, len);
	for (i = 0; i < gguf_nr_tensors(f.g); i++)
		check_place(&f, i);
	EXPECT_EQ(0, packed_fill(&f, 3));
	for (i = 0; i < gguf_nr_tensors(f.g); i++)
		check_values(&f, i);
	check_gaps(&f);

	first = f.dst;
	f.dst = dst_alloc(packing_bytes(f.p));
	EXPECT_EQ(0, packed_fill(&f, 1));
	EXPECT_EQ(0, memcmp(first, f.dst, packing_bytes(f.p)));
	dst_free(first, packing_bytes(f.p));
	packed_close(&f);
}

/* ---- files ---- */

static void add(struct gguf_writer *w, u64 *seed, const char *name, u32 type,
		u32 nr_dims, const u64 *ne)
{
	u64 rows = 1;
	struct kern_mat m;
	u32 i;

	for (i = 1; i < nr_dims; i++)
		rows *= ne[i];
	m = kt_mat(seed, type, (u32)rows, (u32)ne[0]);
	gw_tensor(w, name, type, nr_dims, ne, m.data, m.stride * rows);
	free((void *)m.data);
}

static void add_matrix(struct gguf_writer *w, u64 *seed, u32 type, u32 rows,
		       u32 cols)
{
	char name[64];

	snprintf(name, sizeof(name), "%u.%s.%ux%u", (u32)w->nr_tensors,
		 dtype_name(type), rows, cols);
	add(w, seed, name, type, 2, (u64[]){ cols, rows });
}

TEST(packing, every_type_keeps_its_values_for_any_number_of_rows)
{
	static const u32 rows[] = { 1, 15, 16, 17, 40, 96 };
	struct gguf_writer w = { 0 };
	u64 seed = test_seed();
	size_t len;
	u32 t, r;
	u8 *buf;

	for (t = 0; t < ARRAY_SIZE(kt_types); t++)
		for (r = 0; r < ARRAY_SIZE(rows); r++)
			add_matrix(&w, &seed, kt_types[t], rows[r],
				   256 * (1 + kt_below(&seed, 3)));
	buf = gw_finish(&w, &len);
	check_file(buf, len);
}

TEST(packing, what_is_no_matrix_of_blocks_stays_as_the_file_has_it)
{
	struct gguf_writer w = { 0 };
	u64 seed = test_seed();
	size_t len;
	u8 *buf;

	add(&w, &seed, "norm", KV_DTYPE_F32, 1, (u64[]){ 37 });
	add(&w, &seed, "bias", KV_DTYPE_F16, 1, (u64[]){ 5 });
	add(&w, &seed, "scale", KV_DTYPE_BF16, 1, (u64[]){ 1 });
	add(&w, &seed, "odd", KV_DTYPE_F16, 2, (u64[]){ 7, 19 });
	add(&w, &seed, "blocks", KV_DTYPE_Q8_0, 1, (u64[]){ 64 });
	add(&w, &seed, "planes", KV_DTYPE_Q4_K, 3, (u64[]){ 256, 20, 3 });
	add(&w, &seed, "matrix", KV_DTYPE_Q8_0, 2, (u64[]){ 32, 20 });
	buf = gw_finish(&w, &len);
	check_file(buf, len);
}

/* Written in one order with gaps between them, listed in another. */
TEST(packing, the_header_may_list_tensors_in_any_order)
{
	static const u32 listed[] = { 5, 0, 3, 6, 1, 4, 2 };
	struct kern_mat m[ARRAY_SIZE(listed)];
	u64 offset[ARRAY_SIZE(listed)];
	struct gguf_writer w = { 0 };
	u64 seed = test_seed();
	char name[] = "a";
	size_t len;
	u32 i, gap;
	u8 *buf;

	for (i = 0; i < ARRAY_SIZE(m); i++) {
		m[i] = kt_mat(&seed, kt_types[2 + i], 1 + kt_below(&seed, 50),
			      256);
		offset[i] = w.data.len;
		gw_put(&w.data, m[i].data, m[i].stride * m[i].rows);
		gap = 32 - w.data.len % 32 + 32 * kt_below(&seed, 4);
		while (gap--)
			gw_put(&w.data, "x", 1);
	}
	for (i = 0; i < ARRAY_SIZE(m); i++, name[0]++) {
		const struct kern_mat *a = &m[listed[i]];

		gw_tensor_at(&w, name, a->dtype, 2, (u64[]){ a->cols, a->rows },
			     offset[listed[i]]);
	}
	for (i = 0; i < ARRAY_SIZE(m); i++)
		free((void *)m[i].data);
	buf = gw_finish(&w, &len);
	check_file(buf, len);
}

/* Two buffers full, one that ends within a strip; small ones around. */
TEST(packing, a_matrix_may_be_larger_than_the_buffers)
{
	const u32 strip = 16 * (u32)dtype_row_bytes(KV_DTYPE_Q8_0, 512);
	const u32 full = BUFFER_BYTES / strip * 16;
	struct gguf_writer w = { 0 };
	u64 seed = test_seed();
	size_t len;
	u8 *buf;

	add_matrix(&w, &seed, KV_DTYPE_Q4_0, 3, 64);
	add_matrix(&w, &seed, KV_DTYPE_Q8_0, 2 * full + 7 * 16 + 5, 512);
	add_matrix(&w, &seed, KV_DTYPE_Q8_0, 33, 32);
	buf = gw_finish(&w, &len);
	check_file(buf, len);
}

TEST(packing, a_strip_may_be_larger_than_a_buffer)
{
	const u32 cols = BUFFER_BYTES / 16;
	struct gguf_writer w = { 0 };
	u64 seed = test_seed();
	size_t len;
	u8 *buf;

	add_matrix(&w, &seed, KV_DTYPE_Q8_0, 17, cols);
	buf = gw_finish(&w, &len);
	check_file(buf, len);
}

TEST(packing, a_file_without_tensors_has_an_empty_plan)
{
	struct gguf_writer w = { 0 };
	struct packed f;
	size_t len;
	u8 *buf;

	gw_str(&w, "general.architecture", "qwen2");
	buf = gw_finish(&w, &len);
	packed_open(&f, buf, len);
	EXPECT_EQ(0, packing_bytes(f.p));
	EXPECT_EQ(0, packed_fill(&f, 1));
	packed_close(&f);
}

/* ---- files that are not what they were ---- */

/* A matrix in two places, a vector, gaps. */
FIXTURE(changed)
{
	struct packed f;
};

FIXTURE_SETUP(changed)
{
	struct gguf_writer w = { .align = 256 };
	u64 seed = test_seed();
	size_t len;
	u8 *buf;

	add_matrix(&w, &seed, KV_DTYPE_Q4_0, 21, 64);
	add(&w, &seed, "norm", KV_DTYPE_F32, 1, (u64[]){ 37 });
	add_matrix(&w, &seed, KV_DTYPE_Q5_K, 40, 256);
	buf = gw_finish(&w, &len);
	packed_open(&self->f, buf, len);
}

FIXTURE_TEARDOWN(changed)
{
	packed_close(&self->f);
}

static void expect_stale(struct packed *f, const char *sentence)
{
	f->err[0] = '\0';
	EXPECT_EQ(-ESTALE, packed_fill(f, 2));
	EXPECT_STREQ(sentence, f->err);
}

TEST_F(changed, another_digest_is_stale)
{
	self->f.digest[31] ^= 1;
	expect_stale(&self->f, "tiny: the file has changed");
	self->f.digest[31] ^= 1;
	EXPECT_EQ(0, packed_fill(&self->f, 2));
}

static u64 ns_of(const struct timespec *t)
{
	return (u64)t->tv_sec * 1000000000u + (u64)t->tv_nsec;
}

/* As if digest_file() had written it, with the digest 0a0a... */
static void remember_wrong_digest(int fd)
{
	static const char *const dirs[] = { "", "/kvmd", "/kvmd/digests" };
	char path[512];
	struct stat st;
	FILE *out;

	ASSERT_EQ(0, fstat(fd, &st));
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s/cache%s", test_tmpdir(),
			 dirs[i]);
		ASSERT_EQ(0, mkdir(path, 0700));
	}
	snprintf(path, sizeof(path), "%s/cache/kvmd/digests/%jx-%jx",
		 test_tmpdir(), (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	out = fopen(path, "we");
	ASSERT_TRUE(out);
	fprintf(out, "%ju %llu %llu ", (uintmax_t)st.st_size,
		(unsigned long long)ns_of(&st.st_mtim),
		(unsigned long long)ns_of(&st.st_ctim));
	for (u32 i = 0; i < DIGEST_BYTES; i++)
		fputs("0a", out);
	fputc('\n', out);
	fclose(out);
}

TEST_F(changed, a_wrong_digest_is_not_remembered)
{
	struct packed *f = &self->f;
	u8 right[DIGEST_BYTES], wrong[DIGEST_BYTES];
	char cache[512];

	memcpy(right, f->digest, DIGEST_BYTES);
	memset(wrong, 0x0a, DIGEST_BYTES);
	snprintf(cache, sizeof(cache), "%s/cache", test_tmpdir());
	ASSERT_EQ(0, setenv("XDG_CACHE_HOME", cache, 1));
	remember_wrong_digest(f->fd);
	ASSERT_EQ(0, digest_file(f->fd, "tiny", f->digest, f->err));
	EXPECT_EQ(0, memcmp(f->digest, wrong, DIGEST_BYTES));
	expect_stale(f, "tiny: the file has changed");
	ASSERT_EQ(0, digest_file(f->fd, "tiny", f->digest, f->err));
	EXPECT_EQ(0, memcmp(f->digest, right, DIGEST_BYTES));
	EXPECT_EQ(0, packed_fill(f, 2));
}

/* In the header, in tensors, between and behind them. */
TEST_F(changed, so_is_another_byte_anywhere)
{
	struct packed *f = &self->f;
	u64 at;

	for (at = (f->len - 1) % 97; at < f->len; at += 97) {
		u8 other = (u8)~f->buf[at];

		ASSERT_EQ(1, pwrite(f->fd, &other, 1, (off_t)at));
		expect_stale(f, "tiny: the file has changed");
		ASSERT_EQ(1, pwrite(f->fd, &f->buf[at], 1, (off_t)at));
	}
	EXPECT_EQ(0, packed_fill(f, 2));
}

static u8 *two_matrices(u32 first, u32 second, size_t *len)
{
	struct gguf_writer w = { 0 };
	u64 seed = 1;

	add(&w, &seed, "first", first, 2, (u64[]){ 64, 32 });
	add(&w, &seed, "second", second, 2, (u64[]){ 64, 32 });
	return gw_finish(&w, len);
}

/* The digest is of what is there now, and so is nothing of the plan. */
TEST(packing, a_file_replaced_since_it_was_planned_is_stale)
{
	struct packed f;
	size_t len, other;
	u8 *buf = two_matrices(KV_DTYPE_Q4_0, KV_DTYPE_Q8_0, &len);
	u8 *now = two_matrices(KV_DTYPE_Q8_0, KV_DTYPE_Q4_0, &other);

	packed_open(&f, buf, len);
	ASSERT_EQ(len, other);
	ASSERT_EQ((ssize_t)len, pwrite(f.fd, now, len, 0));
	SHA256(now, len, f.digest);
	expect_stale(&f, "tiny: the file has changed");
	packed_close(&f);
	free(now);
}

TEST_F(changed, so_is_a_file_that_became_shorter)
{
	struct packed *f = &self->f;
	u64 seed = test_seed(), to;

	for (to = f->len - 1; to; to = test_rand(&seed) % to) {
		ASSERT_EQ(0, ftruncate(f->fd, (off_t)to));
		expect_stale(f, "tiny: the file became shorter");
	}
}

TEST_F(changed, a_file_that_cannot_be_read_says_why)
{
	struct packed *f = &self->f;
	int fd = f->fd;

	f->fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	EXPECT_EQ(-EISDIR, packed_fill(f, 2));
	EXPECT_STREQ("tiny: Is a directory", f->err);
	close(f->fd);
	f->fd = fd;
}

/* ---- a whole network ---- */

#define NR_TOKENS 7u

/* Logits [NR_TOKENS][vocab] of every position, over contiguous memory. */
static float *logits_of(const struct model *m, struct kern_exec *x,
			const u32 *ids)
{
	const struct forward_caps caps = { NR_TOKENS, 1, NR_TOKENS, NR_TOKENS };
	size_t bytes = (size_t)NR_TOKENS * m->hp.vocab * sizeof(float);
	struct forward_seq seq = { .nr_rows = NR_TOKENS };
	u32 out_rows[NR_TOKENS], space, i;
	struct forward_batch b = { .nr_tokens = NR_TOKENS,
				   .nr_seqs = 1,
				   .nr_out = NR_TOKENS,
				   .ids = ids,
				   .seqs = &seq,
				   .out_rows = out_rows };
	float *out = kt_alloc(bytes);
	struct kv_backend *kv;
	struct forward *f;

	ASSERT_EQ(0, kv_contig_create(m, 1, NR_TOKENS, &kv, NULL));
	ASSERT_EQ(0, kv->ops->space_create(kv, &space));
	ASSERT_EQ(0, forward_create(m, x, kv->kv, &caps, &f, NULL));
	for (i = 0; i < m->nr_areas; i++)
		seq.table[i] = kv->ops->space_table(kv, space, i);
	for (i = 0; i < NR_TOKENS; i++)
		out_rows[i] = i;
	ASSERT_EQ(0, forward_run(f, &b));
	memcpy(out, forward_logits(f, 0, NR_TOKENS, NULL, NULL), bytes);
	forward_free(f);
	kv->ops->destroy(kv);
	return out;
}

static void check_network(struct tiny_cfg c)
{
	u32 ids[NR_TOKENS];
	struct model *m;
	struct packed f;
	struct rig r;
	float *want, *got;
	u8 *copy;

	c.vocab = 101;
	c.layers = 2;
	rig_load(&r, &c, 2);
	copy = malloc(r.t.len);
	ASSERT_TRUE(copy != NULL);
	memcpy(copy, r.t.buf, r.t.len);
	packed_open(&f, copy, r.t.len);
	ASSERT_EQ(0, packed_fill(&f, 2));
	ASSERT_EQ(0, model_load(f.g, f.p, f.dst, &m, f.err));
	EXPECT_EQ(is_plain(c.type) ? KERN_LAYOUT_GGUF : KERN_LAYOUT_STRIP,
		  m->layers[0].q.layout);
	rig_ids(&r, ids, NR_TOKENS, 7);
	want = logits_of(r.m, &r.x, ids);
	got = logits_of(m, &r.x, ids);
	EXPECT_SAME(got, want, (size_t)NR_TOKENS * c.vocab, dtype_name(c.type));
	free(want);
	free(got);
	model_free(m);
	packed_close(&f);
	rig_close(&r);
}

TEST(packing, gemma3_computes_the_same_bits_from_the_mapping_and_the_file)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(kt_types); i++)
		check_network(tiny_gemma(kt_types[i]));
}

TEST(packing, qwen2_computes_the_same_bits_from_the_mapping_and_the_file)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(kt_types); i++)
		check_network(tiny_qwen(kt_types[i]));
}

/* The file becomes another model of the same shape. */
static void spoil(struct packed *f)
{
	u64 i;

	for (i = 0; i < gguf_nr_tensors(f->g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(f->g, i);
		u8 *other = kt_alloc(t->nr_bytes);

		memset(other, 0x3c, t->nr_bytes);
		ASSERT_EQ((ssize_t)t->nr_bytes,
			  pwrite(f->fd, other, t->nr_bytes, (off_t)t->offset));
		free(other);
	}
}

TEST(packing, norms_and_biases_are_not_of_a_file_that_changed_since)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct model *before, *after;
	struct tiny t;
	struct packed f;

	tiny_build(&t, &c);
	packed_open(&f, t.buf, t.len);
	t.buf = NULL; /* is freed with f */
	ASSERT_EQ(0, packed_fill(&f, 2));
	ASSERT_EQ(0, model_load(f.g, f.p, f.dst, &before, f.err));
	spoil(&f);
	ASSERT_EQ(0, model_load(f.g, f.p, f.dst, &after, f.err));
	ASSERT_EQ(before->nr_vectors, after->nr_vectors);
	EXPECT_SAME(after->vectors, before->vectors, before->nr_vectors,
		    "norms and biases");
	model_free(before);
	model_free(after);
	packed_close(&f);
	tiny_free(&t);
}

TEST_HARNESS_MAIN
