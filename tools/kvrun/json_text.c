/* SPDX-License-Identifier: MIT */
/*
 * json_text.c - JSON strings and lists of ids
 */
#include "tools/kvrun/json_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/unicode.h"

static void put_ascii(FILE *out, u8 b)
{
	static const char names[] = "\"\"\\\\\nn\rr\tt\bb\ff";

	for (const char *n = names; *n; n += 2)
		if ((u8)*n == b) {
			fputc('\\', out);
			fputc(n[1], out);
			return;
		}
	if (b < 0x20 || b == 0x7f)
		fprintf(out, "\\u%04x", b);
	else
		fputc(b, out);
}

void json_put_str(FILE *out, const char *s, size_t len)
{
	fputc('"', out);
	while (len) {
		int n = utf8_check(s, len);

		if (n == 1) {
			put_ascii(out, (u8)*s);
		} else if (n > 0) {
			fwrite(s, 1, (size_t)n, out);
		} else {
			fputs(UNICODE_REPLACEMENT, out);
			n = n ? -n : (int)len; /* 0: cut off by the end */
		}
		s += n;
		len -= (size_t)n;
	}
	fputc('"', out);
}

void json_put_ids(FILE *out, const u32 *ids, size_t nr)
{
	fputc('[', out);
	for (size_t i = 0; i < nr; i++)
		fprintf(out, "%s%u", i ? "," : "", ids[i]);
	fputc(']', out);
}

static bool get_hex4(const char *s, const char *end, u32 *v)
{
	*v = 0;
	if (end - s < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		const char *digits = "0123456789abcdef";
		const char *d = memchr(digits, s[i] | 0x20, 16);

		/* the | 0x20 maps controls onto digits: those are no hex */
		if (!d || (u8)s[i] < '0')
			return false;
		*v = *v << 4 | (u32)(d - digits);
	}
	return true;
}

/* \uXXXX, or a pair of them; @s is behind the u. Returns its end. */
static const char *get_unicode(const char *s, const char *end, char **out)
{
	u32 hi, lo;

	if (!get_hex4(s, end, &hi))
		return NULL;
	s += 4;
	if (hi >= 0xd800 && hi < 0xdc00 && end - s >= 6 && s[0] == '\\' &&
	    s[1] == 'u' && get_hex4(s + 2, end, &lo) && lo >= 0xdc00 &&
	    lo < 0xe000) {
		hi = 0x10000 + ((hi - 0xd800) << 10) + (lo - 0xdc00);
		s += 6;
	}
	*out += utf8_encode(hi, *out);
	return s;
}

static const char *get_escape(const char *s, const char *end, char **out)
{
	static const char names[] = "\"\"\\\\//n\nr\rt\tb\bf\f";

	if (s == end)
		return NULL;
	if (*s == 'u')
		return get_unicode(s + 1, end, out);
	for (const char *n = names; *n; n += 2)
		if (*n == *s) {
			*(*out)++ = n[1];
			return s + 1;
		}
	return NULL;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int json_get_str(const char *in, size_t len, char **out, size_t *out_len)
{
	const char *s = in, *end = in + len;
	char *buf, *p;

	while (s < end && is_blank(*s))
		s++;
	while (end > s && is_blank(end[-1]))
		end--;
	if (end - s < 2 || *s != '"' || end[-1] != '"')
		return -EINVAL;
	s++;
	end--;
	buf = malloc((size_t)(end - s) + 1);
	if (!buf)
		return -ENOMEM;
	for (p = buf; s && s < end;) {
		if (*s == '\\')
			s = get_escape(s + 1, end, &p);
		else if (*s == '"' || (u8)*s < 0x20)
			s = NULL;
		else
			*p++ = *s++;
	}
	if (!s) {
		free(buf);
		return -EINVAL;
	}
	*out = buf;
	*out_len = (size_t)(p - buf);
	return 0;
}
