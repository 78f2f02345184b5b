/* SPDX-License-Identifier: MIT */
/*
 * ring.c - the service of the clients' rings
 *
 * Everything in a ring may change under our eyes. So: an index is loaded
 * once and checked against kvmd's own copy; an entry is copied as words and
 * only the copy is looked at; arguments in the arena are copied by .prep and
 * only then validated and used (.issue sees private memory alone). What the
 * indices say can be nonsense only if the client has broken its ring: it is
 * removed with a sentence. Everything else is a completion with -EINVAL.
 *
 * Fairness. A turn takes at most RING_BUDGET units from a client, a unit
 * being a request, RING_ITEMS_PER_UNIT items or RING_TOKENS_PER_UNIT tokens
 * of one, then goes on to the next client; what is left waits for the next
 * turn. What a fork, truncation or destruction takes is not seen from the
 * request: after one of these a client whose turn has lasted RING_TURN_NS has
 * had it.
 *
 * Room. A request is taken only if its completions fit: the one that answers
 * it now, the one that a ticket brings later, and those that earlier tickets
 * are still to bring (nr_async).
 *
 * A request has been taken when it has been answered, or is known to be
 * answered later: until then its entry and its arguments are still the
 * client's, and a successor of this kvmd finds them where they were
 * (keep/block.h). It asks the core whether the request at the head was done,
 * and answers it or issues it.
 *
 * A client that takes no completions stalls its own ring, which is then looked
 * at every half a millisecond: nothing rings when it takes one.
 *
 * Sleeping. A ring is hot while requests come, and for s->spin_ns after the
 * last one; then kvmd sets sq_sleeping and the client must ring the doorbell.
 * Spinning has to pay: spin_ns is halved whenever it was for nothing, and set
 * to its maximum when a doorbell follows so soon after going to sleep that
 * spinning would have caught it, and with each 64th doorbell. An idle client
 * costs nothing.
 */
#include "kvmd/ipc/ring.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "include/kv/usdt.h"
#include "kvmd/fault.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/trace.h"

#define RING_BUDGET	     64u
#define RING_ITEMS_PER_UNIT  16u
#define RING_TOKENS_PER_UNIT 1024u
#define RING_TURN_NS	     100000u
#define RING_TOKENS_MAX	     (KV_ARENA_SIZE / (u32)sizeof(u32))
#define RING_HOLDERS_MAX     16u
#define SPIN_MIN_NS	     1000u
#define BELL_RETRY	     64u

/* A request's private copy. One at a time is worked on: the loop's own. */
struct ring_req {
	struct kv_sqe sqe;
	u32 units; /* of work, as far as its arguments tell */
	union {
		struct kv_space_args space;
		struct kv_resv_item items[KV_RESV_MAX];
		u32 tokens[RING_TOKENS_MAX];
	};
	struct kv_copy copies[KV_RESV_MAX * KV_AREA_MAX];
};

/**
 * struct op_def - an opcode
 * @name: for the log
 * @flags: flags that a request may carry
 * @is_long: may take as long as a space has pages
 * @prep: copy the arguments and check them; 0 or -errno; NULL: has none
 * @issue: act; what it returns is the completion's res, unless it is
 *	-EINPROGRESS; cqe's other fields are zero and its to fill
 */
struct op_def {
	const char *name;
	u8 flags;
	bool is_long;
	int (*prep)(struct session *s, struct ring_req *r);
	int (*issue)(struct session *s, struct ring_req *r, struct kv_cqe *cqe);
};

static struct ring_req the_req;

static struct kv_ring_hdr *ring_hdr(const struct session *s)
{
	return s->ring;
}

static void *ring_at(const struct session *s, u32 off)
{
	return (char *)s->ring + off;
}

/* [off, off + len) lies in the arena, 8-aligned. */
static bool arena_has(u32 off, u64 len)
{
	return off % 8 == 0 && off <= KV_ARENA_SIZE &&
	       len <= KV_ARENA_SIZE - off;
}

