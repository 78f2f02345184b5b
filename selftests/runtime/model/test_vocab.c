/* SPDX-License-Identifier: MIT */
/*
 * test_vocab.c - the two tokenizers over tiny vocabularies
 *
 * What real vocabularies give is compared in selftests/e2e/tokenizers.sh.
 *
 * san: address
 */
#include "selftests/harness.h"

#include "runtime/model/vocab.h"
#include "selftests/runtime/model/gguf_sample.h"

static struct vocab *load(u8 *buf, size_t len, char *err)
{
	struct vocab *v = NULL;
	struct gguf *g;
	int rc = gguf_open_mem(buf, len, "sample", &g, err);

	free(buf);
	if (rc)
		return NULL;
	if (vocab_load(g, &v, err))
		v = NULL;
	gguf_close(g); /* a vocabulary keeps nothing of it */
	return v;
}

static struct vocab *load_llama(void)
{
	char err[KV_ERRLEN];
	size_t len;
	u8 *buf = sample_llama(&len);

	return load(buf, len, err);
}

static struct vocab *load_gpt2(void)
{
	char err[KV_ERRLEN];
	size_t len;
	u8 *buf = sample_gpt2(NULL, &len);

	return load(buf, len, err);
}

/* Tokenize @len bytes and print the ids into a static string. */
static const char *ids_of(const struct vocab *v, const char *text, size_t len,
			  unsigned int flags)
{
	static char out[4096];
	size_t nr, n = 0;
	u32 *ids;

	if (vocab_tokenize(v, text, len, flags, &ids, &nr))
		return "failed";
	out[0] = '\0';
	for (size_t i = 0; i < nr && n < sizeof(out) - 16; i++)
		n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%u",
				      i ? " " : "", ids[i]);
	free(ids);
	return out;
}

#define IDS(v, text, flags) ids_of(v, text, sizeof(text) - 1, flags)

TEST(llama, merges_by_score)
{
	struct vocab *v = load_llama();

	ASSERT_TRUE(v);
	EXPECT_STREQ("10", IDS(v, "hello", 0));
	EXPECT_STREQ("12", IDS(v, " hello", 0));
	EXPECT_STREQ("1 10 11 7", IDS(v, "hello he", VOCAB_ADD_SPECIAL));
	EXPECT_STREQ("", IDS(v, "", 0));
	vocab_free(v);
}

TEST(llama, falls_back_to_bytes)
{
	struct vocab *v = load_llama();

	ASSERT_TRUE(v);
	/* 16 tokens precede byte 0 */
	EXPECT_STREQ("211 185", IDS(v, "\xc3\xa9", 0));
	EXPECT_STREQ("16", IDS(v, "\0", 0));
	EXPECT_STREQ("26 10", IDS(v, "\nhello", 0));
	vocab_free(v);
}

TEST(llama, invalid_utf8_is_bytes)
{
	struct vocab *v = load_llama();

	ASSERT_TRUE(v);
	EXPECT_STREQ("271 3", IDS(v, "\xffh", 0));
	EXPECT_STREQ("242 146 3", IDS(v, "\xe2\x82h", 0)); /* cut off */
	EXPECT_STREQ("253 176 144", IDS(v, "\xed\xa0\x80", 0)); /* surrogate */
	EXPECT_STREQ("208 144", IDS(v, "\xc0\x80", 0)); /* overlong */
	vocab_free(v);
}

TEST(llama, special_names_are_tokens_only_when_asked)
{
	struct vocab *v = load_llama();

	ASSERT_TRUE(v);
	EXPECT_STREQ("1 3", IDS(v, "<s>h", VOCAB_PARSE_SPECIAL));
	EXPECT_STREQ("76 131 78 3", IDS(v, "<s>h", 0));
	/* user tokens always */
	EXPECT_STREQ("3 15 3", IDS(v, "h<tag>h", 0));
	vocab_free(v);
}

TEST(llama, an_unused_token_is_split_again)
{
	struct vocab *v = load_llama();

	ASSERT_TRUE(v);
	/* "ab" is token 13, but unused; "b" has no token */
	EXPECT_STREQ("14 114", IDS(v, "ab", 0));
	vocab_free(v);
}

