/* SPDX-License-Identifier: MIT */
#ifndef KV_H
#define KV_H
/*
 * kv.h - libkv, the client library of kvmd
 *
 * A process attaches once per device, registers the geometries of its layer
 * groups, creates spaces (one per sequence) and then runs engine steps:
 *
 *	kv_step_prepare()	pages of the step are present and marked
 *	kv_step_copies()	copies to run first in the step's stream
 *	... kernels, with kv_space_table() ...
 *	kv_step_complete()	the stream has ended
 *	kv_step_commit()	lengths advance
 *
 * A step that needs no page makes no system call and no request.
 *
 * Threads: the calls on one struct kv come from one thread, except
 * kv_step_complete() (any thread) and kv_event_wait() (one other thread).
 *
 * Every call returns 0 or a positive count, or -errno; errno is left alone.
 * The last error's sentence is at kv_error().
 */
#include <stddef.h>
#include <stdint.h>
#include <kv/geometry.h>
#include <kv/msg.h>
#include <kv/ops.h>
#include <kv/ring.h>
#include <kv/stats.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KV_API __attribute__((visibility("default")))

struct kv;

/**
 * struct kv_attach_opts - how to attach
 * @sz: sizeof(struct kv_attach_opts)
 * @flags: 0
 * @socket: path, NULL: $KVMD_SOCKET, else /run/kvmd/kvmd.sock
 * @device: device number
 * @name: shown by kvctl, NULL: the program's name
 * @ns: model that this process runs, NULL: none
 * @rank: share of the model, NULL: all
 * @timeout_ms: for the handshake, 0: 5000
 * @stop: NULL, or a word that a signal handler or a thread sets: while it is
 *	not 0, kv_step_prepare() does not wait for memory and answers -EINTR
 */
struct kv_attach_opts {
	size_t sz;
	uint32_t flags;
	uint32_t device;
	const char *socket;
	const char *name;
	const struct kv_namespace *ns;
	const struct kv_rank *rank;
	uint32_t timeout_ms;
	uint32_t reserved;
	const volatile int *stop;
};

/**
 * kv_attach - connect to kvmd
 * @opts: NULL for the defaults
 * @out: the handle, on success only
 *
 * Return: 0; -ENOENT or -ECONNREFUSED no kvmd there; -EACCES not allowed;
 * -EPROTO other ABI; -ENODEV no such device; -ETIMEDOUT; -ENOMEM.
 */
KV_API int kv_attach(const struct kv_attach_opts *opts, struct kv **out);
/* kv_attach_error - the sentence of this thread's last failed kv_attach */
KV_API const char *kv_attach_error(void);
/*
 * kv_detach - unmap and close; NULL is fine. No step may be running. All that a
 * child of fork() may do with a handle of its parent's, which goes on; while
 * the child has it, kvmd does not see that the parent closed it.
 */
KV_API void kv_detach(struct kv *kv);
/* kv_error - sentence of the last failed call, never NULL */
KV_API const char *kv_error(const struct kv *kv);
/* kv_info - what kvmd answered at attach */
KV_API const struct kv_msg_welcome *kv_info(const struct kv *kv);
/**
 * struct kv_counters - what this attachment has done
 *
 * doorbells + sleeps + packets is at least the number of system calls made
 * after attach; a step that needs no page adds to none of them.
 */
struct kv_counters {
	uint64_t steps; /* prepared */
	uint64_t steps_quiet; /* of them without any request */
	uint64_t reservations; /* granted */
	uint64_t requests; /* posted to the ring */
	uint64_t doorbells; /* eventfd writes */
	uint64_t sleeps; /* futex waits */
	uint64_t packets; /* received on the socket */
	uint64_t extents; /* mapped and unmapped */
	uint64_t table_reads; /* mirrors read again */
	uint64_t prefetches;
	uint64_t tickets;
	uint64_t stale; /* commits refused */
	uint64_t forgotten_errors; /* destroys that kvmd refused: a bug */
	uint64_t stray_completions; /* nobody asked for them: a bug */
	uint64_t resumes; /* kvmd's successor went on with this attachment */
	uint64_t turns_asked; /* kvmd was asked for the turn to compute */
	uint64_t turns_missed; /* of them not given in time */
	uint64_t reserved[7];
};

/* kv_counters_get - the calling thread's view; no system call */
KV_API void kv_counters_get(const struct kv *kv, struct kv_counters *out);
/**
 * kv_stats_get - the device's, the tenant's and this client's account
 * @kv: handle
 * @out: snapshot of one moment, at most some 10 ms old while kvmd works
 *
 * Context: any thread; no system call.
 * Return: 0, or -EAGAIN: kvmd was writing all the time, or died at it.
 */
