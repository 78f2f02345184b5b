/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KEEP_KEEP_H
#define KVMD_KEEP_KEEP_H
/*
 * keep.h - kvmd's side: the block, and descriptors that outlive kvmd
 *
 * There is always a block; whether somebody keeps it is the channel's matter.
 * A descriptor is put before anything that a successor reads names it, and
 * dropped after nothing does any more. So what a successor looks up is there,
 * and what it does not look up is of no use to anybody and is closed.
 */
#include "kvmd/keep/block.h"
#include "kvmd/keep/proto.h"

struct keep_fd {
	u32 kind, index, gen;
	int fd; /* -1: taken */
};

struct keep {
	int channel; /* -1: nobody keeps anything */
	bool lost; /* the keeper has gone or hangs */
	int block_fd;
	u32 block_gen; /* one more for each build that has laid it out */
	struct keep_block *block;
	void *owner; /* for trace points */
	u64 bytes;
	bool found; /* the block is a predecessor's */
	struct keep_fd *fds; /* what it left, sorted */
	u32 nr_fds, room;
};

/**
 * keep_open - take what a predecessor left, or begin anew
 * @k: out
 * @channel: to the keeper; -1: none. Owned from now on
 * @device_bytes: of the device that kvmd is to serve
 * @err: KV_ERRLEN bytes for a sentence
 *
 * What another build laid out is read; what another version left, or with
 * another device, is of no use and is let go; err says so then too.
 * Return: 0 or -errno.
 */
int __must_check keep_open(struct keep *k, int channel, u64 device_bytes,
			   char *err);
/* keep_forget - nothing that was left is of use, but the socket and its lock:
 * begin anew */
int __must_check keep_forget(struct keep *k, u64 device_bytes, char *err);
/* keep_close - kvmd ends; what is kept is let go */
void keep_close(struct keep *k);

/* keep_gen - a number that no descriptor has had */
u32 keep_gen(struct keep *k);
/* keep_put - @fd outlives kvmd from now on, under this name; borrowed */
void keep_put(struct keep *k, enum keep_kind kind, u32 index, u32 gen, int fd);
/* keep_drop - the name, and what it named */
void keep_drop(struct keep *k, enum keep_kind kind, u32 index, u32 gen);
/* keep_take - what a predecessor has put; the caller's. -1: nothing */
int keep_take(struct keep *k, enum keep_kind kind, u32 index, u32 gen);
/* keep_take_any - one that is left of a kind, the caller's, as is its name: to
 * be dropped when a successor need not find it. Return: was there one? */
bool keep_take_any(struct keep *k, enum keep_kind kind, struct keep_fd *out);
/* keep_ready - kvmd serves; the keeper may say so */
void keep_ready(struct keep *k);
/* keep_taken - all that is of use has been taken */
void keep_taken(struct keep *k);

#endif
