/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_MM_H
#define KVMD_MM_MM_H
/*
 * mm.h - the memory manager's core, as the daemon, the simulator and the
 *	  fuzzers see it
 *
 * The core is pure: no system call, no clock, no thread. Its caller (the
 * "host") gives it operations, time and completions; it changes its books and
 * the clients' tables and hands out work as requests, which the host drains
 * with mm_next_request() after every call, does in its own time, and answers
 * with the matching mm_*_done().
 *
 * All of its state lies in the one memory block given to mm_create(),
 * addressed by index, never by pointer, so that a successor could map it.
 * Client tables and client status arrays are memory of their own.
 *
 * Ownership of an extent (struct extent, extent.h):
 *
 *	bare -> filling -> ready -> granted -> quarantine -> scrubbing -> ready
 *	  ^________________________________________________________|
 *
 *	bare		no memory behind it
 *	filling		MM_REQ_POPULATE is out
 *	ready		populated, zero, nobody's
 *	granted		one client's, charged to its tenant
 *	quarantine	its client is gone or gave it back; a kernel may run
 *	scrubbing	MM_REQ_SCRUB is out
 *
 * Context: one thread, the owner of the device. Nothing here blocks.
 */
#include <kv/geometry.h>
#include <kv/msg.h>
#include <kv/ops.h>
#include <kv/ring.h>
#include <kv/table.h>
#include "include/kv/types.h"
#include "kvmd/mm/counts.h"
#include "kvmd/mm/swap_set.h"

struct mm;

#define MM_CLIENT_MAX 1024u
#define MM_TENANT_MAX 256u
#define MM_NONE	      0xffffffffu
#define MM_LIMIT_NONE (~0ull)
#define MM_TIER_MAX   3u /* swap tiers */
#define MM_TREE_MAX   256u /* namespaces with published prefixes */

/**
 * struct mm_config - fixed at creation
 * @device_bytes: size of the offset space, a multiple of KV_EXTENT_SIZE
 * @ready_extents: populated extents to keep at hand
 * @revoke: enum mm_revoke_policy
 * @seed: for the few random choices (tests replay them)
 * @swap_bytes: room of each swap tier, the fastest first; 0: no such tier
 * @swap_store: bytes that pages in it may take, if it makes them smaller than
 *	they are (mm_swap_stored()); 0: as @swap_bytes
 * @swap: at first; mm_swap_set() changes it, mm_swap_get() says what it is
 * @watermark_min: free memory, in bytes: below it the rest is for steps, and
 *	published prefixes take none
 * @watermark_low: below it memory is reclaimed in the background
 * @watermark_high: until there is so much again; 0, 0, 0: it never is
 * @cache_pages: published pages of all tenants, at most; 0: memory decides
 * @revoke_ask_ns: how long a client may take to give memory back when asked
 * @revoke_fence_ns: and then for its steps to end, before it is killed
 */
struct mm_config {
	u64 device_bytes;
	u32 ready_extents;
	u32 revoke;
	u64 seed;
	u64 swap_bytes[MM_TIER_MAX];
	u64 swap_store[MM_TIER_MAX];
	struct mm_swap_set swap;
	u64 watermark_min, watermark_low, watermark_high;
	u64 cache_pages;
	u64 revoke_ask_ns, revoke_fence_ns;
};

/* What memory is taken back for from a client that lives (revoke.c). */
enum mm_revoke_policy {
	MM_REVOKE_OFF, /* nothing */
	MM_REVOKE_ADMIN, /* mm_revoke(), and a limit below what is held */
	MM_REVOKE_TICKETS, /* a ticket, too, that is entitled to it */
};

/**
 * struct mm_host_ops - what the core needs at once
 * @table_grow: make room for @nr_leaves leaves in the client's table memfd
 *	before the core uses them; 0 or -errno. Required.
 * @trace: a trace point was passed (names: include/uapi/kv/trace.h); test
 *	builds kill here. Optional.
 * @swap_forget: the page at @off of a swap tier is not needed any more, and
 *	nothing of it is on its way. Optional.
 * @spare: of what is charged to @tenant, bytes that the host can let go of, at
 *	most @most: weights that nobody has open. Unless @want is 0 those that
 *	make so many, the oldest first, go as soon as the core has returned;
 *	mm_spared() says so, even if they stay after all. Optional.
 */