KV_API int kv_stats_get(const struct kv *kv, struct kv_stats *out);
/* kv_base - where device offset 0 lies in this process; never moves */
KV_API void *kv_base(const struct kv *kv);

/**
 * kv_geometry_add - register a page geometry
 * @kv: handle
 * @geom: strides and sizes; kvmd's fields are filled in on success
 * @id: index for struct kv_area_args
 *
 * Return: 0; -EINVAL (kv_error() says which field); -ENOSPC after KV_GEOM_MAX.
 */
KV_API int kv_geometry_add(struct kv *kv, struct kv_geometry *geom,
			   uint32_t *id);

/**
 * kv_space_create - a new, empty space
 * @kv: handle
 * @args: areas and namespace
 * @space: its slot
 *
 * Return: 0, -ENOSPC, -EINVAL.
 */
KV_API int kv_space_create(struct kv *kv, const struct kv_space_args *args,
			   uint32_t *space);
/**
 * kv_space_fork - a space that shares the first @len tokens of another
 * @kv: handle
 * @parent: live space
 * @len: tokens, at most the parent's length
 * @child: its slot
 *
 * Counts as after every step that was prepared before it.
 * Return: 0, -ENOENT, -ENOSPC, -EINVAL, -ENODATA.
 */
KV_API int kv_space_fork(struct kv *kv, uint32_t parent, uint64_t len,
			 uint32_t *child);
/**
 * kv_prefix_map - begin a sequence with what is published of it
 * @kv: handle
 * @space: without tokens
 * @tokens: ids of the sequence from its start
 * @nr: at most so many of them are mapped
 * @len: tokens the space has now, committed; 0: nothing was found
 *
 * Finds the longest prefix that a client of the same tenant has published in
 * the same namespace, for spaces of the same areas, to the token. Whole pages
 * are shared, read-only; of one that is shared in part the next step copies
 * the tokens in use.
 *
 * Return: 0, -ENOENT, -EINVAL (it has tokens), -ENOSPC.
 */
KV_API int kv_prefix_map(struct kv *kv, uint32_t space, const uint32_t *tokens,
			 uint64_t nr, uint64_t *len);
/**
 * struct kv_prefix_found - what is published of a sequence
 * @len: tokens that kv_prefix_map() would map now
 * @soon: tokens that it would when copies have ended that are on their way, or
 *	when another client has computed what it announced
 * @known: tokens whose rows have been published, be they enough to go on from
 *	or not (windows)
 */
struct kv_prefix_found {
	uint64_t len, soon, known;
};
#define KV_FIND_ANNOUNCE (1u << 0) /* they are computed in @space now */
/**
 * kv_prefix_find - how much of a sequence is published, or will be
 * @kv: handle
 * @space: without tokens; nothing is mapped into it
 * @tokens: ids of the sequence from its start
 * @nr: how many
 * @flags: KV_FIND_*
 * @found: the answer; zeros where kvmd knows no prefixes
 *
 * Another client that is told of an announcement may wait for it, for a while:
 * it is a hint, and ends when @space has published as much, is truncated or
 * destroyed, and with either side. Nothing is announced if at least 32 tokens
 * more could be mapped soon than now: wait for them.
 *
 * Return: 0, -ENOENT, -EINVAL (it has tokens).
 */
KV_API int kv_prefix_find(struct kv *kv, uint32_t space, const uint32_t *tokens,
			  uint64_t nr, unsigned int flags,
			  struct kv_prefix_found *found);
#define KV_PUBLISH_RESUME (1u << 0) /* windows: others may go on at its end */
/**
 * kv_prefix_publish - let others find what a space has computed
 * @kv: handle
 * @space: space
 * @tokens: ids of the sequence from its start
 * @nr: publish so many, at most what is committed
 * @flags: KV_PUBLISH_*
 * @len: tokens published; less than asked: there is no room for more now
 *
 * The pages are copied by kvmd, beside what this client does next; the space
 * goes over to the copies, and its own pages come free. What is sent are the
 * tokens that kvmd does not know yet, so it may be called after each step.
 *
 * Return: 0; -ENOENT; -ENOSPC, -EOPNOTSUPP: nothing of such spaces can be
 * published.
 */
KV_API int kv_prefix_publish(struct kv *kv, uint32_t space,
			     const uint32_t *tokens, uint64_t nr,
			     unsigned int flags, uint64_t *len);
