/* SPDX-License-Identifier: MIT */
/*
 * unicode.c - UTF-8 decoding and character classes
 *
 * ASCII is a table, everything else a binary search in at most ten steps
 * over the ranges of unicode_tab.h.
 */
#include "runtime/model/unicode.h"

#include "runtime/model/unicode_tab.h"

static bool in_ranges(const struct unicode_range *r, size_t nr, u32 cp)
{
	size_t lo = 0, hi = nr;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (cp > r[mid].hi)
			lo = mid + 1;
		else if (cp < r[mid].lo)
			hi = mid;
		else
			return true;
	}
	return false;
}

enum unicode_class unicode_class(u32 cp)
{
	if (cp < 0x80) {
		u32 low = cp | 0x20;

		if (low >= 'a' && low <= 'z')
			return UNICODE_LETTER;
		if (cp >= '0' && cp <= '9')
			return UNICODE_NUMBER;
		return cp == ' ' || (cp >= 9 && cp <= 13) ? UNICODE_SPACE
							  : UNICODE_OTHER;
	}
	if (in_ranges(unicode_letters, ARRAY_SIZE(unicode_letters), cp))
		return UNICODE_LETTER;
	if (in_ranges(unicode_spaces, ARRAY_SIZE(unicode_spaces), cp))
		return UNICODE_SPACE;
	if (in_ranges(unicode_numbers, ARRAY_SIZE(unicode_numbers), cp))
		return UNICODE_NUMBER;
	return UNICODE_OTHER;
}

/*
 * The second byte decides about overlong forms, surrogates and the upper
 * end; Unicode's table 3-7 as arithmetic.
 */
static bool second_ok(u8 lead, u8 b)
{
	switch (lead) {
	case 0xe0:
		return b >= 0xa0 && b <= 0xbf;
	case 0xed:
		return b >= 0x80 && b <= 0x9f;
	case 0xf0:
		return b >= 0x90 && b <= 0xbf;
	case 0xf4:
		return b >= 0x80 && b <= 0x8f;
	}
	return (b & 0xc0) == 0x80;
}

static int lead_len(u8 b)
{
	if (b < 0x80)
		return 1;
	if (b >= 0xc2 && b <= 0xdf)
		return 2;
	if (b >= 0xe0 && b <= 0xef)
		return 3;
	if (b >= 0xf0 && b <= 0xf4)
		return 4;
	return 0;
}

int utf8_check(const char *s, size_t len)
{
	const u8 *p = (const u8 *)s;
	int n = lead_len(p[0]);

	if (!n)
		return -1;
	for (int i = 1; i < n; i++) {
		if ((size_t)i >= len)
			return 0;
		if (i == 1 ? !second_ok(p[0], p[1]) : (p[i] & 0xc0) != 0x80)
			return -i;
	}
	return n;
}

size_t utf8_decode(const char *s, size_t len, u32 *cp)
{
	const u8 *p = (const u8 *)s;
	int n = utf8_check(s, len);

	if (n <= 0) {
		*cp = UNICODE_INVALID;
		return 1;
	}
	*cp = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
	for (int i = 1; i < n; i++)
		*cp = *cp << 6 | (p[i] & 0x3f);
	return (size_t)n;
}

size_t utf8_encode(u32 cp, char *out)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xc0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 0x3f));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xe0 | cp >> 12);
		out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
		out[2] = (char)(0x80 | (cp & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | cp >> 18);
	out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
	out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
	out[3] = (char)(0x80 | (cp & 0x3f));
	return 4;
}
