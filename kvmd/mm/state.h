/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_STATE_H
#define KVMD_MM_STATE_H
/*
 * state.h - how the core's one memory block is laid out
 *
 *	struct mm | extents | chunks | frames | marks | clients | spaces |
 *	families | tickets | ticket items | request queue | copies | slots |
 *	slot map | stale map | prefix nodes | their tokens | references | path |
 *	grants | policies | pages replaced | description (format.c)
 *
 * Everything refers to everything else by index, so the block means the same
 * wherever it is mapped. The block comes zeroed and sparse: arrays are sized
 * for the maximum, and an element is written when it is first used; zero
 * means free in every array. The pointers in struct client and struct mm
 * (tables, host ops) belong to the process and are given anew by whoever
 * maps the block.
 *
 * Truth and cache. Page table entries (in the clients' tables), frame
 * descriptors, chunk heads, extents and charges are truth. Lists, counts per
 * class and per client are caches of it; mm_check() recomputes every one.
 *
 * A killed kvmd leaves the block half changed, and recover.c makes it whole. It
 * needs some stores in order: mm_order() stands between them.
 *
 * Frames are numbered by where they lie: frame k of the slab whose first
 * chunk is c has number c * FRAMES_PER_CHUNK + k. A page is at least 4 KiB,
 * so the numbers of different slabs never meet.
 */
#include "kvmd/mm/mm.h"
#include "kvmd/mm/policy.h"
#include "kvmd/mm/pressure.h"
#include "lib/bitmap.h"
#include "lib/ilist.h"
#include "lib/record.h"
#include <kv/trace.h>

#define MM_MAGIC   0x6b766d6dull
#define MM_VERSION 7u /* format.c says of what */

#define FRAMES_PER_CHUNK  (KV_CHUNK_SIZE / 4096u)
#define EXTENT_ALL_FREE	  ((1u << KV_EXTENT_CHUNKS) - 1)
#define SLAB_BUCKETS	  8u
#define SLAB_FULL	  0xffu /* on no list: every frame is used */
#define MM_TICKET_MAX	  4096u
#define MM_CLIENT_TICKETS 8u
#define MM_HOLDER_MAX	  16u
#define MM_EVENTS_QUEUED  4096u
#define MM_BACKOFF_NS	  100000000ull /* after a refused populate */
#define MM_LOOK_NS	  5000000ull /* between looks at who became idle */
#define SLOT_UNIT	  4096u /* swap tiers are cut into these */
#define SWAP_IO_MAX	  256u /* pages on their way, of all clients */
#define SWAP_IO_LEAST	  4u /* of them one tenant's, whoever else there is */
#define COPY_IO_MAX	  1024u /* pages being copied into caches */
#define MOVE_IO_MAX	  64u /* pages being moved, of all clients */
#define MM_NODE_MAX	  (1u << 20) /* published pages */
#define NODE_TOKENS	  256u /* a page's tokens, at most */
#define MM_GHOST_MAX	  (1u << 18) /* evicted ones remembered, a tenant */
#define MM_REF_MAX	  (1u << 20) /* spaces that hold a prefix */

enum extent_state {
	EXTENT_BARE, /* no memory behind it */
	EXTENT_FILLING, /* MM_REQ_POPULATE is out */
	EXTENT_READY, /* zero, nobody's */
	EXTENT_GRANTED, /* a client's */
	EXTENT_QUARANTINE, /* its client left, kernels may run */
	EXTENT_SCRUBBING, /* MM_REQ_SCRUB is out */
	EXTENT_NR_STATES
};

struct extent {
	u8 state; /* enum extent_state */
	u8 free_mask; /* GRANTED: chunks without a slab */
	u16 backed; /* memory was asked for once */
	u32 client; /* GRANTED, QUARANTINE */
	u32 seq; /* GRANTED: the client's number for it */
	struct ilink link; /* client's list by mask, or the state's */
};

enum chunk_state {
	CHUNK_FREE,
	CHUNK_HEAD, /* first chunk of a slab; the other fields count */
	CHUNK_BODY, /* @back chunks behind the head */
};