/* kv_space_destroy - 0 or -ENOENT; frames leave when no step reads them */
KV_API int kv_space_destroy(struct kv *kv, uint32_t space);
/* kv_space_truncate - drop tokens at and above @len; -ENODATA for windows */
KV_API int kv_space_truncate(struct kv *kv, uint32_t space, uint64_t len);
/* kv_space_out - bytes of pages that a row at @pos reads and that are not on
 * the device now: what the next step there will wait for */
KV_API uint64_t kv_space_out(struct kv *kv, uint32_t space, uint64_t pos);
/* kv_space_private - bytes of its pages on the device that nobody else has */
KV_API uint64_t kv_space_private(struct kv *kv, uint32_t space);
/* kv_space_len - committed tokens */
KV_API uint64_t kv_space_len(const struct kv *kv, uint32_t space);
/**
 * kv_space_table - block table of one area for the prepared step
 * @kv: handle
 * @space: live space
 * @area: 0..nr_areas-1
 *
 * Entry i is the block-table entry of page i; pages that a window has left
 * hold stale entries that no row of the step reads. Valid until the next
 * call that prepares a step with this space, or changes it.
 */
KV_API const uint32_t *kv_space_table(struct kv *kv, uint32_t space,
				      uint32_t area);

/* Steps */

#define KV_STEP_WAIT (1u << 0) /* on shortage wait with a ticket */

struct kv_step;

/**
 * kv_step_prepare - make all pages of an engine step usable
 * @kv: handle
 * @items: which tokens the step computes; a space appears once
 * @nr: items, at most KV_RESV_MAX
 * @flags: KV_STEP_*
 * @timeout_ms: with KV_STEP_WAIT: how long; negative: for ever
 * @out: the step, on success only
 *
 * At most two steps may be prepared and not yet committed, in order.
 * Return: 0; -EAGAIN no memory (without KV_STEP_WAIT); -ETIMEDOUT; -EINTR
 * the stop word was set; -EDEADLK clients wait for each other's memory, this
 * one is to give back what it holds (with KV_STEP_WAIT); -E2BIG can never fit;
 * -ENODATA; -ENOENT; -EINVAL; -EBUSY two are prepared already; -ESHUTDOWN kvmd
 * is gone.
 */
KV_API int kv_step_prepare(struct kv *kv, const struct kv_resv_item *items,
			   unsigned int nr, unsigned int flags, int timeout_ms,
			   struct kv_step **out);
/**
 * kv_step_prefetch - ask for the next step's pages, without waiting
 * @kv: handle
 * @items: as for kv_step_prepare()
 * @nr: items; 0: take back what was asked for, should it still be open. Who
 *	has no step to come does this, or its pages are held as if in use
 *
 * Posts the reservation that kv_step_prepare() with the same items will then
 * find answered. Used while the previous step computes. One that was answered,
 * as kv_step_receive() has seen, is dropped for this one; pages stay.
 * Return: 0 (also when nothing is missing), -EBUSY one is under way already.
 */
KV_API int kv_step_prefetch(struct kv *kv, const struct kv_resv_item *items,
			    unsigned int nr);
/**
 * kv_step_receive - take in what was asked for ahead, as far as it has come
 * @kv: handle
 *
 * Memory that the next step was granted is mapped here rather than in
 * kv_step_prepare(), which takes as long as some hundred requests. For when the
 * device is busy with what uses no pages; memory that was taken back goes.
 * Never waits for an answer.
 * Return: 0 (also when there is nothing), -ESHUTDOWN kvmd is gone.
 */
KV_API int kv_step_receive(struct kv *kv);
/* kv_step_copies - copies to run before anything else; count returned */
KV_API unsigned int kv_step_copies(const struct kv_step *step,
				   const struct kv_copy **copies);
/* kv_step_run_copies - run them with memcpy, for host-addressable devices */
KV_API void kv_step_run_copies(struct kv *kv, const struct kv_step *step);
/**
 * kv_step_holders - who held memory when a reservation last fell short
 * @kv: handle
 * @holders: valid until the next kv_step_prepare()
 *
 * Return: how many.
 */
KV_API unsigned int kv_step_holders(const struct kv *kv,
				    const struct kv_holder **holders);
/**
 * kv_step_short - how much was missing when a reservation last fell short
 * @kv: handle
 *
 * After -EAGAIN of kv_step_prepare(). Return: bytes, in whole extents: as much
 * is enough, less may be.
 */
