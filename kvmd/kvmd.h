/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KVMD_H
#define KVMD_KVMD_H
/*
 * kvmd.h - the daemon: one device, one loop, and what hangs on it
 *
 * Who owns what. One thread, the loop, owns everything reachable from struct
 * kvmd. Worker threads own the job they run and nothing else (io/work.h).
 *
 *	conn	 a connection: packets in and out (ipc/conn.h)
 *	session	 a client that is attached: rings, table, status, extents
 *		 (ipc/session.h); outlives its connection until its device
 *		 stream is gone
 *	weights	 file mappings (ipc/weights.h)
 *	gate	 whose turn it is to compute (gate/gate.h)
 *	keep	 what outlives this process (keep/keep.h)
 *	mm	 the core; knows sessions by its client index
 */
#include <signal.h>
#include <sys/queue.h>
#include "include/kv/types.h"
#include "kvmd/crew.h"
#include "kvmd/ipc/growing.h"
#include "kvmd/ctl/events.h"
#include "kvmd/dev/dev.h"
#include "kvmd/io/io.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.h"
#include "kvmd/ipc/listen.h"
#include "kvmd/ipc/weights.h"
#include "kvmd/keep/keep.h"
#include "kvmd/mm/mm.h"
#include "kvmd/options.h"
#include "kvmd/swap.h"
#include "lib/clock.h"

struct conn;
struct gate;
struct session;

/* Counters of `vmstat`; Documentation/abi/ctl.rst names each. */
/* clang-format off */
#define KVMD_COUNTERS(X) \
	X(ring_requests) X(ring_batches) X(ring_invalid) X(doorbells) \
	X(wakes) X(sleeps) X(spin_ns) X(loops) X(loops_200us) \
	X(loops_1ms) X(loop_max_ns) X(messages) X(attaches) \
	X(detaches) X(kicks) X(kills) X(events_lost) X(populates) \
	X(scrubs) X(device_errors) X(weights_fills) X(weights_hits) \
	X(weights_drops) X(audit_faults) X(swap_late) X(swap_faults) \
	X(swap_discards) X(swap_discarded_bytes) X(turns) X(turn_revokes)
/* clang-format on */

struct kvmd_counters {
#define KVMD_COUNTER_FIELD(name) u64 name;
	KVMD_COUNTERS(KVMD_COUNTER_FIELD)
#undef KVMD_COUNTER_FIELD
};

enum kvmd_state {
	KVMD_SERVING,
	KVMD_DRAINING, /* told to end: clients have until drain_timer */
	KVMD_ENDING, /* the loop returns */
};

TAILQ_HEAD(conn_list, conn);
TAILQ_HEAD(session_list, session);

struct kvmd {
	const struct options *opt;
	struct io *io;
	struct work_pool *pool;
	struct timer_list timers;
	u64 now_ns; /* CLOCK_MONOTONIC, read once a turn */
	u64 turn_ns; /* when this one began */
	u64 started_ns;
	enum kvmd_state state;
	struct timer drain_timer;

	struct dev *dev;
	unsigned int nr_jobs; /* extents being populated or scrubbed */
	struct mm *mm;
	int state_fd;
	void *state_map;
	u64 state_bytes;

	struct keep keep; /* what the next kvmd gets, should this one die */
	struct io_watch keeper; /* its channel */
	bool adopting; /* a predecessor's, not all of it is there yet */

	struct listener listener;
	struct timer accept_timer; /* armed: nobody is taken until then */
	bool accept_failed; /* the last one did, and was logged */
	struct io_watch signals;
	struct io_watch parent; /* with --exit-with-parent */
	struct conn_list conns;
	unsigned int nr_conns, nr_closing;

	struct session *sessions[MM_CLIENT_MAX]; /* by mm's client index */
	struct session_list all; /* the same, in order of attach */
	struct session_list hot; /* rings that are looked at each turn */
	unsigned int nr_spinning; /* of them not stalled, in the last turn */
	unsigned int nr_sessions, nr_doomed;
	u64 last_kick_ns;
	struct timer audit_timer;

	u64 next_tick_ns; /* when mm wants to look at fences again */
	u64 tick_step_ns;

	unsigned int tenant_pinned_nr; /* kvmd holds a reference */
	struct weights_set weights;
	struct gate *gate;
	struct growing growing; /* announced, gone with this process */
	struct swap swap;
	struct crews crews;
	struct event_log events;
	u64 oom_told; /* reports of the core that are events already */
	struct kvmd_counters n;
	struct conn *frozen_by;
};

/**
 * kvmd_create - open the device, the socket and the loop
 * @opt: options, kept
 * @out: the daemon
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Signals SIGTERM and SIGINT must be blocked in all threads.
 * Return: 0; -EADDRINUSE another kvmd serves the socket; -EACCES; others.
 */
int __must_check kvmd_create(const struct options *opt, struct kvmd **out,
			     char *err);
/* kvmd_run - serve until told to end; 0 or -errno */
int kvmd_run(struct kvmd *d);
/* kvmd_destroy - close everything; leaves nothing behind. NULL is fine. */
void kvmd_destroy(struct kvmd *d);

/* kvmd_pump - do what the core has asked for; after every call into it */
void kvmd_pump(struct kvmd *d);
/* kvmd_drain - stop: tell clients, wait a moment, end */
void kvmd_drain(struct kvmd *d);

#endif
