/* SPDX-License-Identifier: MIT */
/*
 * test_ring.c - the rings, explored over the functions of ring.h
 *
 * timeout: 120
 *
 * One producer, one consumer, a ring of two entries, one sleeping word. The
 * consumer takes what is there, else says that it sleeps, looks once more
 * and waits: on an eventfd (kvmd), or on the word itself by futex (client).
 *
 * Checks: every entry is read once, in order, with what was written into it;
 * nobody waits for ever. Each rule can be taken away and is then missed.
 */
#define KV_ATOMIC_SHIM "selftests/explore/shim.h"
#include <kv/ring.h>
#include "include/kv/types.h"
#include "selftests/harness.h"

#define SIZE 2u

enum rule {
	RULE_NONE,
	PUBLISH_AFTER_FILL,
	PUBLISH_RELEASE, /* matters where stores pass each other */
	LOOK_AT_HEAD,
	RELEASE_AFTER_READ,
	SLEEP_FENCE,
	SLEEP_BEFORE_LOOK,
	SECOND_LOOK,
	WAKE_FENCE,
	WAKE_AT_ALL,
	WAKE_CLEARS_FIRST, /* futex only */
	NR_RULES
};

static const char *const rule_name[NR_RULES] = {
	"none",
	"fill, then publish",
	"publish is a release",
	"the producer looks at the head",
	"read, then release",
	"fence when going to sleep",
	"say so before looking again",
	"look again",
	"fence before looking at the word",
	"wake",
	"clear the word, then wake",
};

static struct {
	enum rule off;
	u32 entries;
	bool futex;
} sc;

#define HAS(rule) (sc.off != (rule))

static struct {
	struct kv_ring_index tail, head, sleeping;
	u32 slot[SIZE];
} w;

struct end {
	u32 at; /* own index */
};

struct ghost {
	u8 wakes; /* of the eventfd */
	u8 waiting; /* in the futex */
};

static u64 ghost_wake(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	g->wakes = !sc.futex;
	g->waiting = 0;
	return 0;
}

static u64 ghost_eventfd_read(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	if (!g->wakes)
		return X_BLOCK;
	g->wakes = 0;
	return 0;
}

/* The kernel compares the word and queues the sleeper in one go. */
static u64 ghost_futex_enter(void *ghost, u64 arg)
{
	(void)arg;
	((struct ghost *)ghost)->waiting = x_peek(&w.sleeping.v) == 1;
	return 0;
}

static u64 ghost_futex_wait(void *ghost, u64 arg)
{
	(void)arg;
	return ((struct ghost *)ghost)->waiting ? X_BLOCK : 0;
}

static bool must_wake(void)
{
	if (HAS(WAKE_CLEARS_FIRST))
		return kv_ring_must_wake(&w.sleeping);
	kv_fence();
	return kv_load_fence(&w.sleeping.v);
}

static bool producer_run(void *locals)
{
	struct end *e = locals;
	u32 slot = e->at % SIZE;

	if (e->at == sc.entries)
		return true;
	if (HAS(LOOK_AT_HEAD) &&
	    kv_ring_used(kv_load_acquire(&w.head.v), e->at) == SIZE)
		return false;
	e->at++;
	if (HAS(PUBLISH_AFTER_FILL))
		kv_store_relaxed(&w.slot[slot], e->at);
	if (HAS(PUBLISH_RELEASE))
		kv_ring_publish(&w.tail, e->at);
	else
		kv_store_relaxed(&w.tail.v, e->at);
	if (!HAS(PUBLISH_AFTER_FILL))
		kv_store_relaxed(&w.slot[slot], e->at);
	if (must_wake() && HAS(WAKE_AT_ALL))
		x_do(ghost_wake, 0);
	return false;
}

/* Nothing is there: sleep, unless something has come. */
static void consumer_sleep(const struct end *e)
{
	if (HAS(SLEEP_BEFORE_LOOK))
		kv_ring_sleep(&w.sleeping);
	if (HAS(SECOND_LOOK) && kv_ring_avail(&w.tail) != e->at) {
		kv_ring_awake(&w.sleeping);
		return;
	}
	if (!HAS(SLEEP_BEFORE_LOOK))
		kv_ring_sleep(&w.sleeping);
	if (sc.futex) {
		x_do(ghost_futex_enter, 0);
		x_do(ghost_futex_wait, 0);
	} else {
		x_do(ghost_eventfd_read, 0);
	}
	kv_ring_awake(&w.sleeping);
}

static bool consumer_run(void *locals)
{
	struct end *e = locals;
	u32 v;

	if (e->at == sc.entries)
		return true;
	if (kv_ring_avail(&w.tail) == e->at) {
		consumer_sleep(e);
		return false;
	}
	if (!HAS(RELEASE_AFTER_READ))
		kv_ring_release(&w.head, e->at + 1);
	v = kv_load_relaxed(&w.slot[e->at % SIZE]);
	x_check(v == e->at + 1, "an entry is not what was put there");
	if (HAS(RELEASE_AFTER_READ))
		kv_ring_release(&w.head, e->at + 1);
	e->at++;
	return false;
}

static void init(void *ghost, void *locals[X_ACTORS])
{
	(void)ghost;
	(void)locals;
	x_word(&w.tail.v, "tail", 0);
	x_word(&w.head.v, "head", 0);
	x_word(&w.sleeping.v, "sleeping", 0);
	x_word(&w.slot[0], "slot0", 0);
	x_word(&w.slot[1], "slot1", 0);
}

static void explore(enum rule off, u32 entries, bool futex, bool pso, bool show,
		    struct x_result *r)
{
	struct x_world world = {
		.name = futex ? "futex" : "eventfd",
		.actor = { { "producer", producer_run, sizeof(struct end) },
			   { "consumer", consumer_run, sizeof(struct end) } },
		.nr_actors = 2,
		.init = init,
		.pso = pso,
	};

	if (off == WAKE_FENCE)
		world.no_fence |= 1;
	if (off == SLEEP_FENCE)
		world.no_fence |= 2;
	sc.off = off;
	sc.entries = entries;
	sc.futex = futex;
	x_explore(&world, show, r);
}

TEST_TIMEOUT(ring, loses_no_entry_and_no_wakeup, 60)
{
	struct x_result r;
	u32 entries, variant;

	for (entries = 1; entries <= 4; entries++) {
		for (variant = 0; variant < 4; variant++) {
			explore(RULE_NONE, entries, variant & 1, variant & 2,
				true, &r);
			EXPECT_TRUE(r.complete);
			EXPECT_TRUE(r.failed == NULL);
		}
		TH_LOG("%u entries: %llu states", entries,
		       (unsigned long long)r.states);
	}
}

TEST_TIMEOUT(ring, fails_without_any_one_of_its_rules, 60)
{
	struct x_result r = { 0 };
	u32 rule, entries, futex, found = 0;

	for (rule = 1; rule < NR_RULES; rule++) {
		r.failed = NULL;
		for (futex = 0; futex < 2 && !r.failed; futex++)
			for (entries = 1; entries <= 3 && !r.failed; entries++)
				explore(rule, entries, futex,
					rule == PUBLISH_RELEASE, false, &r);
		TH_LOG("without \"%s\": %s", rule_name[rule],
		       r.failed ? r.failed : "nothing found");
		EXPECT_TRUE(r.failed != NULL);
		found += r.failed != NULL;
	}
	TH_LOG("figure: explorer %u of %u ring rules missed when taken away",
	       found, NR_RULES - 1);
}

TEST_HARNESS_MAIN
