/* SPDX-License-Identifier: MIT */
/*
 * test_model_nomem.c - every allocation of the loaders and tokenizers fails
 *
 * The C library's allocator is replaced by one that counts, and fails the
 * n-th call. The whole path runs with n = 1, 2, 3, ... until nothing fails
 * any more: each time it must end with -ENOMEM and leave nothing allocated.
 */
#include "selftests/harness.h"

#include "runtime/model/chat_template.h"
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

#else

TEST(model_nomem, needs_its_own_allocator)
{
	SKIP("the address sanitizer has one");
}

#endif

TEST_HARNESS_MAIN
