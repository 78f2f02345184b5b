/* SPDX-License-Identifier: MIT */
/*
 * sim.c - everybody but the clients: memory, administrator, fate, the turns
 */
#include "selftests/sim/sim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *sim_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	return p;
}

/* ---- memory ---- */

static void sim_junk(struct sim *s, u32 extent)
{
	u32 i, n = KV_EXTENT_SIZE / 4096 * 16;

	for (i = 0; i < n; i++)
		s->mem[(size_t)extent * n + i] = SIM_JUNK;
}

static void sim_answer(struct sim *s, u32 i)
{
	u32 e = s->pending[i];
	int err = s->cfg.faults && sim_chance(s, 5) ? -ENOMEM : 0;

	s->pending[i] = s->pending[--s->nr_pending];
	if (!err)
		sim_junk(s, e & ~(1u << 31));
	if (e >> 31)
		mm_scrub_done(s->mm, e & ~(1u << 31), err);
	else
		mm_populate_done(s->mm, e, err);
}

static u64 sim_sum(u64 key, const u32 *tags, u32 bytes)
{
	u64 h = key;
	u32 i;

	for (i = 0; i < bytes / 4096 * 16; i++)
		h = hash_add(h, tags[i]);
	return h;
}

static u32 *sim_slot(struct sim *s, u32 tier, u64 off)
{
	return &s->swap[tier][off / 4096 * 16];
}

/* From tier to tier, whatever is there; some come to take less room. */
static void sim_answer_demote(struct sim *s, const struct mm_swap_io *io)
{
	int err = s->cfg.faults && sim_chance(s, 5) ? -EIO : 0;

	if (!err)
		memcpy(sim_slot(s, io->tier, io->tier_off),
		       sim_slot(s, io->from, io->from_off),
		       io->bytes / 4096 * 64);
	s->nr_demoted += !err;
	mm_swap_done(s->mm, io->slot, err, 0);
}

static void sim_answer_io(struct sim *s, u32 i)
{
	struct sim_io x = s->io[i];
	u32 *dev = &s->mem[x.io.dev_off / 4096 * 16];
	u32 *slot = sim_slot(s, x.io.tier, x.io.tier_off);
	u32 n = x.io.bytes / 4096 * 16;
	int err = s->cfg.faults && sim_chance(s, 3) ? -EIO : 0;
	u64 sum = 0;

	s->io[i] = s->io[--s->nr_io];
	if (x.type == MM_REQ_DEMOTE) {
		sim_answer_demote(s, &x.io);
		return;
	}
	if (x.type == MM_REQ_SWAP_IN) {
		if (s->cfg.faults && sim_chance(s, 2))
			slot[sim_rand(s, n)] ^= 1u << sim_rand(s, 32);
		if (!err && sim_sum(x.io.key, slot, x.io.bytes) != x.io.sum)
			err = -EBADMSG;
		if (!err)
			memcpy(dev, slot, n * sizeof(*dev));
		s->nr_in += !err;
	} else if (!err) {
		memcpy(slot, dev, n * sizeof(*dev));
		sum = sim_sum(x.io.key, slot, x.io.bytes);
		s->nr_out++;
		if (s->cfg.packs && sim_chance(s, 70))
			mm_swap_stored(s->mm, x.io.slot,
				       sim_rand(s, x.io.bytes));
	}
	mm_swap_done(s->mm, x.io.slot, err, sum);
}

/* What nobody needs any more is overwritten. */
static void sim_forget(void *host, u32 tier, u64 off)
{
	struct sim *s = host;

	*sim_slot(s, tier, off) = SIM_JUNK;
}

static void sim_answer_move(struct sim *s, u32 i)
{
	struct mm_move_io io = s->moves[i];
	int err = s->cfg.faults && sim_chance(s, 3) ? -EIO : 0;

	s->moves[i] = s->moves[--s->nr_moving];
	if (!err)
		memcpy(&s->mem[io.dst / 4096 * 16], &s->mem[io.src / 4096 * 16],
		       io.bytes / 4096 * 64);
	s->nr_compacted += !err;
	mm_move_done(s->mm, io.move, err);
}

