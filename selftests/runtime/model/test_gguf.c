/* SPDX-License-Identifier: MIT */
/*
 * test_gguf.c - the GGUF reader: good files, and every kind of bad one
 *
 * san: address
 */
#include "selftests/harness.h"

#include <sys/stat.h>

#include "selftests/runtime/model/gguf_sample.h"

static struct gguf *open_mem(const u8 *buf, size_t len)
{
	struct gguf *g = NULL;
	char err[KV_ERRLEN] = "";

	if (gguf_open_mem(buf, len, "sample", &g, err))
		TH_LOG("refused: %s", err);
	return g;
}

/* Touch everything that the reader hands out; ASan watches. */
static u64 touch_all(const struct gguf *g)
{
	char *text = NULL;
	size_t text_len = 0;
	FILE *f = open_memstream(&text, &text_len);
	u64 sum = 0;

	gguf_dump(g, f, 1000);
	fclose(f);
	for (u64 i = 0; i < gguf_nr_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		const u8 *p = t->data;

		for (u64 k = 0; k < t->nr_bytes; k++)
			sum += p[k];
	}
	for (size_t k = 0; k < text_len; k++)
		sum += (u8)text[k];
	free(text);
	return sum;
}

TEST(gguf, reads_every_value_type)
{
	struct gguf_arr arr;
	struct gguf_str s;
	struct gguf *g;
	size_t len;
	u8 *buf = sample_gguf(&len);
	u64 v64, pos = 0;
	u32 v32;
	float f;
	bool b;

	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	memset(buf, 0xff, len); /* the reader has its own copy */
	free(buf);
	EXPECT_EQ(0, gguf_get_u32(g, "a.u32", &v32, NULL));
	EXPECT_EQ(7, v32);
	EXPECT_EQ(0, gguf_get_u32(g, "a.u8", &v32, NULL));
	EXPECT_EQ(200, v32);
	EXPECT_EQ(0, gguf_get_u32(g, "a.u16", &v32, NULL));
	EXPECT_EQ(60000, v32);
	EXPECT_EQ(0, gguf_get_u64(g, "a.i32", &v64, NULL));
	EXPECT_EQ(5, v64);
	EXPECT_EQ(0, gguf_get_u64(g, "a.u64", &v64, NULL));
	EXPECT_EQ(1ull << 63, v64);
	EXPECT_EQ(0, gguf_get_f32(g, "a.f32", &f, NULL));
	EXPECT_EQ(0.5f, f);
	EXPECT_EQ(0, gguf_get_f32(g, "a.f64", &f, NULL));
	EXPECT_EQ(0.25f, f);
	EXPECT_EQ(0, gguf_get_bool(g, "a.bool", &b, NULL));
	EXPECT_TRUE(b);
	EXPECT_EQ(0, gguf_get_str(g, "general.architecture", &s, NULL));
	EXPECT_EQ(6, s.len);
	EXPECT_TRUE(gguf_str_is(g, "general.architecture", "sample"));

	EXPECT_EQ(0, gguf_get_arr(g, "b.strs", GGUF_STR, &arr, NULL));
	ASSERT_EQ(3, arr.len);
	EXPECT_EQ(3, gguf_arr_next_str(&arr, &pos).len);
	EXPECT_EQ(0, gguf_arr_next_str(&arr, &pos).len);
	s = gguf_arr_next_str(&arr, &pos);
	EXPECT_TRUE(s.len == 5 && !memcmp(s.ptr, "three", 5));
	EXPECT_EQ(0, gguf_get_arr(g, "b.floats", GGUF_F32, &arr, NULL));
	EXPECT_EQ(-2.0f, gguf_arr_f32(&arr, 1));
	EXPECT_EQ(0, gguf_get_arr(g, "b.ints", GGUF_I64, &arr, NULL));
	EXPECT_EQ(-1, gguf_arr_int(&arr, 0));
	EXPECT_EQ(0, gguf_get_arr(g, "b.none", GGUF_I64, &arr, NULL));
	EXPECT_EQ(0, arr.len);
	touch_all(g);
	gguf_close(g);
}

