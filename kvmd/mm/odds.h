/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_ODDS_H
#define KVMD_MM_ODDS_H
/*
 * odds.h - how likely a page of some class and age is to be used again
 *
 * Pages are told apart by a class (what is known of them when they are used)
 * and by their age (uses of all pages since). Of each class and age the odds
 * know how many pages came to be that old, and how many were used then. All
 * pages in the tree count, and the evicted ones that are remembered: what is
 * learned does not depend on what is cached.
 *
 * Ages are cut into ODDS_AGES intervals, the first of one unit, the end of each
 * other 1.4 times its begin. The unit is a power of two near an eighth of the
 * pages there are, and follows them: every second interval ends at twice the
 * age, so that a change of the unit renames intervals and loses nothing.
 *
 * Pages are not looked at one by one as they grow older: a slot
 * is a span of time, it stands for all pages last used in it, and the slots
 * pass from one interval to the next.
 */
#include "include/kv/types.h"

#define ODDS_AGES    24u
#define ODDS_SLOTS   64u
#define ODDS_NEAR    3u /* by pages behind it in its request: 0, 7, more */
#define ODDS_RUNS    4u /* by new pages in the request */
#define ODDS_TURNS   3u /* by requests that added to the path before */
#define ODDS_FRESH   (ODDS_RUNS * ODDS_NEAR * ODDS_TURNS) /* used once */
#define ODDS_LEVELS  7u /* of pages used more than once, by uses */
#define ODDS_CLASSES (ODDS_FRESH + ODDS_LEVELS * ODDS_NEAR)

/* Pages last used at [begin, begin of the next younger one). */
struct odds_slot {
	u64 begin;
	u32 age; /* interval it is in */
	u32 id; /* of alive[], the same as long as it exists */
};

struct odds {
	u32 unit; /* uses; length of interval 0 */
	u32 reserved;
	u64 decay_at;
	u64 free_ids;
	u32 nr_slots;
	u32 reserved2;
	struct odds_slot slot[ODDS_SLOTS]; /* youngest first */
	u32 alive[ODDS_SLOTS][ODDS_CLASSES]; /* by id */
	u32 count[ODDS_SLOTS][ODDS_CLASSES]; /* scratch of a check */
	double seen[ODDS_CLASSES][ODDS_AGES];
	double used[ODDS_CLASSES][ODDS_AGES];
	double value[ODDS_CLASSES][ODDS_AGES]; /* expected uses per use */
};

struct odds_event {
	u32 from, to; /* ids: pages of one now count in the other */
};

void odds_init(struct odds *o);

/*
 * Of two classes of pages that are alike but for it, the one that is farther
 * from the end of its request is the greater, as is that of a longer run.
 */

/* odds_near - class by how many pages of the request are behind a page */
u32 odds_near(u32 below);
/* odds_near_of - the same of a page of class @cls */
u32 odds_near_of(u32 cls);
/* odds_class_fresh - of a page used once, one of @run new ones */
u32 odds_class_fresh(u32 turn, u32 run, u32 near);
/* odds_class_again - of a page used @uses > 1 times */
u32 odds_class_again(u32 uses, u32 near);

/* odds_born - a page is used now */
void odds_born(struct odds *o, u32 cls);
/* odds_used - a page last used at @stamp was used again */
void odds_used(struct odds *o, u32 cls, u64 stamp);
/* odds_forget - a page last used at @stamp will not be seen again */
void odds_forget(struct odds *o, u32 cls, u64 stamp);

/* odds_move - a page last used at @stamp is of another class */
void odds_move(struct odds *o, u32 from, u32 to, u64 stamp);

/* odds_slot_of - place in slot[] of pages last used at @stamp */
u32 odds_slot_of(const struct odds *o, u64 stamp);

/**
 * odds_tick - time has moved to @clock
 * @nr_pages: pages there are
 * @merges: ODDS_SLOTS of them; which ids became part of which
 *
 * Return: -1 if nothing changed, else the number of merges.
 */
int odds_tick(struct odds *o, u64 clock, u32 nr_pages,
	      struct odds_event *merges);

/**
 * odds_values - what a place is worth to a page of each age
 * @p: chance to be used in each interval, if it was not before
 * @edge: where each interval begins, and the end of the last one
 * @value: largest chance per time over all ages it may be kept to
 */
void odds_values(const double p[ODDS_AGES], const double edge[ODDS_AGES + 1],
		 double value[ODDS_AGES]);

#endif