struct chunk {
	u8 state; /* enum chunk_state */
	u8 back; /* 0 for a head */
	u8 geom; /* class of the owner */
	u8 bucket; /* list it is on, or SLAB_FULL */
	u16 nr_used; /* frames not free, leaving ones included */
	u16 nr_fresh; /* frames below this were used before */
	u16 bucket_low, bucket_high; /* nr_used range of the bucket */
	u32 client;
	u32 free; /* first free frame below nr_fresh, or MM_NONE */
	struct ilink link;
};

enum frame_state {
	FRAME_FREE, /* on its slab's free list, or never used */
	FRAME_USED, /* refs entries map it */
	FRAME_LEAVING, /* no entry; waits for completed >= pin */
	FRAME_OUT, /* being written to a slot; refs moving entries */
	FRAME_IN, /* being read from a slot, no entry yet */
	FRAME_PUB, /* being copied into a page cache; refs as if used */
	FRAME_MOVE, /* its page is being moved; refs moving entries */
	FRAME_TO, /* where a page is being moved to, no entry yet */
};

struct frame {
	u32 refs; /* entries that map it */
	u32 family; /* fork family, for the reverse map */
	u16 page; /* page index, the same in every mapper */
	u8 area;
	u8 state; /* enum frame_state */
	u32 next; /* FREE: slab's list; LEAVING: client's; OUT, IN: slot;
		   * MOVE, TO: index into mm->moves */
	u64 pin; /* K7: no reuse before completed reaches this */
};

/* A geometry of one client and its slabs. */
struct frame_class {
	struct kv_geometry geom;
	u64 recip; /* 2^32 / units per page, rounded up */
	u64 fingerprint; /* of the geometry and what it holds of which model */
	u32 page_units; /* entry units of a page */
	u8 unit_shift; /* log2 of unit_bytes */
	u8 page_shift; /* log2 of page_tokens */
	u16 buckets; /* bit set: list has a slab */
	u32 nr_slabs;
	u32 nr_free; /* free frames in slabs */
	u32 nr_used; /* mapped and leaving ones */
	u32 nr_leaving;
	u32 nr_shared; /* frames with refs > 1 */
	u64 nr_extra; /* sum of refs - 1 over them */
	struct ilist bucket[SLAB_BUCKETS]; /* slabs with a free frame */
};

enum slot_state {
	SLOT_FREE,
	SLOT_WRITING, /* MM_REQ_SWAP_OUT is out, or about to be; @frame */
	SLOT_FILLING, /* MM_REQ_DEMOTE is out: from slot @other; no entry */
	SLOT_HELD, /* refs entries name it; none: @other is FILLING from it */
	SLOT_READING, /* MM_REQ_SWAP_IN is out; @frame, and entries as before */
};

/*
 * A page in a swap tier, at the first of its units. Slots of all tiers are
 * numbered through; struct swap_tier says which are whose.
 */
struct slot {
	u8 state; /* enum slot_state */
	u8 area;
	u16 page;
	u8 geom;
	bool fresh; /* WRITING: K4 is still to come */
	bool wanted; /* WRITING: a step waits for the page */
	u8 payer; /* tenant whose share of the bandwidth it takes */
	u32 client;
	u32 refs; /* entries; counted while HELD and READING */
	u32 family;
	u32 frame; /* WRITING: from, READING: to */
	u32 seen; /* scratch of mm_check(), and of the plan that set @mark */
	u32 mark; /* last plan that counted it */
	u32 other; /* FILLING: from; HELD, READING: to, or MM_NONE */
	u32 stored; /* bytes of its tier that it takes, or may come to take */
	u64 key; /* what its checksum is begun with; never used twice */
	u64 sum; /* the host's checksum of the content */
	struct ilink link; /* client's list */
	struct ilink age; /* tier's list */
};

/*
 * Units [first, end) of the slot space. A tier that makes pages smaller has
 * more of them than memory: what its pages take is counted apart.
 */
