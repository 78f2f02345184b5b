/* SPDX-License-Identifier: MIT */
/*
 * vocab_text.c - from text to ids and from ids to text
 *
 * Tokenizing: the parts become one text (for llama with its spaces as
 * U+2581), which is walked once. Where a special token begins, the longest
 * is taken and the text before it goes to the tokenizer as one span. A
 * control token counts only within a part that allows it.
 *
 * Detokenizing is the concatenation of pieces. The streaming form hands out
 * whole characters only: a piece may end inside one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/unicode.h"
#include "runtime/model/vocab_priv.h"

int idlist_add(struct idlist *l, u32 id)
{
	if (l->nr == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		void *p = reallocarray(l->ids, cap, sizeof(*l->ids));

		if (!p)
			return -ENOMEM;
		l->ids = p;
		l->cap = cap;
	}
	l->ids[l->nr++] = id;
	return 0;
}

static size_t put_part(const struct vocab *v, char *out,
		       const struct vocab_part *p)
{
	size_t n = 0;

	if (v->kind != VOCAB_LLAMA) {
		if (p->len)
			memcpy(out, p->text, p->len);
		return p->len;
	}
	for (size_t i = 0; i < p->len; i++) {
		if (p->text[i] == ' ') {
			memcpy(out + n, SPACE_MARK, SPACE_MARK_LEN);
			n += SPACE_MARK_LEN;
		} else {
			out[n++] = p->text[i];
		}
	}
	return n;
}

/*
 * The parts as one text. @ends gets the end of each. Returns the text, NULL
 * if there is no memory.
 */
static char *join(const struct vocab *v, const struct vocab_part *parts,
		  size_t nr_parts, u32 *ends, u32 *len)
{
	size_t room = SPACE_MARK_LEN, n = 0;
	char *text;

	for (size_t i = 0; i < nr_parts; i++) {
		room += parts[i].len;
		if (v->kind != VOCAB_LLAMA)
			continue;
		for (size_t j = 0; j < parts[i].len; j++)
			if (parts[i].text[j] == ' ')
				room += SPACE_MARK_LEN - 1;
	}
	text = malloc(room);
	if (!text)
		return NULL;
	if (v->kind == VOCAB_LLAMA && v->add_space && room > SPACE_MARK_LEN) {
		memcpy(text, SPACE_MARK, SPACE_MARK_LEN);
		n = SPACE_MARK_LEN;
	}
	for (size_t i = 0; i < nr_parts; i++) {
		n += put_part(v, text + n, &parts[i]);
		ends[i] = (u32)n;
	}
	*len = (u32)n;
	return text;
}

static int add_span(const struct vocab *v, const char *text, u32 len,
		    struct idlist *out)
{
	if (!len)
		return 0;
	return v->kind == VOCAB_LLAMA ? tok_llama(v, text, len, out)
				      : tok_gpt2(v, text, len, out);
}

static int walk(const struct vocab *v, const char *text, u32 len,
		const struct vocab_part *parts, const u32 *ends,
		struct idlist *out)
{
	u32 pos = 0, from = 0;
	size_t part = 0;
	int rc;

	while (pos < len) {
		u32 limit, id;

		while (pos >= ends[part])
			part++;
		limit = parts[part].flags & VOCAB_PARSE_SPECIAL
				? ends[part] - pos
				: 0;
		id = vocab_special_match(v, text + pos, len - pos, limit);
		if (id == VOCAB_NONE) {
			pos++;
			continue;
		}
		rc = add_span(v, text + from, pos - from, out);
		if (!rc)
			rc = idlist_add(out, id);
		if (rc)
			return rc;
		pos += v->tokens[id].key_len;
		from = pos;
	}
	return add_span(v, text + from, len - from, out);
}

int vocab_tokenize_parts(const struct vocab *v, const struct vocab_part *parts,
			 size_t nr_parts, unsigned int flags, u32 **ids,
			 size_t *nr)
{
	struct idlist out = { 0 };
	size_t total = 0;
	char *text = NULL;
	u32 *ends, len;
	int rc = 0;

	for (size_t i = 0; i < nr_parts; i++) {
		if (parts[i].len > VOCAB_TEXT_MAX - total)
			return -E2BIG;
		total += parts[i].len;
	}
	ends = calloc(nr_parts + 1, sizeof(*ends));
	if (ends)
		text = join(v, parts, nr_parts, ends, &len);
	if (!text)
		rc = -ENOMEM;
	if (!rc && flags & VOCAB_ADD_SPECIAL && v->add_bos)
		rc = idlist_add(&out, v->bos);
	if (!rc)
		rc = walk(v, text, len, parts, ends, &out);
	if (!rc && flags & VOCAB_ADD_SPECIAL && v->add_eos)
		rc = idlist_add(&out, v->eos);
	if (!rc && !out.ids) { /* an empty list is an array too */
		out.ids = malloc(sizeof(*out.ids));
		if (!out.ids)
			rc = -ENOMEM;
	}
	free(text);
	free(ends);
	if (rc) {
		free(out.ids);
		return rc;
	}
	*ids = out.ids;
	*nr = out.nr;
	return 0;
}

