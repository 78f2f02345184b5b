/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KEEP_BLOCK_H
#define KVMD_KEEP_BLOCK_H
/*
 * block.h - what a kvmd leaves to the next one beside the core's block
 *
 * One memfd that kvmd alone has mapped. As with the core's (mm/recover.c) the
 * process may die between any two stores: a record's state is stored last when
 * it comes and first when it goes, and keep_order() stands where order counts.
 *
 *	clients		by the core's index. Descriptors: (KEEP_RING.., index,
 *			gen). A client of the core without a record has never
 *			been told that it is one, or has been told to go
 *	extents		gen of the memory that stands there, 0: none
 *	retired		memory that was taken from a living client and is
 *			watched until that client ends
 *	weights		file mappings, and their memory as long as it is being
 *			emptied; leases: who has them open, how often, and the
 *			cookie of the request that made it so
 *
 * Requests of a client's ring. heads is the index of the first request that
 * has no answer yet and the end of the completions, in one word: an answer is
 * an entry behind the end, then one store. Before that store the request has
 * not been taken, and the core knows whether it was done (mm_op_answer()).
 *
 * Completions of tickets. post says which ticket's goes to which entry, before
 * the store that makes it count.
 *
 * Messages. One at a time: msg is a copy of the packet that is being answered,
 * made before it leaves the socket, and gone when the answer has been sent.
 * What was done already is told by the core, by a lease's cookie or by a state
 * that moved, and is answered once more; a client drops an answer that it has.
 */
#include <kv/msg.h>
#include "include/kv/types.h"
#include "kvmd/mm/mm.h"
#include "lib/record.h"

#define KEEP_MAGIC	 0x7065656b6d766bull
#define KEEP_VERSION	 2u /* of what values mean, not of where they are */
#define KEEP_WEIGHTS_MAX 256u
#define KEEP_RETIRED_MAX 1024u
#define KEEP_MSG_MAX	 256u /* of a message; no more of one is looked at */

enum keep_state {
	KEEP_FREE,
	KEEP_LIVE, /* SESSION_LIVE */
	KEEP_LEAVING, /* SESSION_LEAVING */
};

struct keep_client {
	u32 state; /* enum keep_state */
	u32 serial; /* the core's */
	u32 gen;
	u8 welcomed; /* WELCOME has been sent */
	u8 has_cache;
	u8 hidden, uid_unknown; /* of struct peer */
	s32 pid;
	u32 uid, gid;
	u32 eq_tail;
	u64 heads; /* sq_head | cq_tail << 32 */
	u64 post_ticket; /* goes to entry @post_at */
	u32 post_at;
	u32 msg_bytes; /* 0: none */
	u64 features, hello; /* of its HELLO; its cookie */
	char name[KV_NAME_LEN], tenant[KV_NAME_LEN];
	char msg[KEEP_MSG_MAX];
};

struct keep_extent {
	u32 gen;
	u32 client; /* who has a descriptor; dev's numbers */
};

struct keep_retired {
	u32 gen; /* 0: free */
	u32 extent, client, reserved;
};

struct keep_weights {
	u32 state; /* 1 + enum weights_state, 0: free */
	u32 id;
	u32 gen; /* of the memory, 0: none */
	u32 filler; /* 1 + client, 0: none; stays when it is sealed */
	u64 charged_bytes;
	char tenant[KV_NAME_LEN];
	struct kv_msg_weights key;
};

struct keep_leases {
	u64 client[MM_CLIENT_MAX]; /* opens << 32 | cookie */
};

/* All fields but @head are described: block.c, so that any build reads them. */
struct keep_block {
	struct record_head head;
	u64 device_bytes;
	u32 lives;
	u32 next_gen, next_weights_id;
	u32 mm_gen; /* of KEEP_MM */
	u32 ready; /* kvmd serves, and all of this is kept */
	u32 made_dir, made_file; /* the socket's, the swap's: to be removed */
	u8 tenant_pinned[MM_TENANT_MAX];
	struct keep_client clients[MM_CLIENT_MAX];
	struct keep_weights weights[KEEP_WEIGHTS_MAX];
	struct keep_leases leases[KEEP_WEIGHTS_MAX];
	struct keep_retired retired[KEEP_RETIRED_MAX];
	struct keep_extent extents[]; /* of the device */
};

static inline u64 *keep_lease(struct keep_block *b, u32 weights, u32 client)
{
	return &b->leases[weights].client[client];
}

/* keep_block_bytes - of the block of a device */
u64 keep_block_bytes(u64 device_bytes);
/* keep_block_init - a zeroed one: all but its magic */
void keep_block_init(struct keep_block *b, u64 device_bytes);
/* keep_block_check - is it one, which this build can read? @ours: as it is.
 * -EBADMSG, -EPROTONOSUPPORT */
int keep_block_check(const struct keep_block *b, u64 bytes, bool *ours,
		     char *err);

#define keep_order() __asm__ __volatile__("" ::: "memory")

#endif
