/* SPDX-License-Identifier: MIT */
/*
 * turn.c - computing by turns with others on the same processors
 *
 * A grant lasts until somebody else wants it (include/uapi/kv/turn.h), so who
 * is alone asks once: from then on a turn begins and ends with two stores and
 * two loads. Otherwise one request says that this client wants to compute, or
 * has ended, and it sleeps on the word that kvmd answers in.
 *
 * Nothing here is needed for the pages to be right. So nobody waits for ever:
 * who was not given the turn in time computes without it, and so does one
 * whose kvmd has no gate.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>

#define SLICE_NS 20000000u

static int turn_post(struct kv *kv)
{
	struct kv_sqe sqe = { .opcode = KV_OP_TURN };
	int rc = ring_reap(kv); /* nobody else may, in a long while */

	return rc ? rc : ring_post(kv, REQ_FORGET, &sqe);
}

static u32 say_busy(struct kv_turn *t, u64 now)
{
	kv_store_release(&t->since_ns, now);
	return kv_turn_say(t, KV_TURN_BUSY);
}

static u32 turn_seq(u32 word)
{
	return word & ~KV_TURN_FLAGS;
}

/* Ask, after @word; what stands there from now on is newer. */
static int turn_ask(struct kv *kv)
{
	kv_turn_say(kv->turn, KV_TURN_WAITING);
	KV_POINT(TURN_ASKED);
	return turn_post(kv);
}

/* Until there is a newer grant than in @old: 1; 0: not in time; or -errno. */
static int turn_wait(struct kv *kv, u32 old, u64 end)
{
	struct kv_turn *t = kv->turn;
	u64 now = sys_now_ns();
	u32 word;
	int rc;

	for (; now < end && !(kv->stop && *kv->stop); now = sys_now_ns()) {
		word = kv_load_acquire(&t->word);
		if (turn_seq(word) != turn_seq(old)) {
			if (word & KV_TURN_GRANTED)
				return 1;
			/* it came and went while we slept */
			old = word;
			rc = turn_ask(kv);
			if (rc)
				return rc;
			continue;
		}
		kv->nr.sleeps++;
		rc = sys_futex_wait(&t->word, word,
				    min(end - now, (u64)SLICE_NS));
		if (rc && sys_hung_up(kv->sock))
			return client_dead(kv, -ESHUTDOWN);
	}
	return 0;
}

static int turn_get(struct kv *kv, u32 word, u64 now, int timeout_ms)
{
	u64 end = timeout_ms < 0 ? ~0ull : now + (u64)timeout_ms * 1000000u;
	struct kv_turn *t = kv->turn;
	int rc;

	kv->nr.turns_asked++;
	do {
		rc = turn_ask(kv);
		if (!rc)
			rc = turn_wait(kv, word, end);
		word = say_busy(t, sys_now_ns());
		if (word & KV_TURN_GRANTED)
			return 1;
	} while (rc > 0); /* it was taken before it was used */
	kv->nr.turns_missed++;
	return rc ? rc : turn_post(kv);
}

int kv_turn_begin(struct kv *kv, int timeout_ms)
{
	struct kv_turn *t = kv->turn;
	u64 now;
	u32 word;

	if (!t)
		return 1;
	now = sys_now_ns();
	word = say_busy(t, now);
	KV_POINT(TURN_BUSY);
	if (likely(kv_turn_holds(t, word, now)))
		return 1;
	if (kv->dead)
		return client_dead(kv, kv->dead);
	return turn_get(kv, word, now, timeout_ms);
}

/* No step will come soon; whoever waits hears of it. */
static void turn_release(struct kv *kv)
{
	u32 word = kv_turn_say(kv->turn, KV_TURN_IDLE);

	KV_POINT(TURN_IDLE);
	if ((word & KV_TURN_FLAGS) == KV_TURN_FLAGS && !kv->dead)
		(void)turn_post(kv);
}

void kv_turn_end(struct kv *kv)
{
	struct kv_turn *t = kv->turn;
	u64 now, since;
	u32 word;

	if (!t || kv_load_relaxed(&t->state) != KV_TURN_BUSY)
		return;
	now = sys_now_ns();
	since = kv_load_relaxed(&t->since_ns);
	kv_store_release(&t->computed_ns, kv_load_relaxed(&t->computed_ns) +
						  now - min(since, now));
	kv_store_release(&t->steps, kv_load_relaxed(&t->steps) + 1);
	word = kv_load_acquire(&t->word);
	if (likely(kv_turn_holds(t, word, now))) {
		word = kv_turn_say(t, KV_TURN_KEPT);
		KV_POINT(TURN_KEPT);
		if (likely(kv_turn_holds(t, word, now)))
			return;
	}
	turn_release(kv);
}

void kv_turn_pass(struct kv *kv)
{
	if (kv->turn && kv_load_relaxed(&kv->turn->state) == KV_TURN_KEPT)
		turn_release(kv);
}
