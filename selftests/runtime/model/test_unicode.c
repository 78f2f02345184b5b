/* SPDX-License-Identifier: MIT */
/*
 * test_unicode.c - UTF-8 and the words of the pre-tokenizer
 *
 * The classes of all code points are compared with the reference's in
 * selftests/e2e/tokenizers.sh.
 *
 * san: address
 */
#include "selftests/harness.h"

#include "runtime/model/unicode.h"
#include "runtime/model/vocab_priv.h"

TEST(unicode, every_code_point_survives_encoding)
{
	for (u32 cp = 0; cp < 0x110000; cp++) {
		char buf[4];
		size_t n = utf8_encode(cp, buf);
		bool surrogate = cp >= 0xd800 && cp < 0xe000;
		u32 back;

		if (utf8_decode(buf, n, &back) != (surrogate ? 1 : n) ||
		    back != (surrogate ? UNICODE_INVALID : cp))
			th_fail(__FILE__, __LINE__, "U+%04X", cp);
	}
}

TEST(unicode, what_is_not_utf8_is_told_apart)
{
	static const struct {
		const char *s;
		int want;
	} cases[] = {
		{ "a", 1 },
		{ "\xc3\xa9", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x99\x82", 4 },
		{ "\xc3", 0 },
		{ "\xe2\x82", 0 },
		{ "\xf0\x9f\x99", 0 },
		{ "\x80", -1 },
		{ "\xc0\x80", -1 },
		{ "\xc1\xbf", -1 },
		{ "\xc3\x28", -1 },
		{ "\xe0\x9f\xbf", -1 },
		{ "\xe2\x82\x28", -2 },
		{ "\xed\xa0\x80", -1 },
		{ "\xf0\x8f\xbf\xbf", -1 },
		{ "\xf0\x9f\x99\x28", -3 },
		{ "\xf4\x90\x80\x80", -1 },
		{ "\xf5\x80\x80\x80", -1 },
		{ "\xff", -1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		if (!EXPECT_EQ(cases[i].want,
			       utf8_check(cases[i].s, strlen(cases[i].s))))
			TH_LOG("case %zu", i);
}

TEST(unicode, classes_of_some_characters)
{
	EXPECT_EQ(UNICODE_LETTER, unicode_class('z'));
	EXPECT_EQ(UNICODE_LETTER, unicode_class(0xe9));
	EXPECT_EQ(UNICODE_LETTER, unicode_class(0x4e00));
	EXPECT_EQ(UNICODE_NUMBER, unicode_class('7'));
	EXPECT_EQ(UNICODE_NUMBER, unicode_class(0xbd)); /* one half */
	EXPECT_EQ(UNICODE_SPACE, unicode_class(0x3000));
	EXPECT_EQ(UNICODE_SPACE, unicode_class('\v'));
	EXPECT_EQ(UNICODE_OTHER, unicode_class(0x301)); /* a mark */
	EXPECT_EQ(UNICODE_OTHER, unicode_class(0x200b));
	EXPECT_EQ(UNICODE_OTHER, unicode_class(0x10ffff));
}

/* The words of @text, with a bar between them. */
static const char *words(const char *text)
{
	static char out[512];
	size_t len = strlen(text), pos = 0, n = 0;

	while (pos < len) {
		size_t k = tok_pre_qwen2(text + pos, len - pos);

		if (n)
			out[n++] = '|';
		memcpy(out + n, text + pos, k);
		n += k;
		pos += k;
	}
	out[n] = '\0';
	return out;
}

TEST(pre_qwen2, cuts_as_the_expression_does)
{
	EXPECT_STREQ("Hello| world", words("Hello world"));
	EXPECT_STREQ("don|'t| STOP|'LL", words("don't STOP'LL"));
	EXPECT_STREQ("'s|x", words("'sx"));
	EXPECT_STREQ("'rx", words("'rx"));
	EXPECT_STREQ("'\xc5\xbf|x", words("'\xc5\xbfx"));
	EXPECT_STREQ("1|2|3| |4", words("123 4"));
	EXPECT_STREQ(" | two|.| x", words("  two. x"));
}

TEST(pre_qwen2, gives_the_last_space_to_the_next_word)
{
	EXPECT_STREQ("a|  | b", words("a   b"));
	EXPECT_STREQ("a|   ", words("a   "));
	EXPECT_STREQ("  |\tx", words("  \tx"));
	EXPECT_STREQ("\t|!", words("\t!"));
	EXPECT_STREQ("  | !", words("   !"));
}

TEST(pre_qwen2, newlines_end_a_run_of_spaces)
{
	EXPECT_STREQ("a| \n\n|  | b", words("a \n\n   b"));
	EXPECT_STREQ("!\n\n|x", words("!\n\nx"));
	EXPECT_STREQ("\r\n|x", words("\r\nx"));
	EXPECT_STREQ("a|\n\t\n|\tx", words("a\n\t\n\tx"));
}

TEST(pre_qwen2, a_mark_is_no_letter)
{
	EXPECT_STREQ("a|\xcc\x81|1", words("a\xcc\x81"
					   "1"));
	EXPECT_STREQ(" (|foo|)", words(" (foo)"));
}

TEST_HARNESS_MAIN
