/* SPDX-License-Identifier: MIT */
/*
 * policy.c - what all policies know of the tree's nodes
 *
 * History. A node's uses, its last one and its class outlive its eviction
 * for a while in the ghosts: a table of sets of GHOST_WAYS, found by the key
 * of the path; a new ghost takes the place of the one used least recently in
 * its set. A node that comes back takes its history with it. Eight ghosts for
 * each page are enough: most that come back at all do so before that many
 * others were evicted, and those that come back later look new. Ghosts carry
 * the number of the policy's life, so that nothing has to be cleared when it
 * begins another one.
 *
 * Classes. Of any page: by how many pages were behind it in the request that
 * used it. Of one used once also by how many were new with it, and by its
 * turn: a page whose parent was used once continues its parent's run, another
 * one begins the next turn (of a conversation, or a question about a document),
 * one without a parent the first. Where a request ends is known when its last
 * page becomes idle. Then all pages before it are told (path_ends); until then
 * a new page counts as the last one, and one that was there as lying where it
 * did before.
 *
 * The odds hear of each use, whichever policy is chosen: a node counts in
 * them from its first use until neither it nor its ghost is left.
 */
#include <string.h>

#include "kvmd/mm/policy_state.h"

static const struct policy_ops *const kinds[POLICY_NR_KINDS] = {
	[POLICY_LRU] = &policy_lru_ops,
	[POLICY_MGLRU] = &policy_mglru_ops,
	[POLICY_REUSE] = &policy_reuse_ops,
};

static const struct policy_ops *ops(const struct policy *p)
{
	return kinds[p->kind];
}

static u32 ghost_sets(u32 nr_ghosts)
{
	u32 want = max(1u, nr_ghosts / GHOST_WAYS), sets = 1;

	while (sets < want)
		sets *= 2;
	return sets;
}

static u64 heap_off(void)
{
	return ALIGN_UP(sizeof(struct policy), 64ull);
}

static u64 ghosts_off(u32 nr_nodes)
{
	return ALIGN_UP(heap_off() + nr_nodes * sizeof(u32), 64ull);
}

size_t policy_bytes(u32 nr_nodes, u32 nr_ghosts)
{
	return ghosts_off(nr_nodes) + (size_t)ghost_sets(nr_ghosts) *
					      GHOST_WAYS * sizeof(struct ghost);
}

void policy_init(struct policy *p, u32 nr_nodes, u32 nr_ghosts, void *nodes,
		 u32 stride, enum policy_kind kind)
{
	u32 life = (p->life + 1) % GHOST_LIVES;

	memset(p, 0, sizeof(*p));
	p->life = life;
	p->kind = kind;
	p->nr_nodes = nr_nodes;
	p->nodes_off = (s64)((uintptr_t)nodes - (uintptr_t)p);
	p->stride = stride;
	p->heap_off = heap_off();
	p->ghosts_off = ghosts_off(nr_nodes);
	p->nr_sets = ghost_sets(nr_ghosts);
	if (!life)
		memset(policy_ghosts(p), 0,
		       (size_t)p->nr_sets * GHOST_WAYS * sizeof(struct ghost));
	odds_init(&p->odds);
	rival_init(&p->rival);
	ops(p)->reset(p);
}

const char *policy_kind_name(enum policy_kind kind)
{
	return kinds[kind]->name;
}

int policy_kind_parse(const char *name)
{
	int k;

	for (k = 0; k < POLICY_NR_KINDS; k++)
		if (!strcmp(kinds[k]->name, name))
			return k;
	return -1;
}

enum policy_kind policy_kind(const struct policy *p)
{
	return p->kind;
}

void policy_switch(struct policy *p, enum policy_kind kind)
{
	const struct policy_ops *lru = &policy_lru_ops;
	u32 nr, n;

	/* By way of LRU's heap, in which they may be already. */
	for (nr = p->nr_heap ? 0 : p->nr_idle; nr; nr--) {
		n = ops(p)->victim(p);
		ops(p)->del(p, n);
		lru->add(p, n);
	}
	p->kind = kind;
	if (kind == POLICY_LRU)
		return;
	ops(p)->reset(p);
	for (; p->nr_heap; ops(p)->add(p, n)) {
		n = lru->victim(p);
		lru->del(p, n);
	}
}

/* ---- ghosts ---- */

static struct ghost *ghost_set(const struct policy *p, u64 key)
{
	return policy_ghosts(p) + (key & (p->nr_sets - 1)) * GHOST_WAYS;
}

static u32 ghost_tag(u64 key)
{
	return max((u32)(key >> 32), 1u);
}

/* Those of the policy that was here before are none. */
static bool ghost_is(const struct policy *p, const struct ghost *g)
{
	return g->tag && g->life == p->life;
}

