/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_LIBKV_MIX_H
#define SELFTESTS_LIBKV_MIX_H
/*
 * mix.h - a client that does everything at random and checks everything
 *
 * Steps over several sequences, forks, truncates, destroys, prefetches,
 * abandons, waits with tickets. Whatever memory does not allow it answers by
 * giving up sequences. Each sequence it touches is read before and after.
 */
#include "selftests/libkv/seq.h"

#define MIX_SEQS 12u

struct mix {
	struct seqs c;
	struct seq seq[MIX_SEQS];
	uint64_t rand;
	uint64_t token;
	uint32_t len_max; /* sequences end there */
	uint64_t nr_ops, nr_steps, nr_forks, nr_short, nr_tickets;
	uint64_t digest; /* of all tokens ever written, in order */
	int rc; /* what no client should ever be answered */
};

/* mix_begin - @seed says all that this client will ever do */
void mix_begin(struct mix *m, uint64_t seed, uint32_t len_max);
/* mix_op - one operation; false: something went wrong, see @rc and faults */
bool mix_op(struct mix *m);
/* mix_verify - read every sequence there is; false: faults */
bool mix_verify(struct mix *m);

#endif
