/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_FAVOUR_H
#define KVMD_IO_FAVOUR_H
/*
 * favour.h - who of kvmd's threads goes first on a CPU that clients fill
 *
 * Both are of the calling thread, never fail, and do what the kernel and its
 * rights allow.
 */

/* It works for microseconds, and somebody's step waits for each of them. */
void favour_loop(void);
/* It works for one client's paging, which others must not notice. */
void favour_others(void);

#endif
