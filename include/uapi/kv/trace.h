/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_TRACE_H
#define UAPI_KV_TRACE_H
/*
 * trace.h - the named transitions of kvmd, its core and libkv
 *
 * One table. Each row is X(number, NAME, "name", "what has just happened").
 * A point is passed right after the store it names, so that a process that
 * is killed there leaves exactly that much done: test builds die at the n-th
 * passing with KV_KILL_AT=name:n, and the list of transitions to kill at is
 * this table. Numbers are stable: never reused, never renumbered.
 *
 *	1..99	 kvmd's mm core (argument: what the row says, else 0)
 *	100..199 libkv (its rows: libkv/src/point.h)
 *	200..299 kvmd around the core
 */
#include <stddef.h>

/**
 * KV_TRACE_POINTS - every trace point, in order of number
 * @X: macro with four arguments: number, NAME, name, description
 */
#define KV_TRACE_POINTS(X)                                                    \
	/* core: clients; argument: tenant, geometry, extents held */         \
	X(1, ATTACH, "attach", "client slot taken, table header written")     \
	X(2, GEOM_ADD, "geom_add", "geometry registered")                     \
	X(3, EXIT, "exit", "client marked as going, tickets cancelled")       \
	X(4, GONE, "gone", "client's extents uncharged, slot free")           \
	/* core: spaces; argument: slot */                                    \
	X(10, SPACE_CREATE, "space_create", "descriptor live, bumped")        \
	X(11, SPACE_DESTROY_BEGIN, "space_destroy_begin", "found, untouched") \
	X(12, SPACE_DESTROY_TABLE, "space_destroy_table", "entries gone")     \
	X(13, SPACE_DESTROY, "space_destroy", "slot free, bumped")            \
	X(14, FORK_BEGIN, "fork_begin", "child's slot and leaves are there")  \
	X(15, FORK_TABLE, "fork_table", "entries copied, references taken")   \
	X(16, FORK, "fork", "both sides bumped")                              \
	X(17, TRUNCATE_TABLE, "truncate_table", "entries above gone")         \
	X(18, TRUNCATE, "truncate", "bumped")                                 \
	/* core: step reservation; argument: step */                          \
	X(20, RESV_BEGIN, "resv_begin", "request validated and counted")      \
	X(21, RESV_ALLOC, "resv_alloc", "room made: slabs and leaves exist")  \
	X(22, RESV_COW, "resv_cow", "a shared page was replaced")             \
	X(23, RESV_WINDOW, "resv_window", "pages below the window left")      \
	X(24, RESV_TABLE, "resv_table", "all entries of a space written")     \
	X(25, RESV_BUMP, "resv_bump", "generation of a space moved")          \
	X(26, RESV_REPLY, "resv_reply", "granted, reply about to leave")      \
	X(27, TICKET_WAIT, "ticket_wait", "request kept as a ticket")         \
	X(28, TICKET_GRANT, "ticket_grant", "waiting request granted")        \
	X(29, TICKET_CANCEL, "ticket_cancel", "waiting request given up")     \
	/* core: moving a frame, steps of the protocol; argument: entry */    \
	X(40, MOVE_CHECK, "move_check", "K0: looks idle, target taken")       \
	X(41, MOVE_ENTRY, "move_entry", "K1: an entry is moving")             \
	X(42, MOVE_BUMP, "move_bump", "K2: a generation moved")               \
	X(43, MOVE_FENCE, "move_fence", "K3: behind the full barrier")        \
	X(44, MOVE_COPY, "move_copy", "K5: idle, content copied")             \
	X(45, MOVE_DONE, "move_done", "K5: new entries in place, bumped")     \
	X(46, MOVE_BACK, "move_back", "K5: busy, old entries back, bumped")   \
	/* core: swap; argument: slot */                                      \
	X(50, SWAP_OUT, "swap_out", "entries moving, a write is asked for")   \
	X(51, SWAPPED, "swapped", "written: entries name the slot, bumped")   \
	X(52, SWAP_BACK, "swap_back", "not written: old entries are back")    \
	X(53, SWAP_IN, "swap_in", "frame taken, a read is asked for")         \
	X(54, SWAPPED_IN, "swapped_in", "read: entries name the frame")       \
	X(55, SWAP_LOST, "swap_lost", "not read: the page is lost")           \
	X(56, DEMOTE, "demote", "slot of a later tier taken, copy asked for") \
	X(57, DEMOTED, "demoted", "entries name the later slot, bumped")      \
	X(58, DEMOTE_BACK, "demote_back", "not demoted: the slot is free")    \
	/* core: extents; argument: extent */                                 \
	X(60, POPULATE, "populate", "memory asked for")                       \
	X(61, POPULATED, "populated", "memory is there, or was refused")      \
	X(62, GRANT, "grant", "extent charged and given to a client")         \
	X(63, WITHDRAW, "withdraw", "empty extent taken from a client")       \
	X(64, QUARANTINE, "quarantine", "extent waits for kernels to end")    \
	X(65, SCRUB, "scrub", "extent uncharged, zeroing asked for")          \
	X(66, SCRUBBED, "scrubbed", "extent is zero again, or was refused")   \
	X(67, RELEASE, "release", "memory given back to the system")          \
	/* core: page cache; argument: space, node */                         \
	X(70, PREFIX_MAP, "prefix_map", "entries name the cache's pages")     \
	X(71, PREFIX_BEGIN, "prefix_begin", "node made, copies asked for")    \
	X(72, PREFIX_DONE, "prefix_done", "a page of a node is filled")       \
	X(73, PREFIX_TAKE, "prefix_take", "own entry names the cache's page") \
	X(74, PREFIX_EVICT, "prefix_evict", "node and its frames are free")   \
	/* core: tenants; argument: tenant */                                 \
	X(80, LIMIT, "limit", "limits of a tenant changed")                   \
	X(81, CHARGE, "charge", "weights charged or uncharged")               \
	/* core: taking memory back; argument: extents, extent */             \
	X(90, REVOKE_ASK, "revoke_ask", "client is asked to give extents")    \
	X(91, REVOKE_FENCE, "revoke_fence", "hold_step says: no new step")    \
	X(92, REVOKE_EPOCH, "revoke_epoch", "epoch moved, pages still there") \
	X(93, REVOKE_ENTRY, "revoke_entry", "an extent's entries are moving") \
	X(94, REVOKE_LOST, "revoke_lost", "its pages are lost, bumped")       \
	X(95, REVOKE_KILL, "revoke_kill", "the client's end is asked for")    \
	X(96, REVOKE_END, "revoke_end", "hold lifted, the client goes on")    \
	/* kvmd, beside the core; argument: request, cookie, extent, ... */   \
	X(200, RING_ANSWER, "ring_answer", "completion written, not shown")   \
	X(201, RING_COMMIT, "ring_commit", "request taken, completion shown") \
	X(202, MSG_TAKEN, "msg_taken", "message copied, still in the socket") \
	X(203, MSG_BEGIN, "msg_begin", "message left the socket")             \
	X(204, MSG_DONE, "msg_done", "answer has been sent")                  \
	X(205, KEEP_ATTACH, "keep_attach", "descriptors kept, no record yet") \
	X(206, KEEP_RECORD, "keep_record", "client's record is there")        \
	X(207, KEEP_EXIT, "keep_exit", "client's record is gone")             \
	X(208, KEEP_EXTENT, "keep_extent", "memory kept, not yet in place")   \
	X(209, KEEP_PLACED, "keep_placed", "memory in place, core not told")  \
	X(210, KEEP_OFFER, "keep_offer", "weights: memory kept, no reply")    \
	X(211, KEEP_LEASE, "keep_lease", "weights: lease counted, no reply")  \
	X(212, KEEP_SEALED, "keep_sealed", "weights: sealed, no reply")       \
	X(213, ADOPTED, "adopted", "a successor has taken all over")          \
	X(214, RESUMED, "resumed", "a client was told, nothing served yet")   \
	X(215, TURN_BEGIN, "turn_begin", "word says granted, nobody woken")   \
	X(216, TURN_END, "turn_end", "turn ended, nobody else has it yet")    \
	X(217, TURN_REVOKE, "turn_revoke", "overrun: its word says nothing")

enum kv_trace_point {
#define KV_TRACE_ENUM(nr, id, name, what) KV_TP_##id = (nr),
	KV_TRACE_POINTS(KV_TRACE_ENUM)
#undef KV_TRACE_ENUM
};

#define KV_TP_MAX 300u

/**
 * kv_trace_name - name of a trace point
 * @point: number
 *
 * Return: the name, or NULL if no row has that number.
 */
static inline const char *kv_trace_name(unsigned int point)
{
	switch (point) {
#define KV_TRACE_NAME(nr, id, name, what) \
	case nr:                          \
		return name;
		KV_TRACE_POINTS(KV_TRACE_NAME)
#undef KV_TRACE_NAME
	default:
		return NULL;
	}
}

#endif
