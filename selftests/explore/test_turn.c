/* SPDX-License-Identifier: MIT */
/*
 * test_turn.c - the words of a turn, explored over the functions of turn.h
 *
 * timeout: 120
 *
 * A client that computes some steps, and kvmd, which takes the turn from it
 * for a rival some times and gives it back. The client's turn is over as soon
 * as it is wanted; so are all of kvmd's grants to it that it has not used.
 *
 * kvmd puts a grant back that it withdrew from one that was about to use it.
 * It could do so again and again if the client came to use each at just that
 * time, so after PUTS times it tries when the client sleeps or does nothing.
 *
 * Checks: the client does not compute under a grant while the rival does, and
 * nobody waits for ever. Each rule can be taken away and is then missed.
 */
#define KV_ATOMIC_SHIM "selftests/explore/shim.h"
#include <kv/turn.h>
#include "include/kv/types.h"
#include "selftests/harness.h"

enum rule {
	RULE_NONE,
	CLIENT_FENCE,
	KVMD_FENCE,
	LOOK_BEHIND_WITHDRAWAL,
	LOOK_BEHIND_PUT_BACK,
	NEW_NUMBER,
	LOOK_BEHIND_GRANT,
	TELL_AT_THE_END,
	NR_RULES
};

static const char *const rule_name[NR_RULES] = {
	"none",
	"fence between what the client does and its look",
	"fence between the word and kvmd's look",
	"look once more when the grant is withdrawn",
	"and when it is put back",
	"a grant has a number of its own",
	"look once more at a grant before using it",
	"tell kvmd at the end of a turn that is wanted",
};

static struct {
	enum rule off;
	u8 steps, rivals;
} sc;

#define PUTS	  2
#define HAS(rule) (sc.off != (rule))

static struct kv_turn w;

struct client {
	u32 old; /* number of the grant that was there at the asking */
	u8 steps;
	bool waits;
};

enum phase { WANT, TAKE, BUSY, RIVAL, SERVE, HOLD };

struct kvmd {
	u32 word;
	u8 rivals, phase; /* enum phase */
	u8 puts; /* grants put back */
};

struct ghost {
	u8 asked; /* requests that kvmd has not seen */
	u8 done, computes, rival;
	u8 sleeps; /* in the futex */
};

/* ---- acts ---- */

static u64 ghost_post(void *ghost, u64 arg)
{
	(void)arg;
	((struct ghost *)ghost)->asked = 1;
	return 0;
}

static u64 ghost_compute(void *ghost, u64 on)
{
	struct ghost *g = ghost;

	g->computes = (u8)on;
	x_check(!g->computes || !g->rival, "both compute");
	return 0;
}

static u64 ghost_rival(void *ghost, u64 on)
{
	struct ghost *g = ghost;

	g->rival = (u8)on;
	x_check(!g->computes || !g->rival, "both compute");
	return 0;
}

static u64 ghost_done(void *ghost, u64 arg)
{
	(void)arg;
	((struct ghost *)ghost)->done = 1;
	return 0;
}

/* A request, 1; or the client has ended, 0. */
static u64 ghost_serve(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	if (!g->asked && !g->done)
		return X_BLOCK;
	if (!g->asked)
		return 0;
	g->asked = 0;
	return 1;
}

static u64 ghost_asked(void *ghost, u64 arg)
{
	struct ghost *g = ghost;

	(void)arg;
	if (!g->asked)
		return X_BLOCK;
	g->asked = 0;
	return 0;
}

/* The client sleeps, or does nothing. */
static u64 ghost_quiet(void *ghost, u64 arg)
{
	u64 state = x_peek(&w.state);

	(void)arg;
	return ((struct ghost *)ghost)->sleeps || state == KV_TURN_IDLE ||
			       state == KV_TURN_KEPT
		       ? 0
		       : X_BLOCK;
}

static u64 ghost_wake(void *ghost, u64 arg)
{
	(void)arg;
	((struct ghost *)ghost)->sleeps = 0;
	return 0;
}

static u64 ghost_futex_enter(void *ghost, u64 word)
{
	((struct ghost *)ghost)->sleeps = x_peek(&w.word) == word;
	return 0;
}

static u64 ghost_futex_wait(void *ghost, u64 arg)
{
	(void)arg;
	return ((struct ghost *)ghost)->sleeps ? X_BLOCK : 0;
}

/* ---- the client ---- */

static void ask(struct client *c, u32 word)
{
	c->old = word / KV_TURN_SEQ;
	kv_turn_say(&w, KV_TURN_WAITING);
	x_do(ghost_post, 0);
	c->waits = true;
}

static void end_turn(void)
{
	u32 word = kv_turn_say(&w, KV_TURN_IDLE);

	if ((word & KV_TURN_FLAGS) == KV_TURN_FLAGS && HAS(TELL_AT_THE_END))
		x_do(ghost_post, 0);
}

static void compute(struct client *c)
{
	x_do(ghost_compute, 1);
	x_do(ghost_compute, 0);
	if (!kv_turn_holds(&w, kv_turn_say(&w, KV_TURN_KEPT), 1))
		end_turn();
	c->steps++;
	c->waits = false;
}

static void wait_for_grant(struct client *c)
{
	u32 word = kv_load_acquire(&w.word);

	if (word / KV_TURN_SEQ == c->old) {
		x_do(ghost_futex_enter, word);
		x_do(ghost_futex_wait, 0);
		return;
	}
	if (!(word & KV_TURN_GRANTED)) {
		ask(c, word);
		return;
	}
	word = kv_turn_say(&w, KV_TURN_BUSY);
	if ((word & KV_TURN_GRANTED) || !HAS(LOOK_BEHIND_GRANT))
		compute(c);
	else
		ask(c, word);
}

