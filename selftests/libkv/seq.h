/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_LIBKV_SEQ_H
#define SELFTESTS_LIBKV_SEQ_H
/*
 * seq.h - sequences with a memory of their own, to hold kvmd's against
 *
 * A seq is a space and, beside it, the list of its tokens. A token's rows in
 * a page are filled with words that follow from the token, its position, the
 * layer and whether it is K or V; reading a space is comparing every row that
 * a step may read with what the list says. So a page that is another's, that
 * is older or newer than it should be, or that was not copied whole, shows.
 *
 * Two areas: all tokens in pages of 4 KiB, and a window in pages of 12 KiB,
 * which is no power of two.
 */
#include <kv.h>
#include <stdbool.h>

#define SEQ_LEN_MAX 1200u
#define SEQ_WINDOW  40u
#define SEQ_BATCH   8u

struct seq {
	bool live;
	uint32_t space;
	uint32_t len;
	uint64_t token[SEQ_LEN_MAX];
};

struct seqs {
	struct kv *kv;
	struct kv_geometry geom[2];
	uint32_t gid[2];
	struct kv_space_args args;
	/* tables to go by instead of the library's, for one space at a time */
	const uint32_t *table[2];
	uint32_t every; /* compare one token of so many, in turns; 0 = all */
	uint32_t turn;
	uint64_t checked; /* rows compared */
	uint64_t faults; /* rows that were wrong, the first ones printed */
};

/* seqs_attach - attach to @socket and register the geometries; 0, -errno */
int seqs_attach(struct seqs *c, const char *socket, const char *name);
/* seqs_begin - the same for a handle that is there already */
int seqs_begin(struct seqs *c, struct kv *kv);
int seq_create(struct seqs *c, struct seq *s);
int seq_fork(struct seqs *c, struct seq *parent, uint32_t len,
	     struct seq *child);
int seq_truncate(struct seqs *c, struct seq *s, uint32_t len);
void seq_destroy(struct seqs *c, struct seq *s);

/**
 * seq_step - one engine step over some sequences
 * @c: client
 * @s: sequences, each once
 * @add: tokens to append to each
 * @nr: how many, at most SEQ_BATCH
 * @token: the first new token; the others count up
 * @flags: KV_STEP_*
 * @timeout_ms: for KV_STEP_WAIT
 *
 * Compares all that the step reads, before and after it writes.
 * Return: 0 or what the library answered; the sequences are then as before.
 */
int seq_step(struct seqs *c, struct seq *const *s, const uint32_t *add,
	     uint32_t nr, uint64_t token, unsigned int flags, int timeout_ms);

/* The parts of seq_step(), for tests that go another way */
void seq_items(struct seq *const *s, const uint32_t *add, uint32_t nr,
	       struct kv_resv_item *items);
/* seq_write - rows of tokens [pos, pos + n) of a prepared step */
void seq_write(struct seqs *c, struct seq *s, uint32_t pos, uint32_t n,
	       uint64_t token);
/* seq_verify - compare what a row at @pos reads; false: faults found */
bool seq_verify(struct seqs *c, const struct seq *s, uint32_t pos);
/* seq_row - where a row lies; @kind 0 K, 1 V */
uint64_t *seq_row(const struct seqs *c, uint32_t space, uint32_t area,
		  uint32_t pos, uint32_t layer, uint32_t kind);

#endif
