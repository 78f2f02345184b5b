/* SPDX-License-Identifier: MIT */
/*
 * test_model_fuzz.c - hostile files and texts, by mutation
 *
 * san: address
 *
 * LLVMFuzzerTestOneInput takes any bytes: as a GGUF file first, whose
 * vocabulary and chat template are loaded if it has any, then as a text for
 * both tokenizers, which must come back byte for byte. `make check` runs it
 * over a few seconds of seeded mutations of good files. For a real search:
 *	clang -g -fsanitize=fuzzer,address,undefined -DKV_LIBFUZZER \
 *		-D_GNU_SOURCE -I. -Iinclude \
 *		selftests/runtime/model/test_model_fuzz.c \
 *		runtime/model/gguf*.c runtime/model/vocab*.c \
 *		runtime/model/tok_*.c runtime/model/unicode.c \
 *		runtime/model/chat_template.c
 */
#ifndef KV_LIBFUZZER
#include "selftests/harness.h"
#endif

#include "runtime/model/chat_template.h"
#include "runtime/model/vocab.h"
#include "selftests/runtime/model/gguf_sample.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t len);

static volatile u64 sink;

static void broken(const char *what)
{
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void touch_tensors(const struct gguf *g)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	gguf_dump(g, f, 100);
	fclose(f);
	free(text);
	for (u64 i = 0; i < gguf_nr_tensors(g); i++) {
		const struct gguf_tensor *t = gguf_tensor_at(g, i);
		const u8 *p = t->data;

		if (t->nr_bytes)
			sink += p[0] + p[t->nr_bytes - 1];
		if (gguf_tensor(g, t->name) != t)
			broken("a tensor is not found by its name");
	}
}

/* Any text through any vocabulary: ids in range, no fault. */
static void use_vocab(const struct vocab *v)
{
	static const char text[] = " hello <|im_start|>\xff\xe2\x82 ab\n<tag>";
	char *back;
	size_t nr, len;
	u32 *ids;

	for (unsigned int flags = 0; flags < 4; flags++) {
		if (vocab_tokenize(v, text, sizeof(text) - 1, flags, &ids, &nr))
			continue;
		if (vocab_detokenize(v, ids, nr, flags << 2, &back, &len))
			broken("an id that tokenize made is out of range");
		free(back);
		free(ids);
	}
}

static void as_file(const u8 *data, size_t len)
{
	struct chat_template t;
	char err[KV_ERRLEN];
	struct vocab *v;
	struct gguf *g;

	err[0] = '\0';
	if (gguf_open_mem(data, len, "fuzz", &g, err)) {
		if (!err[0])
			broken("a refusal without a sentence");
		return;
	}
	touch_tensors(g);
	err[0] = '\0';
	if (!vocab_load(g, &v, err)) {
		use_vocab(v);
		if (!chat_template_detect(g, v, &t, err))
			chat_template_fini(&t);
		vocab_free(v);
	} else if (!err[0]) {
		broken("a vocabulary refused without a sentence");
	}
	gguf_close(g);
}

static struct vocab *sample_vocab(u8 *buf, size_t len)
{
	struct vocab *v = NULL;
	struct gguf *g;

	if (gguf_open_mem(buf, len, "sample", &g, NULL) ||
	    vocab_load(g, &v, NULL))
		broken("a good file is refused");
	gguf_close(g);
	free(buf);
	return v;
}

/* Text, ids, text: the same bytes; for llama U+2581 is a space. */
static void round_trip(const struct vocab *v, const char *text, size_t len,
		       bool marks)
{
	char *want = malloc(len + 1), *back;
	size_t nr, n = 0, back_len;
	u32 *ids;

	if (!want || vocab_tokenize(v, text, len, VOCAB_ADD_SPECIAL, &ids, &nr))
		broken("a text is refused");
	for (size_t i = 0; i < len; i++) {
		bool mark = marks && len - i >= 3 &&
			    !memcmp(text + i, "\xe2\x96\x81", 3);

		want[n++] = mark ? ' ' : text[i];
		i += mark ? 2 : 0;
	}
	if (vocab_detokenize(v, ids, nr, VOCAB_STRIP_ADDED, &back, &back_len) ||
	    back_len != n || memcmp(back, want, n))
		broken("a text does not come back");
	free(back);
	free(ids);
	free(want);
}