static struct ghost *ghost_find(const struct policy *p, u64 key)
{
	struct ghost *set = ghost_set(p, key);
	u32 way, tag = ghost_tag(key);

	for (way = 0; way < GHOST_WAYS; way++)
		if (set[way].tag == tag && ghost_is(p, &set[way]))
			return &set[way];
	return NULL;
}

static void ghost_drop(struct policy *p, struct ghost *g)
{
	if (ghost_is(p, g)) {
		odds_forget(&p->odds, g->cls, g->stamp);
		rival_forget(&p->rival, g->stamp);
	}
	g->tag = 0;
}

/* A free one of its set, or the one least recently used. */
static struct ghost *ghost_make(struct policy *p, u64 key)
{
	struct ghost *set = ghost_set(p, key), *g = ghost_find(p, key);
	u32 way;

	if (!g) {
		g = set;
		for (way = 1; way < GHOST_WAYS && ghost_is(p, g); way++)
			if (!ghost_is(p, &set[way]) ||
			    set[way].stamp < g->stamp)
				g = &set[way];
	}
	ghost_drop(p, g);
	return g;
}

static void ghost_of(struct policy *p, const struct policy_node *n)
{
	struct ghost *g = ghost_make(p, n->key);

	*g = (struct ghost){ .tag = ghost_tag(n->key),
			     .evicted = (u32)p->counts.evictions,
			     .stamp = n->stamp,
			     .uses = n->uses,
			     .cls = n->cls,
			     .parent = !!(n->flags & POLICY_NODE_PARENT),
			     .life = p->life };
}

/* ---- uses ---- */

static void classify(struct policy *p, struct policy_node *n)
{
	const struct policy_node *up;
	u32 turn = 0;

	n->run = 1;
	if (n->parent != POLICY_NONE) {
		up = policy_node(p, n->parent);
		turn = POLICY_NODE_TURN(up);
		if (up->uses == 1)
			n->run = (u8)min(up->run + 1, 255);
		else
			turn = min(turn + 1, ODDS_TURNS - 1);
	}
	n->flags |= (u8)(turn * POLICY_NODE_TURNS);
	if (n->uses == 1)
		n->cls = (u8)odds_class_fresh(turn, n->run, odds_near(0));
}

static void tick(struct policy *p)
{
	struct odds_event merges[ODDS_SLOTS];
	int nr = odds_tick(&p->odds, p->clock, p->nr_used, merges), i;

	if (nr < 0)
		return;
	for (i = 0; i < nr && ops(p)->merge; i++)
		ops(p)->merge(p, merges[i].from, merges[i].to);
	if (ops(p)->aged)
		ops(p)->aged(p);
}

/* A request goes on where it used the parent just before. */
static void path_goes_on(struct policy *p, const struct policy_node *n)
{
	if (n->parent == POLICY_NONE ||
	    policy_node(p, n->parent)->stamp + 1 != p->clock)
		rival_request(&p->rival);
}

/* The node's class is the one for this use. */
static void used_now(struct policy *p, u32 node)
{
	struct policy_node *n = policy_node(p, node);

	tick(p);
	n->stamp = p->clock++;
	odds_born(&p->odds, n->cls);
	rival_born(&p->rival, n->stamp);
	if (ops(p)->use)
		ops(p)->use(p, node);
}

static void used_again(struct policy *p, struct policy_node *n, bool hit)
{
	rival_used(&p->rival, n->stamp, hit);
	odds_used(&p->odds, n->cls, n->stamp);
	n->uses = (u8)min(n->uses + 1, 255);
	n->cls = (u8)odds_class_again(n->uses, odds_near_of(n->cls));
}

void policy_insert(struct policy *p, u32 node, u64 key, u32 parent)
{
	struct policy_node *n = policy_node(p, node);
	struct ghost *g = ghost_find(p, key);
	u32 distance = POLICY_NONE;

	p->counts.inserts++;
	p->nr_used++;
	*n = (struct policy_node){ .key = key,
				   .parent = parent,
				   .flags = POLICY_NODE_USED };
	path_goes_on(p, n);
	if (g) {
		p->counts.refaults++;
		distance = (u32)p->counts.evictions - g->evicted;
		n->stamp = g->stamp;
		n->uses = g->uses;
		n->cls = g->cls;
		n->flags |= g->parent ? POLICY_NODE_PARENT : 0;
		g->tag = 0;
		used_again(p, n, false);
	} else {
		n->uses = 1;
	}
	classify(p, n);
	if (distance >= p->nr_used)
		n->flags |= POLICY_NODE_COLD;
	if (parent != POLICY_NONE)
		policy_node(p, parent)->flags |= POLICY_NODE_PARENT;
	used_now(p, node);
}

