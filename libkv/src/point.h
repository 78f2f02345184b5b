/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_POINT_H
#define LIBKV_POINT_H
/*
 * point.h - libkv's named transitions, 100..199 of the trace points
 *
 * Rows are X(number, NAME, "name", "what has just happened"), as in trace.h.
 * Nothing of it is in the library that is installed. A test that includes the
 * sources defines KV_TEST_POINTS and libkv_point(), and dies where it likes:
 * this list is the list of places to kill a client at.
 */
#define KV_TRACE_LIBKV(X)                                                      \
	X(100, ATTACH_CONNECTED, "attach_connected", "nothing sent yet")       \
	X(101, ATTACH_HELLO, "attach_hello", "HELLO sent")                     \
	X(102, ATTACH_WELCOME, "attach_welcome",                               \
	  "descriptors received, none mapped")                                 \
	X(103, ATTACH_DONE, "attach_done", "everything mapped")                \
	X(104, MSG_SENT, "msg_sent", "any request on the socket")              \
	X(105, MSG_ANSWERED, "msg_answered", "its reply is read")              \
	X(106, EXTENT_RECEIVED, "extent_received",                             \
	  "descriptor here, not mapped")                                       \
	X(107, EXTENT_MAPPED, "extent_mapped",                                 \
	  "descriptor laid over the reservation")                              \
	X(108, EXTENT_GONE, "extent_gone", "unmapped because taken back")      \
	X(109, RING_FILLED, "ring_filled", "entry written, tail not")          \
	X(110, RING_PUBLISHED, "ring_published",                               \
	  "tail stored, doorbell not rung")                                    \
	X(111, RING_POSTED, "ring_posted", "doorbell rung if it was needed")   \
	X(112, RING_ASLEEP, "ring_asleep", "sleeping word set")                \
	X(113, RING_REAPED, "ring_reaped", "completion read, head not stored") \
	X(114, RING_ANSWERED, "ring_answered", "head stored")                  \
	X(115, SPACE_CREATED, "space_created", "slot known, nothing stored")   \
	X(116, SPACE_FORKED, "space_forked",                                   \
	  "child known, its len not stored")                                   \
	X(117, SPACE_TRUNCATED, "space_truncated",                             \
	  "pages gone, len not stored")                                        \
	X(118, SPACE_DESTROYED, "space_destroyed", "request posted")           \
	X(119, STEP_MARKED, "step_marked", "C1 of one space")                  \
	X(120, STEP_FENCED, "step_fenced", "C2")                               \
	X(121, STEP_CHECKED, "step_checked", "C3, before C4 or C5")            \
	X(122, STEP_UNMARKED, "step_unmarked", "C5, before the reservation")   \
	X(123, STEP_TICKET, "step_ticket", "short of memory, waiting")         \
	X(124, STEP_CANCELLED, "step_cancelled", "cancel posted")              \
	X(125, STEP_GRANTED, "step_granted", "reply read, tables not")         \
	X(126, STEP_PREPARED, "step_prepared", "step fixed")                   \
	X(127, STEP_COPIED, "step_copied", "half of the copies are done")      \
	X(128, STEP_COMPLETED, "step_completed", "C6, before the commit")      \
	X(129, STEP_LEN, "step_len", "len stored, epoch not read")             \
	X(130, STEP_COMMITTED, "step_committed", "lengths and epoch agree")    \
	X(131, STEP_PREFETCHED, "step_prefetched",                             \
	  "asynchronous reservation posted")                                   \
	X(132, WEIGHTS_FILLING, "weights_filling", "writable mapping made")    \
	X(133, WEIGHTS_FILLED, "weights_filled", "written, not sealed")        \
	X(134, WEIGHTS_MAPPED, "weights_mapped", "read-only mapping made")     \
	X(135, WEIGHTS_CLOSED, "weights_closed", "unmapped, kvmd not told")    \
	X(136, PREFIX_MAPPED, "prefix_mapped", "pages there, len not stored")  \
	X(137, PREFIX_PUBLISHED, "prefix_published", "answered, not noted")    \
	X(138, RESUMED, "resumed", "another kvmd: grants are numbered anew")   \
	X(139, TURN_BUSY, "turn_busy", "says it computes, has not looked")     \
	X(140, TURN_ASKED, "turn_asked", "says it waits, kvmd not told")       \
	X(141, TURN_KEPT, "turn_kept", "step ended, has not looked")           \
	X(142, TURN_IDLE, "turn_idle", "turn given up, kvmd not told")

enum libkv_point {
#define LIBKV_POINT_ENUM(nr, id, name, what) LIBKV_##id = (nr),
	KV_TRACE_LIBKV(LIBKV_POINT_ENUM)
#undef LIBKV_POINT_ENUM
};

#ifdef KV_TEST_POINTS
void libkv_point(enum libkv_point point);
#define KV_POINT(id) libkv_point(LIBKV_##id)
#else
#define KV_POINT(id) \
	do {         \
	} while (0)
#endif

#endif
