/* SPDX-License-Identifier: MIT */
/*
 * tok_llama.c - SentencePiece's BPE
 *
 * The symbols are the characters of the text, whether they have a token or
 * not. Two neighbours may merge if their bytes together are the key of a
 * token, and the token with the best score goes first. What is left:
 *
 *	a token		its id; an "unused" one is split again the way it
 *			was put together, down to tokens that are used
 *	anything else	byte tokens, or one unknown token for a run of such
 *			characters where the file has no byte tokens
 *
 * Bytes that are no UTF-8 are characters of one byte each.
 *
 * Hardly any token has a space behind something else. Where no token has
 * one behind the byte that precedes it, no merge can cross from there into
 * the space, and the text is cut: same ids, small heaps.
 */
#include <errno.h>
#include <string.h>

#include "runtime/model/tok_merge.h"
#include "runtime/model/unicode.h"
#include "runtime/model/vocab_priv.h"

struct llama {
	const struct vocab *v;
	const char *text;
	struct tok_work work;
	u32 *unused_left; /* per token: length of its left half, at least 1 */
	bool failed; /* no memory for unused_left */
};

static bool is_piece(const struct vocab *v, u32 id)
{
	u8 class = v->tokens[id].class;

	return class == VOCAB_NORMAL || class == VOCAB_USER ||
	       class == VOCAB_UNUSED;
}

/* Remember how an unused token came about. */
static void note_unused(struct llama *t, u32 id, u32 left_len)
{
	if (!t->unused_left)
		t->unused_left = calloc(t->v->nr, sizeof(*t->unused_left));
	if (t->unused_left)
		t->unused_left[id] = left_len;
	else
		t->failed = true;
}

static bool judge(void *ctx, const struct tok_sym *left,
		  const struct tok_sym *right, u32 *prio, u32 *id)
{
	struct llama *t = ctx;
	u32 len = left->len + right->len;

	if (len > t->v->max_key)
		return false;
	*id = vocab_lookup(t->v, t->text + left->start, len);
	if (*id == VOCAB_NONE || !is_piece(t->v, *id))
		return false;
	*prio = t->v->tokens[*id].prio;
	if (t->v->tokens[*id].class == VOCAB_UNUSED)
		note_unused(t, *id, left->len);
	return true;
}

/* One character without a token. */
static int emit_bytes(struct llama *t, const char *s, u32 len,
		      struct idlist *out)
{
	const struct vocab *v = t->v;
	int rc = 0;

	for (u32 i = 0; i < len && !rc; i++) {
		u32 id = v->byte_ids[(u8)s[i]];

		if (id != VOCAB_NONE)
			rc = idlist_add(out, id);
		else if (!out->nr || out->ids[out->nr - 1] != v->unk)
			rc = idlist_add(out, v->unk);
	}
	return rc;
}

/*
 * A symbol that stayed. The stack holds the right halves of unused tokens;
 * each is shorter than the token it comes from.
 */
static int emit(struct llama *t, const char *s, u32 len, struct idlist *out)
{
	struct tok_work stack = { 0 };
	int rc = tok_add_sym(&stack, 0, len, 0);

	while (!rc && stack.nr_syms) {
		struct tok_sym top = stack.syms[--stack.nr_syms];
		u32 id = vocab_lookup(t->v, s + top.start, top.len), left;

		if (id == VOCAB_NONE || !is_piece(t->v, id)) {
			rc = emit_bytes(t, s + top.start, top.len, out);
			continue;
		}
		left = t->unused_left && t->v->tokens[id].class == VOCAB_UNUSED
			       ? t->unused_left[id]
			       : 0;
		if (!left || left >= top.len) {
			rc = idlist_add(out, id);
			continue;
		}
		rc = tok_add_sym(&stack, top.start + left, top.len - left, 0);
		if (!rc)
			rc = tok_add_sym(&stack, top.start, left, 0);
	}
	tok_work_fini(&stack);
	return rc;
}

static int emit_all(struct llama *t, struct idlist *out)
{
	const struct tok_work *w = &t->work;

	for (u32 i = 0; i != TOK_END; i = w->syms[i].next) {
		const struct tok_sym *s = &w->syms[i];
		int rc;

		if (t->v->has_unused)
			rc = emit(t, t->text + s->start, s->len, out);
		else if (s->id != VOCAB_NONE)
			rc = idlist_add(out, s->id);
		else
			rc = emit_bytes(t, t->text + s->start, s->len, out);
		if (rc)
			return rc;
	}
	return 0;
}

static bool is_mark(const char *s, u32 len)
{
	return len >= SPACE_MARK_LEN && !memcmp(s, SPACE_MARK, SPACE_MARK_LEN);
}

/* Fill the symbols from @from on and move it to the next cut. */
static int next_word(struct llama *t, u32 *from, u32 len)
{
	const struct vocab *v = t->v;
	bool in_text = false;
	u32 pos = *from;

	t->work.nr_syms = 0;
	while (pos < len) {
		bool mark = is_mark(t->text + pos, len - pos);
		u32 cp, n, id;
		int rc;

		if (mark && in_text && !v->joins_space[(u8)t->text[pos - 1]])
			break;
		n = (u32)utf8_decode(t->text + pos, len - pos, &cp);
		id = vocab_lookup(v, t->text + pos, n);
		if (id != VOCAB_NONE && !is_piece(v, id))
			id = VOCAB_NONE;
		rc = tok_add_sym(&t->work, pos, n, id);
		if (rc)
			return rc;
		in_text = !mark;
		pos += n;
	}
	*from = pos;
	return 0;
}

int tok_llama(const struct vocab *v, const char *text, u32 len,
	      struct idlist *out)
{
	struct llama t = { .v = v, .text = text };
	u32 pos = 0;
	int rc = 0;

	while (pos < len && !rc) {
		rc = next_word(&t, &pos, len);
		if (!rc)
			rc = tok_merge(&t.work, judge, &t);
		if (!rc && t.failed)
			rc = -ENOMEM;
		if (!rc)
			rc = emit_all(&t, out);
	}
	tok_work_fini(&t.work);
	free(t.unused_left);
	return rc;
}
