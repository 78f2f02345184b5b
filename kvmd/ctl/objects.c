/* SPDX-License-Identifier: MIT */
/*
 * objects.c - requests about clients, tenants and weights
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/session.h"
#include "kvmd/ipc/tenant.h"
#include "kvmd/kvmd.h"

static void set_hex(json_t *o, const char *key, const u8 *digest)
{
	char text[65] = "";
	unsigned int i;
	bool any = false;

	for (i = 0; i < 32; i++) {
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
		any |= digest[i] != 0;
	}
	ctl_set_text(o, key, any ? text : "");
}

/* Ids of 64 bits are names: as numbers they would be capped. */
static void set_id(json_t *o, const char *key, u64 id)
{
	char text[17] = "";

	if (id)
		snprintf(text, sizeof(text), "%llx", (unsigned long long)id);
	ctl_set_text(o, key, text);
}

json_t *ctl_ns(const struct kv_namespace *ns)
{
	json_t *o = json_object();

	set_hex(o, "model", ns->model_digest);
	set_id(o, "adapter", ns->adapter);
	set_id(o, "adapter_version", ns->adapter_version);
	set_id(o, "salt", ns->salt);
	return o;
}

json_t *ctl_rank(const struct kv_rank *rank)
{
	json_t *o = json_object();

	ctl_set(o, "tp_rank", rank->tp_rank);
	ctl_set(o, "tp_size", rank->tp_size);
	ctl_set(o, "pp_rank", rank->pp_rank);
	ctl_set(o, "pp_size", rank->pp_size);
	ctl_set(o, "layer_first", rank->layer_first);
	ctl_set(o, "layers", rank->nr_layers);
	ctl_set(o, "head_first", rank->head_first);
	ctl_set(o, "heads", rank->nr_heads);
	return o;
}

/* ---- clients ---- */

static json_t *region_json(const struct mm_client_info *info, u64 weights)
{
	json_t *o = json_object();

	/* the five keys of the kernel's drm-usage-stats */
	ctl_set(o, "total_bytes", info->held_bytes + weights);
	ctl_set(o, "shared_bytes", weights);
	ctl_set(o, "resident_bytes", info->held_bytes + weights);
	ctl_set(o, "purgeable_bytes",
		info->held_bytes - min(info->held_bytes, info->frame_bytes));
	ctl_set(o, "active_bytes", info->frame_bytes);
	return o;
}

static const char *const revoke_names[] = {
	[MM_REVOKE_NONE] = "none",     [MM_REVOKE_ASKED] = "asked",
	[MM_REVOKE_FENCED] = "fenced", [MM_REVOKE_GIVEN] = "given",
	[MM_REVOKE_KILLED] = "killed",
};

static json_t *client_json(struct kvmd *d, const struct session *s)
{
	struct mm_client_info info = { 0 };
	u64 weights = weights_of(d, s);
	json_t *o = json_object();

	if (mm_client_info(d->mm, s->id, &info))
		memset(&info, 0, sizeof(info));
	ctl_set(o, "client", s->id);
	ctl_set_text(o, "name", s->name);
	ctl_set(o, "pid", (u64)s->peer.pid);
	ctl_set(o, "uid", s->peer.uid);
	ctl_set_text(o, "tenant", s->tenant_name);
	ctl_set_text(o, "state", s->state == SESSION_LIVE ? "live" : "exiting");
	ctl_set(o, "attached_ns", d->now_ns - s->attached_ns);
	ctl_set(o, "spaces", info.nr_spaces);
	ctl_set(o, "extents", info.nr_extents);
	ctl_set(o, "leaves", info.nr_leaves);
	ctl_set(o, "held_bytes", info.held_bytes);
	ctl_set(o, "frame_bytes", info.frame_bytes);
	ctl_set(o, "weights_bytes", weights);
	ctl_set(o, "completed", info.completed);
	ctl_set_text(o, "revoke", revoke_names[info.revoke]);
	ctl_set(o, "revoke_bytes", info.revoke_bytes);
	ctl_set(o, "requests", s->nr_requests);
	ctl_set(o, "invalid", s->nr_invalid);
	ctl_set(o, "tickets", s->nr_async);
	gate_json(s, o);
	set_hex(o, "model", info.ns.model_digest);
	json_object_set_new(o, "region", region_json(&info, weights));
	return o;
}