TEST(gguf, a_wrong_type_is_named)
{
	char err[KV_ERRLEN];
	struct gguf_arr arr;
	struct gguf *g;
	size_t len;
	u8 *buf = sample_gguf(&len);
	u64 v64;
	u32 v32;

	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	EXPECT_EQ(-ENOENT, gguf_get_u32(g, "no.such", &v32, err));
	EXPECT_STREQ("sample: key 'no.such' is missing", err);
	EXPECT_EQ(-EINVAL, gguf_get_u32(g, "a.f32", &v32, err));
	EXPECT_STREQ("sample: key 'a.f32' is f32, not an integer", err);
	EXPECT_EQ(-EINVAL, gguf_get_u32(g, "a.u64", &v32, err));
	EXPECT_EQ(-EINVAL, gguf_get_u64(g, "a.i64", &v64, err));
	EXPECT_STREQ("sample: key 'a.i64' is negative", err);
	EXPECT_EQ(-EINVAL, gguf_get_arr(g, "b.strs", GGUF_F32, &arr, err));
	EXPECT_STREQ("sample: key 'b.strs' is array of string, not array of "
		     "f32",
		     err);
	gguf_close(g);
	free(buf);
}

TEST(gguf, tensors_have_their_bytes)
{
	const struct gguf_tensor *t;
	struct gguf *g;
	float row[4];
	size_t len;
	u8 *buf = sample_gguf(&len);

	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	EXPECT_EQ(3, gguf_nr_tensors(g));
	EXPECT_FALSE(gguf_tensor(g, "y"));
	t = gguf_tensor(g, "x");
	ASSERT_TRUE(t);
	EXPECT_EQ(2, t->nr_dims);
	EXPECT_EQ(3, t->ne[1]);
	EXPECT_EQ(1, t->ne[2]);
	EXPECT_EQ(48, t->nr_bytes);
	EXPECT_EQ(0, (uintptr_t)t->data % 32);
	EXPECT_EQ(11.0f, ((const float *)t->data)[11]);
	EXPECT_EQ(0, gguf_read(g, t, 16, row, 16, NULL));
	EXPECT_EQ(4.0f, row[0]);
	EXPECT_EQ(-EINVAL, gguf_read(g, t, 40, row, 16, NULL));
	EXPECT_EQ(-EINVAL, gguf_read(g, t, ~0ull, row, 16, NULL));
	EXPECT_EQ(288, gguf_tensor(g, "blk.0.q")->nr_bytes);
	gguf_close(g);
	free(buf);
}

TEST(gguf, a_file_is_mapped_and_changes_are_noticed)
{
	char path[512], err[KV_ERRLEN];
	const struct gguf_tensor *t;
	struct gguf *g;
	size_t len;
	u8 *buf = sample_gguf(&len), byte;
	FILE *f;

	snprintf(path, sizeof(path), "%s/x.gguf", test_tmpdir());
	f = fopen(path, "wb");
	ASSERT_TRUE(f);
	fwrite(buf, 1, len, f);
	fclose(f);
	ASSERT_EQ(0, gguf_open(path, &g, err));
	EXPECT_EQ(len, gguf_size(g));
	t = gguf_tensor(g, "x");
	EXPECT_EQ(3.0f, ((const float *)t->data)[3]);
	EXPECT_EQ(0, gguf_unchanged(g, err));
	/* the metadata is a copy: the file may go */
	ASSERT_EQ(0, truncate(path, 100));
	EXPECT_EQ(-ESTALE, gguf_unchanged(g, err));
	EXPECT_EQ(-ESTALE, gguf_read(g, t, 0, &byte, 1, err));
	EXPECT_TRUE(gguf_str_is(g, "general.architecture", "sample"));
	gguf_close(g);
	EXPECT_EQ(-EINVAL, gguf_open(path, &g, err));
	EXPECT_TRUE(strstr(err, path));
	free(buf);
}

TEST(gguf, a_change_that_restores_the_modification_time_is_noticed)
{
	char path[512], err[KV_ERRLEN];
	struct timespec times[2];
	struct gguf *g;
	struct stat st;
	size_t len;
	u8 *buf = sample_gguf(&len);
	int fd;

	snprintf(path, sizeof(path), "%s/y.gguf", test_tmpdir());
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_EQ((ssize_t)len, write(fd, buf, len));
	ASSERT_EQ(0, gguf_open(path, &g, err));
	ASSERT_EQ(0, fstat(fd, &st));
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	usleep(50000); /* a tick of the file system's clock */
	ASSERT_EQ(1, pwrite(fd, "x", 1, (off_t)len - 1));
	ASSERT_EQ(0, futimens(fd, times));
	EXPECT_EQ(-ESTALE, gguf_unchanged(g, err));
	gguf_close(g);
	close(fd);
	free(buf);
}

