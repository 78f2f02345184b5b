/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_GUARD_H
#define KVMD_IO_GUARD_H
/*
 * guard.h - memory that may go bad under a copy
 *
 * A page of mapped memory whose bits the machine has lost, or that the system
 * has no room for any more, is SIGBUS for who touches it. A read() would have
 * been told an error.
 */
#include "include/kv/types.h"

/**
 * guard_call - call @fn, which touches such memory
 * @fn: takes no lock and allocates nothing: it may end anywhere
 * @arg: its argument
 *
 * Installs a handler of SIGBUS for the process when it is first called. Outside
 * of guarded calls the signal does what it did.
 *
 * Context: any thread; calls do not nest.
 * Return: what @fn returns; -EIO if it did not come that far.
 */
int guard_call(int (*fn)(void *arg), void *arg);

#endif