struct mm_host_ops {
	int (*table_grow)(void *host, u32 client, u32 nr_leaves);
	void (*trace)(void *host, u32 point, u32 client, u64 arg);
	void (*swap_forget)(void *host, u32 tier, u64 off);
	u64 (*spare)(void *host, u32 tenant, u64 want, u64 most);
};

/*
 * Life cycle. @state is zeroed memory of mm_state_bytes(), page aligned. It
 * is large and sparse (arrays at their maximum size): map it, don't touch it.
 * mm_state_bytes() is 0 and mm_create() -EINVAL for a device that is no
 * multiple of KV_EXTENT_SIZE, empty, or over MM_DEVICE_MAX, and for swap tiers
 * of more than MM_SWAP_MAX together.
 */
#define MM_DEVICE_MAX (1ull << 42)
#define MM_SWAP_MAX   (1ull << 42)
size_t mm_state_bytes(const struct mm_config *cfg);
int __must_check mm_create(const struct mm_config *cfg, void *state,
			   const struct mm_host_ops *ops, void *host,
			   struct mm **out);
void mm_destroy(struct mm *mm);

/*
 * Taking over. @state is the block that a killed kvmd left, mapped anywhere,
 * and the clients' tables and status arrays are theirs still. Recovery takes
 * back or finishes what was begun and builds everything else anew
 * (Documentation/internals/recovery.rst).
 */

/**
 * struct mm_recover_client - a client's memory, mapped by the new process
 * @serial: mm_client_serial() when it attached: another one's is not taken
 * @table: its table; NULL: the client is lost, as after mm_client_exit()
 * @status: its status array
 */
struct mm_recover_client {
	u32 serial, reserved;
	struct kv_table_hdr *table;
	struct kv_status *status;
};

/**
 * struct mm_recover - what a new process brings along
 * @clients: [MM_CLIENT_MAX], by index
 * @tiers_lost: bit t: what was in swap tier t is gone
 */
struct mm_recover {
	const struct mm_recover_client *clients;
	u32 tiers_lost, reserved;
};

/**
 * mm_recover - go on with a block that another process left at any instruction
 * @cfg: as for mm_create(); sizes must be what they were
 * @state: the block
 * @how: memory of the clients
 * @ops: of this process
 * @host: for @ops
 * @out: the core
 *
 * The dead process's reads, writes and copies must have ended. Afterwards, and
 * before it drains the requests, the host looks up the answers that it owes
 * (mm_op_answer()), takes its references to tenants anew, tells what clients
 * have died meanwhile and what time it is (mm_now()), and calls
 * mm_recover_end(). Completions come again until
 * another request was taken after them: their ticket says which was posted. A
 * client that comes back gets mm_client_resume() and its answers before it
 * asks for anything else.
 *
 * Killed in here, it can be called again.
 *
 * Return: 0; -ENOENT: no core was created here, or it was destroyed;
 * -EBADMSG: that is no core; -EPROTONOSUPPORT: it is not mm_is_ours();
 * -EINVAL: of another size of swap or cache.
 */
int __must_check mm_recover(const struct mm_config *cfg, void *state,
			    const struct mm_recover *how,
			    const struct mm_host_ops *ops, void *host,
			    struct mm **out);
/* mm_is_ours - is the block of @bytes there of this version, build and size? */
bool mm_is_ours(const struct mm_config *cfg, const void *state, u64 bytes);
/**
 * mm_convert - a block as another build laid it out becomes one of ours
 * @cfg: as for mm_recover(), which comes next
 * @state: zeroed, mm_state_bytes(@cfg)
 * @from: the other one; not changed
 * @from_bytes: of it
 * @from_fd: what is mapped there, or -1
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: as mm_recover(), or as record_convert(): @state is no core then.
 */
int __must_check mm_convert(const struct mm_config *cfg, void *state,
			    const void *from, u64 from_bytes, int from_fd,
			    char *err);
/* mm_recover_end - the host has its references to tenants again */
void mm_recover_end(struct mm *mm);
/* mm_client_serial - tells a client from others that had its index */
u32 mm_client_serial(const struct mm *mm, u32 client);
/* mm_client_tickets - completions of @client that are still to come */
u32 mm_client_tickets(const struct mm *mm, u32 client);
/**
 * mm_client_resume - grant a client anew all that it has
 * @mm: core
 * @client: index
 * @seq: the number before the first of these grants
 *
 * What it has mapped and is not granted again is no longer its own.
 * Return: grants that are queued now; -ENOENT, -ESHUTDOWN.
 */