TEST(gpt2, merges_by_rank_within_words)
{
	struct vocab *v = load_gpt2();

	ASSERT_TRUE(v);
	EXPECT_STREQ("259", IDS(v, "hello", 0));
	EXPECT_STREQ("259 260", IDS(v, "hello hello", 0));
	EXPECT_STREQ("32 260", IDS(v, "  hello", 0));
	EXPECT_STREQ("259 49 50 256", IDS(v, "hello12he", 0));
	EXPECT_STREQ("", IDS(v, "", VOCAB_ADD_SPECIAL));
	vocab_free(v);
}

TEST(gpt2, any_byte_has_a_token)
{
	struct vocab *v = load_gpt2();
	char all[256], *text;
	size_t nr, len;
	u32 *ids;

	ASSERT_TRUE(v);
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	ASSERT_EQ(0, vocab_tokenize(v, all, sizeof(all), 0, &ids, &nr));
	ASSERT_EQ(0, vocab_detokenize(v, ids, nr, 0, &text, &len));
	EXPECT_TRUE(len == 256 && !memcmp(text, all, 256));
	free(ids);
	free(text);
	vocab_free(v);
}

TEST(gpt2, special_names_are_tokens_only_when_asked)
{
	struct vocab *v = load_gpt2();

	ASSERT_TRUE(v);
	EXPECT_STREQ("261 259 262", IDS(v, "<|im_start|>hello<|im_end|>",
					VOCAB_PARSE_SPECIAL));
	EXPECT_STREQ("60 124 105 109 95 101 110 100 124 62",
		     IDS(v, "<|im_end|>", 0));
	EXPECT_STREQ("263", IDS(v, "<tool>", 0));
	EXPECT_TRUE(vocab_is_eog(v, 262));
	EXPECT_FALSE(vocab_is_eog(v, 261));
	EXPECT_FALSE(vocab_is_eog(v, VOCAB_NONE));
	EXPECT_EQ(261, vocab_find(v, "<|im_start|>", 12));
	EXPECT_EQ(VOCAB_NONE, vocab_find(v, "nothing", 7));
	vocab_free(v);
}

TEST(vocab, a_control_token_needs_a_part_that_allows_it)
{
	struct vocab *v = load_gpt2();
	const struct vocab_part parts[] = {
		{ "<|im_start|>", 12, VOCAB_PARSE_SPECIAL },
		{ "<|im_end|>he", 12, 0 },
		{ "llo", 3, VOCAB_PARSE_SPECIAL },
		{ "<|im_", 5, VOCAB_PARSE_SPECIAL },
		{ "end|>", 5, VOCAB_PARSE_SPECIAL },
	};
	size_t nr;
	u32 *ids;

	ASSERT_TRUE(v);
	ASSERT_EQ(0, vocab_tokenize_parts(v, parts, 5, 0, &ids, &nr));
	/* ... but a word may cross from one into the next */
	ASSERT_EQ(22, nr);
	EXPECT_EQ(261, ids[0]);
	EXPECT_EQ('<', ids[1]);
	EXPECT_EQ(259, ids[11]);
	EXPECT_EQ('<', ids[12]);
	free(ids);
	ASSERT_EQ(0, vocab_tokenize_parts(v, parts, 0, 0, &ids, &nr));
	EXPECT_EQ(0, nr);
	free(ids);
	vocab_free(v);
}

TEST(vocab, detokenize_undoes_tokenize)
{
	struct vocab *v = load_llama();
	static const char text[] = " hello<s>\xff\n";
	char *back;
	size_t nr, len;
	u32 *ids;

	ASSERT_TRUE(v);
	ASSERT_EQ(0, vocab_tokenize(v, text, sizeof(text) - 1,
				    VOCAB_ADD_SPECIAL | VOCAB_PARSE_SPECIAL,
				    &ids, &nr));
	ASSERT_EQ(0,
		  vocab_detokenize(v, ids, nr, VOCAB_STRIP_ADDED, &back, &len));
	EXPECT_STREQ(text, back);
	free(back);
	ASSERT_EQ(0, vocab_detokenize(v, ids, nr, VOCAB_SKIP_SPECIAL, &back,
				      &len));
	EXPECT_STREQ(" hello\xff\n", back);
	free(back);
	ids[0] = vocab_size(v);
	EXPECT_EQ(-ERANGE, vocab_detokenize(v, ids, nr, 0, &back, &len));
	free(ids);
	vocab_free(v);
}