struct swap_tier {
	u32 first, end;
	u32 next; /* where the next search begins */
	u32 nr_used; /* units, with those that are being discarded */
	u32 nr_discarding;
	u32 nr_stale; /* free, and written since they were discarded */
	u64 room; /* bytes that its pages may take */
	u64 stored; /* bytes that they take */
	u64 leaving; /* of them of slots that are being demoted */
	u64 pages; /* bytes of pages that are there */
	bool demoting; /* its coldest slots go: demote.c */
	u64 again_ns; /* nothing is demoted before; 0: at once */
	struct ilist slots; /* not free ones, the coldest first */
};

enum client_state {
	CLIENT_FREE,
	CLIENT_LIVE,
	CLIENT_EXITING, /* extents in quarantine, table still there */
	CLIENT_DRAINING, /* gone, but a page of it is on its way; no table */
	CLIENT_CACHE, /* a tenant's page cache: frames, no process, no table */
};

/* What a revoke is for; the first of these is the strongest. */
enum revoke_cause {
	REVOKE_FOR_ADMIN,
	REVOKE_FOR_LIMIT, /* the tenant holds more than it may */
	REVOKE_FOR_WEIGHTS, /* they wait for room */
	REVOKE_FOR_TICKET, /* @ticket waits */
};

/* Memory of a client that is being taken back: revoke.c. */
struct revoke {
	u8 state; /* enum mm_revoke_state */
	u8 cause; /* enum revoke_cause */
	u16 reserved;
	u32 goal; /* extents that it may keep */
	u32 asked; /* extents it was last asked for */
	u64 ticket; /* REVOKE_FOR_TICKET: its id */
	u64 begun_ns;
	u64 again_ns; /* ask again then */
	u64 deadline_ns; /* of the state */
};

/* Chunks of a client that are being emptied: compact.c. */
struct compact {
	u32 first; /* 1 + the first of them, 0: none */
	u32 nr;
	u32 moving; /* pages on their way */
	u32 tries; /* in a row that came to nothing */
	bool look; /* frames came free, or a page was moved */
	u64 again_ns; /* nothing is tried before */
	u64 soon_ns; /* nor before this if somebody waits */
};

/* A step whose reply says that extents up to @seq are the client's. */
struct told {
	u64 step; /* 0: none */
	u32 seq, reserved;
};

enum op_kind {
	OP_NONE,
	OP_CREATE, /* result: the space */
	OP_FORK, /* likewise */
	OP_DESTROY,
	OP_TRUNCATE, /* arg: tokens that stay */
	OP_MAP,
	OP_GEOM, /* result: the geometry */
	OP_RESERVE, /* arg: step */
};

/* What a client's last operation is about; oplog.h. */
struct op_log {
	u8 kind; /* enum op_kind, written last */
	u8 done; /* result counts */
	u16 reserved;
	s32 result;
	u64 id; /* of the request, 0: none, or a ticket's */
	u64 next_id; /* of the next one: mm_op_begin() */
	u32 space; /* or geometry */
	u32 nr; /* RESERVE: pages replaced so far, in mm_cows() */
	u64 arg;
	u64 mark; /* RESERVE: space.mark of the spaces it names */
	u64 ticket; /* RESERVE: id of the ticket that is granted, or 0 */
};

/* A page that a reservation replaced by a copy, written before the entry. */
struct cow {
	struct kv_copy copy;
	u64 old; /* the entry */
	u32 space, page, area;
	u32 ref, chain, cached; /* the space's, before */
};

