/* SPDX-License-Identifier: MIT */
/*
 * step.c - engine steps: rules C1 to C6 of the step protocol
 *
 * Preparing marks every space (C1), fences (C2) and looks at the tables (C3).
 * If all that the step needs is there (C4) that was all: no request, no
 * system call. Otherwise the marks are put back (C5) and one reservation is
 * made (reserve.c); its grant stands for the mark.
 *
 * Numbers. Every attempt takes a new number, none is used twice. completed,
 * which any thread advances, is one less than the lowest number that is still
 * open: a step's own from prepare to kv_step_complete(), or that of a
 * prefetched reservation. A number whose reservation failed is closed at
 * once, so that completed passes over it.
 *
 * Copies that a granted reservation asked for must be made even when its step
 * never runs: the tables already show the new pages. They are carried to the
 * next step, together with the number that keeps their sources pinned; when
 * no step is open and the device is in host memory they are made at once.
 *
 * Ownership of open_step[]: the calling thread sets a slot, then issued;
 * kv_step_complete() clears it in any thread. Whoever clears one looks at all
 * of them afterwards (sequentially consistent), so of two that clear at the
 * same time at least one sees both closed. A number that the calling thread
 * moves to another slot, with the copies it pins, could be missed by a look
 * that comes to both slots at the wrong time: open_moves, odd meanwhile, tells
 * it, and it leaves the matter to the calling thread, which looks after each
 * move.
 */
#include "libkv/src/step.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>

#define GRANT_TRIES 8u
#define HOLD_NAP_NS 200000u

static u64 open_load(const struct kv *kv, u32 slot)
{
	return __atomic_load_n(&kv->open_step[slot], __ATOMIC_SEQ_CST);
}

static void open_store(struct kv *kv, u32 slot, u64 number)
{
	__atomic_store_n(&kv->open_step[slot], number, __ATOMIC_SEQ_CST);
}

static u64 moves_load(const struct kv *kv)
{
	return __atomic_load_n(&kv->open_moves, __ATOMIC_SEQ_CST);
}

/* Around a number's way from one slot to another. */
static void moves_count(struct kv *kv)
{
	__atomic_add_fetch(&kv->open_moves, 1, __ATOMIC_SEQ_CST);
}