static int client_list(struct ctl *q, json_t *out)
{
	json_t *a = json_array();
	struct session *s;

	TAILQ_FOREACH(s, &q->d->all, link)
	{
		if (ctl_sees(q, s))
			json_array_append_new(a, client_json(q->d, s));
	}
	json_object_set_new(out, "clients", a);
	return 0;
}

static json_t *geometry_json(u32 id, const struct kv_geometry *g)
{
	json_t *o = json_object();

	ctl_set(o, "geom", id);
	ctl_set(o, "page_tokens", g->page_tokens);
	ctl_set(o, "layers", g->nr_layers);
	ctl_set(o, "kv_heads", g->nr_kv_heads);
	ctl_set(o, "head_dim", g->head_dim);
	ctl_set(o, "page_bytes", g->page_bytes);
	ctl_set(o, "unit_bytes", g->unit_bytes);
	ctl_set(o, "slab_chunks", g->slab_chunks);
	ctl_set(o, "slab_pages", g->slab_pages);
	return o;
}

static int client_show(struct ctl *q, json_t *out)
{
	json_t *o, *a = json_array();
	struct mm_client_info info;
	const struct kv_geometry *g;
	struct session *s;
	u32 i;
	int rc;

	rc = ctl_session(q, ctl_arg(q, 0), &s);
	if (rc) {
		json_decref(a);
		return rc;
	}
	o = client_json(q->d, s);
	for (i = 0; i < KV_GEOM_MAX; i++) {
		g = mm_geom(q->d->mm, s->id, i);
		if (g)
			json_array_append_new(a, geometry_json(i, g));
	}
	if (!mm_client_info(q->d->mm, s->id, &info)) {
		json_object_set_new(o, "ns", ctl_ns(&info.ns));
		json_object_set_new(o, "rank", ctl_rank(&info.rank));
	}
	json_object_set_new(o, "geometries", a);
	json_object_set_new(out, "client", o);
	return 0;
}

/* ---- tenants ---- */

static json_t *limit_json(u64 bytes)
{
	return bytes == MM_LIMIT_NONE ? json_null() : ctl_u64(bytes);
}

static json_t *tenant_events_json(const struct mm_tenant_events *e)
{
	json_t *o = json_object();

	ctl_set(o, "low", e->low);
	ctl_set(o, "high", e->high);
	ctl_set(o, "max", e->max);
	ctl_set(o, "oom", e->oom);
	ctl_set(o, "refused", e->refused);
	ctl_set(o, "oom_kill", e->oom_kill);
	ctl_set(o, "swap_fail", e->swap_fail);
	ctl_set(o, "revoked", e->revoked);
	return o;
}