struct client {
	u32 state; /* enum client_state */
	u32 serial; /* how often the slot was used */
	u32 tenant;
	u32 nr_geoms;
	struct kv_table_hdr *table;
	struct kv_status *status;
	u64 completed; /* highest seen */
	u64 moved_ns; /* when it was seen to move */
	u64 looked_at; /* completed when tickets were looked at for it */
	u64 steps_from;
	u64 granted; /* highest step that a reservation was granted for */
	u64 worked; /* completed, when pressure was last looked at */
	bool waits, works; /* as counted there */
	u64 oom_ns; /* when it was last reported; 0: never */
	u32 nr_spaces;
	u32 space_top; /* slots at and above were never used */
	u32 space_free; /* first free slot below, or MM_NONE */
	u32 family_top, family_free;
	u32 nr_leaves; /* in the file */
	u32 leaves_used;
	u32 nr_extents, nr_empty; /* held; of them without a slab */
	u32 extent_seq;
	u32 nr_tickets;
	u32 leaving_first, leaving_last; /* frames, oldest first */
	u32 nr_leaving;
	u32 nr_io; /* pages on their way: slots, caches, moves */
	struct ilist refs; /* of its spaces to prefixes */
	struct ilist refs_leaving; /* behind their pins, oldest first */
	struct ilist slots; /* not free ones */
	u32 io_left; /* of these to end before its tickets look again */
	u32 wants[KV_GEOM_MAX]; /* frames that these lacked, free or not */
	bool dirty; /* frames came free since tickets were looked at */
	bool keep_slabs; /* a reservation counts on empty ones */
	bool has_empty; /* and may have left one */
	u32 blocked; /* ticket pass in which one of its has to wait */
	struct revoke revoke;
	bool away; /* not back since kvmd died: no deadline of it ends */
	struct compact compact;
	struct told told[2]; /* not completed, the older one first */
	u32 seq_known; /* extents up to this one have arrived there */
	u32 reserved;
	u64 epoch; /* ours; the table's is a copy */
	u64 hold; /* likewise: hold_step, ~0 for none */
	struct ilink link; /* mm->clients */
	struct ilist extents[EXTENT_ALL_FREE + 1]; /* by free_mask */
	struct frame_class cls[KV_GEOM_MAX];
	char name[KV_NAME_LEN];
	struct kv_namespace ns;
	struct kv_rank rank;
	struct op_log log;
	u64 leaf_map[BITMAP_WORDS(KV_LEAF_MAX)]; /* leaves in use */
};

/* Pages [page_first, page_end) have an entry, no other. */
struct space_area {
	u32 geom;
	u32 window; /* 0: all */
	u32 page_first, page_end;
	u32 nr_out; /* of them not present: swapped, moving or lost */
	u32 leaf_mask; /* which of leaf[] exist */
	u16 leaf[KV_AREA_LEAVES];
};

struct space {
	u8 state; /* enum kv_space_state */
	u8 nr_areas;
	u16 priority;
	u32 serial;
	u32 family;
	u32 parent;
	u32 next_free;
	u64 mark; /* last reservation that named it */
	u64 keep; /* search for victims that has to leave it alone */
	u64 used_ns; /* when a step was last seen to use it */
	u64 seen_active; /* its active_step then */
	struct ilink sibling; /* family's list */
	u64 gen; /* ours; the descriptor's is a copy */
	u64 resv; /* K6: last step granted; kept when the slot is reused */
	u64 resv_was; /* before the reservation that named it last */
	u64 created_ns;
	u32 ref; /* its hold on a prefix, 0: none */
	u32 chain; /* whole pages that it shares with the tree */
	u32 cached; /* of them map the cache, as far as they can */
	struct space_area area[KV_AREA_MAX];
};

/*
 * A page of a published prefix: the tokens of one page behind all those of
 * its parents. prefix.c says how it lives.
 */
struct prefix_node {
	u8 state; /* enum node_state */
	u8 copying; /* bit k: area k's page is being filled */
	u16 tree;
	u16 nr_tokens; /* less than a page: a tail, nobody's parent */
	u16 reserved;
	u32 depth; /* pages before it */
	u32 parent; /* MM_NONE: the first page */
	u32 child; /* root of the search tree of its children; FREE: next */
	u32 left, right; /* in its parent's search tree */
	u64 prio; /* there */
	u32 nr_children;
	u32 holds; /* references that end here */
	u32 frame[KV_AREA_MAX]; /* of the cache, MM_NONE: no page */
	u32 from[KV_AREA_MAX]; /* copying: the publisher's frames */
	u32 client; /* copying: the publisher */
	bool idle; /* known to the policy as one that may be evicted */
	struct policy_node policy; /* its key: of all tokens up to here */
};

