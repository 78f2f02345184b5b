/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_WEIGHTS_H
#define KVMD_IPC_WEIGHTS_H
/*
 * weights.h - file mappings: model weights that kvmd holds once
 *
 * One mapping per (digest, packing, isa) and tenant. A runtime of the tenant
 * filled it, so it is shared inside the tenant only.
 *
 *	FILLING -> SEALING -> READY -> freed
 *	   ^  |        |
 *	   +--+--------+	the filler died or gave up, or it cannot be
 *				sealed: the next waiter fills, another mapping
 *
 *	FILLING	one session, the filler, has it open for writing. While
 *		others wait it has to get on: when its memory has not grown
 *		for --stall milliseconds the filler is ended, and what it
 *		wrote is taken from it
 *	SEALING	the filler has said it is done, which stands even if it dies
 *		now; kvmd adds F_SEAL_WRITE, on a thread (weights_memory.c),
 *		which fails while a writable mapping is left or a page pinned,
 *		and tries again for a moment
 *	READY	read-only for good; sessions hold leases on it
 *
 *	GOING	a record without a mapping: memory that was not sealed is being
 *		emptied
 *
 * Charged to the tenant from FILLING on, until what was not sealed is empty. So
 * who fills instead of one that gave up is charged anew. A READY mapping
 * without a lease is kept, so that the next start finds it, until its bytes are
 * wanted: by another mapping or by a reservation, be it one that waits already
 * when the last lease ends, or since the device is low. It is the first to go
 * (mm/spare.h), when the loop comes round. So it is if all KEEP_WEIGHTS_MAX
 * records are taken and another mapping wants one.
 *
 * An OPEN of a mapping that is not there and for which there is no room waits,
 * first come first served; what the pages of others can give up leaves for it
 * (mm/room.c). It is refused when nothing has come free for ten seconds, or if
 * the others' weights alone leave too little. One that is over its tenant's
 * limit waits for memory of the tenant's that is being emptied, for as long at
 * most. Memory that takes longer to be empty is held up, by a client, and
 * counts as any that is in use: nobody waits for it any more.
 *
 * A mapping outlives kvmd: memory, record, leases (keep/block.h). Who waits
 * for it has a message that is not answered, which a successor handles again;
 * one that did what it asked for is told by its cookie in the lease, and is
 * only answered.
 */
#include <sys/queue.h>
#include <kv/msg.h>
#include "include/kv/types.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.h"

struct kvmd;
struct session;

#define WEIGHTS_WAIT_NS 10000000000ull /* for the next bit of memory */

enum weights_state {
	WEIGHTS_FILLING,
	WEIGHTS_SEALING,
	WEIGHTS_READY,
	WEIGHTS_GOING, /* of a record only */
};

/* A session that has it open or waits for it. */
struct weights_user {
	struct session *session;
	struct kv_msg msg; /* the OPEN */
	bool waits;
	u32 nr_opens; /* leases, when not waiting; set by lease_set() */
	TAILQ_ENTRY(weights_user) link;
};

/* Of one mapping, or nobody's any more; what takes long is a thread's. */
struct weights_memory {
	struct kvmd *d;
	struct weights *w; /* NULL: it has been let go */
	int fd;
	u64 bytes;
	u32 tenant, slot;
	u32 gen; /* of its name, 0: it has none */
	bool goes; /* it has a record, a charge, a reference of its tenant's */
	TAILQ_ENTRY(weights_memory) link; /* then, as is what follows */
	bool held_up; /* for so long that nobody waits for it any more */
	struct timer held_timer;

	s64 resident_bytes; /* when last looked at, or -errno */
	bool busy; /* a thread has it, and what follows */
	struct work work;
	s64 seen_bytes;
	int rc;
};

struct weights {
	struct kvmd *d;
	u32 id;
	u32 slot; /* of its record */
	struct keep_weights *keep;
	enum weights_state state;
	struct kv_msg_weights key; /* as the first OPEN said, name cleaned */
	u32 tenant; /* a reference is held */
	struct weights_memory *memory; /* NULL: none was to be had */
	u64 charged_bytes;
	struct session *filler; /* FILLING; SEALING: NULL if it has gone */
	struct kv_msg seal_msg;
	struct timer fill_timer; /* FILLING */
	s64 filled_bytes; /* resident when that was last judged */
	u64 progress_ns; /* when that changed, or nobody waited */
	struct timer seal_timer;
	u64 seal_until_ns; /* after that it is not tried again */
	u64 idle_since_ns; /* READY and no user */
	u64 spare_seq; /* of the search that has it already */
	bool goes; /* at the next weights_go() */
	TAILQ_HEAD(weights_users, weights_user) users; /* in order of OPEN */
	TAILQ_ENTRY(weights) link;
};

TAILQ_HEAD(weights_head, weights);