static json_t *tenant_tiers_json(const struct kvmd *d,
				 const struct mm_tenant_info *info)
{
	json_t *a = json_array(), *o;
	u32 i;

	for (i = 0; swap_tier_name(d, i); i++) {
		o = json_object();
		ctl_set_text(o, "tier", swap_tier_name(d, i));
		ctl_set(o, "bytes", info->tier_bytes[i]);
		json_object_set_new(o, "max_bytes",
				    limit_json(info->tier_max_bytes[i]));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *tenant_json(const struct kvmd *d, u32 id,
			   const struct mm_tenant_info *info, bool all)
{
	json_t *o = json_object();

	ctl_set_text(o, "tenant", info->name);
	ctl_set(o, "id", id);
	ctl_set(o, "clients", info->nr_clients);
	ctl_set(o, "held_bytes", info->held_bytes);
	ctl_set(o, "charged_bytes", info->charged_bytes);
	ctl_set(o, "frame_bytes", info->frame_bytes);
	json_object_set_new(o, "max_bytes", limit_json(info->limits.max_bytes));
	if (!all) /* another tenant's: totals only */
		return o;
	ctl_set(o, "low_bytes", info->limits.low_bytes);
	ctl_set(o, "min_bytes", info->limits.min_bytes);
	json_object_set_new(o, "high_bytes", limit_json(info->high_bytes));
	ctl_set(o, "weight", info->limits.weight);
	ctl_set(o, "turn_held_ns", gate_tenant_ns(d, id));
	ctl_set(o, "max_seen_bytes", info->max_seen_bytes);
	ctl_set(o, "limit_hits", info->limit_hits);
	ctl_set(o, "tickets", info->nr_tickets);
	ctl_set(o, "cached_bytes", info->cache_bytes);
	ctl_set(o, "cached_held_bytes", info->cache_held_bytes);
	ctl_set(o, "swap_bytes", info->swap_bytes);
	json_object_set_new(o, "swap_max_bytes",
			    limit_json(info->swap_max_bytes));
	ctl_set(o, "swap_out_bytes", info->swap_out_bytes);
	ctl_set(o, "swap_in_bytes", info->swap_in_bytes);
	json_object_set_new(o, "tiers", tenant_tiers_json(d, info));
	json_object_set_new(o, "events", tenant_events_json(&info->events));
	return o;
}

static int tenant_list(struct ctl *q, json_t *out)
{
	struct mm_tenant_info info;
	json_t *a = json_array();
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (mm_tenant_info(q->d->mm, i, &info))
			continue;
		json_array_append_new(
			a, tenant_json(q->d, i, &info,
				       ctl_sees_tenant(q, info.name)));
	}
	json_object_set_new(out, "tenants", a);
	return 0;
}

static int tenant_show(struct ctl *q, json_t *out)
{
	const char *name = ctl_arg(q, 0);
	struct mm_tenant_info info;
	u32 id;
	int rc;

	rc = tenant_find(q->d, name, &id);
	if (rc)
		return err_set(q->err, rc, "tenant %s: there is none", name);
	if (!ctl_sees_tenant(q, name))
		return err_set(q->err, -EPERM, "tenant %s: is not yours", name);
	rc = mm_tenant_info(q->d->mm, id, &info);
	if (!rc)
		json_object_set_new(out, "tenant",
				    tenant_json(q->d, id, &info, true));
	return rc;
}

/* swap.TIER=BYTES */
static int limit_tier(struct ctl *q, const char *word, u64 n,
		      struct mm_tenant_info *info)
{
	const char *tier = word + strlen("swap.");
	size_t len = strcspn(tier, "=");
	const char *name;
	u32 i;

	for (i = 0; (name = swap_tier_name(q->d, i)); i++) {
		if (strlen(name) == len && !strncmp(name, tier, len)) {
			info->tier_max_bytes[i] = n;
			return 0;
		}
	}
	return err_set(q->err, -EINVAL, "limit \"%s\": there is no such tier",
		       word);
}

static int limit_word(struct ctl *q, const char *word,
		      struct mm_tenant_info *info)
{
	struct mm_limits *lim = &info->limits;
	const char *eq = strchr(word, '=');
	u64 n;

	if (!eq || options_bytes(eq + 1, &n))
		return err_set(q->err, -EINVAL,
			       "limit \"%s\": not KEY=BYTES (max, high, low, "
			       "min, swap, swap.TIER, weight)",
			       word);
	if (!strncmp(word, "max=", 4))
		lim->max_bytes = n;
	else if (!strncmp(word, "low=", 4))
		lim->low_bytes = n;
	else if (!strncmp(word, "min=", 4))
		lim->min_bytes = n;
	else if (!strncmp(word, "swap=", 5))
		info->swap_max_bytes = n;
	else if (!strncmp(word, "swap.", 5))
		return limit_tier(q, word, n, info);
	else if (!strncmp(word, "high=", 5))
		info->high_bytes = n;
	else if (!strncmp(word, "weight=", 7) && n >= 1 && n <= 10000)
		lim->weight = (u32)n;
	else
		return err_set(q->err, -EINVAL, "limit \"%s\": not possible",
			       word);
	return 0;
}

static void tell_limit(struct kvmd *d, u32 tenant, u64 max_bytes)
{
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "limit", EVENT_NOBODY,
		  NULL, "tenant %u: at most %llu bytes", tenant,
		  (unsigned long long)max_bytes);
	kvmd_pump(d);
}