enum node_state { NODE_FREE, NODE_LIVE };

struct prefix_tree_area {
	u32 geom; /* class of the cache */
	u32 window;
	u16 head_first, nr_heads;
};

/* The prefixes of one namespace and layout of spaces, of one tenant. */
struct prefix_tree {
	u32 nr_nodes; /* 0: the tree is free */
	u32 tenant;
	struct kv_namespace ns;
	u32 nr_areas;
	struct prefix_tree_area area[KV_AREA_MAX];
	u32 page_shift;
	u32 child; /* root of the search tree of first pages */
	u32 nr_children;
	u32 reserved;
	u64 hits, hit_tokens, asked_tokens;
};

/* A space's hold on a prefix: on its last page, and so on all before. */
struct prefix_ref {
	u32 node;
	u32 client; /* MM_NONE: free */
	u64 pin; /* leaving: gone when the client has completed it */
	struct ilink link; /* client's list; or free */
};

struct family {
	struct ilist spaces;
	u32 next_free;
};

struct tenant {
	u32 refs; /* mm_tenant_get() calls, clients */
	u32 nr_clients;
	struct mm_limits limits;
	u64 held; /* bytes of extents granted or in quarantine */
	u64 charged; /* weights */
	u64 swapped; /* bytes that its pages take in tiers */
	u64 swap_max; /* of them, at most */
	u64 tier_used[MM_TIER_MAX]; /* in each, with those on their way there */
	u64 tier_max[MM_TIER_MAX]; /* of them, at most */
	u64 swap_out_bytes, swap_in_bytes; /* moved on its share */
	u32 nr_swap_io; /* pages on their way on its share of the bandwidth */
	u64 out_bytes; /* of its clients' pages that are being written */
	u64 high; /* used above it: slow, and idle memory goes */
	u64 giving; /* bytes of extents chosen in the search at hand */
	u64 max_seen;
	u64 limit_hits;
	struct mm_tenant_events events; /* max is limit_hits */
	u32 nr_tickets;
	u32 blocked; /* ticket pass that found it at its limit */
	u32 cache; /* 1 + index of its page cache's client, 0: none */
	bool dropping; /* the cache goes as soon as nothing holds it */
	bool kept; /* refs has one of mm_recover(), until the end */
	u32 nr_nodes; /* of its prefix trees */
	struct pressure pressure;
	char name[KV_NAME_LEN];
};

enum move_state {
	MOVE_FREE,
	MOVE_FRESH, /* entries are moving, K4 is still to come */
	MOVE_COPYING, /* MM_REQ_MOVE is out, or about to be */
};

/* A page on its way to another frame: compact.c. */
struct page_move {
	u8 state; /* enum move_state */
	u8 geom;
	u8 reserved[2];
	u32 client;
	u32 from, to; /* frames */
};

enum ticket_state {
	TICKET_FREE,
	TICKET_WAITING,
	TICKET_DONE, /* its MM_REQ_COMPLETE is queued */
};

enum ticket_block {
	BLOCK_NONE,
	BLOCK_IO, /* its own pages are on their way; holds nobody back */
	BLOCK_HIGH, /* above its tenant's high; holds nobody else back */
	BLOCK_REVOKE, /* its client gives back, or is fenced; holds nobody */
	BLOCK_SOON, /* memory is being populated or scrubbed, weights go */
	BLOCK_TENANT, /* its tenant is at its limit */
	BLOCK_DEVICE, /* no memory left */
};

/* Is there no memory for it, and none on its way? */
static inline bool block_is_full(enum ticket_block block)
{
	return block == BLOCK_TENANT || block == BLOCK_DEVICE;
}

/* Should a request that may not wait be refused? */
static inline bool block_is_short(enum ticket_block block)
{
	return block_is_full(block) || block == BLOCK_REVOKE;
}