TEST(gguf, what_is_no_file_is_refused)
{
	char path[512], err[KV_ERRLEN];
	struct gguf *g;

	EXPECT_EQ(-ENOENT, gguf_open("/nonexistent", &g, err));
	EXPECT_STREQ("/nonexistent: No such file or directory", err);
	EXPECT_EQ(-EINVAL, gguf_open("/dev/zero", &g, err));
	EXPECT_EQ(-EINVAL, gguf_open(test_tmpdir(), &g, err));
	snprintf(path, sizeof(path), "%s/fifo", test_tmpdir());
	ASSERT_EQ(0, mkfifo(path, 0600));
	EXPECT_EQ(-EINVAL, gguf_open(path, &g, err)); /* and does not hang */
	snprintf(path, sizeof(path), "%s/empty", test_tmpdir());
	close(open(path, O_CREAT | O_WRONLY, 0600));
	EXPECT_EQ(-EINVAL, gguf_open(path, &g, err));
	EXPECT_TRUE(strstr(err, "empty"));
}

TEST(gguf, every_truncation_is_refused)
{
	char err[KV_ERRLEN];
	struct gguf *g;
	size_t len, used;
	u8 *buf = sample_gguf(&len);

	/* the padding behind the last tensor (10 bytes) is not needed */
	used = len - 22;
	for (size_t n = 0; n < used; n++) {
		u8 *cut = malloc(n ? n : 1); /* exact: ASan sees overreads */

		memcpy(cut, buf, n);
		err[0] = '\0';
		if (!EXPECT_LT(gguf_open_mem(cut, n, "cut", &g, err), 0) ||
		    !EXPECT_EQ(0, strncmp(err, "cut: ", 5)))
			TH_LOG("at %zu of %zu", n, len);
		free(cut);
	}
	EXPECT_EQ(0, gguf_open_mem(buf, used, "cut", &g, err));
	gguf_close(g);
	free(buf);
}

TEST(gguf, every_flipped_bit_is_harmless)
{
	size_t len, nr_refused = 0;
	u8 *buf = sample_gguf(&len);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		char err[KV_ERRLEN] = "";
		struct gguf *g;

		buf[bit / 8] ^= (u8)(1u << bit % 8);
		if (gguf_open_mem(buf, len, "flip", &g, err)) {
			nr_refused++;
			EXPECT_EQ(0, strncmp(err, "flip: ", 6));
		} else {
			touch_all(g);
			gguf_close(g);
		}
		buf[bit / 8] ^= (u8)(1u << bit % 8);
	}
	TH_LOG("%zu of %zu refused", nr_refused, 8 * len);
	EXPECT_GT(nr_refused, 100);
	free(buf);
}

/* Finish @w, expect @rc and a sentence that holds @words. */
static void expect_refused(struct gguf_writer *w, int rc, const char *words)
{
	char err[KV_ERRLEN] = "";
	struct gguf *g = NULL;
	size_t len;
	u8 *buf = gw_finish(w, &len);

	EXPECT_EQ(rc, gguf_open_mem(buf, len, "bad.gguf", &g, err));
	if (!EXPECT_TRUE(strstr(err, words)))
		TH_LOG("said: %s", err);
	EXPECT_FALSE(strchr(err, '\n'));
	gguf_close(g);
	free(buf);
}

static const u64 dims[4] = { 32, 2, 1, 1 };

TEST(gguf, a_dump_controls_no_terminal)
{
	struct gguf_writer w = { 0 };
	char *text = NULL;
	struct gguf *g;
	size_t len;
	FILE *f;
	u8 *buf;

	gw_str(&w, "k", "\x1b[2J\x9b|\xc2\x9b|\xc3\xa9|\x7f|\xe2\x82");
	buf = gw_finish(&w, &len);
	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	f = open_memstream(&text, &len);
	gguf_dump(g, f, 1);
	fclose(f);
	if (!EXPECT_TRUE(strstr(text, "\"\\x1b[2J\\x9b|\\xc2\\x9b|\xc3\xa9|"
				      "\\x7f|\\xe2\\x82\"")))
		TH_LOG("wrote: %s", text);
	free(text);
	gguf_close(g);
	free(buf);
}

