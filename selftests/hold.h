/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_HOLD_H
#define SELFTESTS_HOLD_H
/*
 * hold.h - system calls of a kvmd that do not return before the test says so
 *
 *	static const struct hold_rule emptying = { SYS_fallocate, ... };
 *
 *	hold_before(&emptying, 1);
 *	ASSERT_EQ(0, test_kvmd_start(&d, ...));
 *	calls = hold_listener();
 *	ASSERT_EQ(0, hold_next(calls, &id, 60000));	... it is in there now
 *	ASSERT_EQ(0, hold_let_go(calls, id, 0));
 *
 * A filter hands each such call, of the next kvmd and all that it starts, to a
 * listener, which is the test's. A process that is killed leaves them. Once the
 * listener is closed they fail.
 */
#include <stdbool.h>
#include <stdint.h>

#define HOLD_CONDS 3u

/* Of an argument, from 0 on, the lower half. */
struct hold_cond {
	unsigned int arg, value;
	bool differs; /* is anything else */
};

/* The calls @nr for which all @conds hold. */
struct hold_rule {
	unsigned int nr, nr_conds;
	struct hold_cond conds[HOLD_CONDS];
};

/* hold_before - the next test_kvmd_start() is for a kvmd so held; @rules stay
 * there until hold_listener() */
int hold_before(const struct hold_rule *rules, unsigned int nr);
/* hold_listener - behind it; the descriptor, the caller's, or -errno */
int hold_listener(void);
/* hold_is_possible - may a process be held so here? */
bool hold_is_possible(void);
/* hold_next - the next call, which is held; 0, or -errno: -ETIMEDOUT,
 * -ESHUTDOWN: nobody is left to call */
int hold_next(int listener, uint64_t *id, int timeout_ms);
/* hold_let_go - it goes on, or fails with @err; 0 or -errno */
int hold_let_go(int listener, uint64_t id, int err);

#endif
