/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_PRESSURE_H
#define KVMD_MM_PRESSURE_H
/*
 * pressure.h - how much time is lost waiting for memory
 *
 * One account for each tenant and one for the device. What counts:
 *
 *	waits	a client with a reservation that has no memory yet: it is at a
 *		limit, above its high, the device is full, an extent is being
 *		populated, or its pages are being read from swap
 *	works	a client whose step was granted and has not ended, or whose
 *		completed has moved past that since the last look: steps that
 *		asked for nothing are seen by their ends
 *	some	time in which at least one client waits
 *	full	time in which one waits and none works
 *
 * Clients that do neither have nothing to do and count for nothing. One that
 * waits while an earlier step of it runs does both, and is no full.
 */
#include "include/kv/types.h"

struct mm;
struct client;

#define PRESSURE_PERIOD_NS 2000000000ull /* averages are made in these */
#define PRESSURE_KINDS	   2u /* some, full */
#define PRESSURE_AVGS	   3u /* 10, 60, 300 s */

/**
 * struct pressure - an account
 * @since_ns: it is right up to here
 * @total_ns: of each kind
 * @period_ns: of them in the period that @since_ns lies in
 * @avg: of whole periods, 0 to 1, exponential
 * @nr_waiting: clients
 * @nr_working: clients
 *
 * Zero is an account that begins at time 0, in which nothing has happened.
 */
struct pressure {
	u64 since_ns;
	u64 total_ns[PRESSURE_KINDS];
	u64 period_ns[PRESSURE_KINDS];
	double avg[PRESSURE_KINDS][PRESSURE_AVGS];
	u32 nr_waiting, nr_working;
};

/* pressure_advance - what has been so far has been so until @now_ns */
void pressure_advance(struct pressure *p, u64 now_ns);

/* pressure_waits - a ticket of @c came or went */
void pressure_waits(struct mm *mm, struct client *c);
/* pressure_granted - @c may begin @step */
void pressure_granted(struct mm *mm, struct client *c, u64 step);
/* pressure_tick - look at which steps have ended, if somebody waits */
void pressure_tick(struct mm *mm);
/* pressure_exit - @c asks for nothing more */
void pressure_exit(struct mm *mm, struct client *c);
/* pressure_recover - what was lost so far is kept, who waits is counted anew;
 * what a killed kvmd was just adding may count twice */
void pressure_recover(struct mm *mm);

#endif