static int sim_grow(void *host, u32 client, u32 nr_leaves)
{
	struct sim *s = host;

	(void)client;
	(void)nr_leaves;
	return s->cfg.faults && sim_chance(s, 20) ? -ENOMEM : 0;
}

/* Weights that nobody has open. */
static u64 sim_spare(void *host, u32 tenant, u64 want, u64 most)
{
	struct sim *s = host;
	u64 got = 0;
	u32 i;

	for (i = 0; i < SIM_TENANTS; i++) {
		if (s->tenant[i] != tenant || !s->idle[i] ||
		    s->weights[i] > most)
			continue;
		got = s->weights[i];
		s->goes |= (u32)(want > 0) << i;
	}
	return got;
}

static const struct mm_host_ops sim_ops = { .table_grow = sim_grow,
					    .swap_forget = sim_forget,
					    .spare = sim_spare };

static struct sim_client *sim_find(struct sim *s, u32 index)
{
	u32 k;

	for (k = 0; k < SIM_CLIENTS; k++)
		if (s->cl[k].attached && s->cl[k].index == index)
			return &s->cl[k];
	return NULL;
}

static void sim_completed(struct sim *s, const struct mm_request *req)
{
	struct sim_client *c = sim_find(s, req->client);
	u32 k;

	sim_note(s, (u64)(u32)req->cqe.res);
	if (!c || !c->waiting || req->cqe.user_data != c->wait.nr) {
		SIM_FAIL(s, "a completion nobody waits for");
		return;
	}
	c->waiting = false;
	for (k = 0; k < c->wait.nr_items; k++)
		c->wait.item[k].sp->in_ticket = false;
	if (req->cqe.res < 0) {
		sim_refused(s, c, req->cqe.res, req->cqe.extra);
		return;
	}
	memcpy(c->wait.copies, req->copies,
	       sizeof(*req->copies) * (u32)req->cqe.res);
	sim_granted(s, c, &c->wait, req->cqe.res);
}

static void sim_kill(struct sim *s, struct sim_client *c)
{
	mm_client_exit(s->mm, c->index);
	c->exiting = true;
	c->waiting = false;
	s->nr_exits++;
}

/* An event, or the end. */
static void sim_told(struct sim *s, const struct mm_request *req)
{
	struct sim_client *c = sim_find(s, req->client);

	if (!c || c->exiting)
		return;
	if (req->type == MM_REQ_EVENT) {
		c->give |= req->event.type == KV_EVENT_SHRINK;
		s->nr_revoked += req->event.type == KV_EVENT_REVOKE;
		return;
	}
	if (!c->was_hung && !c->liar)
		SIM_FAIL(s, "client %u is killed, and its steps end", c->index);
	s->nr_kills++;
	sim_kill(s, c);
}

static void sim_drain(struct sim *s)
{
	struct mm_request req;

	while (mm_next_request(s->mm, &req)) {
		sim_note(s, (u64)req.type << 32 | req.extent);
		if (req.type == MM_REQ_POPULATE || req.type == MM_REQ_SCRUB) {
			s->pending[s->nr_pending++] =
				req.extent |
				(req.type == MM_REQ_SCRUB ? 1u << 31 : 0);
			if (!s->cfg.delays)
				sim_answer(s, s->nr_pending - 1);
		} else if (req.type == MM_REQ_SWAP_OUT ||
			   req.type == MM_REQ_SWAP_IN ||
			   req.type == MM_REQ_DEMOTE) {
			s->io[s->nr_io++] =
				(struct sim_io){ req.swap, req.type };
			if (!s->cfg.delays)
				sim_answer_io(s, s->nr_io - 1);
		} else if (req.type == MM_REQ_COPY) {
			mm_copy_done(s->mm, req.copy.node, req.copy.area, 0);
		} else if (req.type == MM_REQ_MOVE) {
			s->moves[s->nr_moving++] = req.move;
			if (!s->cfg.delays)
				sim_answer_move(s, s->nr_moving - 1);
		} else if (req.type == MM_REQ_COMPLETE) {
			sim_completed(s, &req);
		} else if (req.type == MM_REQ_EVENT ||
			   req.type == MM_REQ_KILL) {
			sim_told(s, &req);
		}
	}
}

