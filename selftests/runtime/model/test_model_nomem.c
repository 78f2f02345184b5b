/* SPDX-License-Identifier: MIT */
/*
 * test_model_nomem.c - every allocation of the loaders, the tokenizers and the
 * packing fails
 *
 * The C library's allocator is replaced by one that counts, and fails the
 * n-th call. The whole path runs with n = 1, 2, 3, ... until nothing fails
 * any more: each time it must end with -ENOMEM and leave nothing allocated.
 */
#include "selftests/harness.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/mman.h>

#include "kernels/cpu/pool.h"
#include "kernels/include/dtype.h"
#include "runtime/model/chat_template.h"
#include "runtime/model/packing.h"
#include "runtime/model/vocab.h"
#include "selftests/runtime/model/gguf_sample.h"

#ifndef __SANITIZE_ADDRESS__

#include "selftests/nomem.h"

static int use_stream(const struct vocab *v, const u32 *ids, size_t nr)
{
	struct vocab_stream st = { 0 };
	char *out = NULL;
	size_t len = 0;
	int rc = 0;

	for (size_t i = 0; i < nr && !rc; i++)
		rc = vocab_stream_push(v, &st, ids[i], 0, &out, &len);
	if (!rc)
		rc = vocab_stream_end(&st, &out, &len);
	free(out);
	return rc;
}

static int use_chat(const struct gguf *g, const struct vocab *v, char *err)
{
	static const struct chat_msg msg = { "user", "hello", 5 };
	struct chat_template t;
	char *text;
	size_t nr;
	u32 *ids;
	int rc = chat_template_detect(g, v, &t, err);

	if (rc)
		return rc;
	rc = chat_template_render(&t, &msg, 1, true, &text, &nr, err);
	if (!rc) {
		free(text);
		rc = chat_template_tokenize(&t, v, &msg, 1, true, &ids, &nr,
					    err);
	}
	if (!rc)
		free(ids);
	/* without memory for it, the default prompt is only left out */
	if (!rc && fired && !t.system)
		rc = -ENOMEM;
	chat_template_fini(&t);
	return rc;
}

/* The whole path; what it allocated is freed again. */
static int whole(const u8 *buf, size_t len, bool chat, char *err)
{
	static const char text[] = " hello<s> ab\xff he 123<tag>";
	struct vocab *v = NULL;
	struct gguf *g = NULL;
	size_t nr, back_len;
	u32 *ids = NULL;
	char *back;
	int rc;

	rc = gguf_open_mem(buf, len, "sample", &g, err);
	if (!rc)
		rc = vocab_load(g, &v, err);
	if (!rc)
		rc = vocab_tokenize(v, text, sizeof(text) - 1, 3, &ids, &nr);
	if (!rc)
		rc = vocab_detokenize(v, ids, nr, 0, &back, &back_len);
	if (!rc) {
		free(back);
		rc = use_stream(v, ids, nr);
	}
	if (!rc && chat)
		rc = use_chat(g, v, err);
	free(ids);
	vocab_free(v);
	gguf_close(g);
	return rc;
}

static void sweep(u8 *buf, size_t len, bool chat)
{
	char err[KV_ERRLEN];
	long n;

	for (n = 1;; n++) {
		int rc;

		arm(n);
		rc = whole(buf, len, chat, err);
		disarm();
		if (!EXPECT_EQ(0, nr_live) ||
		    !EXPECT_EQ(fired ? -ENOMEM : 0, rc))
			TH_LOG("allocation %ld", n);
		if (!fired)
			break;
	}
	TH_LOG("%ld allocations", n - 1);
	EXPECT_GT(n, 30);
	free(buf);
}

TEST(model_nomem, a_sentencepiece_model)
{
	size_t len;
	u8 *buf = sample_llama(&len);

	sweep(buf, len, false);
}

TEST(model_nomem, a_byte_level_model_and_its_chat)
{
	size_t len;
	u8 *buf = sample_gpt2("<|im_start|>system\\nS<|im_end|>", &len);

	sweep(buf, len, true);
}

/* ---- packing ---- */

/* A vector, a gap, a matrix for each of the two buffers. */
static u8 *matrices(size_t *len)
{
	struct gguf_writer w = { .align = 256 };
	u8 data[40 * 144];

	memset(data, 0x31, sizeof(data));
	gw_tensor(&w, "norm", KV_DTYPE_F32, 1, (u64[]){ 5 }, data, 20);
	gw_tensor(&w, "q", KV_DTYPE_Q8_0, 2, (u64[]){ 32, 17 }, data, 17 * 34);
	gw_tensor(&w, "k", KV_DTYPE_Q4_K, 2, (u64[]){ 256, 40 }, data,
		  sizeof(data));
	return gw_finish(&w, len);
}

/* What libcrypto keeps for a thread is not the packing's, and goes as well. */
static int plan_and_fill(const struct gguf *g, int fd, u8 *dst,
			 const u8 *digest, struct pool *pool, char *err)
{
	struct packing *p = NULL;
	int rc = packing_plan(g, &p, err);

	if (!rc)
		rc = packing_fill(p, fd, dst, digest, pool, err);
	packing_free(p);
	OPENSSL_thread_stop();
	return rc;
}

/* libcrypto gets along without some of what it asks for: then all is right. */
TEST(model_nomem, a_plan_and_a_mapping_that_is_filled)
{
	static u8 dst[1 << 16] __attribute__((aligned(64))), want[sizeof(dst)];
	u8 digest[DIGEST_BYTES];
	char err[KV_ERRLEN];
	struct pool *pool;
	struct gguf *g;
	size_t len;
	u8 *buf = matrices(&len);
	int fd = memfd_create("gguf", MFD_CLOEXEC), rc;
	long n = 0;

	ASSERT_EQ((ssize_t)len, write(fd, buf, len));
	SHA256(buf, len, digest);
	ASSERT_EQ(0, gguf_open_mem(buf, len, "sample", &g, err));
	ASSERT_EQ(0, pool_create(1, &pool));
	/* the first time libcrypto looks its SHA-256 up, and keeps it */
	ASSERT_EQ(0, plan_and_fill(g, fd, want, digest, pool, err));
	do {
		memset(dst, 0, sizeof(dst));
		arm(++n);
		rc = plan_and_fill(g, fd, dst, digest, pool, err);
		disarm();
		if (!EXPECT_EQ(0, nr_live) || !EXPECT_TRUE(!rc || fired) ||
		    !EXPECT_EQ(rc ? -ENOMEM : 0, rc) ||
		    !EXPECT_TRUE(rc || !memcmp(dst, want, sizeof(dst))))
			TH_LOG("allocation %ld", n);
	} while (fired);
	TH_LOG("%ld allocations", n - 1);
	EXPECT_GT(n, 6);
	pool_destroy(pool);
	gguf_close(g);
	close(fd);
	free(buf);
}

#else

TEST(model_nomem, needs_its_own_allocator)
{
	SKIP("the address sanitizer has one");
}

#endif

TEST_HARNESS_MAIN