static void idle_again(struct policy *p, u32 node)
{
	policy_node(p, node)->flags |= POLICY_NODE_IDLE;
	p->nr_idle++;
	ops(p)->add(p, node);
}

void policy_hit(struct policy *p, u32 node)
{
	struct policy_node *n = policy_node(p, node);
	bool idle = n->flags & POLICY_NODE_IDLE;

	p->counts.hits++;
	if (idle)
		policy_busy(p, node);
	path_goes_on(p, n);
	used_again(p, n, true);
	n->flags &= (u8) ~(POLICY_NODE_COLD | POLICY_NODE_TOLD);
	used_now(p, node);
	if (idle)
		idle_again(p, node);
}

/*
 * The last node of a request is idle for the first time since: now it is known
 * where on its path the others lie, and how many were new. Who publishes in
 * pieces ends more than once; then what is farther from the end than it was
 * told is told again, at most once for each class. An end that is nearer, as
 * after an eviction, tells nobody anything.
 */
static void path_ends(struct policy *p, u32 node)
{
	u32 below, run = 0, cls, i;
	struct policy_node *n;

	for (i = node, below = 0; i != POLICY_NONE; i = n->parent, below++) {
		n = policy_node(p, i);
		if (n->uses == 1) {
			run = max(run, (u32)n->run);
			cls = odds_class_fresh(POLICY_NODE_TURN(n), run,
					       odds_near(below));
		} else {
			run = 0;
			cls = odds_class_again(n->uses, odds_near(below));
		}
		if (n->flags & POLICY_NODE_TOLD && cls <= n->cls)
			break;
		if (cls != n->cls)
			odds_move(&p->odds, n->cls, cls, n->stamp);
		n->cls = (u8)cls;
		n->flags |= POLICY_NODE_TOLD;
	}
}

void policy_idle(struct policy *p, u32 node)
{
	path_ends(p, node);
	idle_again(p, node);
}

void policy_busy(struct policy *p, u32 node)
{
	policy_node(p, node)->flags &= (u8)~POLICY_NODE_IDLE;
	p->nr_idle--;
	ops(p)->del(p, node);
}

void policy_remove(struct policy *p, u32 node, bool evicted)
{
	struct policy_node *n = policy_node(p, node);

	if (n->flags & POLICY_NODE_IDLE)
		policy_busy(p, node);
	if (evicted) {
		ghost_of(p, n);
		p->counts.evictions++;
	} else {
		odds_forget(&p->odds, n->cls, n->stamp);
		rival_forget(&p->rival, n->stamp);
	}
	memset(n, 0, sizeof(*n));
	p->nr_used--;
	if (evicted)
		rival_evicted(&p->rival, p->nr_used);
}

u32 policy_victim(struct policy *p)
{
	return p->nr_idle ? ops(p)->victim(p) : POLICY_NONE;
}

const struct policy_counts *policy_counts(const struct policy *p)
{
	return &p->counts;
}

u32 policy_nr_idle(const struct policy *p)
{
	return p->nr_idle;
}

/* ---- check ---- */

static const char *check_alive(struct policy *p,
			       bool (*is_mine)(const void *ctx, u32 node),
			       const void *ctx)
{
	static const char wrong[] = "odds: pages alive are not those there are";
	struct odds *o = &p->odds;
	const struct policy_node *n;
	const struct ghost *g;
	u32 i;

	memset(o->count, 0, sizeof(o->count));
	for (i = 0; i < p->nr_nodes; i++) {
		n = policy_node(p, i);
		if (n->flags & POLICY_NODE_USED && is_mine(ctx, i))
			o->count[o->slot[odds_slot_of(o, n->stamp)].id]
				[n->cls]++;
	}
	for (i = 0; i < p->nr_sets * GHOST_WAYS; i++) {
		g = &policy_ghosts(p)[i];
		if (ghost_is(p, g))
			o->count[o->slot[odds_slot_of(o, g->stamp)].id]
				[g->cls]++;
	}
	return memcmp(o->count, o->alive, sizeof(o->count)) ? wrong : NULL;
}

const char *policy_check(struct policy *p,
			 bool (*is_mine)(const void *ctx, u32 node),
			 const void *ctx)
{
	const char *wrong;
	u32 i, idle = 0, nr = 0;

	for (i = 0; i < p->nr_nodes; i++)
		idle += policy_node(p, i)->flags & POLICY_NODE_IDLE &&
			is_mine(ctx, i);
	if (idle != p->nr_idle)
		return "number of idle nodes";
	wrong = ops(p)->check(p, &nr);
	if (wrong)
		return wrong;
	if (nr != idle)
		return "an idle node is on no list, or on two";
	return check_alive(p, is_mine, ctx);
}