/* ---- attach and death ---- */

static struct kv_geometry sim_geometry(u32 page_bytes, u32 page_tokens)
{
	return (struct kv_geometry){
		.page_tokens = page_tokens,
		.nr_layers = 1,
		.nr_kv_heads = 1,
		.head_dim = 64,
		.elem = KV_ELEM_BF16,
		.token_stride = 128,
		.head_stride = 128,
		.v_offset = page_bytes / 2,
		.layer_stride = page_bytes,
		.page_bytes = page_bytes,
	};
}

static void sim_attach(struct sim *s, struct sim_client *c)
{
	static const u32 kinds[][4] = {
		/* bytes, tokens, window of a first, of a second area */
		{ 48 * 1024, 16, 0, 64 }, { 448 * 1024, 16, 0, 0 },
		{ 4096, 1, 0, 0 },	  { 240 * 1024, 16, 100, 0 },
		{ 1536 * 1024, 8, 0, 1 },
	};
	struct mm_attach at = { .name = "sim" };
	u32 kind = sim_rand(s, 5), k;

	if (!c->table) {
		c->table = sim_map(KV_TABLE_SIZE_MAX);
		c->status = sim_map(sizeof(struct kv_status));
	}
	madvise(c->table, KV_TABLE_SIZE_MAX, MADV_DONTNEED);
	memset(c->status, 0, sizeof(*c->status));
	at.table = c->table;
	at.status = c->status;
	c->tenant = sim_rand(s, SIM_TENANTS);
	at.tenant = s->tenant[c->tenant];
	if (mm_client_attach(s->mm, &at, &c->index))
		SIM_FAIL(s, "attach");
	c->attached = true;
	c->exiting = false;
	c->waiting = false;
	c->step = 0;
	c->nr_run = 0;
	c->liar = s->cfg.liar && c == &s->cl[0];
	c->deaf = s->cfg.revokes && sim_chance(s, 40);
	c->hung = false;
	c->was_hung = false;
	c->give = false;
	c->asked_ns = 0;
	c->nr_areas = kinds[kind][3] ? 2 : 1;
	memset(c->space, 0, sizeof(c->space));
	for (k = 0; k < c->nr_areas; k++) {
		c->area[k].window = kinds[kind][2 + k];
		c->area[k].g = sim_geometry(k ? 240 * 1024 : kinds[kind][0],
					    k ? 16 : kinds[kind][1]);
		if (mm_geom_add(s->mm, c->index, &c->area[k].g,
				&c->area[k].geom))
			SIM_FAIL(s, "geom_add");
	}
}

/* ---- everybody else ---- */

/* Never more of a tier than it may, unless that was said afterwards. */
static void sim_check_tiers(struct sim *s, u32 tenant,
			    const struct mm_tenant_info *ti)
{
	u32 t;

	for (t = 0; t < MM_TIER_MAX; t++) {
		u64 *may = &s->tier_allowed[tenant][t];

		*may = max(ti->tier_max_bytes[t], min(*may, ti->tier_bytes[t]));
		if (ti->tier_bytes[t] > *may)
			SIM_FAIL(s, "tenant %u has %llu of %llu in tier %u",
				 tenant, (unsigned long long)ti->tier_bytes[t],
				 (unsigned long long)*may, t);
	}
}