TEST(vocab, a_stream_gives_whole_characters)
{
	struct vocab *v = load_gpt2();
	struct vocab_stream st = { 0 };
	char *out = NULL;
	size_t len = 0;

	ASSERT_TRUE(v);
	/* the euro sign byte by byte */
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0xe2, 0, &out, &len));
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0x82, 0, &out, &len));
	EXPECT_EQ(0, len);
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0xac, 0, &out, &len));
	EXPECT_STREQ("\xe2\x82\xac", out);
	/* a character that never ends, then one that does */
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0xf0, 0, &out, &len));
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0x9f, 0, &out, &len));
	ASSERT_EQ(0, vocab_stream_push(v, &st, 256, 0, &out, &len));
	EXPECT_STREQ("\xe2\x82\xac\xef\xbf\xbdhe", out);
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0xff, 0, &out, &len));
	ASSERT_EQ(0, vocab_stream_push(v, &st, 0xe2, 0, &out, &len));
	ASSERT_EQ(0, vocab_stream_end(&st, &out, &len));
	EXPECT_STREQ("\xe2\x82\xac\xef\xbf\xbdhe\xef\xbf\xbd\xef\xbf\xbd", out);
	EXPECT_EQ(len, strlen(out));
	EXPECT_EQ(-ERANGE, vocab_stream_push(v, &st, 9999, 0, &out, &len));
	free(out);
	vocab_free(v);
}

