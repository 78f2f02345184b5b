/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_TRACE_H
#define UAPI_KV_TRACE_H
/*
 * trace.h - the named transitions of the protocol
 *
 * Each name is one instruction at which a process may die. Test builds kill
 * there: KV_KILL_AT=name:n ends the process by SIGKILL at the n-th passing,
 * so the lists below are also the list of crashes to test. A list grows at
 * its end; the numbers are not part of the ABI, the names are.
 */

/* Those that a client passes (libkv). */
#define KV_TRACE_CLIENT(X)                                        \
	X(attach_connected) /* nothing sent yet */                \
	X(attach_hello) /* HELLO sent */                          \
	X(attach_welcome) /* descriptors received, none mapped */ \
	X(attach_done) /* everything mapped */                    \
	X(msg_sent) /* any request on the socket */               \
	X(msg_answered) /* its reply is read */                   \
	X(extent_received) /* descriptor here, not mapped */      \
	X(extent_mapped)                                          \
	X(extent_gone) /* unmapped because taken back */          \
	X(ring_filled) /* entry written, tail not */              \
	X(ring_published) /* tail stored, doorbell not rung */    \
	X(ring_posted) /* doorbell rung if it was needed */       \
	X(ring_asleep) /* sleeping word set */                    \
	X(ring_reaped) /* completion read, head not stored */     \
	X(ring_answered) /* head stored */                        \
	X(space_created) /* slot known, nothing stored */         \
	X(space_forked) /* child known, its len not stored */     \
	X(space_truncated) /* pages gone, len not stored */       \
	X(space_destroyed) /* request posted */                   \
	X(step_marked) /* C1 of one space */                      \
	X(step_fenced) /* C2 */                                   \
	X(step_checked) /* C3, before C4 or C5 */                 \
	X(step_unmarked) /* C5, before the reservation */         \
	X(step_ticket) /* short of memory, waiting */             \
	X(step_cancelled) /* cancel posted */                     \
	X(step_granted) /* reply read, tables not */              \
	X(step_prepared) /* step fixed */                         \
	X(step_copied) /* half of the copies are done */          \
	X(step_completed) /* C6, before the commit */             \
	X(step_len) /* len stored, epoch not read */              \
	X(step_committed)                                         \
	X(step_prefetched) /* asynchronous reservation posted */  \
	X(weights_filling) /* writable mapping made */            \
	X(weights_filled) /* written, not sealed */               \
	X(weights_mapped) /* read-only mapping made */            \
	X(weights_closed) /* unmapped, kvmd not told */

#define KV_TRACE_ENUM(name) KV_TRACE_##name,
enum kv_trace_client { KV_TRACE_CLIENT(KV_TRACE_ENUM) KV_TRACE_CLIENT_NR };

#endif