static void sim_check_limits(struct sim *s)
{
	struct mm_tenant_info ti;
	u64 used;
	u32 i;

	for (i = 0; i < SIM_TENANTS; i++) {
		mm_tenant_info(s->mm, s->tenant[i], &ti);
		used = ti.held_bytes + ti.charged_bytes;
		sim_check_tiers(s, i, &ti);
		/* Over a lowered limit it may only shrink. */
		s->allowed[i] =
			max(ti.limits.max_bytes, min(s->allowed[i], used));
		if (used > s->allowed[i])
			SIM_FAIL(s, "tenant %u holds %llu of %llu", i,
				 (unsigned long long)used,
				 (unsigned long long)s->allowed[i]);
	}
}

/* Time that was lost is part of the time there was. */
static void check_pressure(struct sim *s)
{
	struct mm_pressure all, p;
	u32 i, k;

	mm_pressure(s->mm, MM_NONE, &all);
	for (i = 0; i < SIM_TENANTS; i++) {
		mm_pressure(s->mm, s->tenant[i], &p);
		if (p.total_us[0] > all.total_us[0] ||
		    p.total_us[1] > p.total_us[0])
			SIM_FAIL(s, "tenant %u lost more time than there was",
				 i);
		for (k = 0; k < 3; k++)
			if (p.avg[1][k] > p.avg[0][k] || p.avg[0][k] > 10000)
				SIM_FAIL(s, "tenant %u: averages", i);
	}
	if (all.total_us[1] > all.total_us[0] ||
	    all.total_us[0] > s->now / 1000)
		SIM_FAIL(s, "more time was lost than there was");
}

/* ---- weights ---- */

static void sim_weights_wait(struct sim *s, u32 tenant, u64 bytes)
{
	u32 i, first = sim_rand(s, SIM_CLIENTS);
	struct sim_client *c;

	for (i = 0; i < SIM_CLIENTS; i++) {
		c = &s->cl[(first + i) % SIM_CLIENTS];
		if (c->attached && !c->exiting && c->tenant == tenant)
			break;
	}
	if (s->room.bytes || i == SIM_CLIENTS)
		return;
	s->room = (struct sim_room){
		.bytes = bytes,
		.until_ns = s->now + SIM_ROOM_NS,
		.tenant = tenant,
		.client = c,
	};
	s->nr_room_waits++;
}

static void sim_weights_end(struct sim *s)
{
	mm_room_end(s->mm);
	s->room.bytes = 0;
}

static void sim_uncharge(struct sim *s, u32 tenant)
{
	mm_tenant_uncharge(s->mm, s->tenant[tenant], s->weights[tenant]);
	s->weights[tenant] = 0;
	s->idle[tenant] = false;
}

/* What the core wants goes, unless somebody has opened it. */
static void sim_spare_go(struct sim *s)
{
	u32 i;

	for (i = 0; i < SIM_TENANTS; i++) {
		if (!(s->goes >> i & 1))
			continue;
		s->idle[i] &= !sim_chance(s, 20);
		if (s->idle[i])
			sim_uncharge(s, i);
		s->nr_spared += !s->weights[i];
	}
	s->goes = 0;
	mm_spared(s->mm);
}

static int sim_charge(struct sim *s, u32 tenant, u64 bytes)
{
	int rc;

	while ((rc = mm_tenant_charge(s->mm, s->tenant[tenant], bytes)) ==
	       -EAGAIN) {
		if (!s->goes) {
			SIM_FAIL(s, "nothing goes for weights");
			return -ENOSPC;
		}
		sim_spare_go(s);
	}
	return rc;
}