/* Long texts in all the shapes that could be quadratic. */
TEST_TIMEOUT(vocab, a_megabyte_of_any_shape_is_not_quadratic, 60)
{
	struct vocab *kinds[] = { load_llama(), load_gpt2() };
	static const char *const units[] = {
		"l", "hello", " ", "he", "<|im_", "\n ", "\xe2\x96\x81", "\xff"
	};
	size_t len = 1 << 20, nr;
	char *text = malloc(len);
	u32 *ids;

	for (size_t u = 0; u < ARRAY_SIZE(units); u++) {
		for (size_t i = 0; i < len; i++)
			text[i] = units[u][i % strlen(units[u])];
		for (int k = 0; k < 2; k++) {
			struct timespec a, b;
			double s;

			ASSERT_TRUE(kinds[k]);
			clock_gettime(CLOCK_MONOTONIC, &a);
			ASSERT_EQ(0, vocab_tokenize(kinds[k], text, len,
						    VOCAB_PARSE_SPECIAL, &ids,
						    &nr));
			clock_gettime(CLOCK_MONOTONIC, &b);
			s = (double)(b.tv_sec - a.tv_sec) +
			    (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
			free(ids);
			EXPECT_LT(s, 5.0 * TEST_SLOWDOWN);
		}
	}
	free(text);
	vocab_free(kinds[0]);
	vocab_free(kinds[1]);
}

static void expect_refused(struct gguf_writer *w, int rc, const char *words)
{
	char err[KV_ERRLEN] = "";
	struct vocab *v = NULL;
	struct gguf *g = NULL;
	size_t len;
	u8 *buf = gw_finish(w, &len);

	ASSERT_EQ(0, gguf_open_mem(buf, len, "bad.gguf", &g, err));
	EXPECT_EQ(rc, vocab_load(g, &v, err));
	if (!EXPECT_TRUE(strstr(err, words)) ||
	    !EXPECT_TRUE(strstr(err, "bad.gguf")))
		TH_LOG("said: %s", err);
	gguf_close(g);
	free(buf);
}

TEST(vocab, what_it_cannot_read_is_named)
{
	static const char *const one[] = { "a" };
	struct gguf_writer w = { 0 };

	expect_refused(&w, -ENOENT, "'tokenizer.ggml.model' is missing");
	gw_str(&w, "tokenizer.ggml.model", "bert");
	expect_refused(&w, -EOPNOTSUPP, "tokenizer model 'bert'");
	gw_str(&w, "tokenizer.ggml.model", "gpt2");
	gw_str(&w, "tokenizer.ggml.pre", "llama-bpe");
	expect_refused(&w, -EOPNOTSUPP, "pre-tokenizer 'llama-bpe'");
	gw_str(&w, "tokenizer.ggml.model", "gpt2");
	expect_refused(&w, -EOPNOTSUPP, "pre-tokenizer ''");
	gw_str(&w, "tokenizer.ggml.model", "llama");
	expect_refused(&w, -ENOENT, "'tokenizer.ggml.tokens' is missing");
	gw_str(&w, "tokenizer.ggml.model", "llama");
	gw_arr_str(&w, "tokenizer.ggml.tokens", one, 1);
	expect_refused(&w, -ENOENT, "'tokenizer.ggml.scores' is missing");
	gw_str(&w, "tokenizer.ggml.model", "gpt2");
	gw_str(&w, "tokenizer.ggml.pre", "qwen2");
	gw_arr_str(&w, "tokenizer.ggml.tokens", one, 1);
	expect_refused(&w, -EINVAL, "no token stands for byte 0x00");
}

/* "<unk>", and @nr tokens by the name of @name, two in three control ones */
static void write_specials(struct gguf_writer *w, const char *name, u32 nr)
{
	const char **names = malloc((nr + 1) * sizeof(*names));
	s32 *classes = malloc((nr + 1) * sizeof(*classes));
	float *scores = calloc(nr + 1, sizeof(*scores));

	ASSERT_TRUE(names && classes && scores);
	names[0] = "<unk>";
	classes[0] = VOCAB_UNKNOWN;
	for (u32 i = 1; i <= nr; i++) {
		names[i] = name;
		classes[i] = i % 3 ? VOCAB_CONTROL : VOCAB_USER;
	}
	gw_str(w, "tokenizer.ggml.model", "llama");
	gw_arr_str(w, "tokenizer.ggml.tokens", names, nr + 1);
	gw_arr_f32(w, "tokenizer.ggml.scores", scores, nr + 1);
	gw_arr_i32(w, "tokenizer.ggml.token_type", classes, nr + 1);
	gw_bool(w, "tokenizer.ggml.add_space_prefix", false);
	free(names);
	free(classes);
	free(scores);
}

TEST_TIMEOUT(vocab, a_key_of_many_special_tokens_costs_no_more_than_one, 30)
{
	char err[KV_ERRLEN], *text = malloc(1 << 20);
	struct gguf_writer w = { 0 };
	struct vocab *v;
	size_t len, nr;
	u32 *ids;
	u8 *buf;

	ASSERT_TRUE(text);
	write_specials(&w, "a", 300000);
	buf = gw_finish(&w, &len);
	v = load(buf, len, err);
	ASSERT_TRUE(v);
	/* the first of each class */
	EXPECT_STREQ("1", IDS(v, "a", VOCAB_PARSE_SPECIAL));
	EXPECT_STREQ("3", IDS(v, "a", 0));
	memset(text, 'a', 1 << 20);
	ASSERT_EQ(0, vocab_tokenize(v, text, 1 << 20, 0, &ids, &nr));
	EXPECT_EQ(1 << 20, nr);
	free(ids);
	free(text);
	vocab_free(v);
}

TEST(vocab, a_special_token_with_a_long_name_is_refused)
{
	char name[258] = "", err[KV_ERRLEN];
	struct gguf_writer w = { 0 };
	struct vocab *v;
	size_t len;
	u8 *buf;

	memset(name, 'a', 256);
	write_specials(&w, name, 1);
	buf = gw_finish(&w, &len);
	v = load(buf, len, err);
	EXPECT_TRUE(v);
	vocab_free(v);
	name[256] = 'b';
	write_specials(&w, name, 1);
	expect_refused(&w, -EINVAL, "special token 1 has a name of 257 bytes");
}

#define NR_PAIRS 100u /* "aa" to "jj": tokens 256 and up, a merge each */

/* @bad: the number of a merge whose left half is no token, or NR_PAIRS */
static void write_pairs(struct gguf_writer *w, u32 bad)
{
	static char bytes[256][4], pairs[NR_PAIRS][4], merges[NR_PAIRS][8];
	const char *names[256 + NR_PAIRS], *lines[NR_PAIRS];

	for (u32 i = 0; i < 256; i++) {
		sample_byte_name(i, bytes[i]);
		names[i] = bytes[i];
	}
	for (u32 i = 0; i < NR_PAIRS; i++) {
		char l = (char)('a' + i / 10), r = (char)('a' + i % 10);

		snprintf(pairs[i], sizeof(pairs[i]), "%c%c", l, r);
		snprintf(merges[i], sizeof(merges[i]), "%s%c %c",
			 i == bad ? "zz" : "", l, r);
		names[256 + i] = pairs[i];
		lines[i] = merges[i];
	}
	gw_str(w, "tokenizer.ggml.model", "gpt2");
	gw_str(w, "tokenizer.ggml.pre", "qwen2");
	gw_arr_str(w, "tokenizer.ggml.tokens", names, 256 + NR_PAIRS);
	gw_arr_str(w, "tokenizer.ggml.merges", lines, NR_PAIRS);
}

TEST(gpt2, merges_are_read_in_any_number)
{
	char err[KV_ERRLEN], text[3], want[8];
	struct gguf_writer w = { 0 };
	struct vocab *v;
	size_t len;
	u8 *buf;

	write_pairs(&w, NR_PAIRS);
	buf = gw_finish(&w, &len);
	v = load(buf, len, err);
	ASSERT_TRUE(v);
	for (u32 i = 0; i < NR_PAIRS; i++) {
		snprintf(text, sizeof(text), "%c%c", 'a' + i / 10,
			 'a' + i % 10);
		snprintf(want, sizeof(want), "%u", 256 + i);
		EXPECT_STREQ(want, ids_of(v, text, 2, 0));
	}
	vocab_free(v);
}

TEST(gpt2, a_merge_of_what_is_no_token_is_named)
{
	static const u32 bad[] = { 0, 31, 32, 70, NR_PAIRS - 1 };
	struct gguf_writer w = { 0 };
	char words[32];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_pairs(&w, bad[i]);
		snprintf(words, sizeof(words), "merge %u 'zz", bad[i]);
		expect_refused(&w, -EINVAL, words);
	}
}