/* An OPEN that found no room, or came behind one. */
struct weights_late {
	struct session *session;
	struct kv_msg msg;
	struct kv_msg_weights body;
	bool limited; /* it is the tenant's limit */
	bool has_room; /* the core makes some for it */
	u64 since_ns; /* nothing has come free since; 0: not looked at yet */
	TAILQ_ENTRY(weights_late) link;
};

TAILQ_HEAD(weights_lates, weights_late);

struct weights_set {
	struct weights_head list;
	struct weights_lates late, limited;
	TAILQ_HEAD(, weights_memory) going;
	struct timer late_timer; /* armed while there are any */
	u64 spare_seq;
	bool some_go;
	u32 nr;
	u32 nr_jobs; /* of memory, that threads have */
};

/* Messages; they answer themselves. */
void weights_open(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body);
void weights_seal(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body);
void weights_close(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		   const void *body);
/* weights_session_exit - drop what @s has open, fills or waits for */
void weights_session_exit(struct kvmd *d, struct session *s);
/* weights_spare - mm_host_ops.spare */
u64 weights_spare(void *host, u32 tenant, u64 want, u64 most);
/* weights_drop_going - drop those that the core wants to go, if nobody has
 * opened them since */
void weights_drop_going(struct kvmd *d);
/* weights_go - likewise, and see whom it helps */
void weights_go(struct kvmd *d);
/* weights_retry - look at those that wait for memory, and again a moment later
 * if there is none */
void weights_retry(struct kvmd *d);
/* weights_users - sessions that have it open */
u32 weights_users(const struct weights *w);
u32 weights_waiters(const struct weights *w);
/* weights_resident - bytes the kernel holds for it, as last seen */
u64 weights_resident(const struct weights *w);
/* weights_of - bytes that @s has open */
u64 weights_of(const struct kvmd *d, const struct session *s);
void weights_destroy_all(struct kvmd *d);

/* weights_adopt - take over what a predecessor had; sessions have rejoined */
void weights_adopt(struct kvmd *d);

/* weights_memory_make - new and kept, or -errno */
int __must_check weights_memory_make(struct weights *w);
/* weights_memory_adopt - @fd, which is owned from now on, or let go; 0 or
 * -errno */
int __must_check weights_memory_adopt(struct weights *w, int fd);
/* weights_memory_look, weights_memory_seal - begin, it is not busy; later
 * weights_looked(), weights_sealed(), unless it is let go meanwhile */
void weights_memory_look(struct weights *w);
void weights_memory_seal(struct weights *w);
/* weights_memory_let_go - if there is any; w->state says of what kind it is */
void weights_memory_let_go(struct weights *w);
/* weights_memory_left - let go of a predecessor's that no record names; @fd is
 * owned from now on, as is its name */
void weights_memory_left(struct kvmd *d, u32 slot, u32 gen, int fd);
/* weights_memory_flush - wait for all that was begun, a second at most */
void weights_memory_flush(struct kvmd *d);

/* weights_going - bytes of @tenant that are being emptied */
u64 weights_going(const struct kvmd *d, u32 tenant);
/* weights_coming - bytes of @tenant, or of all: MM_NONE, that are about to come
 * so: not what is held up */
u64 weights_coming(const struct kvmd *d, u32 tenant);
/* weights_memory_going - what a predecessor was emptying; @fd and a reference
 * of @tenant are owned from now on */
void weights_memory_going(struct kvmd *d, u32 slot, u32 tenant, int fd);

/* For weights_memory.c */
void weights_looked(struct weights *w);
void weights_sealed(struct weights *w, int rc);

/* weights_find - that @key asks for, or NULL */
struct weights *weights_find(const struct kvmd *d,
			     const struct kv_msg_weights *key, u32 tenant);
/* weights_open_try - @late: it has waited, or NULL. Return: 0: it is answered,
 * or will be when the mapping is filled; -EAGAIN: it waits for memory */
int weights_open_try(struct kvmd *d, struct session *s,
		     const struct kv_msg *msg, const void *body,
		     struct weights_late *late);
/* weights_wait - an OPEN gets @rc: -ENOSPC, -EDQUOT. Return: does it wait, from
 * now on or, @late, still? */
bool weights_wait(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body, struct weights_late *late, int rc);
/* weights_late_again - those that wait for @w are to open it again, before all
 * others */
void weights_late_again(struct weights *w);
/* weights_late_exit - @s waits for nothing any more */
void weights_late_exit(struct kvmd *d, const struct session *s);

/* For weights_adopt.c and weights_idle.c */
struct weights *weights_new(struct kvmd *d, u32 slot);
struct weights_user *weights_user_add(struct weights *w, struct session *s);
void weights_free(struct weights *w);
/* weights_drop - the same, and say why */
void weights_drop(struct weights *w, const char *why);
void weights_fill_watch(struct weights *w);
/* weights_drop_for_slot - the one idle for longest, @tenant's own first; false:
 * there is none */
bool weights_drop_for_slot(struct kvmd *d, u32 tenant);

#endif