int mm_client_resume(struct mm *mm, u32 client, u32 *seq);
/* mm_op_begin - the next operation of @client is its request @id, which rises;
 * it is answered before the core is called for this client again */
void mm_op_begin(struct mm *mm, u32 client, u64 id);

struct mm_op_answer {
	int result;
	u32 extent_seq;
	u64 extra; /* -EINPROGRESS: the ticket, if it was to be shown */
};

/**
 * mm_op_answer - what a client that never got an answer is owed
 * @mm: core, after mm_recover()
 * @client: index
 * @id: of the request
 * @answer: as the operation would have given it
 * @copies: of a reservation, as for mm_reserve()
 *
 * Return: 1; 0: it was not done, nothing of it is left: issue it again.
 */
int mm_op_answer(const struct mm *mm, u32 client, u64 id,
		 struct mm_op_answer *answer, struct kv_copy *copies);
/* mm_tick - time passes: tickets age, fences are looked at again */
void mm_tick(struct mm *mm, u64 now_ns);
/* mm_now - what time it is, for what is asked next; nothing else happens */
void mm_now(struct mm *mm, u64 now_ns);
/**
 * mm_reclaim - have so much more of the device free than is now
 * @mm: core
 * @bytes: more than that is left is all that is left
 *
 * In the background, in the order of cost: weights that nobody has open,
 * prefixes that nobody maps, what no step uses to swap. It ends when there is
 * as much, or when nothing came free for a second.
 *
 * Return: bytes that are to be free.
 */
u64 mm_reclaim(struct mm *mm, u64 bytes);
/* mm_watermarks - other ones (struct mm_config) from now on; -EINVAL: they do
 * not rise, or are more than the device */
int __must_check mm_watermarks(struct mm *mm, u64 least, u64 low, u64 high);
/* mm_wants_tick - something waits for a client's completed; tick soon */
bool mm_wants_tick(const struct mm *mm);

/* Requests */
enum mm_req_type {
	MM_REQ_POPULATE, /* extent: back it with zeroed memory */
	MM_REQ_SCRUB, /* extent: make it zero again. Its last client may
		       * still map the old memory: where a mapping cannot be
		       * taken from it, free that and make new memory. seq:
		       * 1 + tenant, who gave it back; 0: others wait for it */
	MM_REQ_RELEASE, /* extent: give its memory back to the system; done
			 * when it is asked for, before a later POPULATE */
	MM_REQ_GRANT, /* client, extent, seq: pass the descriptor; shared:
		       * one that can only be read */
	MM_REQ_WITHDRAW, /* client, extent, seq: tell it to unmap; shared: tell
			  * all of tenant seq that it was granted to */
	MM_REQ_COMPLETE, /* client: a pending operation ends, see cqe */
	MM_REQ_EVENT, /* client: put this event on its ring */
	MM_REQ_SWAP_OUT, /* swap: write a page to its slot */
	MM_REQ_SWAP_IN, /* swap: read it back, verify it first */
	MM_REQ_DEMOTE, /* swap: copy it from its slot to another, unverified */
	MM_REQ_COPY, /* copy: from one page of the device to another */
	MM_REQ_MOVE, /* move: likewise, so that a run of chunks comes empty */
	MM_REQ_KILL, /* client: end its process, it does not give memory back */
};

/**
 * struct mm_swap_io - a page to be written to a slot, or read back
 * @slot: names it in mm_swap_done()
 * @client: whose page it is
 * @tier: index into mm_config.swap_bytes
 * @tier_off: where in the tier
 * @dev_off: where on the device; lies in one extent. DEMOTE: nowhere
 * @from, @from_off: DEMOTE: the tier where it is, and where in it
 * @bytes: of the page
 * @payer: tenant whose share of the bandwidth it takes
 * @weight: of that share
 * @key: begins the checksum, so that a page of another slot, model, layout or
 *	time does not match
 * @sum: SWAP_IN: what mm_swap_done() was told when it was written
 */
struct mm_swap_io {
	u32 slot, tier;
	u64 tier_off, dev_off, from_off;
	u32 bytes, client, from;
	u32 payer, weight;
	u64 key, sum;
};