static void arena_read(const struct session *s, void *dst, u32 off, size_t len)
{
	memcpy(dst, ring_at(s, KV_RING_ARENA_OFF + off), len);
	/* what was copied is what is used: no second read by the compiler */
	__asm__ __volatile__("" ::: "memory");
}

static void arena_write(const struct session *s, u32 off, const void *src,
			size_t len)
{
	memcpy(ring_at(s, KV_RING_ARENA_OFF + off), src, len);
}

/* ---- completions and events ---- */

static void futex_wake_all(struct kvmd *d, struct kv_ring_index *word)
{
	/* the word changes first: who is about to wait on it does not */
	kv_store_release(&word->v, 0u);
	syscall(SYS_futex, &word->v, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	d->n.wakes++;
}

static void cq_wake(struct session *s)
{
	if (kv_ring_must_wake(&ring_hdr(s)->cq_sleeping))
		futex_wake_all(s->d, &ring_hdr(s)->cq_sleeping);
}

/*
 * What has been taken and answered so far, in one store: a successor goes on
 * behind it. The client sees it only then.
 */
static void ring_commit(struct session *s)
{
	keep_order();
	WRITE_ONCE(s->keep->heads, (u64)s->cq_tail << 32 | s->sq_head);
	kv_ring_publish(&ring_hdr(s)->cq_tail, s->cq_tail);
	kv_ring_release(&ring_hdr(s)->sq_head, s->sq_head);
	trace_point(s->d, KV_TP_RING_COMMIT, s->id, s->sq_head);
}

/* Entries in the completion ring, or a number above its size: garbage. */
static u32 cq_used(const struct session *s)
{
	return kv_ring_used(kv_ring_avail(&ring_hdr(s)->cq_head), s->cq_tail);
}

/* Behind the others; it counts when it is committed. */
static void cq_post(struct session *s, const struct kv_cqe *cqe)
{
	struct kv_cqe *ring = ring_at(s, KV_RING_CQ_OFF);

	if (cq_used(s) >= KV_CQ_ENTRIES) {
		session_kick(s, "its completion ring is full or its head "
				"makes no sense");
		return;
	}
	ring[s->cq_tail++ & (KV_CQ_ENTRIES - 1)] = *cqe;
	trace_point(s->d, KV_TP_RING_ANSWER, s->id, s->sq_head);
}

/* The request at the head has this answer, for now or for good. */
static void req_answer(struct session *s, const struct kv_cqe *cqe)
{
	cq_post(s, cqe);
	s->sq_head++;
	ring_commit(s);
}

/* Copies or holders of a reply go to the arena, as far as there is room. */
static void reply_write(struct session *s, struct kv_cqe *cqe, u32 off,
			u32 room, const struct kv_copy *copies,
			const struct kv_holder *holders)
{
	const void *src = NULL;
	u64 len = 0;

	if (cqe->res > 0 && copies) {
		src = copies;
		len = (u64)cqe->res * sizeof(*copies);
	} else if (cqe->res == -EAGAIN && holders) {
		src = holders;
		len = min(cqe->out_len, room);
		len -= len % sizeof(*holders);
	}
	if (!src || len > room || !arena_has(off, len)) {
		cqe->out_len = 0;
		return;
	}
	arena_write(s, off, src, len);
	cqe->out_len = (u32)len;
}

/* A predecessor has posted it already, just before its end. */
static bool was_posted(const struct session *s, u64 ticket)
{
	return s->keep->post_ticket == ticket &&
	       (s32)(s->cq_tail - s->keep->post_at) > 0;
}

void ring_complete(struct session *s, const struct mm_request *req)
{
	struct kv_cqe cqe = req->cqe;

	if (s->state != SESSION_LIVE || s->doomed)
		return;
	if (s->nr_async)
		s->nr_async--;
	if (was_posted(s, req->ticket))
		return;
	reply_write(s, &cqe, req->out_off, req->out_room, req->copies,
		    req->holders);
	s->keep->post_at = s->cq_tail;
	keep_order();
	s->keep->post_ticket = req->ticket;
	cq_post(s, &cqe);
	ring_commit(s);
	if (unlikely(usdt_on(kvmd, fault)))
		fault_waited(s, req);
	cq_wake(s);
}

void ring_event(struct session *s, const struct kv_event *ev)
{
	struct kv_ring_hdr *hdr = ring_hdr(s);
	struct kv_event *ring = ring_at(s, KV_RING_EQ_OFF);
	u32 used;

	if (s->state != SESSION_LIVE || s->doomed)
		return;
	used = kv_ring_used(kv_ring_avail(&hdr->eq_head), s->eq_tail);
	if (used >= KV_EQ_ENTRIES) {
		/* full, or a head that makes no sense: the loss is its own */
		__atomic_fetch_or(&hdr->eq_flags.v, KV_EQ_OVERFLOW,
				  __ATOMIC_RELEASE);
		s->d->n.events_lost++;
	} else {
		ring[s->eq_tail & (KV_EQ_ENTRIES - 1)] = *ev;
		keep_order();
		s->keep->eq_tail = ++s->eq_tail;
		kv_ring_publish(&hdr->eq_tail, s->eq_tail);
	}
	if (kv_ring_must_wake(&hdr->eq_sleeping))
		futex_wake_all(s->d, &hdr->eq_sleeping);
}

/* ---- opcodes ---- */

static int nop_issue(struct session *s, struct ring_req *r, struct kv_cqe *cqe)
{
	return 0;
}

static int space_create_prep(struct session *s, struct ring_req *r)
{
	if (!arena_has(r->sqe.arg_off, sizeof(r->space)))
		return -EINVAL;
	arena_read(s, &r->space, r->sqe.arg_off, sizeof(r->space));
	return 0;
}

static int space_create_issue(struct session *s, struct ring_req *r,
			      struct kv_cqe *cqe)
{
	return mm_space_create(s->d->mm, s->id, &r->space);
}

static int space_destroy_issue(struct session *s, struct ring_req *r,
			       struct kv_cqe *cqe)
{
	growing_drop(&s->d->growing, s->id, r->sqe.space);
	return mm_space_destroy(s->d->mm, s->id, r->sqe.space);
}

static int space_fork_issue(struct session *s, struct ring_req *r,
			    struct kv_cqe *cqe)
{
	return mm_space_fork(s->d->mm, s->id, r->sqe.space, r->sqe.arg[0]);
}

static int space_truncate_issue(struct session *s, struct ring_req *r,
				struct kv_cqe *cqe)
{
	growing_drop(&s->d->growing, s->id, r->sqe.space);
	return mm_space_truncate(s->d->mm, s->id, r->sqe.space, r->sqe.arg[0]);
}

static int reserve_prep(struct session *s, struct ring_req *r)
{
	const u64 per_item = sizeof(struct kv_copy) * KV_AREA_MAX;
	u32 nr = r->sqe.nr, i;
	u64 tokens = 0;

	if (!nr || nr > KV_RESV_MAX)
		return -EINVAL;
	if (!arena_has(r->sqe.arg_off, nr * sizeof(r->items[0])) ||
	    !arena_has(r->sqe.out_off, r->sqe.out_len) ||
	    r->sqe.out_len < nr * per_item)
		return -EINVAL;
	arena_read(s, r->items, r->sqe.arg_off, nr * sizeof(r->items[0]));
	for (i = 0; i < nr; i++)
		tokens += r->items[i].nr_tokens;
	r->units += nr / RING_ITEMS_PER_UNIT;
	r->units += (u32)min(tokens / RING_TOKENS_PER_UNIT, (u64)RING_BUDGET);
	return 0;
}

static int reserve_issue(struct session *s, struct ring_req *r,
			 struct kv_cqe *cqe)
{
	const struct mm_resv resv = {
		.step = r->sqe.step,
		.user_data = r->sqe.user_data,
		.items = r->items,
		.nr_items = r->sqe.nr,
		.flags = r->sqe.flags & KV_SQE_WAIT,
		.out_off = r->sqe.out_off,
		.out_room = r->sqe.out_len,
	};
	struct kv_holder holders[RING_HOLDERS_MAX];
	int rc;

	rc = mm_reserve(s->d->mm, s->id, &resv, r->copies, &cqe->extent_seq,
			&cqe->extra);
	cqe->res = rc;
	if (rc == -EAGAIN) {
		cqe->out_len =
			(u32)sizeof(holders[0]) *
			mm_holders(s->d->mm, s->id, holders, RING_HOLDERS_MAX);
		reply_write(s, cqe, r->sqe.out_off, r->sqe.out_len, NULL,
			    holders);
	} else {
		reply_write(s, cqe, r->sqe.out_off, r->sqe.out_len, r->copies,
			    NULL);
	}
	return rc;
}

static int cancel_issue(struct session *s, struct ring_req *r,
			struct kv_cqe *cqe)
{
	return mm_cancel(s->d->mm, s->id, r->sqe.arg[0]);
}

static int shrink_issue(struct session *s, struct ring_req *r,
			struct kv_cqe *cqe)
{
	return mm_shrink(s->d->mm, s->id);
}

/* @nr token ids. */
static int tokens_prep(struct session *s, struct ring_req *r, u64 nr)
{
	if (nr > RING_TOKENS_MAX ||
	    !arena_has(r->sqe.arg_off, nr * sizeof(r->tokens[0])))
		return -EINVAL;
	arena_read(s, r->tokens, r->sqe.arg_off, nr * sizeof(r->tokens[0]));
	r->units += (u32)min(nr / RING_TOKENS_PER_UNIT, (u64)RING_BUDGET);
	return 0;
}

static int prefix_map_prep(struct session *s, struct ring_req *r)
{
	return tokens_prep(s, r, r->sqe.arg[0]);
}

static int prefix_map_issue(struct session *s, struct ring_req *r,
			    struct kv_cqe *cqe)
{
	return mm_prefix_map(s->d->mm, s->id, r->sqe.space, r->tokens,
			     (u32)r->sqe.arg[0], &cqe->extent_seq);
}

static int prefix_find_prep(struct session *s, struct ring_req *r)
{
	return r->sqe.arg[1] > 1 ? -EINVAL : tokens_prep(s, r, r->sqe.arg[0]);
}

static int prefix_find_issue(struct session *s, struct ring_req *r,
			     struct kv_cqe *cqe)
{
	u32 nr = (u32)r->sqe.arg[0];
	struct mm_found f;
	int rc;

	rc = mm_prefix_find(s->d->mm, s->id, r->sqe.space, r->tokens, nr, &f);
	if (rc)
		return rc;
	cqe->extra = f.known | growing_ask(&s->d->growing, s->id, r->sqe.space,
					   &f, r->tokens, nr, r->sqe.arg[1])
				       << 32;
	return (int)f.len;
}

static int prefix_publish_prep(struct session *s, struct ring_req *r)
{
	if (r->sqe.arg[1] < r->sqe.arg[0])
		return -EINVAL;
	return tokens_prep(s, r, r->sqe.arg[1] - r->sqe.arg[0]);
}

static int prefix_publish_issue(struct session *s, struct ring_req *r,
				struct kv_cqe *cqe)
{
	growing_published(&s->d->growing, s->id, r->sqe.space, r->sqe.arg[1]);
	return mm_prefix_publish(
		s->d->mm, s->id, r->sqe.space, r->sqe.arg[0], r->tokens,
		(u32)(r->sqe.arg[1] - r->sqe.arg[0]),
		r->sqe.flags & KV_SQE_RESUME, &cqe->extent_seq);
}

static int turn_issue(struct session *s, struct ring_req *r, struct kv_cqe *cqe)
{
	gate_request(s);
	return 0;
}

static const struct op_def op_defs[KV_OP_NR] = {
	[KV_OP_NOP] = { .name = "nop", .issue = nop_issue },
	[KV_OP_SPACE_CREATE] = { .name = "space_create",
				 .prep = space_create_prep,
				 .issue = space_create_issue },
	[KV_OP_SPACE_DESTROY] = { .name = "space_destroy",
				  .is_long = true,
				  .issue = space_destroy_issue },
	[KV_OP_SPACE_FORK] = { .name = "space_fork",
			       .is_long = true,
			       .issue = space_fork_issue },
	[KV_OP_SPACE_TRUNCATE] = { .name = "space_truncate",
				   .is_long = true,
				   .issue = space_truncate_issue },
	[KV_OP_RESERVE] = { .name = "reserve",
			    .flags = KV_SQE_WAIT,
			    .prep = reserve_prep,
			    .issue = reserve_issue },
	[KV_OP_CANCEL] = { .name = "cancel", .issue = cancel_issue },
	[KV_OP_SHRINK] = { .name = "shrink", .issue = shrink_issue },
	[KV_OP_PREFIX_MAP] = { .name = "prefix_map",
			       .is_long = true,
			       .prep = prefix_map_prep,
			       .issue = prefix_map_issue },
	[KV_OP_PREFIX_PUBLISH] = { .name = "prefix_publish",
				   .flags = KV_SQE_RESUME,
				   .is_long = true,
				   .prep = prefix_publish_prep,
				   .issue = prefix_publish_issue },
	[KV_OP_TURN] = { .name = "turn", .is_long = true, .issue = turn_issue },
	[KV_OP_PREFIX_FIND] = { .name = "prefix_find",
				.is_long = true,
				.prep = prefix_find_prep,
				.issue = prefix_find_issue },
};

static int req_prep(struct session *s, struct ring_req *r)
{
	const struct op_def *def;

	if (r->sqe.opcode >= KV_OP_NR)
		return -EOPNOTSUPP;
	def = &op_defs[r->sqe.opcode];
	if ((r->sqe.flags & ~def->flags) || r->sqe.reserved[0] ||
	    r->sqe.reserved[1] || r->sqe.reserved[2])
		return -EINVAL;
	return def->prep ? def->prep(s, r) : 0;
}

/*
 * The core answers later. A ticket is shown at once, before anything that
 * could already end it; without one, memory is there in a moment.
 */
static void req_pending(struct session *s, struct kv_cqe *cqe)
{
	s->nr_async++;
	if (cqe->extra) {
		cqe->res = -EAGAIN;
		cqe->flags = KV_CQE_MORE;
		cqe->extent_seq = s->extent_seq;
		req_answer(s, cqe);
	} else {
		s->sq_head++;
		ring_commit(s);
	}
	kvmd_pump(s->d);
}

/* @f: what it takes is wanted, or NULL */
static __always_inline void req_do(struct session *s, struct ring_req *r,
				   struct fault *f)
{
	struct kv_cqe cqe = { .user_data = r->sqe.user_data };
	int rc;

	r->units = 1;
	rc = req_prep(s, r);
	s->nr_requests++;
	s->d->n.ring_requests++;
	if (rc) {
		s->nr_invalid++;
		s->d->n.ring_invalid++;
		log_debug("request invalid", "client=%u op=%u error=%d", s->id,
			  r->sqe.opcode, rc);
	} else {
		rc = op_defs[r->sqe.opcode].issue(s, r, &cqe);
	}
	if (f)
		fault_answered(s, f, rc);
	if (rc == -EINPROGRESS) {
		req_pending(s, &cqe);
		return;
	}
	/* descriptors of granted extents leave before the completion */
	kvmd_pump(s->d);
	cqe.res = rc;
	if (!cqe.extent_seq)
		cqe.extent_seq = s->extent_seq;
	req_answer(s, &cqe);
	if (f && (rc > 0 || r->sqe.opcode == KV_OP_RESERVE))
		fault_ended(s, f);
}

static void __cold req_do_probed(struct session *s, struct ring_req *r)
{
	struct fault f;

	if (r->sqe.opcode != KV_OP_RESERVE &&
	    r->sqe.opcode != KV_OP_PREFIX_MAP) {
		req_do(s, r, NULL);
		return;
	}
	fault_begin(s->d, &f);
	req_do(s, r, &f);
}

static void req_run(struct session *s, struct ring_req *r)
{
	if (unlikely(usdt_on(kvmd, fault)))
		req_do_probed(s, r);
	else
		req_do(s, r, NULL);
}

/* ---- turns ---- */

static void sqe_copy(const struct session *s, struct kv_sqe *out)
{
	const struct kv_sqe *ring = ring_at(s, KV_RING_SQ_OFF);
	const struct kv_sqe *src = &ring[s->sq_head & (KV_SQ_ENTRIES - 1)];
	u64 *to = (u64 *)(void *)out;
	const u64 *from = (const u64 *)(const void *)src;
	unsigned int i;

	for (i = 0; i < sizeof(*out) / sizeof(*to); i++)
		to[i] = READ_ONCE(from[i]);
}

/* Has a request just run that may have taken long, and did it? */
static bool turn_is_over(const struct ring_req *r, u64 start_ns)
{
	return r->sqe.opcode < KV_OP_NR && op_defs[r->sqe.opcode].is_long &&
	       clock_ns() - start_ns >= RING_TURN_NS;
}

/* The core's name of the request at the head; never 0. */
static u64 req_name(const struct session *s)
{
	return 1ull << 32 | s->sq_head;
}

/* Take requests of one client. Return: how many. */
static unsigned int ring_serve(struct session *s)
{
	u32 tail = kv_ring_avail(&ring_hdr(s)->sq_tail);
	u32 used = kv_ring_used(s->sq_head, tail), room;
	unsigned int nr = 0, units = 0;
	u64 start_ns;

	if (!used || s->doomed)
		return 0;
	start_ns = clock_ns();
	if (used > KV_SQ_ENTRIES) {
		session_kick(s,
			     "its submission ring makes no sense: tail %u, "
			     "head %u",
			     tail, s->sq_head);
		return 0;
	}
	while (nr < used && units < RING_BUDGET && !s->doomed) {
		room = cq_used(s);
		if (room > KV_CQ_ENTRIES) {
			session_kick(s, "its completion ring's head makes no "
					"sense");
			break;
		}
		room = KV_CQ_ENTRIES - room;
		s->stalled = room < s->nr_async + 2;
		if (s->stalled)
			break;
		sqe_copy(s, &the_req.sqe);
		mm_op_begin(s->d->mm, s->id, req_name(s));
		nr++;
		req_run(s, &the_req);
		units += the_req.units;
		if (turn_is_over(&the_req, start_ns))
			break;
	}
	if (nr) {
		s->d->n.ring_batches++;
		cq_wake(s);
	}
	return nr;
}

/* What a predecessor has done and not answered is answered. */
static void answer_lost(struct session *s)
{
	u32 tail = kv_ring_avail(&ring_hdr(s)->sq_tail);
	struct ring_req *r = &the_req;
	struct mm_op_answer a;
	struct kv_cqe cqe;

	if (tail == s->sq_head ||
	    !mm_op_answer(s->d->mm, s->id, req_name(s), &a, r->copies))
		return;
	sqe_copy(s, &r->sqe);
	cqe = (struct kv_cqe){ .user_data = r->sqe.user_data,
			       .res = a.result,
			       .extra = a.extra,
			       .extent_seq = a.extent_seq };
	if (a.result == -EINPROGRESS) {
		if (a.extra) {
			cqe.res = -EAGAIN;
			cqe.flags = KV_CQE_MORE;
			cq_post(s, &cqe);
		}
	} else {
		if (r->sqe.opcode == KV_OP_RESERVE)
			reply_write(s, &cqe, r->sqe.out_off, r->sqe.out_len,
				    r->copies, NULL);
		cq_post(s, &cqe);
	}
	s->sq_head++;
	ring_commit(s);
}

void ring_adopt(struct session *s)
{
	s->sq_head = (u32)s->keep->heads;
	s->cq_tail = (u32)(s->keep->heads >> 32);
	s->eq_tail = s->keep->eq_tail;
	s->nr_async = mm_client_tickets(s->d->mm, s->id);
	ring_commit(s);
	answer_lost(s);
}

void ring_resume(struct session *s)
{
	struct kv_ring_hdr *hdr = ring_hdr(s);

	/* what was queued for it is lost: it looks at the table */
	kv_ring_publish(&hdr->eq_tail, s->eq_tail);
	__atomic_fetch_or(&hdr->eq_flags.v, KV_EQ_OVERFLOW, __ATOMIC_RELEASE);
	futex_wake_all(s->d, &hdr->cq_sleeping);
	futex_wake_all(s->d, &hdr->eq_sleeping);
	ring_wake(s);
}

void ring_wake(struct session *s)
{
	if (s->hot || s->state != SESSION_LIVE)
		return;
	s->hot = true;
	s->last_traffic_ns = s->d->now_ns;
	kv_ring_awake(&ring_hdr(s)->sq_sleeping);
	TAILQ_INSERT_TAIL(&s->d->hot, s, hot_link);
}

void ring_forget(struct session *s)
{
	if (s->hot)
		TAILQ_REMOVE(&s->d->hot, s, hot_link);
	s->hot = false;
}

void ring_doorbell(struct io_watch *w, u32 events)
{
	struct session *s = container_of(w, struct session, doorbell);
	u64 now = clock_ns();
	u64 most = (u64)s->d->opt->spin_us * 1000;

	if (s->hot)
		return;
	s->d->n.doorbells++;
	/* waking took part of that time, so it is tried now and then too */
	if (now - s->slept_ns < most || ++s->nr_bells % BELL_RETRY == 0)
		s->spin_ns = most;
	ring_wake(s);
	s->last_traffic_ns = now;
}

/* Nothing came for long enough: sleep, unless something came just now. */
static void ring_sleep(struct session *s)
{
	kv_ring_sleep(&ring_hdr(s)->sq_sleeping);
	if (kv_ring_avail(&ring_hdr(s)->sq_tail) != s->sq_head) {
		kv_ring_awake(&ring_hdr(s)->sq_sleeping);
		return;
	}
	s->spin_ns /= 2;
	if (s->spin_ns < SPIN_MIN_NS)
		s->spin_ns = 0;
	s->slept_ns = s->d->now_ns;
	ring_forget(s);
}

unsigned int ring_turn(struct kvmd *d)
{
	struct session *s, *next;
	unsigned int nr = 0, n;

	d->nr_spinning = 0;
	for (s = TAILQ_FIRST(&d->hot); s; s = next) {
		next = TAILQ_NEXT(s, hot_link);
		n = ring_serve(s);
		nr += n;
		if (n) {
			s->last_traffic_ns = d->now_ns;
			d->nr_spinning++;
		} else if (s->stalled) {
			s->last_traffic_ns = d->now_ns;
		} else if (d->now_ns - s->last_traffic_ns >= s->spin_ns) {
			if (s->last_traffic_ns != d->now_ns)
				d->n.spin_ns += d->now_ns - s->last_traffic_ns;
			ring_sleep(s);
			d->nr_spinning += s->hot;
		} else {
			d->nr_spinning++;
		}
	}
	return nr;
}