/* C6: completed is one below the lowest open number. */
static void advance(struct kv *kv)
{
	u64 *word = &kv->status->rank[0].completed;
	u64 moves = moves_load(kv);
	u64 to = __atomic_load_n(&kv->issued, __ATOMIC_SEQ_CST), n, was;
	u32 i;

	for (i = 0; i <= STEP_CARRY; i++) {
		n = open_load(kv, i);
		if (n != STEP_NONE && n - 1 < to)
			to = n - 1;
	}
	if (moves % 2 || moves_load(kv) != moves)
		return; /* who moves one looks afterwards */
	was = kv_load_relaxed(word);
	while (was < to &&
	       !__atomic_compare_exchange_n(word, &was, to, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
		;
}

static bool any_open(const struct kv *kv)
{
	u32 i;

	for (i = 0; i < STEP_SLOTS; i++) {
		if (open_load(kv, i) != STEP_NONE)
			return true;
	}
	return false;
}

static unsigned int nr_prepared(const struct kv *kv)
{
	unsigned int i, nr = 0;

	for (i = 0; i < STEP_SLOTS; i++)
		nr += kv->step[i].state == STEP_PREPARED;
	return nr;
}

/* Room for the copies that a reservation of @nr items may bring? */
static bool has_copy_room(const struct kv *kv, u32 nr)
{
	u32 i, sum = kv->nr_carry + nr * KV_AREA_MAX;

	for (i = 0; i < STEP_SLOTS; i++) {
		if (kv->step[i].state != STEP_FREE)
			sum += kv->step[i].nr_copies;
	}
	return sum <= COPY_ROOM;
}

/* A free step with a new number, or NULL. */
static struct kv_step *step_begin(struct kv *kv,
				  const struct kv_resv_item *items, u32 nr)
{
	struct kv_step *st = NULL;
	u32 i;

	for (i = 0; i < STEP_SLOTS; i++) {
		if (kv->step[i].state == STEP_FREE)
			st = &kv->step[i];
	}
	if (!st || !has_copy_room(kv, nr)) {
		kv_fail(kv, -EBUSY, "too many steps are under way");
		return NULL;
	}
	st->slot = (u32)(st - kv->step);
	st->number = kv->issued + 1;
	st->nr_items = nr;
	st->nr_copies = 0;
	memcpy(st->items, items, nr * sizeof(*items));
	open_store(kv, st->slot, st->number);
	__atomic_store_n(&kv->issued, st->number, __ATOMIC_SEQ_CST);
	return st;
}

static void step_close(struct kv *kv, struct kv_step *st)
{
	st->state = STEP_FREE;
	open_store(kv, st->slot, STEP_NONE);
	advance(kv);
}

/* The carried copies go into @st, before its own, with their pin. */
static void carry_into(struct kv *kv, struct kv_step *st)
{
	if (!kv->nr_carry)
		return;
	memmove(st->copies + kv->nr_carry, st->copies,
		st->nr_copies * sizeof(st->copies[0]));
	memcpy(st->copies, kv->carry, kv->nr_carry * sizeof(kv->carry[0]));
	st->nr_copies += kv->nr_carry;
	kv->nr_carry = 0;
	moves_count(kv);
	open_store(kv, st->slot, min(open_load(kv, STEP_CARRY), st->number));
	open_store(kv, STEP_CARRY, STEP_NONE);
	moves_count(kv);
	advance(kv);
}

/* With no step under way they can be made here, where memory is memory. */
static void carry_flush(struct kv *kv)
{
	if (!kv->nr_carry || any_open(kv) ||
	    strncmp(kv->info.device_name, "cpu", 3))
		return;
	copy_run(kv, kv->carry, kv->nr_carry);
	kv->nr_carry = 0;
	open_store(kv, STEP_CARRY, STEP_NONE);
	advance(kv);
}

/* A reserved step that never runs: its copies are still owed. */
static void step_burn(struct kv *kv, struct kv_step *st)
{
	u64 open = open_load(kv, st->slot);

	if (st->nr_copies) {
		memcpy(kv->carry + kv->nr_carry, st->copies,
		       st->nr_copies * sizeof(st->copies[0]));
		kv->nr_carry += st->nr_copies;
		moves_count(kv);
		open_store(kv, STEP_CARRY,
			   min(open, open_load(kv, STEP_CARRY)));
		open_store(kv, st->slot, STEP_NONE);
		moves_count(kv);
	}
	step_close(kv, st);
	carry_flush(kv);
}

/* A space's length, counting what is prepared, without @st. */
static void forget_ends(struct kv *kv, const struct kv_step *gone)
{
	const struct kv_resv_item *it;
	u32 i, s;

	for (i = 0; i < gone->nr_items; i++) {
		s = gone->items[i].space;
		if (s != NO_SPACE)
			kv->space[s].end = kv->space[s].len;
	}
	for (s = 0; s < STEP_SLOTS; s++) {
		const struct kv_step *st = &kv->step[s];

		if (st == gone || st->state != STEP_PREPARED)
			continue;
		for (i = 0; i < st->nr_items; i++) {
			it = &st->items[i];
			if (it->space != NO_SPACE)
				kv->space[it->space].end =
					max(kv->space[it->space].end,
					    it->pos + it->nr_tokens);
		}
	}
}

void step_forget_space(struct kv *kv, u32 space, u64 len)
{
	struct kv_resv_item *it;
	u32 s, i;

	for (s = 0; s < STEP_SLOTS; s++) {
		struct kv_step *st = &kv->step[s];

		for (i = 0; st->state != STEP_FREE && i < st->nr_items; i++) {
			it = &st->items[i];
			if (it->space != space)
				continue;
			if (it->pos >= len)
				it->space = NO_SPACE;
			else
				it->nr_tokens = (u32)min((u64)it->nr_tokens,
							 len - it->pos);
		}
	}
}

static int items_check(struct kv *kv, const struct kv_resv_item *items, u32 nr)
{
	u32 i;

	if (!nr || nr > KV_RESV_MAX)
		return kv_fail(kv, -EINVAL, "a step of %u items: 1 to %u", nr,
			       KV_RESV_MAX);
	kv->stamp++;
	for (i = 0; i < nr; i++) {
		const struct kv_resv_item *it = &items[i];
		struct space *sp = space_get(kv, it->space);

		if (!sp)
			return -ENOENT;
		if (sp->stamp == kv->stamp)
			return kv_fail(kv, -EINVAL,
				       "space %u appears twice in a step",
				       it->space);
		sp->stamp = kv->stamp;
		if (!it->nr_tokens || it->pos > sp->end)
			return kv_fail(kv, -EINVAL,
				       "space %u: %u tokens at %llu, its "
				       "length is %llu",
				       it->space, it->nr_tokens,
				       (unsigned long long)it->pos,
				       (unsigned long long)sp->end);
		if (it->nr_tokens > sp->max_tokens - it->pos)
			return kv_fail(
				kv, -E2BIG,
				"space %u: %llu tokens, an area holds "
				"%llu at most",
				it->space,
				(unsigned long long)(it->pos + it->nr_tokens),
				(unsigned long long)sp->max_tokens);
	}
	return 0;
}

/* C3 for every space; true if all that the step needs is there. */
static bool step_look(struct kv *kv, struct kv_step *st)
{
	bool all = true;
	u32 i;

	/* first, so that a revoke in between is found at the commit */
	st->epoch = kv_load_acquire(&kv->table->epoch);
	for (i = 0; i < st->nr_items; i++) {
		mirror_sync(kv, st->items[i].space);
		all = all && mirror_can(kv, &st->items[i]);
	}
	return all;
}

/* C1 to C4, or C5's first half: false, and every mark is as it was. */
static bool step_mark(struct kv *kv, struct kv_step *st)
{
	struct space *sp;
	u32 i, s;

	for (i = 0; i < st->nr_items; i++) {
		s = st->items[i].space;
		sp = &kv->space[s];
		sp->prev_mark = sp->mark;
		sp->mark = st->number;
		kv_step_mark(&kv->status->space[s], st->number);
		KV_POINT(STEP_MARKED);
	}
	kv_step_fence();
	KV_POINT(STEP_FENCED);
	if (step_look(kv, st))
		return true;
	KV_POINT(STEP_CHECKED);
	for (i = 0; i < st->nr_items; i++) {
		s = st->items[i].space;
		sp = &kv->space[s];
		sp->mark = sp->prev_mark;
		kv_step_unmark(&kv->status->space[s], sp->mark);
	}
	KV_POINT(STEP_UNMARKED);
	return false;
}

/*
 * The reservation that was asked for ahead. *@out is set if it was granted
 * for these very items; what it says otherwise is the next attempt's matter.
 */
static int ahead_take(struct kv *kv, const struct kv_resv_item *items, u32 nr,
		      struct kv_step **out)
{
	struct kv_step *st = kv->ahead;
	int rc = ring_wait(kv, REQ_PREFETCH, false, ~0ull);

	if (!rc)
		rc = reserve_result(kv, REQ_PREFETCH, st);
	kv->ahead = NULL;
	if (rc) {
		step_close(kv, st);
		return kv->dead ? rc : 0;
	}
	if (st->nr_items == nr &&
	    !memcmp(st->items, items, nr * sizeof(*items)))
		*out = st;
	else
		step_burn(kv, st);
	return 0;
}

static int ahead_drop(struct kv *kv)
{
	struct kv_step *none = NULL;

	return kv->ahead ? ahead_take(kv, NULL, 0, &none) : 0;
}

/*
 * A hold: no new step until kvmd has done what needs the device idle. What was
 * asked for ahead would keep it waiting.
 */
static int hold_wait(struct kv *kv)
{
	int rc;

	while (unlikely(kv->issued >= kv_load_acquire(&kv->table->hold_step))) {
		rc = ahead_drop(kv);
		if (rc)
			return rc;
		if (any_open(kv))
			return kv_fail(kv, -EBUSY,
				       "kvmd asks to hold: complete the "
				       "steps under way first");
		if (sys_hung_up(kv->sock))
			return client_dead(kv, -ESHUTDOWN);
		kv_turn_pass(kv);
		kv->nr.sleeps++;
		sys_nap_ns(HOLD_NAP_NS);
	}
	return 0;
}

static void step_fix(struct kv *kv, struct kv_step *st)
{
	u32 i;

	st->state = STEP_PREPARED;
	carry_into(kv, st);
	for (i = 0; i < st->nr_items; i++) {
		const struct kv_resv_item *it = &st->items[i];

		kv->space[it->space].end =
			max(kv->space[it->space].end, it->pos + it->nr_tokens);
	}
	kv->nr.steps++;
	KV_POINT(STEP_PREPARED);
}

/* By when memory must have come; ~0: whenever. */
static u64 wait_end(unsigned int flags, int timeout_ms)
{
	if (!(flags & KV_STEP_WAIT) || timeout_ms < 0)
		return ~0ull;
	return sys_now_ns() + (u64)timeout_ms * 1000000u;
}

int kv_step_prepare(struct kv *kv, const struct kv_resv_item *items,
		    unsigned int nr, unsigned int flags, int timeout_ms,
		    struct kv_step **out)
{
	struct kv_step *st = NULL;
	u64 end_ns = 0; /* of all tries together, from the first on */
	unsigned int try;
	int rc = items_check(kv, items, nr);

	if (rc)
		return rc;
	if (nr_prepared(kv) >= 2)
		return kv_fail(kv, -EBUSY, "two steps are prepared already");
	rc = hold_wait(kv);
	if (!rc && kv->ahead)
		rc = ahead_take(kv, items, nr, &st);
	if (rc)
		return rc;
	for (try = 0; try < GRANT_TRIES; try++) {
		if (!st) {
			st = step_begin(kv, items, nr);
			if (!st)
				return -EBUSY;
			if (step_mark(kv, st)) {
				kv->nr.steps_quiet++;
				goto fixed;
			}
			if (!end_ns)
				end_ns = wait_end(flags, timeout_ms);
			rc = reserve_step(kv, st, flags, end_ns, timeout_ms);
			if (rc) {
				step_close(kv, st);
				return rc;
			}
		}
		KV_POINT(STEP_GRANTED);
		if (step_look(kv, st))
			goto fixed;
		/* taken back between the grant and the look: once more */
		step_burn(kv, st);
		st = NULL;
	}
	kv_fail(kv, -EPROTO, "kvmd grants pages that its table does not show");
	return -EPROTO;
fixed:
	step_fix(kv, st);
	*out = st;
	return 0;
}

int kv_step_prefetch(struct kv *kv, const struct kv_resv_item *items,
		     unsigned int nr)
{
	struct kv_step *st;
	bool all = true;
	unsigned int i;
	int rc;

	if (!nr) {
		kv_turn_pass(kv);
		return ahead_drop(kv);
	}
	if (kv->ahead && kv->req[REQ_PREFETCH].state != REQ_DONE)
		return kv_fail(kv, -EBUSY, "a prefetch is under way");
	rc = items_check(kv, items, nr);
	if (!rc)
		rc = ahead_drop(kv);
	if (rc)
		return rc;
	for (i = 0; i < nr; i++) {
		mirror_sync(kv, items[i].space);
		all = all && mirror_can(kv, &items[i]);
	}
	if (all || kv->issued >= kv_load_acquire(&kv->table->hold_step))
		return 0;
	st = step_begin(kv, items, nr);
	if (!st)
		return -EBUSY;
	rc = reserve_post(kv, REQ_PREFETCH, st, 0);
	if (rc) {
		step_close(kv, st);
		return rc;
	}
	st->state = STEP_ASKED;
	kv->ahead = st;
	kv->nr.prefetches++;
	KV_POINT(STEP_PREFETCHED);
	return 0;
}

int kv_step_receive(struct kv *kv)
{
	const struct req *r = &kv->req[REQ_PREFETCH];
	int rc;

	if (!kv->ahead)
		return 0;
	rc = ring_reap(kv);
	if (rc || r->state != REQ_DONE || r->cqe.res < 0)
		return rc;
	return msg_extents(kv, r->cqe.extent_seq);
}

unsigned int kv_step_copies(const struct kv_step *step,
			    const struct kv_copy **copies)
{
	*copies = step->copies;
	return step->nr_copies;
}

u64 kv_step_number(const struct kv_step *step)
{
	return step->number;
}

void kv_step_complete(struct kv *kv, struct kv_step *step)
{
	open_store(kv, step->slot, STEP_NONE);
	advance(kv);
	KV_POINT(STEP_COMPLETED);
}

/* Lengths as they are after @st; false: put back, the epoch has moved. */
static bool store_lens(struct kv *kv, const struct kv_step *st)
{
	const struct kv_space_status *last = NULL;
	u64 epoch, len;
	u32 i, s;

	for (i = 0; i < st->nr_items; i++) {
		s = st->items[i].space;
		if (s == NO_SPACE)
			continue;
		len = max(kv->space[s].len,
			  st->items[i].pos + st->items[i].nr_tokens);
		kv_store_relaxed(&kv->status->space[s].len, len);
		last = &kv->status->space[s];
	}
	kv_fence();
	KV_POINT(STEP_LEN);
	epoch = kv_load_fence(&kv->table->epoch);
	if (!last || epoch == st->epoch)
		return true;
	for (i = 0; i < st->nr_items; i++) {
		s = st->items[i].space;
		if (s != NO_SPACE)
			kv_store_relaxed(&kv->status->space[s].len,
					 kv->space[s].len);
	}
	return false;
}

int kv_step_commit(struct kv *kv, struct kv_step *step)
{
	u32 i;
	int rc;

	if (step->state != STEP_PREPARED)
		return kv_fail(kv, -EINVAL, "commit of a step not prepared");
	if (open_load(kv, step->slot) != STEP_NONE)
		return kv_fail(kv, -EBUSY, "step %llu has not completed",
			       (unsigned long long)step->number);
	step->state = STEP_FREE;
	carry_flush(kv);
	if (!store_lens(kv, step)) {
		forget_ends(kv, step);
		kv->nr.stale++;
		rc = msg_drain(kv);
		return rc ? rc
			  : kv_fail(kv, -ESTALE,
				    "memory was revoked under step %llu",
				    (unsigned long long)step->number);
	}
	for (i = 0; i < step->nr_items; i++) {
		const struct kv_resv_item *it = &step->items[i];

		if (it->space != NO_SPACE)
			kv->space[it->space].len = max(kv->space[it->space].len,
						       it->pos + it->nr_tokens);
	}
	KV_POINT(STEP_COMMITTED);
	return 0;
}

void kv_step_abandon(struct kv *kv, struct kv_step *step)
{
	if (!step || step->state != STEP_PREPARED)
		return;
	forget_ends(kv, step);
	if (open_load(kv, step->slot) == STEP_NONE)
		step->nr_copies = 0; /* it had completed: they are made */
	step_burn(kv, step);
}

unsigned int kv_step_holders(const struct kv *kv,
			     const struct kv_holder **holders)
{
	*holders = kv->holders;
	return kv->nr_holders;
}

uint64_t kv_step_short(const struct kv *kv)
{
	return kv->short_bytes;
}

KV_API int kv_step_lost(const struct kv *kv, u32 *space, u64 *pos)
{
	if (!kv->lost)
		return 0;
	*space = (u32)(kv->lost >> 32);
	*pos = (u32)kv->lost - 1;
	return 1;
}