/**
 * struct mm_copy_io - a page that is copied into a page cache
 * @node: names it in mm_copy_done(), with @area
 * @area: likewise
 * @src: where it is on the device
 * @dst: where it goes; each side lies in one extent
 * @bytes: of the page
 * @tenant: whose cache it is
 */
struct mm_copy_io {
	u32 node, area;
	u64 src, dst;
	u32 bytes, tenant;
};

/**
 * struct mm_move_io - a page that goes to another frame
 * @move: names it in mm_move_done()
 * @src: where it is on the device
 * @dst: where it goes; each side lies in one extent
 * @bytes: of the page
 * @tenant: whose page it is
 */
struct mm_move_io {
	u16 move, tenant;
	u32 bytes;
	u64 src, dst;
};

/*
 * struct mm_faults - pages that requests took, by what they were taken for
 * @fresh: past the end of an area
 * @cow: in place of a page that others share
 * @swap_in: read back; whose reservation began to read it
 * @prefix: mapped from a page cache by mm_prefix_map()
 */
struct mm_faults {
	u64 fresh, cow, swap_in, prefix;
};

struct mm_request {
	enum mm_req_type type;
	bool shared; /* GRANT, WITHDRAW */
	u32 client;
	u32 extent;
	u32 seq;
	struct kv_cqe cqe; /* COMPLETE; out_len is the core's */
	u32 out_off, out_room; /* COMPLETE: as the sqe said */
	u64 since_ns; /* COMPLETE: when it began to wait */
	struct mm_faults faults; /* COMPLETE: what it took */
	const struct kv_copy *copies; /* COMPLETE: valid until the next call */
	const struct kv_holder *holders;
	u64 ticket; /* COMPLETE: never used twice */
	struct kv_event event; /* EVENT */
	struct mm_swap_io swap; /* SWAP_OUT, SWAP_IN */
	struct mm_copy_io copy; /* COPY */
	struct mm_move_io move; /* MOVE */
};

/* mm_next_request - false: nothing is left to do */
bool mm_next_request(struct mm *mm, struct mm_request *req);
void mm_populate_done(struct mm *mm, u32 extent, int err);
void mm_scrub_done(struct mm *mm, u32 extent, int err);
/**
 * mm_swap_done - a page has been written, or read and found right
 * @mm: core
 * @slot: as the request named it
 * @err: 0; SWAP_OUT, DEMOTE: the page stays where it is; SWAP_IN: it is lost,
 *	because it could not be read or is not what was written
 * @sum: SWAP_OUT: its checksum
 */
void mm_swap_done(struct mm *mm, u32 slot, int err, u64 sum);
/* mm_swap_stored - a page that was written takes no more than @bytes of its
 * tier; before mm_swap_done() */
void mm_swap_stored(struct mm *mm, u32 slot, u32 bytes);

/* mm_copy_done - a page has been copied; @err: it has not */
void mm_copy_done(struct mm *mm, u32 node, u32 area, int err);

/* mm_move_done - a page has been copied; @err: it stays where it is */
void mm_move_done(struct mm *mm, u32 move, int err);

/**
 * mm_discard_begin - a run of a swap tier that holds nothing any more
 * @mm: core
 * @tier: index
 * @least: bytes; a shorter run is not worth it
 * @most: bytes
 * @off: where in the tier, if there is one
 *
 * It was written since it was last discarded, is free, and no page is put there
 * before mm_discard_done().
 *
 * Return: bytes; 0: there is none.
 */
u64 mm_discard_begin(struct mm *mm, u32 tier, u64 least, u64 most, u64 *off);
/* mm_discard_done - of what mm_discard_begin() said, also if it failed */
void mm_discard_done(struct mm *mm, u32 tier, u64 off, u64 bytes);
/* mm_discard_stale - bytes of a tier that are free and not discarded */
u64 mm_discard_stale(const struct mm *mm, u32 tier);