/* Or any text that spells it would be one. */
TEST(gpt2, a_merge_that_makes_a_control_token_is_refused)
{
	static const char *const merge = "a b";
	static char bytes[256][4];
	const char *names[257];
	struct gguf_writer w = { 0 };
	s32 classes[257];

	for (u32 i = 0; i < 256; i++) {
		sample_byte_name(i, bytes[i]);
		names[i] = bytes[i];
		classes[i] = VOCAB_NORMAL;
	}
	names[256] = "ab";
	classes[256] = VOCAB_CONTROL;
	gw_str(&w, "tokenizer.ggml.model", "gpt2");
	gw_str(&w, "tokenizer.ggml.pre", "qwen2");
	gw_arr_str(&w, "tokenizer.ggml.tokens", names, 257);
	gw_arr_i32(&w, "tokenizer.ggml.token_type", classes, 257);
	gw_arr_str(&w, "tokenizer.ggml.merges", &merge, 1);
	expect_refused(&w, -EINVAL, "merge 0 'a b' makes a control token");
}

TEST(vocab, inconsistent_tables_are_refused)
{
	static const char *const two[] = { "a", "b" };
	static const float scores[] = { 0, __builtin_nanf("") };
	struct gguf_writer w = { 0 };

	for (int i = 0; i < 5; i++) {
		static const struct {
			int rc;
			const char *words;
		} want[] = {
			{ -EINVAL, "token_type has 1 entries for 2 tokens" },
			{ -EINVAL, "token 1 has the unknown class 9" },
			{ -EINVAL, "scores has 1 entries for 2 tokens" },
			{ -EINVAL, "score of token 1 is no number" },
			{ -EINVAL, "byte token, but not named like <0x0A>" },
		};
		s32 classes[2] = { 1, i == 1 ? 9 : i == 4 ? 6 : 1 };
		float good[2] = { 0 };

		gw_str(&w, "tokenizer.ggml.model", "llama");
		gw_arr_str(&w, "tokenizer.ggml.tokens", two, 2);
		gw_arr_i32(&w, "tokenizer.ggml.token_type", classes,
			   i == 0 ? 1 : 2);
		gw_arr_f32(&w, "tokenizer.ggml.scores", i == 3 ? scores : good,
			   i == 2 ? 1 : 2);
		expect_refused(&w, want[i].rc, want[i].words);
	}
	gw_str(&w, "tokenizer.ggml.model", "llama");
	gw_arr_str(&w, "tokenizer.ggml.tokens", two, 2);
	gw_arr_f32(&w, "tokenizer.ggml.scores", (float[]){ 0, 0 }, 2);
	gw_u32(&w, "tokenizer.ggml.eos_token_id", 2);
	expect_refused(&w, -EINVAL, "eos_token_id is 2, but there are 2");
}

TEST_HARNESS_MAIN
