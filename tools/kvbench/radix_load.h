/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_RADIX_LOAD_H
#define TOOLS_KVBENCH_RADIX_LOAD_H
/*
 * radix_load.h - prompts that share beginnings, as programs make them
 */
#include "include/kv/types.h"

enum radix_kind {
	RADIX_FEW_SHOT, /* a preamble and five examples, then a question */
	RADIX_CHAT, /* four turns, each the one before and more */
	RADIX_TREE, /* of thought: four branches of 24 tokens, three deep */
	RADIX_AGENT, /* a template, a task, then what tools answered */
	RADIX_KINDS,
};

struct radix_load {
	u32 nr;
	u32 **ids; /* [nr][len] */
	u32 *len; /* [nr] */
	u32 longest;
	u64 total, distinct; /* tokens; of a prefix counted once */
};

const char *radix_name(enum radix_kind kind);

/**
 * radix_make - the prompts of some programs, in the order of their tree
 * @l: filled in; radix_free() it
 * @kind: program
 * @programs: how many of them
 * @vocab: ids are below
 * @seed: of everything
 *
 * Return: 0 or -ENOMEM.
 */
int radix_make(struct radix_load *l, enum radix_kind kind, u32 programs,
	       u32 vocab, u64 seed);
/* radix_shuffle - each changes places with one of the next @span */
void radix_shuffle(struct radix_load *l, u32 span, u64 seed);
void radix_free(struct radix_load *l);

#endif