struct ticket {
	u8 state; /* enum ticket_state */
	u8 block; /* enum ticket_block, when last looked at */
	bool reclaiming; /* pages leave for it */
	u8 reserved;
	u16 priority;
	u16 reserved2;
	u32 client;
	u64 id;
	u64 request; /* that was kept: mm_op_begin() */
	u32 serial; /* how often the slot was used */
	u32 nr_items;
	u32 flags; /* KV_SQE_WAIT: shown to the client */
	u32 out_off, out_room;
	u32 extents; /* it lacks, when last looked at */
	u64 step;
	u64 user_data;
	u64 since_ns;
	u64 slow_until_ns; /* for its tenant's high; 0: not looked at yet */
	struct mm_faults faults; /* it took; swap_in while WAITING too */
	struct kv_cqe cqe; /* DONE */
	struct ilink link; /* by priority, then age; or free */
};

struct queued {
	u8 type; /* enum mm_req_type */
	bool shared; /* GRANT, WITHDRAW: of a page cache */
	u8 reserved[2];
	u32 client, serial; /* MM_NONE: no client */
	u32 extent, seq;
	u32 index; /* ticket, slot, kv_event type, prefix node, or move */
	u64 arg;
};

/* Where each array begins in the block. */
struct mm_layout {
	u64 state_bytes;
	u32 nr_extents, nr_chunks;
	u32 queue_mask, reserved;
	u64 extents_off, chunks_off, frames_off, marks_off, seen_off;
	u64 clients_off, spaces_off, families_off, tickets_off, items_off;
	u64 queue_off, copies_off;
	u64 slots_off, slot_map_off, stale_map_off;
	u64 nodes_off, tokens_off, refs_off, path_off, grants_off;
	u64 policies_off, policy_bytes;
	u64 cows_off, format_off;
	u32 nr_ghosts, reserved2;
	u32 nr_slots, nr_nodes;
};

struct mm {
	struct record_head head; /* another build reads it, too */
	u32 nr_extents, nr_chunks;
	struct mm_layout lay;
	struct mm_config cfg;
	const struct mm_host_ops *ops;
	void *host;
	u64 now_ns;

	struct ilist by_state[EXTENT_NR_STATES]; /* GRANTED: unused */
	u64 charged; /* weights of all tenants */
	u32 nr_granted; /* extents */
	u32 demand; /* extents wanted beyond cfg.ready_extents */
	u64 room_bytes; /* of weights that wait: room.c; 0: none do */
	u32 room_client; /* whose */
	bool room_reclaims; /* pages leave, for them or for others */
	u64 room_most; /* that there has been since they wait */
	u64 room_grew_ns; /* when it became that */
	u64 backoff_until; /* no populate before */
	bool backoff;

	struct ilist clients;
	u32 nr_leaving; /* frames of all clients */

	struct ilist waiting; /* tickets */
	u32 ticket_top, ticket_free;
	u32 answering; /* 1 + the one whose completion the host has, or 0 */
	u64 ticket_seq;
	bool dirty; /* memory or a limit moved since the last pass */
	bool client_dirty; /* some client is dirty */
	u64 stuck_ns; /* nothing has moved since; 0: something has */
	u64 looked_ns; /* when they were looked at for want of idle spaces */
	u32 pass;
	bool stats_dirty; /* a transition since stats_ns */
	u64 stats_ns;

	struct swap_tier tier[MM_TIER_MAX];
	struct mm_swap_set swap; /* in force; in cfg is the first one */
	u32 nr_io; /* pages on their way */
	u32 io_left; /* of these to end before any ticket looks again */
	u64 out_bytes; /* of them, being written */
	u32 tenant_top; /* no tenant has been from here on */
	u32 nr_demoting; /* of them from tier to tier, */
	u64 demoting_bytes; /* and their bytes */
	bool demote_look; /* something to begin, perhaps */
	u32 payer; /* tenant for whom pages leave now; MM_NONE: their own */
	u64 io_weights; /* of tenants that want the bandwidth */
	u64 swap_keys; /* handed out */
	u64 keep_seq; /* marks spaces that are no victims */
	u64 swap_backoff_until; /* a write failed: none before */

