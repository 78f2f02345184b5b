/* SPDX-License-Identifier: MIT */
/*
 * guard.c - memory that may go bad under a copy
 *
 * The signal comes to the thread that touched the memory, at that instruction,
 * so its handler may leave by a jump: nothing else was under way.
 */
#include "kvmd/io/guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

static __thread sigjmp_buf *escape; /* NULL: outside of guarded calls */
static struct sigaction before;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void on_sigbus(int sig)
{
	if (escape)
		siglongjmp(*escape, 1);
	/* again, and then as if there were no handler */
	sigaction(sig, &before, NULL);
}

static void install(void)
{
	/* it leaves by a jump, and the next one may come */
	const struct sigaction sa = { .sa_handler = on_sigbus,
				      .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, &before);
}

int guard_call(int (*fn)(void *arg), void *arg)
{
	sigjmp_buf here;
	int rc;

	pthread_once(&once, install);
	if (sigsetjmp(here, 0)) {
		escape = NULL;
		return -EIO;
	}
	escape = &here;
	rc = fn(arg);
	escape = NULL;
	return rc;
}
