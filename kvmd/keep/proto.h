/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KEEP_PROTO_H
#define KVMD_KEEP_PROTO_H
/*
 * proto.h - what kvmd and its keeper say to each other
 *
 * One SOCK_SEQPACKET pair a life of kvmd; each packet is a struct keep_msg,
 * and where it says so a descriptor travels beside it.
 *
 *	keeper				kvmd
 *	HAVE (fd) ...		->
 *	END			->	it has all that its predecessor left
 *			<-	PUT (fd)
 *			<-	DROP
 *			<-	READY		clients may attach
 *
 * Nothing is acknowledged: a packet that was sent is in the keeper's socket,
 * with its descriptor, whatever becomes of the sender, and the keeper takes
 * all of them before it starts the next kvmd.
 */
#include "include/kv/types.h"

enum keep_op {
	KEEP_HAVE = 1,
	KEEP_END,
	KEEP_PUT,
	KEEP_DROP,
	KEEP_READY,
};

/* What a descriptor is; its index and gen are those of block.h. */
enum keep_kind {
	KEEP_BLOCK = 1, /* struct keep_block */
	KEEP_MM, /* the core's block */
	KEEP_LOCK, /* of the socket's path */
	KEEP_LISTEN,
	KEEP_EXTENT,
	KEEP_RING, /* this and the next five: of a client */
	KEEP_TABLE,
	KEEP_STATUS,
	KEEP_BELL,
	KEEP_SOCK,
	KEEP_PID,
	KEEP_WEIGHTS,
	KEEP_TIER, /* a swap tier that is memory */
	KEEP_NR,
};

/**
 * struct keep_msg - a packet
 * @op: enum keep_op
 * @kind: enum keep_kind
 * @index: which of the kind
 * @gen: tells it from others that had the index
 */
struct keep_msg {
	u32 op, kind, index, gen;
};

#endif
