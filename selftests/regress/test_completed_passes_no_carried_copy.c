/* SPDX-License-Identifier: MIT */
/*
 * test_completed_passes_no_carried_copy.c - a number that changes its slot
 *					     stays open
 *
 * The copies of a step that never ran are carried to the next one, and the
 * number that pins their sources goes from slot to slot with them. A thread
 * that completed another step at that moment looked at the new slot before it
 * came and at the old one after it had gone, and put completed above it: kvmd
 * could move another page onto a source that was still to be copied from.
 *
 * One thread does nothing but look. A signal makes the numbers move in the
 * middle of that, wherever it happens to be.
 */
#include "libkv/src/step.c" /* white box */
#include "selftests/harness.h"
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

#define NR_SIGNALS 30000u

static struct kv *kv;
static struct kv_step *heir;
static volatile u64 pin; /* the number that is carried or inherited; 0: none */
static volatile u32 nr_signals;

static struct kv_step *begin(void)
{
	struct kv_step *st = step_begin(kv, NULL, 0);

	if (st)
		st->state = STEP_PREPARED;
	return st;
}

/* In turns: a step is burnt, the next inherits its copy, that one completes. */
static void on_alarm(int sig)
{
	struct kv_step *burnt;

	switch (nr_signals++ % 3) {
	case 0:
		burnt = begin();
		pin = burnt->number;
		burnt->nr_copies = 1;
		step_burn(kv, burnt);
		break;
	case 1:
		heir = begin();
		carry_into(kv, heir);
		break;
	case 2:
		pin = 0;
		kv_step_complete(kv, heir);
		heir->state = STEP_FREE;
		break;
	}
}

TEST_TIMEOUT(completed, passes_no_number_that_changes_its_slot, 60)
{
	const struct itimerval often = { { 0, 20 }, { 0, 20 } }, never = { 0 };
	u64 looks = 0, bad = 0, done, was;
	u32 i;

	kv = calloc(1, sizeof(*kv));
	ASSERT_TRUE(kv != NULL);
	kv->status = calloc(1, sizeof(*kv->status));
	ASSERT_TRUE(kv->status != NULL);
	/* far: copies wait for a step there */
	snprintf(kv->info.device_name, sizeof(kv->info.device_name), "far");
	for (i = 0; i <= STEP_CARRY; i++)
		kv->open_step[i] = STEP_NONE;
	signal(SIGALRM, on_alarm);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));
	while (nr_signals < NR_SIGNALS && !bad) {
		advance(kv);
		looks++;
		was = pin;
		done = kv_load_acquire(&kv->status->rank[0].completed);
		bad += was && was == pin && done >= was;
	}
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
	TH_LOG("%u moves, %llu looks", nr_signals, (unsigned long long)looks);
	EXPECT_EQ(0, bad);
	free(kv->status);
	free(kv);
}

TEST_HARNESS_MAIN