TEST(gguf, bad_headers_are_refused)
{
	struct gguf_writer w = { .version = 1 };

	expect_refused(&w, -EOPNOTSUPP, "version 1");
	w.version = 4;
	expect_refused(&w, -EOPNOTSUPP, "version 4");
	w.version = 0x03000000;
	expect_refused(&w, -EOPNOTSUPP, "big-endian");
	w.nr_tensors = ~0ull;
	expect_refused(&w, -EINVAL, "tensors");
	w.nr_kvs = 1ull << 40;
	expect_refused(&w, -EINVAL, "keys");
	w.nr_kvs = 1;
	expect_refused(&w, -EINVAL, "inside a key");
	w.align = 24;
	expect_refused(&w, -EINVAL, "alignment");
	gw_str(&w, "general.alignment", "x");
	expect_refused(&w, -EINVAL, "general.alignment");
}

TEST(gguf, bad_keys_are_refused)
{
	struct gguf_writer w = { 0 };

	gw_u32(&w, "k", 1);
	gw_f32(&w, "k", 1);
	expect_refused(&w, -EINVAL, "key 'k' appears twice");
	gw_u32(&w, "", 1);
	expect_refused(&w, -EINVAL, "length of 0");
	gw_u32(&w, "a\nb", 1);
	expect_refused(&w, -EINVAL, "control character");
	gw_u32(&w, "a\xc2\x9bJ", 1); /* CSI in two bytes */
	expect_refused(&w, -EINVAL, "control character");
	gw_u32(&w, "a\x9bJ", 1); /* and in one */
	expect_refused(&w, -EINVAL, "no UTF-8");
	gw_raw(&w, "k", 13, &(u32){ 1 }, 4);
	expect_refused(&w, -EINVAL, "unknown value type (13)");
	gw_raw(&w, "k", GGUF_BOOL, &(u8){ 2 }, 1);
	expect_refused(&w, -EINVAL, "neither 0 nor 1");

	gw_key(&w, "k", GGUF_STR);
	gw_put_u64(&w.kvs, ~0ull);
	expect_refused(&w, -EINVAL, "a string");
	gw_put_u64(&w.kvs, ~0ull); /* the key's own length */
	w.nr_kvs = 1;
	gw_put(&w.kvs, NULL, 64);
	expect_refused(&w, -EINVAL, "length of 18446744073709551615");
}

TEST(gguf, bad_arrays_are_refused)
{
	struct gguf_writer w = { 0 };

	gw_key(&w, "k", GGUF_ARR);
	gw_put_u32(&w.kvs, GGUF_U64);
	gw_put_u64(&w.kvs, (1ull << 61) + 1); /* 8 times that wraps to 8 */
	gw_put_u64(&w.kvs, 0);
	expect_refused(&w, -EINVAL, "more elements");
	gw_key(&w, "k", GGUF_ARR);
	gw_put_u32(&w.kvs, GGUF_STR);
	gw_put_u64(&w.kvs, 1ull << 62);
	expect_refused(&w, -EINVAL, "more strings");
	gw_key(&w, "k", GGUF_ARR);
	gw_put_u32(&w.kvs, GGUF_ARR);
	gw_put_u64(&w.kvs, 1);
	expect_refused(&w, -EOPNOTSUPP, "arrays of arrays");
	gw_key(&w, "k", GGUF_ARR);
	gw_put_u32(&w.kvs, 77);
	gw_put_u64(&w.kvs, 0);
	expect_refused(&w, -EINVAL, "unknown value type");
}

