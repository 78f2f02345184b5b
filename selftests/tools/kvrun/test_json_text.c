/* SPDX-License-Identifier: MIT */
/*
 * test_json_text.c - JSON strings in and out
 *
 * san: address
 */
#include "selftests/harness.h"

#include "tools/kvrun/json_text.c"

static const char *put(const char *s, size_t len)
{
	static char out[256];
	FILE *f = fmemopen(out, sizeof(out), "w");

	json_put_str(f, s, len);
	fclose(f);
	return out;
}

TEST(json_text, writes_valid_strings_whatever_the_bytes)
{
	EXPECT_STREQ("\"a\\\"\\\\b\\n\\u0000\\u001b\"",
		     put("a\"\\b\n\0\x1b", 7));
	EXPECT_STREQ("\"\xc3\xa9\"", put("\xc3\xa9", 2));
	EXPECT_STREQ("\"\xef\xbf\xbdx\"", put("\xffx", 2));
	EXPECT_STREQ("\"x\xef\xbf\xbd\"", put("x\xe2\x82", 3));
	EXPECT_STREQ("\"\"", put("", 0));
}

/* The string in @json, or "refused"; @len is checked too. */
static const char *get(const char *json, size_t want_len)
{
	static char out[256];
	char *exact = malloc(strlen(json) + 1), *s;
	size_t len;
	int rc;

	memcpy(exact, json, strlen(json));
	rc = json_get_str(exact, strlen(json), &s, &len);
	free(exact);
	if (rc)
		return "refused";
	EXPECT_EQ(want_len, len);
	memcpy(out, s, len);
	out[len] = '\0';
	free(s);
	return out;
}

TEST(json_text, reads_every_escape)
{
	EXPECT_STREQ("a\"\\/\n\r\t\b\f",
		     get("\"a\\\"\\\\\\/\\n\\r\\t\\b\\f\"", 9));
	EXPECT_STREQ("\xc3\xa9", get(" \"\\u00E9\" \r\n", 2));
	EXPECT_STREQ("\xf0\x9f\x99\x82", get("\"\\ud83d\\uDE42\"", 4));
	EXPECT_STREQ("\xed\xa0\xbdx", get("\"\\ud83dx\"", 4));
	EXPECT_STREQ("\xed\xb8\x82", get("\"\\ude02\"", 3));
	EXPECT_STREQ("", get("\"\\u0000\"", 1));
}

TEST(json_text, refuses_what_is_no_string)
{
	static const char *const bad[] = {
		"",	   "x",	      "\"",	   "\"a",	  "\"a\"b\"",
		"\"\\\"",  "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u 123\"",
		"\"a\nb\""
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_STREQ("refused", get(bad[i], 0));
}

TEST_HARNESS_MAIN