	u32 nr_moving; /* pages on their way to another frame */
	bool compact_look; /* something to begin, perhaps */
	bool compact_wants; /* somebody could do with fewer extents */
	u64 compact_looked_ns;
	u64 compact_credit; /* bytes that may be moved now */
	struct page_move moves[MOVE_IO_MAX];

	u32 nr_copying; /* pages on their way into caches */
	u32 nr_refs_leaving; /* of all clients */
	u32 node_top, node_free, ref_top, ref_free, tree_top;
	bool background; /* reclaim is under way there */
	u64 goal, goal_seen, goal_until_ns; /* of mm_reclaim(); 0: none */
	u64 background_ns; /* when it goes on */
	u64 node_seed;
	u32 cache_policy; /* enum policy_kind */
	u32 nr_revokes; /* clients with one */
	bool revoke_look; /* somebody may need one, or need it no more */
	bool over_limit; /* a tenant may hold more than it may */
	u64 revoke_looked_ns;

	struct pressure pressure; /* of the device */
	u64 nr_ooms;
	struct mm_oom oom[MM_OOM_MAX]; /* by seq */

	u32 queue_head, queue_tail, nr_events;
	u64 resv_seq; /* marks spaces of one reservation */
	u32 mark_seq; /* marks frames of one count */
	struct mm_counts counts;
	u64 nr_reads; /* pages that reservations began to read back */
	struct mm_faults waited; /* of tickets, of all there ever were */
	struct kv_holder holders[MM_HOLDER_MAX];
	struct tenant tenants[MM_TENANT_MAX];
	struct prefix_tree trees[MM_TREE_MAX];
};

static inline void *mm_at(const struct mm *mm, u64 off)
{
	return (char *)(uintptr_t)mm + off;
}

static inline struct extent *mm_extents(const struct mm *mm)
{
	return mm_at(mm, mm->lay.extents_off);
}

static inline struct chunk *mm_chunks(const struct mm *mm)
{
	return mm_at(mm, mm->lay.chunks_off);
}

static inline struct frame *mm_frames(const struct mm *mm)
{
	return mm_at(mm, mm->lay.frames_off);
}

/* Scratch of counts that walk frames: mark_seq in marks, refs in seen. */
static inline u32 *mm_marks(const struct mm *mm)
{
	return mm_at(mm, mm->lay.marks_off);
}

static inline u32 *mm_seen(const struct mm *mm)
{
	return mm_at(mm, mm->lay.seen_off);
}

static inline struct client *mm_clients(const struct mm *mm)
{
	return mm_at(mm, mm->lay.clients_off);
}

static inline u32 client_index(const struct mm *mm, const struct client *c)
{
	return (u32)(c - mm_clients(mm));
}

/* The KV_SPACE_MAX spaces of one client. */
static inline struct space *mm_spaces(const struct mm *mm,
				      const struct client *c)
{
	return (struct space *)mm_at(mm, mm->lay.spaces_off) +
	       (size_t)client_index(mm, c) * KV_SPACE_MAX;
}

static inline struct family *mm_families(const struct mm *mm,
					 const struct client *c)
{
	return (struct family *)mm_at(mm, mm->lay.families_off) +
	       (size_t)client_index(mm, c) * KV_SPACE_MAX;
}

static inline struct ticket *mm_tickets(const struct mm *mm)
{
	return mm_at(mm, mm->lay.tickets_off);
}

static inline struct kv_resv_item *mm_ticket_items(const struct mm *mm, u32 t)
{
	return (struct kv_resv_item *)mm_at(mm, mm->lay.items_off) +
	       (size_t)t * KV_RESV_MAX;
}

static inline struct kv_copy *mm_copies(const struct mm *mm)
{
	return mm_at(mm, mm->lay.copies_off);
}

static inline struct slot *mm_slots(const struct mm *mm)
{
	return mm_at(mm, mm->lay.slots_off);
}

