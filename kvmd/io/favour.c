/* SPDX-License-Identifier: MIT */
/*
 * favour.c - who of kvmd's threads goes first on a CPU that clients fill
 *
 * Where kernels of clients run on CPUs, they fill all of them. A loop that is
 * asked for a page then waits for the end of somebody's time slice,
 * milliseconds for microseconds of work; and threads that copy one client's
 * pages hold up the steps of another one for as long.
 *
 *	loop	nice -10 where that is allowed, and a slice of 100 us, which
 *		lets it interrupt longer ones as it wakes up (Linux 6.12); its
 *		threads do not inherit it
 *	copies	SCHED_BATCH, nice 10, and a short slice too: they have the time
 *		that clients leave, as those whose pages are copied do while
 *		they wait, and a tenth of a CPU that others fill
 *
 * Inside a cgroup of its own with cpu weights kvmd has what that one has.
 */
#include "kvmd/io/favour.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "include/kv/types.h"

#define LOOP_NICE     (-10)
#define COPY_NICE     10
#define SLICE_NS      100000u
#define RESET_ON_FORK 1u

/* As sched_setattr(2) has it; the C library of Debian 12 does not. */
struct attr {
	u32 size, policy;
	u64 flags;
	s32 nice;
	u32 priority;
	u64 runtime, deadline, period;
};

static int set(u32 policy, int nice, u64 flags)
{
	struct attr a = { .size = sizeof(a),
			  .policy = policy,
			  .flags = flags,
			  .nice = nice,
			  .runtime = SLICE_NS };

	return (int)syscall(SYS_sched_setattr, 0, &a, 0);
}

void favour_loop(void)
{
	if (set(SCHED_OTHER, LOOP_NICE, RESET_ON_FORK))
		(void)set(SCHED_OTHER, 0, 0);
}

void favour_others(void)
{
	(void)set(SCHED_BATCH, COPY_NICE, 0);
}
