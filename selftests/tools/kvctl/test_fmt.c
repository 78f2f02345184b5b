/* SPDX-License-Identifier: MIT */
/*
 * test_fmt.c - numbers and names as kvctl prints them
 *
 * san: address
 */
#include "selftests/harness.h"
#include "tools/kvctl/fmt.c"

static const char *bytes(u64 n, enum unit_mode mode)
{
	static char buf[32];

	fmt_bytes(buf, sizeof(buf), n, mode);
	return buf;
}

static const char *duration(u64 ns)
{
	static char buf[32];

	fmt_duration(buf, sizeof(buf), ns);
	return buf;
}

static const char *clean(const char *s)
{
	static char buf[32];

	fmt_clean(buf, sizeof(buf), s);
	return buf;
}

TEST(fmt, sizes_are_binary_with_three_places)
{
	EXPECT_STREQ("0", bytes(0, UNIT_BINARY));
	EXPECT_STREQ("1023", bytes(1023, UNIT_BINARY));
	EXPECT_STREQ("1.0K", bytes(1024, UNIT_BINARY));
	EXPECT_STREQ("1.5K", bytes(1536, UNIT_BINARY));
	EXPECT_STREQ("99.9K", bytes(102298, UNIT_BINARY));
	EXPECT_STREQ("100K", bytes(102400, UNIT_BINARY));
	EXPECT_STREQ("512M", bytes(512ull << 20, UNIT_BINARY));
	EXPECT_STREQ("8.0G", bytes(8ull << 30, UNIT_BINARY));
	EXPECT_STREQ("16.0E", bytes(~0ull, UNIT_BINARY));
}

TEST(fmt, a_size_that_rounds_up_takes_the_next_unit)
{
	EXPECT_STREQ("1023K", bytes((1ull << 20) - 1024, UNIT_BINARY));
	EXPECT_STREQ("1.0M", bytes((1ull << 20) - 1, UNIT_BINARY));
	EXPECT_STREQ("1.0MB", bytes(999999, UNIT_SI));
}

TEST(fmt, other_units_are_si_and_plain_bytes)
{
	EXPECT_STREQ("999B", bytes(999, UNIT_SI));
	EXPECT_STREQ("8.6GB", bytes(8ull << 30, UNIT_SI));
	EXPECT_STREQ("8589934592", bytes(8ull << 30, UNIT_BYTES));
}

TEST(fmt, durations_have_two_units_at_most)
{
	EXPECT_STREQ("999ns", duration(999));
	EXPECT_STREQ("20us", duration(20000));
	EXPECT_STREQ("3ms", duration(3999999));
	EXPECT_STREQ("59s", duration(59999999999ull));
	EXPECT_STREQ("1m00s", duration(60000000000ull));
	EXPECT_STREQ("3h05m", duration(11100ull * 1000000000));
	EXPECT_STREQ("3d04h", duration(273600ull * 1000000000));
}

TEST(fmt, nothing_a_client_named_reaches_the_terminal_as_a_control)
{
	EXPECT_STREQ("a?[31mb", clean("a\033[31mb"));
	EXPECT_STREQ("tab?nl?del?", clean("tab\tnl\ndel\177"));
	EXPECT_STREQ("\xc2?", clean("\xc2\x9b"));
	EXPECT_STREQ("\xc3\xa4\xe2\x82\xac", clean("\xc3\xa4\xe2\x82\xac"));
	EXPECT_EQ(31, strlen(clean("0123456789012345678901234567890123456")));
}

TEST_HARNESS_MAIN
