/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_OPS_H
#define UAPI_KV_OPS_H
/*
 * ops.h - what can be asked over the ring
 *
 * Errors that any opcode may return: -EINVAL (a field is out of range, or a
 * reserved one is not zero), -EOPNOTSUPP (unknown opcode), -ENOENT (no such
 * space), -ESHUTDOWN (the client is being removed).
 */
#include "abi.h"
#include "table.h"

enum kv_op {
	KV_OP_NOP = 0,
	/*
	 * Create a space. arg_off: struct kv_space_args. res: the slot.
	 * -ENOSPC: KV_SPACE_MAX live; -EINVAL: area or geometry unknown.
	 */
	KV_OP_SPACE_CREATE = 1,
	/* Destroy @space. Its frames leave as their pins pass. */
	KV_OP_SPACE_DESTROY = 2,
	/*
	 * Fork @space at arg[0] tokens (<= len). res: the child's slot, whose
	 * len the client stores itself. No token is copied. -ENODATA: a
	 * windowed area no longer holds what a row at arg[0] needs.
	 */
	KV_OP_SPACE_FORK = 3,
	/*
	 * Truncate @space to arg[0] tokens: pages wholly above go.
	 * -ENODATA as for fork.
	 */
	KV_OP_SPACE_TRUNCATE = 4,
	/*
	 * Reserve all that @step will touch, all or nothing; where memory is
	 * short what windows have left before @pos goes also if it is refused.
	 * arg_off: struct
	 * kv_resv_item [nr]. Reply at out_off: struct kv_copy [res]; the
	 * client runs them first in the step's stream. out_len must hold
	 * sizeof(struct kv_copy) * nr * KV_AREA_MAX.
	 * -EAGAIN: short of memory; extra = bytes short; the reply is struct
	 *	kv_holder [], who could give. With KV_SQE_WAIT this completion
	 *	has KV_CQE_MORE, extra = ticket, and a final one follows.
	 * -E2BIG: more than the tenant's limit or the device could ever give.
	 * -ECANCELED: the ticket was cancelled.
	 * -EDEADLK: a ticket's clients wait for each other's memory: give
	 *	back what is held, and ask again.
	 * -ENODATA: a windowed area has let go of what the step would read;
	 *	or, with extra not 0, a swap tier has lost it: extra is the
	 *	space << 32 | its first lost token + 1. Truncate and compute
	 *	it again.
	 * -EBUSY: @step is not above the last one reserved for a space.
	 */
	KV_OP_RESERVE = 5,
	/* Cancel ticket arg[0]. -ENOENT: it is gone already. */
	KV_OP_CANCEL = 6,
	/* Give back extents that hold no page. res: how many went. */
	KV_OP_SHRINK = 7,
	/*
	 * Give @space, which has no page, the longest prefix of arg[0] tokens
	 * that is published in its namespace. arg_off: u32 [arg[0]], the
	 * token ids. res: tokens it has now; the client stores its len.
	 */
	KV_OP_PREFIX_MAP = 8,
	/*
	 * Let others find the first arg[1] tokens of @space, all committed.
	 * arg_off: u32 [arg[1] - arg[0]], the ids from token arg[0] on, a
	 * multiple of the page: what is before was published or mapped by
	 * this space. res: tokens published now, fewer if there is no room.
	 * Where areas have windows a sequence can only go on from a prefix
	 * whose last window is kept: KV_SQE_RESUME keeps that of arg[1].
	 * -ENODATA: arg[0] is more than that; publish from 0. -EOPNOTSUPP:
	 * areas with pages of several sizes.
	 */
	KV_OP_PREFIX_PUBLISH = 9,
	/* The words of turn.h have changed: look at them. */
	KV_OP_TURN = 10,
	/*
	 * How much of arg[0] tokens could @space, which has no page, map?
	 * arg_off as for PREFIX_MAP; nothing is mapped. res: tokens. extra:
	 * tokens known, be there a window to go on from or not | tokens << 32
	 * that could be mapped soon: they are being copied, or another client
	 * of the tenant computes them. arg[1] 1: this client computes them in
	 * @space from now on, until it has published them, or cut or destroyed
	 * the space. Left out if there is no room for the hint, and if 32
	 * tokens more could be mapped soon than now.
	 */
	KV_OP_PREFIX_FIND = 11,
	KV_OP_NR
};

struct kv_area_args {
	uint32_t geom; /* as KV_MSG_GEOM_ADD answered */
	uint32_t window; /* tokens a row sees, itself included; 0 = all */
	uint16_t head_first, nr_heads;
	uint32_t reserved; /* 0 */
};
KV_ABI_SIZE(struct kv_area_args, 16);

struct kv_space_args {
	uint16_t nr_areas; /* 1..KV_AREA_MAX */
	uint16_t priority; /* higher is served first */
	uint32_t group; /* rank group, 0 = none */
	struct kv_area_args area[KV_AREA_MAX];
	struct kv_namespace ns;
};
KV_ABI_SIZE(struct kv_space_args, 128);

/*
 * The step computes tokens [pos, pos + nr_tokens) of @space: their pages are
 * to be present and writable, and what those rows see of earlier tokens is to
 * be present, in every area.
 */
struct kv_resv_item {
	uint32_t space;
	uint32_t nr_tokens;
	uint64_t pos;
};
KV_ABI_SIZE(struct kv_resv_item, 16);

/* Copy the first @tokens tokens of page @src to page @dst, all layers. */
struct kv_copy {
	uint32_t geom;
	uint32_t src, dst; /* block-table entries */
	uint32_t tokens;
};
KV_ABI_SIZE(struct kv_copy, 16);

/* Who holds memory that would help. */
struct kv_holder {
	uint32_t tenant;
	uint32_t reserved;
	uint64_t held_bytes; /* in extents */
	uint64_t reclaim_bytes; /* of it in idle spaces */
	char name[KV_NAME_LEN];
};
KV_ABI_SIZE(struct kv_holder, 56);

#endif