KV_API uint64_t kv_step_short(const struct kv *kv);
/**
 * kv_step_lost - what a swap tier has lost of a step that was just refused
 * @kv: handle
 * @space: which of its spaces
 * @pos: its first token that is gone
 *
 * After -ENODATA. Truncate the space to @pos at most and compute it again.
 *
 * Return: 1, or 0 if it was a window that has let go of the tokens.
 */
KV_API int kv_step_lost(const struct kv *kv, uint32_t *space, uint64_t *pos);
/* kv_step_number - the step's number */
KV_API uint64_t kv_step_number(const struct kv_step *step);
/* kv_step_complete - the step's stream has ended; any thread, steps in order */
KV_API void kv_step_complete(struct kv *kv, struct kv_step *step);
/**
 * kv_step_commit - append the step's tokens and free @step
 * @kv: handle
 * @step: completed step
 *
 * Return: 0, or -ESTALE: memory was revoked under the step, its tokens must
 * not be used; the spaces concerned have to be recomputed. @step is freed.
 * -EBUSY: it has not completed; @step lives on.
 */
KV_API int kv_step_commit(struct kv *kv, struct kv_step *step);
/* kv_step_abandon - instead of complete and commit: nothing was computed */
KV_API void kv_step_abandon(struct kv *kv, struct kv_step *step);
/* kv_shrink - give back extents without pages; how many went */
KV_API int kv_shrink(struct kv *kv);

/* Turns */

/**
 * kv_turn_begin - wait until it is this client's turn to compute
 * @kv: handle
 * @timeout_ms: how long; negative: for ever
 *
 * Clients whose processors meet compute one after the other, by the weights of
 * their tenants. Called when a step is prepared and before its kernels run:
 * then it is prepared while others compute. Who shares with nobody asks kvmd
 * once, and makes no system call afterwards.
 *
 * What the turn is worth is time alone: a step may run without it, beside
 * others.
 *
 * Return: 1 it has the turn; 0 it was not given in time, or the stop word was
 * set; -ESHUTDOWN kvmd is gone. In each case kv_turn_end() ends the step.
 */
KV_API int kv_turn_begin(struct kv *kv, int timeout_ms);
/* kv_turn_end - the step's kernels have ended; the turn may last */
KV_API void kv_turn_end(struct kv *kv);
/* kv_turn_pass - no step will come soon, so somebody else's turn begins. Also
 * done by kv_step_prefetch() without items, and where a call waits for memory
 */
KV_API void kv_turn_pass(struct kv *kv);

/* Weights */

struct kv_weights {
	const void *addr; /* read-only */
	size_t bytes;
	uint32_t id;
	uint32_t reserved;
};

/**
 * kv_weights_open - map a file mapping that kvmd holds once for all
 * @kv: handle
 * @key: digest, packing, isa, bytes, name; the other fields 0
 * @fill: called when this client is the one to write it; 0 or -errno
 * @ctx: for @fill
 * @out: the mapping
 *
 * Return: 0, -EDQUOT over the tenant's limit, -ENOSPC device full, what
 * @fill returned, -EBADMSG the digest is known with another size.
 */
KV_API int kv_weights_open(struct kv *kv, const struct kv_msg_weights *key,
			   int (*fill)(void *dst, size_t bytes, void *ctx),
			   void *ctx, struct kv_weights *out);
/* kv_weights_close - unmap; kvmd drops it when nobody has it open */
KV_API void kv_weights_close(struct kv *kv, struct kv_weights *w);

/* Events */

/**
 * kv_event_wait - the next event
 * @kv: handle
 * @ev: the event
 * @timeout_ms: 0: only look; negative: for ever
 *
 * An event of type KV_EVENT_NONE says that others were lost.
 * Return: 1 an event, 0 none in time, -ESHUTDOWN kvmd is gone.
 */
KV_API int kv_event_wait(struct kv *kv, struct kv_event *ev, int timeout_ms);

/* Control */

/**
 * kv_ctl - ask kvmd for inspection or administration
 * @socket: path or NULL as in struct kv_attach_opts
 * @flags: KV_HELLO_ADMIN or 0
 * @request: "OBJECT VERB [ARGS]"
 * @json: malloc'ed, zero-terminated JSON object, or the error's sentence
 *
 * Return: 0 or -errno; on an error *@json may be NULL. free() it.
 */
KV_API int kv_ctl(const char *socket, unsigned int flags, const char *request,
		  char **json);

#ifdef __cplusplus
}
#endif
#endif
