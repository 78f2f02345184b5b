/* SPDX-License-Identifier: MIT */
/*
 * revoke.pml - kvmd takes a page from a client that works on; nobody is killed
 *
 * One space of one page. The client prepares steps, two at a time if it likes,
 * and asks for the next one's pages ahead; its stream ends them in order. kvmd
 * sets the hold, waits for the space to be idle, takes the page, lifts the hold.
 * Sequentially consistent: what store buffers do to the marks and entries is
 * step.pml's matter.
 *
 * Properties: neither waits for ever, and no step runs on a page that is gone.
 * Without the deadlines, that is: with them a client that gets any of this
 * wrong is killed.
 */
#define STEPS	4
#define REVOKES 2

byte issued, mark, resv, completed;
bool held, present, asked; /* hold_step; entry; a grant for what comes */
byte nr_open; /* steps prepared, not completed */

#define BUSY ((mark > resv -> mark : resv) > completed)

inline drop_ahead()
{
	atomic {
		if
		:: asked -> asked = false; issued++;
		   if
		   :: nr_open == 0 -> completed = issued
		   :: else
		   fi
		:: else
		fi
	}
}

/* The oldest step ends on the device. */
inline end_step()
{
	assert(present);
	atomic { /* C6: below what is still open */
		nr_open--;
		completed = issued - nr_open
	}
}

active proctype client()
{
	do
	:: issued >= STEPS && nr_open == 0 -> break
	:: nr_open > 0 -> end_step()
	:: issued < STEPS && nr_open < 2 && !held ->
		/* the number, then C1 and C2 */
		atomic {
			if
			:: asked -> asked = false /* the grant is used */
			:: else
			fi;
			issued++
		}
		mark = issued;
		if
		:: present -> nr_open++
		:: else -> /* C5, then a reservation; computed again */
		   mark = completed;
		   atomic { resv = issued; present = true; nr_open++ }
		fi
	:: issued < STEPS && nr_open > 0 && !asked && !held ->
		atomic { asked = true; resv = issued + 1 }
#ifdef OPENWAIT
	/* waits for the end of the hold with a step open */
	:: held && nr_open > 0 -> !held
#endif
	:: held && nr_open == 0 ->
#ifndef AHEADKEPT
		drop_ahead();
#endif
		!held
	od;
	drop_ahead()
}

active proctype kvmd()
{
	byte n = 0;

	do
	:: n == REVOKES -> break
	:: else ->
		n++;
		held = true;
		!BUSY;
		atomic { /* K1 to K5 */
			if
#ifdef NOCHECK
			:: true -> present = false
#else
			:: !BUSY -> present = false
			:: else
#endif
			fi
		};
		held = false
	od
}
