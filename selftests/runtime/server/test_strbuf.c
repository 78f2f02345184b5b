/* SPDX-License-Identifier: MIT */
/*
 * test_strbuf.c - JSON that is written is JSON that is read
 *
 * san: address
 */
#include <jansson.h>

#include "runtime/model/unicode.h"
#include "runtime/server/api_error.h"
#include "runtime/server/strbuf.h"
#include "selftests/harness.h"

/* What a reader has to get: the bytes, with U+FFFD for what is no UTF-8. */
static void expect_read_back(const char *s, size_t len)
{
	struct strbuf b = { 0 }, want = { 0 };
	json_t *v;
	size_t i = 0, n;
	u32 cp;

	while (i < len) {
		n = utf8_decode(s + i, len - i, &cp);
		if (cp == UNICODE_INVALID)
			strbuf_puts(&want, UNICODE_REPLACEMENT);
		else
			strbuf_add(&want, s + i, n);
		i += n;
	}
	strbuf_put_json(&b, s, len);
	v = json_loadb(b.p, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (EXPECT_TRUE(json_is_string(v)) &&
	    EXPECT_EQ(want.len, json_string_length(v)) && want.len)
		EXPECT_EQ(0, memcmp(want.p, json_string_value(v), want.len));
	json_decref(v);
	strbuf_free(&b);
	strbuf_free(&want);
}

TEST(strbuf, any_bytes_become_a_json_string)
{
	u64 seed = test_seed();
	char s[64];
	u32 round, i, n;

	expect_read_back("", 0);
	expect_read_back("a\"b\\c\n\r\t\b\x7f\x01", 10);
	for (round = 0; round < 20000; round++) {
		n = (u32)(test_rand(&seed) % sizeof(s));
		for (i = 0; i < n; i++)
			s[i] = (char)(test_rand(&seed) %
				      (round % 2 ? 256 : 128));
		expect_read_back(s, n);
	}
}

TEST(strbuf, numbers_are_json_numbers)
{
	static const double v[] = { 0.0,      -0.5,	 1e-300, 1e300, -1e300,
				    INFINITY, -INFINITY, -1e-7,	 3.0,	NAN };
	struct strbuf b = { 0 };
	size_t i;
	json_t *j;

	strbuf_puts(&b, "[");
	for (i = 0; i < ARRAY_SIZE(v); i++) {
		strbuf_puts(&b, i ? "," : "");
		strbuf_put_real(&b, v[i]);
	}
	strbuf_puts(&b, ",");
	strbuf_put_uint(&b, 0);
	strbuf_puts(&b, ",");
	strbuf_put_uint(&b, 9007199254740991ull);
	strbuf_puts(&b, "]");
	j = json_loadb(b.p, b.len, 0, NULL);
	ASSERT_TRUE(json_is_array(j));
	EXPECT_EQ(12, json_array_size(j));
	EXPECT_EQ(9999, (int)json_number_value(json_array_get(j, 5)));
	EXPECT_EQ(-9999, (int)json_number_value(json_array_get(j, 6)));
	EXPECT_EQ(0, (int)json_number_value(json_array_get(j, 9)));
	EXPECT_EQ(9007199254740991, json_integer_value(json_array_get(j, 11)));
	json_decref(j);
	strbuf_free(&b);
}

TEST(strbuf, a_refusal_has_the_four_members)
{
	struct api_error e = { 0 };
	struct strbuf b = { 0 };
	json_t *all, *j;

	EXPECT_EQ(-EINVAL, api_refuse(&e, 400, "top_p", "\"%s\"", "\xff"));
	api_error_put(&b, &e);
	all = json_loadb(b.p, b.len, 0, NULL);
	j = json_object_get(all, "error");
	EXPECT_EQ(4, json_object_size(j));
	EXPECT_EQ(0, strcmp("top_p",
			    json_string_value(json_object_get(j, "param"))));
	EXPECT_EQ(0, strcmp("invalid_request_error",
			    json_string_value(json_object_get(j, "type"))));
	EXPECT_TRUE(json_is_null(json_object_get(j, "code")));
	json_decref(all);
	strbuf_free(&b);
}

TEST_HARNESS_MAIN
