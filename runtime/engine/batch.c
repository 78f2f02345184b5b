/* SPDX-License-Identifier: MIT */
/*
 * batch.c - the flat ragged batch of a step
 *
 * One sequence behind the other: tables, positions, ids, and which rows want
 * logits. A batch can be made before it is known what the last step has
 * decided: an id that is not there yet is 0 until batch_complete().
 */
#include <stdlib.h>

#include "runtime/engine/engine_priv.h"

int batch_init(struct batch *b, u32 seqs, u32 tokens)
{
	*b = (struct batch){
		.seqs = calloc(seqs, sizeof(*b->seqs)),
		.ids = calloc(tokens, sizeof(*b->ids)),
		.out = calloc(tokens, sizeof(*b->out)),
		.out_rows = calloc(tokens, sizeof(*b->out_rows)),
	};
	return b->seqs && b->ids && b->out && b->out_rows ? 0 : -ENOMEM;
}

void batch_fini(struct batch *b)
{
	free(b->seqs);
	free(b->ids);
	free(b->out);
	free(b->out_rows);
}

/* Does position @pos of a sequence of @len tokens want logits? */
static bool wants_logits(const struct seq *s, u32 pos, u32 len)
{
	const struct request_params *p = &s->req->p;

	if (pos + 1 < p->nr_prompt)
		return request_scores(p) && pos + 1 >= p->score_from;
	return p->kind != REQUEST_SCORE && pos + 1 == len;
}

u32 batch_rows(const struct seq *s, u32 pos, u32 nr, u32 len)
{
	u32 t, rows = 0;

	for (t = pos; t < pos + nr; t++)
		rows += wants_logits(s, t, len);
	return rows;
}

static void set_tables(const struct engine *e, struct forward_seq *q,
		       const struct seq *s)
{
	u32 a;

	for (a = 0; a < e->b->nr_areas; a++)
		q->table[a] = e->b->ops->space_table(e->b, s->space, a);
}

void batch_add(const struct engine *e, struct batch *b, struct seq *s, u32 pos,
	       u32 nr, u32 len)
{
	struct forward_seq *q = &b->seqs[b->nr_seqs++];
	u32 t;

	q->nr_rows = nr;
	q->pos0 = pos;
	set_tables(e, q, s);
	for (t = pos; t < pos + nr; t++, b->nr_rows++) {
		b->ids[b->nr_rows] = t < s->nr ? s->ids[t] : 0;
		if (!wants_logits(s, t, len))
			continue;
		b->out[b->nr_out] = (struct out_row){ s, t };
		b->out_rows[b->nr_out++] = b->nr_rows;
	}
}

void batch_cut(struct batch *b, u32 nr)
{
	while (b->nr_seqs > nr)
		b->nr_rows -= b->seqs[--b->nr_seqs].nr_rows;
	while (b->nr_out && b->out_rows[b->nr_out - 1] >= b->nr_rows)
		b->nr_out--;
}

void batch_seat(const struct engine *e, struct batch *b,
		struct seq *const *seqs)
{
	u32 i, row = 0, o = 0;

	for (i = 0; i < b->nr_seqs; i++) {
		set_tables(e, &b->seqs[i], seqs[i]);
		row += b->seqs[i].nr_rows;
		while (o < b->nr_out && b->out_rows[o] < row)
			b->out[o++].seq = seqs[i];
	}
}

void batch_complete(const struct engine *e, struct batch *b)
{
	u32 i, row = 0;

	/* one that was made before is short of its last id, if of any */
	for (i = 0; i < b->nr_seqs; i++) {
		const struct forward_seq *q = &b->seqs[i];

		row += q->nr_rows;
		b->ids[row - 1] = e->step[i]->ids[q->pos0 + q->nr_rows - 1];
	}
	for (; i < e->nr_step; i++) {
		struct seq *s = e->step[i];

		batch_add(e, b, s, seq_pos(s), s->step_tokens, s->nr);
	}
}