/* Tenants: charged in extents held and in weights */
struct mm_limits {
	u64 max_bytes; /* MM_LIMIT_NONE: the device */
	u64 low_bytes, min_bytes; /* kept, the pager uses them */
	u32 weight; /* of its share of the device; 0 is 1 */
};
int __must_check mm_tenant_get(struct mm *mm, const char *name, u32 *tenant);
void mm_tenant_put(struct mm *mm, u32 tenant);
int mm_tenant_limit(struct mm *mm, u32 tenant, const struct mm_limits *lim);
/* mm_tenant_swap_limit - bytes it may have in swap tiers; none go for it */
int mm_tenant_swap_limit(struct mm *mm, u32 tenant, u64 max_bytes);
/* mm_tenant_tier_limit - likewise of one tier; the rest goes to later ones */
int mm_tenant_tier_limit(struct mm *mm, u32 tenant, u32 tier, u64 max_bytes);
/* mm_tenant_high - bytes above which its idle memory goes and its reservations
 * are made slow (high.c); MM_LIMIT_NONE: never */
int mm_tenant_high(struct mm *mm, u32 tenant, u64 high_bytes);
/* mm_tenant_charge - weights and other slabs outside of extents; -EDQUOT
 * over the tenant's limit, -ENOSPC the device is full, -EAGAIN the host has
 * some to let go of, and does: ask again then */
int __must_check mm_tenant_charge(struct mm *mm, u32 tenant, u64 bytes);
void mm_tenant_uncharge(struct mm *mm, u32 tenant, u64 bytes);

/* Weights that wait for room (room.c): one mapping at a time */
/**
 * mm_room_wait - what can give way for @bytes does, and nobody gets more
 * @mm: core
 * @client: whose weights they are
 * @bytes: of them
 *
 * To be called now and then until mm_tenant_charge() says 0 or it is given up;
 * then mm_room_end().
 *
 * Return: whether there could ever be so much room beside other weights.
 */
bool mm_room_wait(struct mm *mm, u32 client, u64 bytes);
/* mm_room_comes - is some of it on its way? */
bool mm_room_comes(const struct mm *mm);
void mm_room_end(struct mm *mm);

/* Clients */
struct mm_attach {
	u32 tenant;
	u32 reserved;
	struct kv_table_hdr *table; /* zero, KV_TABLE_LEAVES_OFF bytes of it
				     * are there; the core fills it */
	struct kv_status *status; /* untrusted, read with care */
	struct kv_rank rank;
	struct kv_namespace ns;
	u64 steps_from;
	char name[KV_NAME_LEN];
};
int __must_check mm_client_attach(struct mm *mm, const struct mm_attach *at,
				  u32 *client);
/* mm_client_exit - no request comes from it any more; kernels may run on */
void mm_client_exit(struct mm *mm, u32 client);
/* mm_client_gone - its device stream is gone too: its memory may be reused,
 * as soon as none of its pages is on its way to or from a swap tier.
 * The table and status memory are not touched after this returns. */
void mm_client_gone(struct mm *mm, u32 client);
int __must_check mm_geom_add(struct mm *mm, u32 client,
			     struct kv_geometry *geom, u32 *id);

/*
 * Operations, as ops.h defines them; arguments are the host's private copies.
 * 0 or positive: done; -EINPROGRESS: MM_REQ_COMPLETE follows.
 */
int mm_space_create(struct mm *mm, u32 client, const struct kv_space_args *a);
int mm_space_destroy(struct mm *mm, u32 client, u32 space);
int mm_space_fork(struct mm *mm, u32 client, u32 space, u64 len);
int mm_space_truncate(struct mm *mm, u32 client, u32 space, u64 len);

struct mm_resv {
	u64 step;
	u64 user_data;
	const struct kv_resv_item *items;
	u32 nr_items;
	u32 flags; /* KV_SQE_WAIT */
	u32 out_off, out_room; /* echoed in a later MM_REQ_COMPLETE */
};

/**
 * mm_reserve - all pages of a step, or none; what windows left may go first
 * @mm: core
 * @client: index
 * @resv: request
 * @copies: [nr_items * KV_AREA_MAX], filled on success
 * @extent_seq: extents the client must have received before it goes on
 * @extra: bytes short, or the ticket
 *
 * Return: number of copies; -EINPROGRESS (extra is the ticket: with
 * KV_SQE_WAIT for want of memory; without, for a moment, while an extent is
 * populated: no ticket is shown then and extra is 0); errors as in ops.h.
 */
int mm_reserve(struct mm *mm, u32 client, const struct mm_resv *resv,
	       struct kv_copy *copies, u32 *extent_seq, u64 *extra);
/* mm_faults_at_once - pages that requests took without waiting, so far: those
 * of a waiting one are in its MM_REQ_COMPLETE */