static void as_text(const u8 *data, size_t len)
{
	static struct vocab *llama, *gpt2;

	if (!llama) {
		size_t n;
		u8 *buf = sample_llama(&n);

		llama = sample_vocab(buf, n);
		buf = sample_gpt2(NULL, &n);
		gpt2 = sample_vocab(buf, n);
	}
	round_trip(llama, (const char *)data, len, true);
	round_trip(gpt2, (const char *)data, len, false);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	as_file(data, len);
	as_text(data, len);
	return 0;
}

#ifndef KV_LIBFUZZER

#define BUF_MAX 32768

static const u64 numbers[] = { 0,	   1,	       2,	   8,
			       12,	   31,	       255,	   256,
			       65535,	   0x7fffffff, 0x80000000, 0xffffffff,
			       1ull << 32, 1ull << 60, 1ull << 61, 1ull << 63,
			       ~0ull,	   ~0ull - 7 };

/* One change somewhere; the length may change. */
static size_t mutate(u8 *buf, size_t len, u64 *rng)
{
	size_t at = len ? test_rand(rng) % len : 0, n;
	u64 v = numbers[test_rand(rng) % ARRAY_SIZE(numbers)];

	switch (test_rand(rng) % 7) {
	case 0: /* flip a bit */
		if (len)
			buf[at] ^= (u8)(1u << test_rand(rng) % 8);
		break;
	case 1: /* set a byte */
		if (len)
			buf[at] = (u8)test_rand(rng);
		break;
	case 2: /* a number, of 4 or 8 bytes */
	case 3:
		n = test_rand(rng) & 1 ? 4 : 8;
		if (at + n <= len)
			memcpy(buf + at, &v, n);
		break;
	case 4: /* cut */
		if (test_rand(rng) % 8 == 0)
			len = at;
		break;
	case 5: /* take some bytes out */
		n = min((size_t)(test_rand(rng) % 16), len - at);
		memmove(buf + at, buf + at + n, len - at - n);
		len -= n;
		break;
	case 6: /* put some bytes in twice */
		n = min((size_t)(test_rand(rng) % 16), len - at);
		if (len + n > BUF_MAX)
			break;
		memmove(buf + at + n, buf + at, len - at);
		len += n;
		break;
	}
	return len;
}

static void run(u8 *good, size_t good_len, unsigned int nr)
{
	u64 rng = test_seed();
	u8 *buf = malloc(BUF_MAX);

	ASSERT_TRUE(buf && good_len <= BUF_MAX);
	for (unsigned int i = 0; i < nr; i++) {
		size_t len = good_len;
		u8 *exact;

		memcpy(buf, good, len);
		for (u64 k = test_rand(&rng) % 6 + 1; k; k--)
			len = mutate(buf, len, &rng);
		exact = malloc(len ? len : 1); /* ASan sees overreads */
		memcpy(exact, buf, len);
		LLVMFuzzerTestOneInput(exact, len);
		free(exact);
	}
	free(buf);
	free(good);
}

/* KV_LONG: the long run of check-long; a sanitizer takes ten times as long. */
static unsigned int rounds(unsigned int nr)
{
#ifdef __SANITIZE_ADDRESS__
	const unsigned int longer = 10;
#else
	const unsigned int longer = 100;
#endif

	return getenv("KV_LONG") ? longer * nr : nr;
}

TEST_TIMEOUT(model_fuzz, values_and_tensors, 600)
{
	size_t len;
	u8 *buf = sample_gguf(&len);

	run(buf, len, rounds(4000));
}

TEST_TIMEOUT(model_fuzz, a_sentencepiece_vocabulary, 600)
{
	size_t len;
	u8 *buf = sample_llama(&len);

	run(buf, len, rounds(500));
}

TEST_TIMEOUT(model_fuzz, a_byte_level_vocabulary, 600)
{
	size_t len;
	u8 *buf = sample_gpt2("<|im_start|>system\\nBe.<|im_end|>", &len);

	run(buf, len, rounds(500));
}

TEST_TIMEOUT(model_fuzz, texts, 600)
{
	static const char text[] =
		"hello hello  \r\n\xe2\x96\x81hello'll <tag><s><|im_end|>"
		"\xc3\xa9\xe4\xb8\x80\xf0\x9f\x99\x82"
		"12 ab\xcc\x81\n\n x";
	u8 *buf = malloc(sizeof(text));

	memcpy(buf, text, sizeof(text));
	run(buf, sizeof(text) - 1, rounds(6000));
}

TEST_HARNESS_MAIN

#endif