/* The host asks again; it says when it is over. */
static void sim_weights_ask(struct sim *s)
{
	struct sim_room *r = &s->room;
	bool gone = !r->client->attached || r->client->exiting;
	int rc = -ECANCELED;

	if (!gone && s->now < r->until_ns)
		rc = sim_charge(s, r->tenant, r->bytes);
	if (!rc) {
		s->weights[r->tenant] += r->bytes;
		s->idle[r->tenant] = false;
		s->nr_room++;
	} else if (rc == -ENOSPC &&
		   mm_room_wait(s->mm, r->client->index, r->bytes)) {
		sim_note(s, mm_room_comes(s->mm));
		return;
	}
	sim_note(s, (u64)(u32)rc);
	sim_weights_end(s);
}

static void sim_weights(struct sim *s, u32 tenant)
{
	u64 bytes;
	int rc;

	if (s->weights[tenant] && !s->idle[tenant] && s->cfg.room) {
		s->idle[tenant] = true;
		mm_spared(s->mm);
		return;
	}
	if (s->weights[tenant]) {
		sim_uncharge(s, tenant);
		return;
	}
	bytes = sim_rand(s, 4 * KV_EXTENT_SIZE);
	rc = sim_charge(s, tenant, bytes);
	if (!rc)
		s->weights[tenant] = bytes;
	else if (rc == -ENOSPC && s->cfg.room)
		sim_weights_wait(s, tenant, bytes);
}

static void sim_admin(struct sim *s)
{
	u32 i = sim_rand(s, SIM_TENANTS);
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE };
	struct mm_tenant_info ti;
	u64 bytes;

	if (s->cfg.demotes && sim_chance(s, 30)) {
		bytes = sim_chance(s, 50) ? MM_LIMIT_NONE
					  : (u64)sim_rand(s, 16) << 20;
		if (mm_tenant_tier_limit(s->mm, s->tenant[i],
					 sim_rand(s, MM_TIER_MAX), bytes))
			SIM_FAIL(s, "tier limit");
	} else if (sim_chance(s, 50)) {
		if (!sim_chance(s, 30))
			lim.max_bytes = (u64)sim_rand(s, s->cfg.extents) *
						KV_EXTENT_SIZE +
					sim_rand(s, 4096);
		mm_tenant_info(s->mm, s->tenant[i], &ti);
		s->allowed[i] =
			max(lim.max_bytes, ti.held_bytes + ti.charged_bytes);
		if (mm_tenant_limit(s->mm, s->tenant[i], &lim))
			SIM_FAIL(s, "limit");
	} else if (sim_chance(s, 40)) {
		bytes = (u64)sim_rand(s, s->cfg.extents) * KV_EXTENT_SIZE;
		if (mm_tenant_high(s->mm, s->tenant[i],
				   sim_chance(s, 50) ? MM_LIMIT_NONE : bytes))
			SIM_FAIL(s, "high");
	} else {
		sim_weights(s, i);
	}
}

static void sim_copy(void *ctx, u64 src, u64 dst, u64 bytes)
{
	struct sim *s = ctx;

	memcpy(&s->mem[dst / 4096 * 16], &s->mem[src / 4096 * 16],
	       bytes / 4096 * 64);
}

static void sim_move(struct sim *s, struct sim_client *c)
{
	struct sim_space *sp = &c->space[sim_rand(s, SIM_SPACES)];
	u32 area = sim_rand(s, c->nr_areas), pages, rc;

	if (!sp->used)
		return;
	pages = sp->len / c->area[area].g.page_tokens + 1;
	rc = (u32)mm_move_page(s->mm, c->index, sp->slot, area,
			       sim_rand(s, pages), sim_copy, s);
	sim_note(s, rc);
	s->nr_moves += !rc;
}

static void sim_report(void *ctx, const char *sentence)
{
	struct sim *s = ctx;

	SIM_FAIL(s, "mm_check: %s", sentence);
}

/* The administrator wants memory of a client, or it hangs for a while. */
static void sim_revoke(struct sim *s, struct sim_client *c)
{
	u64 asked;
	int rc;

	if (sim_chance(s, 50)) {
		c->hung = !c->hung && sim_chance(s, 30);
		c->was_hung |= c->hung;
		return;
	}
	rc = mm_revoke(s->mm, c->index, 1 + sim_rand(s, 4 * KV_EXTENT_SIZE),
		       &asked);
	sim_note(s, (u64)(u32)rc);
	if (rc && rc != -EPERM)
		SIM_FAIL(s, "revoke: %d", rc);
}