void mm_faults_at_once(const struct mm *mm, struct mm_faults *out);
int mm_cancel(struct mm *mm, u32 client, u64 ticket);
/* mm_holders - who could give memory to @client, the most first; after
 * -EAGAIN. Return: how many were written to @out, at most @room. */
u32 mm_holders(struct mm *mm, u32 client, struct kv_holder *out, u32 room);
/* mm_spared - what the host can let go of has gone, or is more than it was */
void mm_spared(struct mm *mm);
int mm_shrink(struct mm *mm, u32 client);
/**
 * mm_revoke - take memory back from a client, whether it helps or not
 * @mm: core
 * @client: index
 * @bytes: wanted; less if its tenant's min would not be left
 * @asked: bytes that come back
 *
 * Return: 0; -EOPNOTSUPP MM_REVOKE_OFF; -EPERM nothing can go: it holds
 * nothing, or the min protects it; -EINVAL, -ENOENT, -ESHUTDOWN.
 */
int mm_revoke(struct mm *mm, u32 client, u64 bytes, u64 *asked);

/**
 * mm_prefix_map - give an empty space the longest prefix that is published
 * @mm: core
 * @client: index
 * @space: without a page; its areas and namespace say where to look
 * @tokens: of the sequence, from its start
 * @nr: how many, at most; the space maps no more of them than that
 * @extent_seq: extents the client must have received before it goes on
 *
 * Return: tokens it has now, 0 or more; -ENOENT, -EINVAL, -ENOSPC (leaves).
 */
int mm_prefix_map(struct mm *mm, u32 client, u32 space, const u32 *tokens,
		  u32 nr, u32 *extent_seq);
/**
 * struct mm_found - what is published of a sequence
 * @len: tokens that could be mapped
 * @soon: the same, when the copies that are on their way have ended
 * @known: tokens that nodes spell, whatever pages they have
 * @key: of the tenant, the namespace and the layout
 * @page_shift: log2 of a page's tokens
 * @window: of tokens, the longest of the areas; 0: none has one
 */
struct mm_found {
	u32 len, soon, known;
	u64 key;
	u32 page_shift;
	u32 window;
};

/**
 * mm_prefix_find - what mm_prefix_map() would map
 * @mm: core
 * @client: index
 * @space: without a page
 * @tokens: ids
 * @nr: how many
 * @out: on success
 *
 * Return: 0, -ENOENT, -EINVAL, -ESHUTDOWN.
 */
int mm_prefix_find(struct mm *mm, u32 client, u32 space, const u32 *tokens,
		   u32 nr, struct mm_found *out);

/**
 * mm_prefix_publish - let others find what a space has computed
 * @mm: core
 * @client: index
 * @space: space
 * @from: tokens that it has published or mapped so far, whole pages
 * @tokens: those that follow
 * @nr: how many; no more than it has committed are taken
 * @resume: keep what a sequence needs to go on from there (KV_SQE_RESUME)
 * @extent_seq: as for mm_prefix_map()
 *
 * Its pages are copied in the host's time; until then others do not find
 * them. The space's own entries go over to the cache's pages with a later
 * publication or reservation.
 *
 * Return: tokens published with these; less than asked: there is no room now.
 * -ENODATA: less than @from is known, begin again from 0; -ENOENT, -EINVAL,
 * -EOPNOTSUPP: pages of several sizes or of more than 256 tokens.
 */
int mm_prefix_publish(struct mm *mm, u32 client, u32 space, u64 from,
		      const u32 *tokens, u32 nr, bool resume, u32 *extent_seq);
/* mm_cache_drop - forget what a tenant has published and nobody maps; the
 * rest goes with its last mapper if @close. Return: bytes that went. */
u64 mm_cache_drop(struct mm *mm, u32 tenant, bool close);

/* mm_cache_policy - how caches choose what they evict: "lru", "mglru",
 * "reuse" (the default); -EINVAL: there is no such policy */
int mm_cache_policy(struct mm *mm, const char *name);
const char *mm_cache_policy_name(const struct mm *mm);

/* Moving a frame (K0-K5); compaction and swap build on it. -EBUSY: not idle */
int mm_move_page(struct mm *mm, u32 client, u32 space, u32 area, u32 page,
		 void (*copy)(void *ctx, u64 src, u64 dst, u64 bytes),
		 void *ctx);

