/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_CLIENT_H
#define LIBKV_CLIENT_H
/*
 * client.h - what libkv remembers of one attachment
 *
 * One struct kv lies in a mapping of its own, made at attach: nothing is
 * allocated afterwards but address space for the mirrors of a slot that is
 * used for the first time.
 *
 * Ownership: everything belongs to the thread that makes the calls, except
 *	open_step, open_moves, issued, status.rank[0].completed
 *							any thread, atomically
 *	the event ring					the event thread
 *	dead						set once, any thread
 */
#include <kv.h>
#include <kv/step.h>
#include <kv/table.h>
#include <kv/turn.h>
#include "include/kv/errbuf.h"
#include "include/kv/types.h"
#include "libkv/src/point.h"

#define STEP_SLOTS 3u /* two prepared, one asked for ahead */
#define STEP_NONE  (~0ull)
#define STEP_CARRY STEP_SLOTS /* index: number that pins the carried copies */
#define COPY_MAX   (KV_RESV_MAX * KV_AREA_MAX) /* of one reservation */
#define COPY_ROOM  (4 * COPY_MAX) /* of all steps and the carried ones */
#define HOLDER_MAX 16u
#define NO_SPACE   0xffffffffu

/* Room in the arena for one request: arguments, then the reply. */
#define ARENA_ARG_BYTES (KV_RESV_MAX * sizeof(struct kv_resv_item))
#define ARENA_OUT_BYTES (COPY_MAX * sizeof(struct kv_copy))
#define ARENA_REQ_BYTES (ARENA_ARG_BYTES + ARENA_OUT_BYTES)

enum req_id {
	REQ_CALL, /* the call that waits */
	REQ_PREFETCH, /* the reservation of the next step */
	REQ_CANCEL, /* of a ticket */
	REQ_PREFIX, /* the last: its tokens take the rest of the arena */
	REQ_NR,
	REQ_FORGET = 0xff, /* nobody waits: destroy */
};
KV_ABI_ASSERT(REQ_NR *ARENA_REQ_BYTES <= KV_ARENA_SIZE);

/*
 * idle -> posted -> done -> idle
 *	     |  ^
 *	     v  | (final completion)
 *	   ticket
 */
enum req_state { REQ_IDLE, REQ_POSTED, REQ_TICKET, REQ_DONE };

struct req {
	enum req_state state;
	u32 serial; /* catches a completion that nobody asked for */
	struct kv_cqe cqe; /* the last completion */
	u64 ticket;
};

/* What libkv knows of a space; kvmd's truth is in the table. */
struct space {
	bool live;
	bool synced; /* the mirror was ever filled for this use of the slot */
	u8 nr_areas;
	u64 gen; /* generation the mirror was read under (C3) */
	u64 mark; /* what stands in active_step */
	u64 len; /* committed tokens */
	u64 end; /* with the prepared steps' tokens */
	u64 max_tokens; /* what the smallest area can hold */
	u64 published; /* tokens of whole pages that kvmd knows */
	u64 stamp; /* last call that named it: finds doubles */
	u64 prev_mark; /* of the prepare under way */
	struct {
		u32 shift; /* log2 of a page's tokens */
		u32 page_bytes;
		u32 window;
		u32 lo, hi; /* words of the mirror that may be non-zero */
	} area[KV_AREA_MAX];
};

/* One area's table as kernels read it, and what its entries allow. */
struct mirror {
	u32 entry[KV_AREA_PAGES];
	u64 present[KV_AREA_PAGES / 64];
	u64 write[KV_AREA_PAGES / 64];
};
KV_ABI_ASSERT(sizeof(struct mirror) % 4096 == 0);

/*
 * free -> asked -> prepared -> free	by way of kv_step_prefetch()
 * free ----------> prepared -> free
 */
enum step_state { STEP_FREE, STEP_ASKED, STEP_PREPARED };

struct kv_step {
	enum step_state state;
	u32 slot; /* index into open_step */
	u64 number;
	u64 epoch; /* the table's, when the step was fixed */
	u32 nr_items;
	u32 nr_copies;
	struct kv_resv_item items[KV_RESV_MAX];
	struct kv_copy copies[COPY_ROOM]; /* inherited ones first */
};

struct kv {
	int sock, doorbell;
	int pid; /* of the process that attached */
	int dead; /* 0, or what every call answers from now on */
	u64 cookie;
	struct kv_msg_welcome info;
	const volatile int *stop; /* the caller's: no waiting for memory */
	u64 spin_ns;
	/* how much of it pays: [0] kvmd seemed awake, [1] was woken */
	u64 spin_now_ns[2];
	u32 spins_in_vain;
	bool rang; /* the doorbell, for the last request */

	u8 *ring;
	struct kv_ring_hdr *hdr;
	u32 sq_tail, cq_head; /* our own copies */
	struct req req[REQ_NR];