static bool client_run(void *locals)
{
	struct client *c = locals;
	u32 word;

	if (c->waits) {
		wait_for_grant(c);
		return false;
	}
	if (c->steps == sc.steps) {
		end_turn();
		x_do(ghost_done, 0);
		return true;
	}
	word = kv_turn_say(&w, KV_TURN_BUSY);
	if (kv_turn_holds(&w, word, 1))
		compute(c);
	else
		ask(c, word);
	return false;
}

/* ---- kvmd ---- */

static u32 grant(struct kvmd *d, u32 flags)
{
	u32 state;

	d->word = (d->word & ~KV_TURN_FLAGS) +
		  (HAS(NEW_NUMBER) ? KV_TURN_SEQ : 0);
	d->word |= KV_TURN_GRANTED | flags;
	state = kv_turn_tell(&w, d->word);
	x_do(ghost_wake, 0);
	return state;
}

static void take(struct kvmd *d)
{
	u32 state;

	d->word &= ~KV_TURN_FLAGS;
	if (kv_turn_tell(&w, d->word) == KV_TURN_BUSY &&
	    HAS(LOOK_BEHIND_WITHDRAWAL)) {
		state = grant(d, KV_TURN_WANTED);
		d->puts++;
		d->phase = state == KV_TURN_BUSY || state == KV_TURN_WAITING ||
					   !HAS(LOOK_BEHIND_PUT_BACK)
				   ? BUSY
				   : TAKE;
	} else {
		d->phase = RIVAL;
	}
}

static bool kvmd_run(void *locals)
{
	struct kvmd *d = locals;

	switch (d->phase) {
	case WANT:
		d->word |= KV_TURN_WANTED;
		if (kv_turn_tell(&w, d->word) == KV_TURN_BUSY)
			d->phase = BUSY;
		else
			take(d);
		return false;
	case TAKE:
		take(d);
		return false;
	case BUSY:
		x_do(ghost_asked, 0);
		if (d->puts >= PUTS)
			x_do(ghost_quiet, 0);
		if (kv_load_acquire(&w.state) != KV_TURN_BUSY)
			take(d);
		return false;
	case RIVAL:
		x_do(ghost_rival, 1);
		x_do(ghost_rival, 0);
		d->rivals++;
		if (kv_load_acquire(&w.state) == KV_TURN_WAITING) {
			grant(d, 0);
			d->phase = d->rivals < sc.rivals ? WANT : HOLD;
		} else {
			d->phase = SERVE;
		}
		return false;
	default: /* the turn is the client's, or nobody's */
		if (!x_do(ghost_serve, 0))
			return true;
		if (d->phase == SERVE &&
		    kv_load_acquire(&w.state) == KV_TURN_WAITING) {
			grant(d, 0);
			d->phase = d->rivals < sc.rivals ? WANT : HOLD;
		}
		return false;
	}
}

static void init(void *ghost, void *locals[X_ACTORS])
{
	(void)ghost;
	((struct kvmd *)locals[1])->word = KV_TURN_GRANTED;
	x_word(&w.word, "word", KV_TURN_GRANTED);
	x_word(&w.until_ns, "until", 0);
	x_word(&w.state, "state", KV_TURN_IDLE);
}

static void explore(enum rule off, u8 steps, u8 rivals, bool pso, bool show,
		    struct x_result *r)
{
	struct x_world world = {
		.name = "turn",
		.actor = { { "client", client_run, sizeof(struct client) },
			   { "kvmd", kvmd_run, sizeof(struct kvmd) } },
		.nr_actors = 2,
		.ghost_bytes = sizeof(struct ghost),
		.init = init,
		.pso = pso,
	};

	if (off == CLIENT_FENCE)
		world.no_fence |= 1;
	if (off == KVMD_FENCE)
		world.no_fence |= 2;
	sc.off = off;
	sc.steps = steps;
	sc.rivals = rivals;
	x_explore(&world, show, r);
}

TEST_TIMEOUT(turn, is_never_two_clients_and_never_lost, 60)
{
	struct x_result r;
	u8 steps, rivals;

	for (steps = 1; steps <= 3; steps++)
		for (rivals = 1; rivals <= 3; rivals++) {
			explore(RULE_NONE, steps, rivals, false, true, &r);
			EXPECT_TRUE(r.complete);
			EXPECT_TRUE(r.failed == NULL);
			explore(RULE_NONE, steps, rivals, true, true, &r);
			EXPECT_TRUE(r.complete);
			EXPECT_TRUE(r.failed == NULL);
		}
	TH_LOG("%llu states", (unsigned long long)r.states);
}

TEST_TIMEOUT(turn, fails_without_any_one_of_its_rules, 60)
{
	struct x_result r = { 0 };
	u32 rule, found = 0;
	u8 n;

	for (rule = 1; rule < NR_RULES; rule++) {
		r.failed = NULL;
		for (n = 1; n <= 3 && !r.failed; n++)
			explore(rule, n, n, false, false, &r);
		TH_LOG("without \"%s\": %s", rule_name[rule],
		       r.failed ? r.failed : "nothing found");
		EXPECT_TRUE(r.failed != NULL);
		found += r.failed != NULL;
	}
	TH_LOG("figure: explorer %u of %u rules of turns missed when taken "
	       "away",
	       found, NR_RULES - 1);
}

TEST_HARNESS_MAIN
