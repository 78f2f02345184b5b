/* SPDX-License-Identifier: MIT */
/*
 * fmt.c - numbers for people
 *
 * Sizes have three significant places at most, so that a column of them is
 * five characters wide: 512, 1.5K, 16.0G, 119G. One decimal below 100 of a
 * unit, none from there on; a value that would round up to the next unit is
 * shown in that one. Machines use --bytes or --json, which give integers.
 */
#include "tools/kvctl/kvctl.h"

#include <inttypes.h>

/* The value in units of @base^i, rounded as it will be printed. */
static void scale(char *buf, size_t len, u64 n, u64 base,
		  const char *const *suffix, unsigned int nr)
{
	double v = (double)n;
	unsigned int i = 0;

	if (n < base) {
		snprintf(buf, len, "%" PRIu64 "%s", n, suffix[0]);
		return;
	}
	while (i + 1 < nr && (v >= (double)base - 0.5 || i == 0)) {
		v /= (double)base;
		i++;
	}
	if (v < 99.95)
		snprintf(buf, len, "%.1f%s", v, suffix[i]);
	else
		snprintf(buf, len, "%.0f%s", v, suffix[i]);
}

void fmt_bytes(char *buf, size_t len, u64 bytes, enum unit_mode mode)
{
	static const char *const bin[] = { "", "K", "M", "G", "T", "P", "E" };
	static const char *const si[] = { "B",	"kB", "MB", "GB",
					  "TB", "PB", "EB" };

	if (mode == UNIT_BYTES)
		snprintf(buf, len, "%" PRIu64, bytes);
	else if (mode == UNIT_SI)
		scale(buf, len, bytes, 1000, si, ARRAY_SIZE(si));
	else
		scale(buf, len, bytes, 1024, bin, ARRAY_SIZE(bin));
}

void fmt_count(char *buf, size_t len, u64 n)
{
	static const char *const si[] = { "", "k", "M", "G", "T", "P", "E" };

	if (n < 10000)
		snprintf(buf, len, "%" PRIu64, n);
	else
		scale(buf, len, n, 1000, si, ARRAY_SIZE(si));
}

void fmt_duration(char *buf, size_t len, u64 ns)
{
	u64 s = ns / 1000000000;

	if (ns < 1000)
		snprintf(buf, len, "%" PRIu64 "ns", ns);
	else if (ns < 1000000)
		snprintf(buf, len, "%" PRIu64 "us", ns / 1000);
	else if (ns < 1000000000)
		snprintf(buf, len, "%" PRIu64 "ms", ns / 1000000);
	else if (s < 60)
		snprintf(buf, len, "%" PRIu64 "s", s);
	else if (s < 3600)
		snprintf(buf, len, "%" PRIu64 "m%02" PRIu64 "s", s / 60,
			 s % 60);
	else if (s < 86400)
		snprintf(buf, len, "%" PRIu64 "h%02" PRIu64 "m", s / 3600,
			 s / 60 % 60);
	else
		snprintf(buf, len, "%" PRIu64 "d%02" PRIu64 "h", s / 86400,
			 s / 3600 % 24);
}

/*
 * A name came from a client: nothing in it may reach the terminal as a
 * control sequence. Bytes of UTF-8 above 0x9f pass.
 */
void fmt_clean(char *buf, size_t len, const char *s)
{
	size_t i, n = 0;

	for (i = 0; s[i] && n + 1 < len; i++) {
		unsigned char c = (unsigned char)s[i];

		/* U+0080..U+009f are controls too: c2 80 .. c2 9f */
		if (c < 0x20 || c == 0x7f ||
		    (c >= 0x80 && c < 0xa0 && i &&
		     (unsigned char)s[i - 1] == 0xc2))
			c = '?';
		buf[n++] = (char)c;
	}
	buf[n] = '\0';
}
