/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_FORWARD_H
#define RUNTIME_MODEL_FORWARD_H
/*
 * forward.h - one pass of a flat ragged batch through the network
 *
 * The batch is any mix of prefill and decode: sequences lie one behind the
 * other, each with the rows it computes in this step. Nothing is padded. K
 * and V go through the sequences' block tables into the pages. Only the rows
 * named in out_rows get logits, and those that are kept in blocks of at most
 * the caps' logit_rows, because a row is a whole vocabulary wide.
 */
#include "runtime/model/model.h"

struct forward;

struct forward_seq {
	u32 nr_rows; /* tokens of this step, >= 1 */
	u32 pos0; /* position of the first */
	const u32 *table[KV_AREA_MAX]; /* block table of each area */
};

struct forward_batch {
	u32 nr_tokens; /* sum of nr_rows */
	u32 nr_seqs;
	u32 nr_out;
	const u32 *ids; /* [nr_tokens], each < vocab */
	const struct forward_seq *seqs; /* [nr_seqs] */
	const u32 *out_rows; /* [nr_out], rising */
};

struct forward_caps {
	u32 tokens; /* of a batch */
	u32 seqs;
	u32 out_rows;
	u32 logit_rows; /* rows of logits held at a time */
};

/**
 * forward_create - allocate everything a step needs, once
 * @m: the network, outlives the result
 * @x: kernels and threads, likewise
 * @kv: [m->nr_areas] where the pages of each area are; copied
 * @caps: largest batch
 * @out: on success only
 * @err: KV_ERRLEN bytes: the sentence for a refusal
 *
 * Return: 0, -ENOMEM.
 */
int __must_check forward_create(const struct model *m, struct kern_exec *x,
				const struct kern_kv *kv,
				const struct forward_caps *caps,
				struct forward **out, char *err);
void forward_free(struct forward *f);

/**
 * forward_run - compute a batch
 * @f: from forward_create()
 * @b: within its caps; pages of all its rows are present
 *
 * When it returns, K and V of every row are written and forward_logits()
 * may be called until the next run.
 *
 * Return: 0, -ENOMEM for the attention plan, -EINVAL over the caps.
 */
int __must_check forward_run(struct forward *f, const struct forward_batch *b);

/**
 * forward_logits - logits of some of the last batch's out_rows
 * @first: index into out_rows
 * @nr: at most the caps' logit_rows; any, if none is kept
 * @best: [nr]: gets the largest logit of each row; NULL, as it has to be for a
 *	  model that caps its logits: all rows are kept
 * @keep: [nr]: with @best, whose logits are wanted besides; NULL: nobody's
 *
 * A vocabulary of a quarter of a million is a MiB a row, written and read: for
 * rows of which the best is all that is wanted there is no need.
 *
 * Return: [nr][vocab], the caller's to change until the next call; of rows that
 * are not kept it may be anything.
 */
float *forward_logits(struct forward *f, u32 first, u32 nr,
		      struct kern_best *best, const bool *keep);

#endif
