/* SPDX-License-Identifier: MIT */
/*
 * test_stop.c - stop strings in a text that comes in pieces
 *
 * san: address
 */
#include <errno.h>

#include "runtime/model/unicode.h"
#include "runtime/server/stop.h"
#include "selftests/harness.h"

static void add(struct stop_list *l, const char *s)
{
	ASSERT_EQ(0, stop_add(l, s, strlen(s)));
}

TEST(stop, what_ends_first_counts_and_of_those_the_longest)
{
	struct stop_list l = { 0 };
	size_t at, end;

	add(&l, "abcd");
	add(&l, "b");
	add(&l, "ab");
	ASSERT_TRUE(stop_find(&l, "xabcd", 5, 0, &at, &end));
	EXPECT_EQ(1, at);
	EXPECT_EQ(3, end);
	EXPECT_FALSE(stop_find(&l, "xyz", 3, 0, &at, &end));
	EXPECT_FALSE(stop_find(&l, "xab", 3, 3, &at, &end));
	stop_fini(&l);
}

TEST(stop, a_beginning_of_one_is_held_back)
{
	struct stop_list l = { 0 };

	add(&l, "END.");
	add(&l, "\xe2\x82\xac\xe2\x82\xac");
	EXPECT_EQ(3, stop_safe(&l, "xyz", 3));
	EXPECT_EQ(2, stop_safe(&l, "xyE", 3));
	EXPECT_EQ(2, stop_safe(&l, "xyEND", 5));
	EXPECT_EQ(5, stop_safe(&l, "xyENE", 5) + 1);
	EXPECT_EQ(1, stop_safe(&l, "x\xe2\x82\xac", 4));
	EXPECT_EQ(0, stop_safe(&l, "", 0));
	stop_fini(&l);
}

TEST(stop, too_much_is_refused)
{
	struct stop_list l = { 0 };
	char big[STOP_BYTES_MAX + 1];
	u32 i;

	memset(big, 'x', sizeof(big));
	EXPECT_EQ(-EINVAL, stop_add(&l, "", 0));
	EXPECT_EQ(-E2BIG, stop_add(&l, big, sizeof(big)));
	ASSERT_EQ(0, stop_add(&l, big, sizeof(big) - STOP_MAX));
	for (i = 1; i < STOP_MAX; i++)
		ASSERT_EQ(0, stop_add(&l, "y", 1));
	EXPECT_EQ(-E2BIG, stop_add(&l, "y", 1));
	stop_fini(&l);
}

/* The first end of any of them, found without thinking. */
static bool by_hand(const struct stop_list *l, const char *text, size_t len,
		    size_t *at)
{
	size_t e, b;
	u32 i;

	for (e = 1; e <= len; e++)
		for (b = 0; b < e; b++)
			for (i = 0; i < l->nr; i++)
				if (l->len[i] == e - b &&
				    !memcmp(text + b, l->s[i], e - b)) {
					*at = b;
					return true;
				}
	return false;
}

static const char *const letters[] = { "a", "b", "\xc3\xa4", "\xe2\x82\xac",
				       "\xf0\x9f\x98\x80" };

static size_t random_text(u64 *seed, char *out, u32 most)
{
	u32 n = (u32)(test_rand(seed) % most), i;
	size_t len = 0;

	for (i = 0; i < n; i++) {
		const char *c = letters[test_rand(seed) % ARRAY_SIZE(letters)];

		memcpy(out + len, c, strlen(c));
		len += strlen(c);
	}
	return len;
}

/*
 * In whatever pieces of characters the text comes: the same end, no byte shown
 * that has to be taken back, none held that could have been shown, and never a
 * part of a character.
 */
static void in_pieces(const struct stop_list *l, const char *text, size_t len,
		      u64 *seed)
{
	size_t upto = 0, shown = 0, at, end, want_at = len, n;
	bool want = by_hand(l, text, len, &want_at), got = false;
	u32 cp;

	while (upto < len && !got) {
		size_t before = upto;

		do
			upto += utf8_decode(text + upto, len - upto, &cp);
		while (upto < len && test_rand(seed) % 2);
		got = stop_find(l, text, upto, before, &at, &end);
		n = got ? at : stop_safe(l, text, upto);
		EXPECT_GE(n, shown);
		EXPECT_LE(n, want_at);
		EXPECT_TRUE(n == len || ((u8)text[n] & 0xc0) != 0x80);
		shown = n;
	}
	EXPECT_EQ(want, got);
	if (got)
		EXPECT_EQ(want_at, at);
}

TEST(stop, pieces_make_no_difference)
{
	u64 seed = test_seed();
	char text[512], s[32];
	u32 round, i;

	for (round = 0; round < 4000; round++) {
		struct stop_list l = { 0 };
		size_t len = random_text(&seed, text, 60), n;

		for (i = 0; i < 1 + round % 4; i++) {
			n = random_text(&seed, s, 5);
			if (n)
				ASSERT_EQ(0, stop_add(&l, s, n));
		}
		in_pieces(&l, text, len, &seed);
		stop_fini(&l);
	}
}

TEST_HARNESS_MAIN
