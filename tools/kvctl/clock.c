/* SPDX-License-Identifier: MIT */
/*
 * clock.c - seconds that pass
 */
#include "tools/kvctl/kvctl.h"

#include <time.h>

double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

void pause_s(double s)
{
	struct timespec ts = { .tv_sec = (time_t)s,
			       .tv_nsec =
				       (long)((s - (double)(time_t)s) * 1e9) };

	nanosleep(&ts, NULL);
}
