/* SPDX-License-Identifier: MIT */
/*
 * tok_gpt2.c - byte-level BPE
 *
 * Each word starts as its bytes, which all have a token; two neighbours may
 * merge if the file's list has them as a pair, and the pair that is listed
 * first goes first.
 */
#include "runtime/model/tok_merge.h"
#include "runtime/model/vocab_priv.h"

static bool judge(void *ctx, const struct tok_sym *left,
		  const struct tok_sym *right, u32 *prio, u32 *id)
{
	const struct merge *m = vocab_gpt2_merge(ctx, left->id, right->id);

	if (!m)
		return false;
	*prio = m->rank;
	*id = m->id;
	return true;
}

static int tok_word(const struct vocab *v, struct tok_work *w, const char *text,
		    u32 from, u32 len, struct idlist *out)
{
	int rc = 0;

	w->nr_syms = 0;
	for (u32 i = 0; i < len && !rc; i++)
		rc = tok_add_sym(w, from + i, 1,
				 v->byte_ids[(u8)text[from + i]]);
	if (!rc)
		rc = tok_merge(w, judge, (void *)v);
	for (u32 i = 0; i != TOK_END && !rc; i = w->syms[i].next)
		rc = idlist_add(out, w->syms[i].id);
	return rc;
}

int tok_gpt2(const struct vocab *v, const char *text, u32 len,
	     struct idlist *out)
{
	struct tok_work w = { 0 };
	u32 pos = 0;
	int rc = 0;

	while (pos < len && !rc) {
		u32 n = (u32)tok_pre_qwen2(text + pos, len - pos);

		rc = tok_word(v, &w, text, pos, n, out);
		pos += n;
	}
	tok_work_fini(&w);
	return rc;
}