/* Nobody is asked for longer than the two deadlines, and what it takes to
 * write to swap. */
static void sim_check_revokes(struct sim *s)
{
	u64 most = s->mm_cfg.revoke_ask_ns + s->mm_cfg.revoke_fence_ns;
	struct mm_client_info ci;
	struct sim_client *c;
	u32 i;

	for (i = 0; i < SIM_CLIENTS; i++) {
		c = &s->cl[i];
		if (!c->attached || c->exiting ||
		    mm_client_info(s->mm, c->index, &ci))
			continue;
		if (ci.revoke != MM_REVOKE_ASKED &&
		    ci.revoke != MM_REVOKE_FENCED) {
			c->asked_ns = 0;
			c->was_hung = c->hung;
			continue;
		}
		if (!c->asked_ns)
			c->asked_ns = s->now;
		if (s->now - c->asked_ns > most + SIM_LATE_NS && !s->nr_io)
			SIM_FAIL(s, "client %u is asked since %llu ns",
				 c->index,
				 (unsigned long long)(s->now - c->asked_ns));
	}
}

static void sim_turn(struct sim *s)
{
	struct sim_client *c = &s->cl[sim_rand(s, SIM_CLIENTS)];
	u32 what = sim_rand(s, 1000);

	s->now += sim_rand(s, 1000000);
	if (!c->attached) {
		sim_attach(s, c);
	} else if (c->exiting) {
		/* The stream outlives its process. */
		if (c->nr_run) {
			sim_device(s, c);
		} else if (sim_chance(s, 20)) {
			mm_client_gone(s->mm, c->index);
			c->attached = false;
		}
	} else if (c->give) {
		c->give = false;
		sim_give(s, c);
	} else if (what < 600) {
		sim_act(s, c);
	} else if (what < 850) {
		if (!c->hung)
			sim_device(s, c);
	} else if (what < 940) {
		if (s->nr_io && (what & 1))
			for (u32 n = 1 + sim_rand(s, s->nr_io); n--;)
				sim_answer_io(s, sim_rand(s, s->nr_io));
		else if (s->nr_moving && (what & 2))
			sim_answer_move(s, sim_rand(s, s->nr_moving));
		else if (s->nr_pending)
			sim_answer(s, sim_rand(s, s->nr_pending));
	} else if (what < 960) {
		mm_tick(s->mm, s->now);
	} else if (what < 970) {
		if (s->cfg.revokes)
			sim_revoke(s, c);
	} else if (what < 990) {
		if (s->cfg.moves)
			sim_move(s, c);
	} else if (what < 998) {
		if (s->cfg.limits)
			sim_admin(s);
	} else if (s->cfg.crashes) {
		sim_kill(s, c);
	}
	if (s->room.bytes && sim_chance(s, 10))
		sim_weights_ask(s);
	sim_drain(s);
	while (s->goes) {
		sim_spare_go(s);
		sim_drain(s);
	}
	sim_check_limits(s);
	if (s->cfg.revokes)
		sim_check_revokes(s);
}