/* How far the taking of a client's memory is. */
enum mm_revoke_state {
	MM_REVOKE_NONE,
	MM_REVOKE_ASKED, /* KV_EVENT_SHRINK is out */
	MM_REVOKE_FENCED, /* it may begin no step, its idle pages go */
	MM_REVOKE_GIVEN, /* may not grow while somebody waits for it */
	MM_REVOKE_KILLED, /* MM_REQ_KILL is out */
};

/* Looking: struct mm_counts is in counts.h */
struct mm_usage {
	u64 device_bytes;
	u64 held_bytes; /* extents granted or in quarantine */
	u64 ready_bytes; /* populated, nobody's */
	u64 charged_bytes; /* weights */
	u64 frame_bytes; /* frames in use */
	u64 shared_bytes; /* of them with more than one mapper, once */
	u64 saved_bytes; /* what sharing saves: (refs - 1) * page */
	u64 token_bytes; /* committed tokens' share of frames in use */
	u64 swap_bytes[MM_TIER_MAX]; /* room of each tier */
	u64 swap_used[MM_TIER_MAX]; /* of it by pages */
	u64 swap_pages[MM_TIER_MAX]; /* bytes of these pages */
	u64 cache_bytes; /* of frame_bytes: in page caches */
	u64 cache_held_bytes; /* of held_bytes: theirs */
	u64 cache_mapped_bytes; /* of cache_bytes: that a space maps */
	u64 watermark[3]; /* min, low, high */
	u64 goal_bytes; /* to be free, as was asked for; 0: no matter */
	u32 cache_nodes, reserved;
};

/**
 * struct mm_tenant_events - what happened to a tenant, as memory.events
 * @low: extents that were taken from it while it was below its low
 * @high: reservations that were made slow above its high
 * @max: requests that met its max, as limit_hits
 * @oom: reservations that could never be served (-E2BIG)
 * @refused: that were told to come again (-EAGAIN)
 * @oom_kill: clients that were killed for not giving memory back
 * @swap_fail: pages that were to leave and found no slot, or not be written
 * @revoked: times that a client was asked for memory back
 */
struct mm_tenant_events {
	u64 low, high, max, oom, refused, oom_kill, swap_fail, revoked;
};

struct mm_tenant_info {
	char name[KV_NAME_LEN];
	struct mm_limits limits;
	u64 held_bytes, charged_bytes, frame_bytes;
	u64 max_seen_bytes, limit_hits, nr_tickets;
	u64 swap_bytes, swap_max_bytes, high_bytes;
	u64 tier_bytes[MM_TIER_MAX], tier_max_bytes[MM_TIER_MAX];
	u64 swap_out_bytes, swap_in_bytes; /* moved on its share, so far */
	u64 cache_held_bytes, cache_bytes;
	struct mm_tenant_events events;
	u32 nr_clients;
};

/* A namespace's published prefixes. */
struct mm_tree_info {
	u32 tenant, nr_areas;
	struct kv_namespace ns;
	u64 nodes, nodes_held, nodes_copying, tokens, bytes;
	u64 asked_tokens, hit_tokens;
};

struct mm_client_info {
	char name[KV_NAME_LEN];
	u32 tenant;
	u32 state; /* 1 live, 2 exiting, 4 a page cache */
	u32 nr_spaces, nr_geoms, nr_extents, nr_leaves;
	u64 held_bytes, frame_bytes;
	u64 completed;
	u32 revoke; /* enum mm_revoke_state */
	u32 reserved;
	u64 revoke_bytes; /* it has still to give */
	struct kv_namespace ns;
	struct kv_rank rank;
};

struct mm_space_info {
	u32 state, family, parent, nr_areas;
	u64 len, active_step, resv_step, gen;
	u64 pages, pages_shared; /* present, of them shared */
	u64 pages_swapped, pages_lost, swap_bytes;
	u64 rss_bytes, pss_bytes, uss_bytes;
};

/**
 * struct mm_pressure - time lost waiting for memory (pressure.h)
 * @total_us: some: a client waited; full: one waited and none worked
 * @avg: of the last 10, 60, 300 s, in hundredths of a percent
 * @nr_waiting: clients that wait now
 * @nr_working: clients that work now; counted while somebody waits
 */
struct mm_pressure {
	u64 total_us[2];
	u32 avg[2][3];
	u32 nr_waiting, nr_working;
};

