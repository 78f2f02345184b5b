/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_SESSION_H
#define KVMD_IPC_SESSION_H
/*
 * session.h - a client that is attached
 *
 *	LIVE -> LEAVING -> freed
 *
 *	LIVE	 has a connection; its rings are served
 *	LEAVING	 no request is taken any more (mm_client_exit), but its device
 *		 stream may run on: on cpu, until the process is gone. A
 *		 process that said BYE has ended its stream itself; one that
 *		 only closed its socket gets a moment, then its memory is taken
 *		 (it keeps nothing but zero pages, see dev/dev.h)
 *
 * A session is doomed first and taken apart at the end of the turn, so no
 * caller up the stack meets one that is gone.
 *
 * The shared memory: ring and status are the client's to scribble on, table
 * is read-only to it. kvmd's own indices into the ring (sq_head, cq_tail,
 * eq_tail) live here and are never read back from the ring.
 *
 * A session outlives kvmd: its descriptors are kept from attach to the end,
 * and @keep says the rest (keep/block.h). What is only here, a successor finds
 * out or begins anew with: how long it pays to spin, who is to be ended.
 */
#include <sched.h>
#include <sys/queue.h>
#include <kv/msg.h>
#include <kv/ring.h>
#include <kv/table.h>
#include "include/kv/types.h"
#include "kvmd/gate/gate.h"
#include "kvmd/io/io.h"
#include "kvmd/io/timer.h"
#include "kvmd/ipc/peer.h"
#include "kvmd/keep/block.h"

struct conn;
struct kvmd;
struct mm_recover_client;

enum session_state {
	SESSION_LIVE,
	SESSION_LEAVING,
};

struct session {
	struct kvmd *d;
	enum session_state state;
	bool doomed; /* see @why; ends at the turn's end */
	bool kicked;
	bool attached; /* mm knows it */
	char why[160];
	u32 id; /* mm's client index */
	u32 tenant; /* mm's tenant index, a reference is held */
	char tenant_name[KV_NAME_LEN];
	char name[KV_NAME_LEN];
	struct conn *conn; /* NULL once LEAVING */
	struct peer peer;
	bool has_cpus; /* where it might run when it attached: @cpus */
	cpu_set_t cpus;
	struct io_watch pid_watch;
	struct timer grace;
	u64 attached_ns;

	int ring_fd, table_fd, status_fd;
	void *ring;
	struct kv_table_hdr *table;
	struct kv_status *status;
	u64 table_bytes; /* of the file */

	struct io_watch doorbell;
	bool hot; /* on kvmd's hot list; sq_sleeping is 0 */
	bool stalled; /* no room for completions: requests have to wait */
	u64 last_traffic_ns, slept_ns;
	u64 spin_ns; /* how long it pays to spin for this client */
	u32 nr_bells; /* doorbells, to try a full spin now and then */
	u32 sq_head, cq_tail, eq_tail;
	u32 nr_async; /* completions that are still to come */
	u32 extent_seq; /* of the last grant that was sent */
	u32 resuming; /* grants that go out are ones that it had before */
	u64 *cached; /* [extents] of its tenant's cache that it may have */
	struct keep_client *keep;
	struct gate_client turn;
	u64 nr_requests, nr_invalid;
	TAILQ_ENTRY(session) link, hot_link;
};

/* session_new - nothing in it yet; NULL: no memory */
struct session *session_new(struct kvmd *d);
void session_free(struct session *s);
/* session_map - its descriptors; 0 or -ENOMEM */
int session_map(struct session *s);
/* session_watch - its doorbell and its process; 0 or -errno */
int session_watch(struct session *s);
/* session_grace - LEAVING: its process has so long to end */
void session_grace(struct session *s);
/* session_send_welcome - answer HELLO; 0 or -errno */
int session_send_welcome(struct session *s);
/* session_attach - answer @c's HELLO; refuses it itself; 0 or -errno */
int session_attach(struct conn *c);
/* session_welcome - the fields that do not depend on a client */
void session_welcome(const struct conn *c, struct kv_msg_welcome *w);
void session_geom_add(struct session *s, const struct kv_msg *msg,
		      const void *body);
/* session_kick - @s has broken the rules; @fmt says how */
void __printf(2, 3) session_kick(struct session *s, const char *fmt, ...);
/* session_hangup - its connection ends; called while taking that apart */
void session_hangup(struct session *s);
/* session_reap - take doomed sessions apart; true if there were any */
bool session_reap(struct kvmd *d);
/* session_answered - the message @cookie of its client has its answer */
void session_answered(struct session *s, u64 cookie);
/* session_keep - from here on it outlives kvmd */
void session_keep(struct session *s);
/* session_unkeep - no more; then, when it is gone, what it consisted of */
void session_unkeep(struct session *s);
void session_unkeep_fds(struct session *s);
/* session_msg_begin - remember the packet that is next, if there is one */
bool session_msg_begin(struct session *s);
/* session_msg_is_next - what is remembered has not left the socket */
bool session_msg_is_next(struct session *s);
/**
 * session_adopt_all - map what a predecessor's clients have
 * @d: daemon, without a core
 * @out: [MM_CLIENT_MAX], for mm_recover()
 *
 * A client that cannot be taken over is left out.
 */
void session_adopt_all(struct kvmd *d, struct mm_recover_client *out);
/* session_rejoin_all - behind mm_recover(): who is the core's has its tenant
 * again, all others are at their end */
void session_rejoin_all(struct kvmd *d);
/* session_resume_all - behind mm_recover_end(): they go on */
void session_resume_all(struct kvmd *d);
/* session_forget_all - they were not taken over */
void session_forget_all(struct kvmd *d);
/* session_destroy_all - kvmd ends */
void session_destroy_all(struct kvmd *d);
/* session_table_grow - mm_host_ops.table_grow */
int session_table_grow(void *host, u32 client, u32 nr_leaves);

#endif