static void sim_init(struct sim *s, const struct sim_cfg *cfg)
{
	char name[8];
	u32 i;

	memset(s, 0, sizeof(*s));
	s->cfg = *cfg;
	s->rng = cfg->seed;
	s->mm_cfg.device_bytes = (u64)cfg->extents * KV_EXTENT_SIZE;
	s->mm_cfg.ready_extents = cfg->ready;
	if (cfg->revokes) {
		s->mm_cfg.revoke = MM_REVOKE_TICKETS;
		s->mm_cfg.revoke_ask_ns = SIM_ASK_NS;
		s->mm_cfg.revoke_fence_ns = SIM_FENCE_NS;
	}
	if (cfg->demotes) {
		s->mm_cfg.swap.demote_low = 20;
		s->mm_cfg.swap.demote_high = 40;
	}
	for (i = 0; i < MM_TIER_MAX; i++) {
		s->mm_cfg.swap_bytes[i] = (u64)cfg->swap[i] << 20;
		if (cfg->packs)
			s->mm_cfg.swap_store[i] = (u64)cfg->swap[i] << 19;
		if (cfg->swap[i])
			s->swap[i] = sim_map((size_t)cfg->swap[i] << 14);
	}
	s->state = sim_map(mm_state_bytes(&s->mm_cfg));
	s->mem = sim_map((size_t)cfg->extents * KV_EXTENT_SIZE / 4096 * 64);
	if (mm_create(&s->mm_cfg, s->state, &sim_ops, s, &s->mm))
		SIM_FAIL(s, "mm_create");
	for (i = 0; i < SIM_TENANTS; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		if (mm_tenant_get(s->mm, name, &s->tenant[i]))
			SIM_FAIL(s, "tenant");
		s->allowed[i] = MM_LIMIT_NONE;
		memset(s->tier_allowed[i], 0xff, sizeof(s->tier_allowed[i]));
	}
}

/* Everybody goes; nothing may be left. */
static void sim_end(struct sim *s)
{
	struct mm_usage u;
	u32 i;

	for (i = 0; i < SIM_CLIENTS; i++) {
		if (s->cl[i].attached)
			mm_client_gone(s->mm, s->cl[i].index);
		s->cl[i].waiting = false;
	}
	sim_weights_end(s);
	for (i = 0; i < SIM_TENANTS; i++)
		sim_uncharge(s, i);
	sim_drain(s);
	while (s->nr_pending | s->nr_io | s->nr_moving) {
		if (s->nr_io)
			sim_answer_io(s, 0);
		else if (s->nr_moving)
			sim_answer_move(s, 0);
		else
			sim_answer(s, 0);
		sim_drain(s);
	}
	if (mm_check(s->mm, sim_report, s))
		SIM_FAIL(s, "mm_check at the end");
	mm_usage_get(s->mm, &u);
	for (i = 0; i < MM_TIER_MAX; i++)
		if (u.swap_used[i] || u.swap_pages[i])
			SIM_FAIL(s, "left in tier %u: %llu", i,
				 (unsigned long long)u.swap_used[i]);
	if (u.held_bytes || u.frame_bytes || u.charged_bytes)
		SIM_FAIL(s, "left: %llu held, %llu in frames, %llu charged",
			 (unsigned long long)u.held_bytes,
			 (unsigned long long)u.frame_bytes,
			 (unsigned long long)u.charged_bytes);
	for (i = 0; i < SIM_CLIENTS; i++) {
		if (!s->cl[i].table)
			continue;
		munmap(s->cl[i].table, KV_TABLE_SIZE_MAX);
		munmap(s->cl[i].status, sizeof(struct kv_status));
	}
	mm_destroy(s->mm);
	munmap(s->state, mm_state_bytes(&s->mm_cfg));
	munmap(s->mem, (size_t)s->cfg.extents * KV_EXTENT_SIZE / 4096 * 64);
	for (i = 0; i < MM_TIER_MAX; i++)
		if (s->swap[i])
			munmap(s->swap[i], (size_t)s->cfg.swap[i] << 14);
}

u64 sim_run(struct sim *s, const struct sim_cfg *cfg)
{
	sim_init(s, cfg);
	for (s->turn = 0; s->turn < cfg->turns && s->nr_errors < 10;
	     s->turn++) {
		sim_turn(s);
		if (cfg->check_every && s->turn % cfg->check_every == 0) {
			mm_check(s->mm, sim_report, s);
			check_pressure(s);
		}
	}
	sim_end(s);
	return s->hash;
}