	struct kv_table_hdr *table; /* read-only mapping */
	struct kv_status *status;
	struct kv_turn *turn; /* in the ring; NULL: kvmd has no gate */
	u8 *base;
	u32 extent_seq; /* last extent message received */
	u32 resume_left; /* grants behind RESUME that are still to come */

	u32 nr_geoms;
	struct kv_geometry geom[KV_GEOM_MAX];

	struct mirror *mirror; /* [KV_SPACE_MAX][KV_AREA_MAX], reserved */
	u64 has_mirror[KV_SPACE_MAX / 64]; /* slots whose part is usable */
	struct space space[KV_SPACE_MAX];

	u64 issued; /* last step number given out */
	u64 open_step[STEP_SLOTS + 1]; /* lowest number a slot holds open */
	u64 open_moves; /* odd while a number goes from one slot to another */
	struct kv_step step[STEP_SLOTS];
	struct kv_step *ahead; /* the prefetched one */
	u64 stamp;

	/*
	 * Copies of reserved steps that were never run. Their pins hold while
	 * open_step[STEP_CARRY] is open; the next step inherits both.
	 */
	u32 nr_carry;
	struct kv_copy carry[COPY_ROOM];

	u64 short_bytes; /* of the last that fell short */
	u32 nr_holders;
	u64 lost; /* of the last -ENODATA, as ops.h says */
	struct kv_holder holders[HOLDER_MAX];

	struct kv_counters nr;
	bool listened; /* for kvmd's last word, once dead */
	char bye[KV_ERRLEN]; /* that word: why kvmd ended it, or empty */
	char err[KV_ERRLEN];
};

/* kv_fail - leave a sentence and return the code */
#define kv_fail(kv, rc, ...) err_set((kv)->err, rc, __VA_ARGS__)

static inline struct mirror *mirror_of(const struct kv *kv, u32 space, u32 area)
{
	return kv->mirror + (size_t)space * KV_AREA_MAX + area;
}

/* Attachment: msg.c */
/**
 * client_dead - this attachment is over
 * @kv: handle
 * @rc: -ESHUTDOWN, or -EPROTO when the two sides do not agree
 *
 * Return: what every further call answers; the first reason stays.
 */
int client_dead(struct kv *kv, int rc);
int msg_call(struct kv *kv, u32 type, void *body, size_t bytes, int *fd,
	     const char *what);
/* msg_extents - receive until extent message @seq is here */
int msg_extents(struct kv *kv, u32 seq);
/* msg_drain - receive what is queued, wait for nothing */
int msg_drain(struct kv *kv);

/* Requests: ring.c */
void *req_arg(struct kv *kv, enum req_id id);
const void *req_out(struct kv *kv, enum req_id id);
/* ring_reap - take what completions there are */
int ring_reap(struct kv *kv);
/* ring_post - hand over one request; @sqe's user_data and offsets are set */
int ring_post(struct kv *kv, enum req_id id, struct kv_sqe *sqe);
/**
 * ring_wait - until a request is answered
 * @kv: handle
 * @id: request
 * @ticket: also return when it holds a ticket
 * @timeout_ns: ~0: none
 *
 * A request that holds a ticket is not waited for while the caller's stop word
 * is set.
 *
 * Return: 0; -ETIMEDOUT; -EINTR stopped; -ESHUTDOWN or -EPROTO when the client
 * is dead.
 */
int ring_wait(struct kv *kv, enum req_id id, bool ticket, u64 timeout_ns);
/* ring_call - post, wait, receive extents; the completion's res, or -errno */
int ring_call(struct kv *kv, struct kv_sqe *sqe);
/* ring_call_as - the same, as request @id, whose arguments are there */
int ring_call_as(struct kv *kv, enum req_id id, struct kv_sqe *sqe);

/* Tables: mirror.c */
int mirror_get(struct kv *kv, u32 space);
/* mirror_sync - C3: generation, then, if it moved, the entries */
void mirror_sync(struct kv *kv, u32 space);
/* mirror_out - pages that a row at @pos reads and that are not present */
u32 mirror_out(const struct kv *kv, u32 space, u32 area, u64 pos);
/* mirror_private - pages that are present and may be written: nobody shares
 * them
 */
u32 mirror_private(const struct kv *kv, u32 space, u32 area);
/* mirror_can - does what was mirrored allow this item? */
bool mirror_can(const struct kv *kv, const struct kv_resv_item *it);

/* Spaces: space.c */
struct space *space_get(struct kv *kv, u32 space);

/* Steps: step.c */
void step_forget_space(struct kv *kv, u32 space, u64 len);
/* copy.c */
void copy_run(struct kv *kv, const struct kv_copy *copies, u32 nr);

#endif