static int tenant_limit(struct ctl *q, json_t *out)
{
	const char *name = ctl_arg(q, 0);
	struct mm_tenant_info info;
	unsigned int i;
	u32 id;
	int rc;

	if (strlen(name) >= KV_NAME_LEN)
		return err_set(q->err, -EINVAL, "tenant %s: too long a name",
			       name);
	rc = tenant_pin(q->d, name, &id);
	if (!rc)
		rc = mm_tenant_info(q->d->mm, id, &info);
	if (rc)
		return err_set(q->err, rc, "tenant %s: %s", name,
			       strerror(-rc));
	for (i = 1; ctl_arg(q, i); i++) {
		rc = limit_word(q, ctl_arg(q, i), &info);
		if (rc)
			return rc;
	}
	rc = mm_tenant_limit(q->d->mm, id, &info.limits);
	if (!rc)
		rc = mm_tenant_swap_limit(q->d->mm, id, info.swap_max_bytes);
	for (i = 0; !rc && i < MM_TIER_MAX; i++)
		rc = mm_tenant_tier_limit(q->d->mm, id, i,
					  info.tier_max_bytes[i]);
	if (!rc)
		rc = mm_tenant_high(q->d->mm, id, info.high_bytes);
	if (rc)
		return err_set(q->err, rc, "tenant %s: limits: %s", name,
			       strerror(-rc));
	weights_go(q->d); /* before it is asked of clients */
	tell_limit(q->d, id, info.limits.max_bytes);
	gate_weight(q->d, id);
	return tenant_show(q, out);
}

/* ---- weights ---- */

static json_t *weights_json(struct kvmd *d, const struct weights *w,
			    const char *tenant)
{
	static const char *const states[] = {
		[WEIGHTS_FILLING] = "filling",
		[WEIGHTS_SEALING] = "sealing",
		[WEIGHTS_READY] = "ready",
	};
	bool idle = w->state == WEIGHTS_READY && TAILQ_EMPTY(&w->users);
	u64 now = d->now_ns;
	json_t *o = json_object();

	ctl_set(o, "weights", w->id);
	ctl_set_text(o, "name", w->key.name);
	set_hex(o, "digest", w->key.digest);
	ctl_set(o, "packing", w->key.packing);
	ctl_set(o, "isa", w->key.isa);
	ctl_set_text(o, "tenant", tenant);
	ctl_set_text(o, "state", states[w->state]);
	ctl_set(o, "bytes", w->key.bytes);
	ctl_set(o, "resident_bytes", weights_resident(w));
	ctl_set(o, "open", weights_users(w));
	ctl_set(o, "waiters", weights_waiters(w));
	json_object_set_new(o, "filler",
			    w->filler ? ctl_u64(w->filler->id) : json_null());
	ctl_set(o, "idle_ns", idle ? now - min(now, w->idle_since_ns) : 0);
	return o;
}

static int weights_list(struct ctl *q, json_t *out)
{
	struct mm_tenant_info info;
	json_t *a = json_array();
	const struct weights *w;

	TAILQ_FOREACH(w, &q->d->weights.list, link)
	{
		if (mm_tenant_info(q->d->mm, w->tenant, &info) ||
		    !ctl_sees_tenant(q, info.name))
			continue;
		json_array_append_new(a, weights_json(q->d, w, info.name));
	}
	json_object_set_new(out, "weights", a);
	return 0;
}

const struct ctl_def ctl_object_defs[] = {
	{ .object = "client", .verb = "list", .handle = client_list },
	{ .object = "client",
	  .verb = "show",
	  .args_min = 1,
	  .args_max = 1,
	  .handle = client_show },
	{ .object = "tenant", .verb = "list", .handle = tenant_list },
	{ .object = "tenant",
	  .verb = "show",
	  .args_min = 1,
	  .args_max = 1,
	  .handle = tenant_show },
	{ .object = "tenant",
	  .verb = "limit",
	  .args_min = 2,
	  .args_max = 10,
	  .admin = true,
	  .handle = tenant_limit },
	{ .object = "weights", .verb = "list", .handle = weights_list },
	{ .object = NULL },
};