/* Reports of memory that was not to be had (oom.c), the last MM_OOM_MAX. */
#define MM_OOM_MAX     16u
#define MM_OOM_TENANTS 16u
#define MM_OOM_CLIENTS 8u
#define MM_OOM_SPACES  8u

enum mm_oom_cause {
	MM_OOM_TOO_BIG, /* a reservation asked for more than there can be */
	MM_OOM_GAVE_UP, /* its client cancelled it after a long wait */
	MM_OOM_KILL, /* a client was killed as it gave no memory back */
};

enum mm_oom_why {
	MM_OOM_WHY_MAX, /* its tenant's max */
	MM_OOM_WHY_DEVICE, /* the device is full */
	MM_OOM_WHY_ADMIN, /* KILL: the administrator asked */
	MM_OOM_WHY_LIMIT, /* KILL: its tenant holds more than it may */
	MM_OOM_WHY_WEIGHTS, /* KILL: weights wait for room */
	MM_OOM_WHY_TICKET, /* KILL: @for_client waits */
};

struct mm_oom_tenant {
	char name[KV_NAME_LEN];
	struct mm_limits limits;
	u64 held_bytes, charged_bytes, cache_bytes, swap_bytes, high_bytes;
};

struct mm_oom_client {
	char name[KV_NAME_LEN], tenant[KV_NAME_LEN];
	u32 client, nr_spaces;
	u64 held_bytes;
	bool cache; /* a tenant's page cache */
};

struct mm_oom_space {
	char tenant[KV_NAME_LEN];
	u32 client, space;
	u64 bytes; /* present */
	u32 priority;
	bool busy; /* a step used it */
};

/**
 * struct mm_oom - who asked for what, why it was not to be had, who held what
 * @seq: from 1
 * @client: who asked, or was killed
 * @for_client: WHY_TICKET; else MM_NONE
 * @bytes: it lacked; KILL: had still to give
 * @waited_ns: so long
 * @tenants: that held most, and so on: the most first
 */
struct mm_oom {
	u64 seq, time_ns;
	enum mm_oom_cause cause;
	enum mm_oom_why why;
	char name[KV_NAME_LEN], tenant[KV_NAME_LEN];
	u32 client, for_client;
	u64 step, bytes, waited_ns;
	u64 device_bytes, held_bytes, ready_bytes, charged_bytes;
	u32 nr_tenants, nr_clients, nr_spaces;
	struct mm_oom_tenant tenants[MM_OOM_TENANTS];
	struct mm_oom_client clients[MM_OOM_CLIENTS];
	struct mm_oom_space spaces[MM_OOM_SPACES];
};

/* mm_oom_next - number of the next report; the first is 1 */
u64 mm_oom_next(const struct mm *mm);
/* mm_oom_get - report @seq, or NULL if there is none, or none any more */
const struct mm_oom *mm_oom_get(const struct mm *mm, u64 seq);

void mm_counts_get(const struct mm *mm, struct mm_counts *out);
void mm_usage_get(const struct mm *mm, struct mm_usage *out);
int mm_tenant_info(const struct mm *mm, u32 tenant, struct mm_tenant_info *out);
/* mm_pressure - of a tenant, or of the device: MM_NONE; as of mm_now() */
int mm_pressure(const struct mm *mm, u32 tenant, struct mm_pressure *out);
int mm_client_info(const struct mm *mm, u32 client, struct mm_client_info *out);
int mm_space_info(const struct mm *mm, u32 client, u32 space,
		  struct mm_space_info *out);
/* mm_tree_info - of tree @i < MM_TREE_MAX; -ENOENT: there is none */
int mm_tree_info(const struct mm *mm, u32 i, struct mm_tree_info *out);
const struct kv_geometry *mm_geom(const struct mm *mm, u32 client, u32 id);
/* mm_who - owner of a chunk of the offset space, for `kvctl who` */
u32 mm_extent_owner(const struct mm *mm, u32 extent);
/**
 * mm_check - fsck of the books: every table walked, every count compared
 * @mm: core
 * @report: called with one sentence per fault found, may be NULL
 * @ctx: for @report
 *
 * Return: number of faults found.
 */
unsigned int mm_check(const struct mm *mm,
		      void (*report)(void *ctx, const char *sentence),
		      void *ctx);

#endif
