/* SPDX-License-Identifier: MIT */
/*
 * tok_pre.c - cutting a text into words, by qwen2's rules
 *
 * The rules are the alternatives of one regular expression, tried in order
 * at each place (L: letter, N: number, S: white space, case ignored in the
 * first):
 *
 *	1  ' followed by s, t, re, ve, m, ll or d
 *	2  at most one character that is no CR, LF, L or N; then L+
 *	3  N
 *	4  at most one space; then what is no S, L or N, +; then CR or LF, *
 *	5  S*, then CR or LF, +
 *	6  S+ that is not followed by something else than S
 *	7  S+
 *
 * Each is a scan here, with the backtracking worked out: 5 ends behind the
 * last CR or LF of the run of spaces, 6 leaves the last space of a run to
 * the word behind it. Every character starts one of them, so that the words
 * cover the text. A byte that is no UTF-8 counts as "something else".
 */
#include "runtime/model/unicode.h"
#include "runtime/model/vocab_priv.h"

struct ch {
	u32 cp;
	enum unicode_class class;
	size_t len; /* 0: the end of the text */
};

static struct ch at(const char *text, size_t len, size_t pos)
{
	struct ch c = { .cp = UNICODE_INVALID };

	if (pos >= len)
		return c;
	c.len = utf8_decode(text + pos, len - pos, &c.cp);
	if (c.cp != UNICODE_INVALID)
		c.class = unicode_class(c.cp);
	return c;
}

static bool is_newline(struct ch c)
{
	return c.len && (c.cp == '\r' || c.cp == '\n');
}

static bool is_class(struct ch c, enum unicode_class class)
{
	return c.len && c.class == class;
}

/* ASCII upper and lower case, and the long s, which folds to s. */
static u32 fold(struct ch c)
{
	if (c.cp == 0x17f)
		return 's';
	return c.cp >= 'A' && c.cp <= 'Z' ? c.cp + 0x20 : c.cp;
}

static size_t contraction(const char *text, size_t len)
{
	struct ch a, b;
	u32 x;

	if (text[0] != '\'')
		return 0;
	a = at(text, len, 1);
	x = fold(a);
	if (x == 's' || x == 't' || x == 'm' || x == 'd')
		return 1 + a.len;
	if (x != 'r' && x != 'v' && x != 'l')
		return 0;
	b = at(text, len, 1 + a.len);
	if (fold(b) != (x == 'l' ? 'l' : 'e'))
		return 0;
	return 1 + a.len + b.len;
}

static size_t skip_class(const char *text, size_t len, size_t pos,
			 enum unicode_class class)
{
	struct ch c = at(text, len, pos);

	while (is_class(c, class)) {
		pos += c.len;
		c = at(text, len, pos);
	}
	return pos;
}

/* Rules 5 to 7; @text begins with a space. */
static size_t spaces(const char *text, size_t len)
{
	size_t pos = 0, last = 0, newline = 0;
	struct ch c = at(text, len, 0);

	while (is_class(c, UNICODE_SPACE)) {
		last = pos;
		pos += c.len;
		if (is_newline(c))
			newline = pos;
		c = at(text, len, pos);
	}
	if (newline)
		return newline;
	return c.len && last ? last : pos;
}

size_t tok_pre_qwen2(const char *text, size_t len)
{
	struct ch c = at(text, len, 0), next;
	size_t pos = contraction(text, len);

	if (pos)
		return pos;
	if (c.class == UNICODE_LETTER)
		return skip_class(text, len, 0, UNICODE_LETTER);
	if (c.class == UNICODE_NUMBER)
		return c.len;
	next = at(text, len, c.len);
	if (!is_newline(c) && is_class(next, UNICODE_LETTER))
		return skip_class(text, len, c.len, UNICODE_LETTER);

	if (c.class == UNICODE_OTHER)
		pos = 0;
	else if (c.cp == ' ' && is_class(next, UNICODE_OTHER))
		pos = 1;
	else
		return spaces(text, len);
	pos = skip_class(text, len, pos, UNICODE_OTHER);
	for (c = at(text, len, pos); is_newline(c); c = at(text, len, pos))
		pos += c.len;
	return pos;
}