TEST(gguf, bad_tensors_are_refused)
{
	struct gguf_writer w = { 0 };
	char name[80];

	gw_tensor(&w, "t", 3, 2, dims, NULL, 64);
	expect_refused(&w, -EOPNOTSUPP, "tensor 't' has type 3");
	gw_tensor(&w, "t", KV_DTYPE_F32, 0, dims, NULL, 64);
	expect_refused(&w, -EINVAL, "0 dimensions");
	gw_tensor(&w, "t", KV_DTYPE_F32, 5, (u64[5]){ 1, 1, 1, 1, 1 }, NULL,
		  64);
	expect_refused(&w, -EINVAL, "5 dimensions");
	gw_tensor(&w, "t", KV_DTYPE_F32, 2, (u64[]){ 4, 0 }, NULL, 64);
	expect_refused(&w, -EINVAL, "impossible shape");
	gw_tensor(&w, "t", KV_DTYPE_F32, 3,
		  (u64[]){ 1ull << 32, 1ull << 32, 4 }, NULL, 64);
	expect_refused(&w, -EINVAL, "impossible shape");
	gw_tensor(&w, "t", KV_DTYPE_F32, 1, (u64[]){ 1ull << 60 }, NULL, 64);
	expect_refused(&w, -EINVAL, "past the end");
	gw_tensor(&w, "t", KV_DTYPE_Q4_K, 1, (u64[]){ 255 }, NULL, 144);
	expect_refused(&w, -EINVAL, "whole number of Q4_K blocks");

	memset(name, 'n', sizeof(name));
	name[65] = '\0';
	gw_tensor(&w, name, KV_DTYPE_F32, 2, dims, NULL, 256);
	expect_refused(&w, -EINVAL, "length of 65");
	gw_tensor(&w, "t\x1b[2J", KV_DTYPE_F32, 2, dims, NULL, 256);
	expect_refused(&w, -EINVAL, "control character");
}

TEST(gguf, misplaced_tensors_are_refused)
{
	struct gguf_writer w = { 0 };

	gw_tensor(&w, "t", KV_DTYPE_F32, 2, dims, NULL, 256);
	gw_tensor(&w, "t", KV_DTYPE_F32, 2, dims, NULL, 256);
	expect_refused(&w, -EINVAL, "tensor 't' appears twice");
	gw_tensor(&w, "t", KV_DTYPE_F32, 2, dims, NULL, 224);
	expect_refused(&w, -EINVAL, "past the end");
	gw_tensor(&w, "a", KV_DTYPE_F32, 2, dims, NULL, 512);
	gw_tensor_at(&w, "b", KV_DTYPE_F32, 2, dims, 224);
	expect_refused(&w, -EINVAL, "'a' and 'b' overlap");
	gw_tensor(&w, "a", KV_DTYPE_F32, 2, dims, NULL, 512);
	gw_tensor_at(&w, "b", KV_DTYPE_F32, 2, dims, 260);
	expect_refused(&w, -EINVAL, "no multiple of the alignment");
	gw_tensor_at(&w, "b", KV_DTYPE_F32, 2, dims, ~0ull - 31);
	expect_refused(&w, -EINVAL, "past the end");
	gw_tensor_at(&w, "b", KV_DTYPE_F32, 2, dims, 0);
	expect_refused(&w, -EINVAL, "past the end");
}

TEST(gguf, version_2_and_other_alignments_are_read)
{
	struct gguf_writer w = { .version = 2, .align = 64 };
	struct gguf *g;
	size_t len;
	u8 *buf;

	gw_tensor(&w, "a", KV_DTYPE_F16, 2, dims, NULL, 128);
	gw_tensor(&w, "b", KV_DTYPE_Q8_0, 2, dims, NULL, 68);
	buf = gw_finish(&w, &len);
	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	EXPECT_EQ(2, gguf_version(g));
	EXPECT_EQ(68, gguf_tensor(g, "b")->nr_bytes);
	gguf_close(g);
	free(buf);
}

TEST(gguf, a_file_without_anything_is_read)
{
	struct gguf_writer w = { 0 };
	struct gguf *g;
	size_t len;
	u8 *buf = gw_finish(&w, &len);

	g = open_mem(buf, len);
	ASSERT_TRUE(g);
	EXPECT_EQ(0, gguf_nr_tensors(g));
	EXPECT_FALSE(gguf_key(g, 0, NULL));
	gguf_close(g);
	free(buf);
}

/* The models themselves, where they are there. */
static void read_model(const char *path, u64 nr_tensors, const char *arch)
{
	char err[KV_ERRLEN];
	struct gguf *g;

	if (!path)
		SKIP("the model is not here");
	ASSERT_EQ(0, gguf_open(path, &g, err));
	EXPECT_EQ(nr_tensors, gguf_nr_tensors(g));
	EXPECT_TRUE(gguf_str_is(g, "general.architecture", arch));
	EXPECT_EQ(0, gguf_unchanged(g, err));
	gguf_close(g);
}

TEST(gguf, gemma_is_read)
{
	read_model(getenv("KV_GEMMA"), 236, "gemma3");
}

TEST(gguf, qwen_is_read)
{
	read_model(getenv("KV_QWEN"), 339, "qwen2");
}

TEST_HARNESS_MAIN