static inline u64 *mm_slot_map(const struct mm *mm)
{
	return mm_at(mm, mm->lay.slot_map_off);
}

/* Units that were written since they were last discarded. */
static inline u64 *mm_stale_map(const struct mm *mm)
{
	return mm_at(mm, mm->lay.stale_map_off);
}

static inline struct prefix_node *mm_nodes(const struct mm *mm)
{
	return mm_at(mm, mm->lay.nodes_off);
}

static inline u32 *mm_node_tokens(const struct mm *mm, u32 node)
{
	return (u32 *)mm_at(mm, mm->lay.tokens_off) +
	       (size_t)node * NODE_TOKENS;
}

static inline struct prefix_ref *mm_refs(const struct mm *mm)
{
	return mm_at(mm, mm->lay.refs_off);
}

/* Scratch: the nodes of one path. */
static inline u32 *mm_path(const struct mm *mm)
{
	return mm_at(mm, mm->lay.path_off);
}

/* What a tenant's cache evicts next; begun when it has one. */
static inline struct policy *mm_policy(const struct mm *mm, u32 tenant)
{
	return mm_at(mm, mm->lay.policies_off + tenant * mm->lay.policy_bytes);
}

/* Extents of its tenant's page cache that a client has been given. */
static inline u64 *mm_grants(const struct mm *mm, const struct client *c)
{
	return (u64 *)mm_at(mm, mm->lay.grants_off) +
	       (size_t)client_index(mm, c) * BITMAP_WORDS(mm->nr_extents);
}

/* The pages that a client's last reservation replaced. */
static inline struct cow *mm_cows(const struct mm *mm, const struct client *c)
{
	return (struct cow *)mm_at(mm, mm->lay.cows_off) +
	       (size_t)client_index(mm, c) * KV_RESV_MAX * KV_AREA_MAX;
}

/*
 * mm_order - what was stored before is in memory before what follows: should
 * kvmd be killed here, its successor sees the one without the other, never the
 * other without the one. Memory that a killed process shared stays as its last
 * store left it, so only the compiler has to be held back.
 */
#define mm_order() __asm__ __volatile__("" ::: "memory")

/* mm_trace - a transition of KV_TRACE_POINTS has just happened */
static inline void mm_trace(struct mm *mm, u32 point, u32 client, u64 arg)
{
	mm->stats_dirty = true;
	if (unlikely(mm->ops->trace))
		mm->ops->trace(mm->host, point, client, arg);
}

/**
 * mm_client_live - find a client that may ask for things
 * @mm: core
 * @client: index, any value
 * @out: set on success
 *
 * Return: 0, -ENOENT, -ESHUTDOWN while it is being removed.
 */
int mm_client_live(struct mm *mm, u32 client, struct client **out);

/* mm_queue - append a request for the host; @c may be NULL */
void mm_queue(struct mm *mm, enum mm_req_type type, const struct client *c,
	      u32 extent, u32 seq);
/* mm_queue_event - put an event on a client's ring; dropped if too many */
void mm_queue_event(struct mm *mm, const struct client *c, u32 type, u64 arg);
/* mm_queue_complete - a ticket that is TICKET_DONE */
void mm_queue_complete(struct mm *mm, const struct client *c, u32 ticket);
/* mm_queue_swap - MM_REQ_SWAP_OUT or MM_REQ_SWAP_IN of a slot */
void mm_queue_swap(struct mm *mm, enum mm_req_type type, u32 slot);
/* mm_queue_copy - MM_REQ_COPY of a prefix node's page in one area */
void mm_queue_copy(struct mm *mm, u32 node, u32 area);
/* mm_queue_move - MM_REQ_MOVE of an entry of mm->moves */
void mm_queue_move(struct mm *mm, u32 move);
/* mm_queue_shared - MM_REQ_GRANT or MM_REQ_WITHDRAW of a page cache's extent;
 * @c: to whom; NULL: to all clients of the tenant @seq */
void mm_queue_shared(struct mm *mm, enum mm_req_type type,
		     const struct client *c, u32 extent, u32 seq);

#endif