int vocab_tokenize(const struct vocab *v, const char *text, size_t len,
		   unsigned int flags, u32 **ids, size_t *nr)
{
	struct vocab_part part = { text, len, flags & VOCAB_PARSE_SPECIAL };

	return vocab_tokenize_parts(v, &part, 1, flags, ids, nr);
}

/* What a token adds to a text; 0 for one that is left out. */
static size_t shown(const struct vocab *v, u32 id, unsigned int flags,
		    const char **piece)
{
	size_t len;

	*piece = vocab_piece(v, id, &len);
	if (flags & VOCAB_SKIP_SPECIAL && v->tokens[id].class == VOCAB_CONTROL)
		return 0;
	return len;
}

int vocab_detokenize(const struct vocab *v, const u32 *ids, size_t nr,
		     unsigned int flags, char **text, size_t *len)
{
	bool strip = flags & VOCAB_STRIP_ADDED;
	size_t total = 0, n = 0, skip = 0;
	const char *piece;
	char *out;

	for (size_t i = 0; i < nr; i++)
		if (ids[i] >= v->nr)
			return -ERANGE;
	if (strip && v->add_bos && nr && ids[0] == v->bos) {
		ids++;
		nr--;
	}
	if (strip && v->add_eos && nr && ids[nr - 1] == v->eos)
		nr--;
	for (size_t i = 0; i < nr; i++)
		total += shown(v, ids[i], flags, &piece);
	out = malloc(total + 1);
	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < nr; i++) {
		size_t k = shown(v, ids[i], flags, &piece);

		memcpy(out + n, piece, k);
		n += k;
	}
	if (strip && v->kind == VOCAB_LLAMA && v->add_space && n &&
	    out[0] == ' ')
		skip = 1;
	memmove(out, out + skip, n - skip);
	out[n - skip] = '\0';
	*text = out;
	*len = n - skip;
	return 0;
}

/* Append to a buffer of the next power of two over its length. */
static int append(char **out, size_t *len, const char *s, size_t n)
{
	size_t need = *len + n + 1, cap = 64;
	char *p;

	while (cap < need)
		cap *= 2;
	p = realloc(*out, cap);
	if (!p)
		return -ENOMEM;
	*out = p;
	if (n)
		memcpy(p + *len, s, n);
	*len += n;
	p[*len] = '\0';
	return 0;
}

/* One more byte: out goes what is complete or can never be. */
static int push_byte(struct vocab_stream *st, u8 b, char **out, size_t *len)
{
	int rc = 0;

	st->hold[st->nr_hold++] = b;
	while (st->nr_hold && !rc) {
		const char *held = (const char *)st->hold;
		int n = utf8_check(held, st->nr_hold);

		if (!n)
			break;
		if (n > 0) {
			rc = append(out, len, held, (size_t)n);
		} else {
			n = -n;
			rc = append(out, len, UNICODE_REPLACEMENT, 3);
		}
		st->nr_hold = (u8)(st->nr_hold - n);
		memmove(st->hold, st->hold + n, st->nr_hold);
	}
	return rc;
}

int vocab_stream_push(const struct vocab *v, struct vocab_stream *st, u32 id,
		      unsigned int flags, char **out, size_t *len)
{
	const char *piece;
	size_t n;
	int rc;

	if (id >= v->nr)
		return -ERANGE;
	n = shown(v, id, flags, &piece);
	rc = append(out, len, "", 0);
	for (size_t i = 0; i < n && !rc; i++)
		rc = push_byte(st, (u8)piece[i], out, len);
	return rc;
}

int vocab_stream_end(struct vocab_stream *st, char **out, size_t *len)
{
	bool cut = st->nr_hold;

	st->nr_hold = 0;
	return append(out, len, UNICODE_REPLACEMENT, cut ? 3 : 0);
}
