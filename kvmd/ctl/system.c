/* SPDX-License-Identifier: MIT */
/*
 * system.c - requests about kvmd as a whole
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "kvmd/ctl/ctl.h"
#include "kvmd/ctl/events.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

#define KICK_SHOWN_NS 60000000000ull

static json_t *device_json(struct kvmd *d)
{
	struct dev_facts facts;
	struct mm_usage u;
	json_t *o = json_object();

	mm_usage_get(d->mm, &u);
	d->dev->ops->facts(d->dev, &facts);
	ctl_set(o, "device", 0);
	ctl_set_text(o, "name", "cpu:0");
	ctl_set_text(o, "backend", facts.backend);
	ctl_set(o, "total_bytes", u.device_bytes);
	ctl_set(o, "held_bytes", u.held_bytes);
	ctl_set(o, "ready_bytes", u.ready_bytes);
	ctl_set(o, "charged_bytes", u.charged_bytes);
	ctl_set(o, "free_bytes",
		u.device_bytes -
			min(u.device_bytes, u.held_bytes + u.charged_bytes));
	ctl_set(o, "frame_bytes", u.frame_bytes);
	ctl_set(o, "shared_bytes", u.shared_bytes);
	ctl_set(o, "saved_bytes", u.saved_bytes);
	ctl_set(o, "token_bytes", u.token_bytes);
	ctl_set(o, "watermark_min_bytes", u.watermark[0]);
	ctl_set(o, "watermark_low_bytes", u.watermark[1]);
	ctl_set(o, "watermark_high_bytes", u.watermark[2]);
	ctl_set(o, "reclaim_goal_bytes", u.goal_bytes);
	ctl_set(o, "extent_bytes", KV_EXTENT_SIZE);
	ctl_set(o, "chunk_bytes", KV_CHUNK_SIZE);
	ctl_set_text(o, "thp", facts.note);
	return o;
}

static u64 nr_tickets(struct kvmd *d)
{
	struct mm_tenant_info info;
	u64 nr = 0;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (!mm_tenant_info(d->mm, i, &info))
			nr += info.nr_tickets;
	}
	return nr;
}

static u64 nr_tenants(struct kvmd *d)
{
	struct mm_tenant_info info;
	u64 nr = 0;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++)
		nr += !mm_tenant_info(d->mm, i, &info);
	return nr;
}

static u64 nr_spaces(struct kvmd *d)
{
	struct mm_client_info info;
	struct session *s;
	u64 nr = 0;

	TAILQ_FOREACH(s, &d->all, link)
	{
		if (!mm_client_info(d->mm, s->id, &info))
			nr += info.nr_spaces;
	}
	return nr;
}

/* ---- health ---- */

struct health {
	json_t *checks;
	bool warn, bad;
};

static void __printf(4, 5) health_add(struct health *h, bool bad,
				      const char *code, const char *fmt, ...)
{
	json_t *o = json_object();
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ctl_set_text(o, "code", code);
	ctl_set_text(o, "severity", bad ? "ERR" : "WARN");
	ctl_set_text(o, "message", text);
	json_array_append_new(h->checks, o);
	h->bad |= bad;
	h->warn = true;
}

static void health_tenants(struct kvmd *d, struct health *h)
{
	struct mm_tenant_info info;
	u64 used;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (mm_tenant_info(d->mm, i, &info) ||
		    info.limits.max_bytes == MM_LIMIT_NONE)
			continue;
		used = info.held_bytes + info.charged_bytes;
		if (used + KV_EXTENT_SIZE > info.limits.max_bytes)
			health_add(h, false, "TENANT_AT_LIMIT",
				   "tenant %s: holds %llu of %llu bytes",
				   info.name, (unsigned long long)used,
				   (unsigned long long)info.limits.max_bytes);
	}
}

static const char *health_get(struct kvmd *d, struct health *h)
{
	struct mm_usage u;
	u64 used;

	h->checks = json_array();
	mm_usage_get(d->mm, &u);
	used = u.held_bytes + u.charged_bytes;
	if (used > u.device_bytes / 100 * 95)
		health_add(h, false, "DEVICE_NEAR_FULL",
			   "cpu:0: %llu of %llu bytes are held",
			   (unsigned long long)used,
			   (unsigned long long)u.device_bytes);
	health_tenants(d, h);
	if (nr_tickets(d))
		health_add(h, false, "TICKETS_WAITING",
			   "%llu reservations wait for memory",
			   (unsigned long long)nr_tickets(d));
	if (d->n.device_errors)
		health_add(h, true, "DEVICE_ERRORS",
			   "%llu device operations have failed",
			   (unsigned long long)d->n.device_errors);
	if (d->n.audit_faults)
		health_add(h, true, "AUDIT_FAULT",
			   "memory that was taken back was touched %llu times",
			   (unsigned long long)d->n.audit_faults);
	if (d->last_kick_ns && d->now_ns - d->last_kick_ns < KICK_SHOWN_NS)
		health_add(h, false, "CLIENT_KICKED",
			   "a client was removed within the last minute");
	if (d->state != KVMD_SERVING)
		health_add(h, false, "DRAINING", "kvmd is going down");
	if (d->frozen_by)
		health_add(h, false, "FROZEN", "an audit is under way");
	return h->bad ? "ERR" : h->warn ? "WARN" : "OK";
}

static int health_show(struct ctl *q, json_t *out)
{
	struct health h = { 0 };

	ctl_set_text(out, "status", health_get(q->d, &h));
	json_object_set_new(out, "checks", h.checks);
	return 0;
}

static int status_show(struct ctl *q, json_t *out)
{
	struct kvmd *d = q->d;
	json_t *devices = json_array(), *weights = json_object();
	struct health h = { 0 };
	const struct weights *w;
	u64 nr = 0, bytes = 0, nr_open = 0;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		nr++;
		bytes += w->charged_bytes;
		nr_open += weights_users(w) > 0;
	}
	ctl_set(weights, "count", nr);
	ctl_set(weights, "bytes", bytes);
	ctl_set(weights, "open", nr_open);
	json_array_append_new(devices, device_json(d));

	ctl_set_text(out, "version", KV_VERSION);
	json_object_set_new(out, "abi",
			    json_sprintf("%u.%u", KV_ABI_MAJOR, KV_ABI_MINOR));
	ctl_set(out, "pid", (u64)getpid());
	ctl_set(out, "uid", geteuid());
	ctl_set(out, "uptime_ns", d->now_ns - d->started_ns);
	ctl_set(out, "restarts", d->keep.block->lives);
	json_object_set_new(
		out, "kept",
		json_boolean(d->keep.channel >= 0 && !d->keep.lost));
	ctl_set_text(out, "state",
		     d->frozen_by		? "frozen"
		     : d->state == KVMD_SERVING ? "ok"
						: "draining");
	ctl_set_text(out, "health", health_get(d, &h));
	json_decref(h.checks);
	ctl_set_text(out, "socket", d->opt->socket);
	ctl_set_text(out, "io", io_name(d->io));
	ctl_set_text(out, "tenant_key", tenant_key_name(d->opt->tenant_key));
	json_object_set_new(out, "devices", devices);
	ctl_set(out, "clients", d->nr_sessions);
	ctl_set(out, "tenants", nr_tenants(d));
	ctl_set(out, "spaces", nr_spaces(d));
	ctl_set(out, "tickets", nr_tickets(d));
	json_object_set_new(out, "weights", weights);
	return 0;
}

static int meminfo_show(struct ctl *q, json_t *out)
{
	struct kvmd *d = q->d;
	u64 open = 0, resident = 0, tables = 0;
	const struct weights *w;
	struct dev_facts facts;
	struct session *s;
	struct mm_usage u;
	u64 swap = 0, used = 0;
	s64 n;
	u32 i;

	mm_usage_get(d->mm, &u);
	d->dev->ops->facts(d->dev, &facts);
	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		if (weights_users(w))
			open += w->charged_bytes;
		resident += weights_resident(w);
	}
	TAILQ_FOREACH(s, &d->all, link)
	{
		n = memfd_resident(s->table_fd);
		tables += n > 0 ? (u64)n : 0;
	}
	n = memfd_resident(d->state_fd);
	ctl_set(out, "total_bytes", u.device_bytes);
	ctl_set(out, "free_bytes",
		u.device_bytes -
			min(u.device_bytes, u.held_bytes + u.charged_bytes));
	ctl_set(out, "held_bytes", u.held_bytes);
	ctl_set(out, "ready_bytes", u.ready_bytes);
	ctl_set(out, "weights_bytes", u.charged_bytes);
	ctl_set(out, "weights_open_bytes", open);
	ctl_set(out, "weights_resident_bytes", resident);
	ctl_set(out, "frame_bytes", u.frame_bytes);
	ctl_set(out, "shared_bytes", u.shared_bytes);
	ctl_set(out, "saved_bytes", u.saved_bytes);
	ctl_set(out, "token_bytes", u.token_bytes);
	ctl_set(out, "extent_resident_bytes", facts.resident_bytes);
	ctl_set(out, "cached_bytes", u.cache_bytes);
	ctl_set(out, "cached_mapped_bytes", u.cache_mapped_bytes);
	ctl_set(out, "cached_held_bytes", u.cache_held_bytes);
	for (i = 0; i < MM_TIER_MAX; i++) {
		swap += u.swap_bytes[i];
		used += u.swap_used[i];
	}
	ctl_set(out, "swap_bytes", swap);
	ctl_set(out, "swap_used_bytes", used);
	ctl_set(out, "table_bytes", tables);
	ctl_set(out, "state_bytes", n > 0 ? (u64)n : 0);
	return 0;
}

static int vmstat_show(struct ctl *q, json_t *out)
{
	const struct kvmd_counters *k = &q->d->n;
	json_t *o = json_object();
	struct mm_counts m;

	mm_counts_get(q->d->mm, &m);
#define SET_MM(name)   ctl_set(o, #name, m.name);
#define SET_KVMD(name) ctl_set(o, #name, k->name);
	MM_COUNTERS(SET_MM)
	KVMD_COUNTERS(SET_KVMD)
#undef SET_MM
#undef SET_KVMD
	json_object_set_new(out, "counters", o);
	return 0;
}

static int device_list(struct ctl *q, json_t *out)
{
	json_t *a = json_array();

	json_array_append_new(a, device_json(q->d));
	json_object_set_new(out, "devices", a);
	return 0;
}

/* The first argument, a number or a name. */
static int device_arg(struct ctl *q)
{
	const char *arg = ctl_arg(q, 0);
	u64 nr;

	if (strcmp(arg, "cpu:0") && (ctl_number(arg, ~0u, &nr) || nr))
		return err_set(q->err, -ENOENT, "device %s: there is none",
			       arg);
	return 0;
}

static int device_answer(struct ctl *q, json_t *out)
{
	json_object_set_new(out, "device", device_json(q->d));
	return 0;
}

static int device_show(struct ctl *q, json_t *out)
{
	int rc = device_arg(q);

	return rc ? rc : device_answer(q, out);
}

static int device_reclaim(struct ctl *q, json_t *out)
{
	struct kvmd *d = q->d;
	int rc = device_arg(q);
	u64 bytes, goal;

	if (rc)
		return rc;
	if (options_bytes(ctl_arg(q, 1), &bytes) || !bytes)
		return err_set(q->err, -EINVAL, "reclaim: \"%s\" is no size",
			       ctl_arg(q, 1));
	mm_now(d->mm, d->now_ns);
	goal = mm_reclaim(d->mm, bytes);
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "device_reclaim",
		  EVENT_NOBODY, NULL, "cpu:0: until %llu bytes are free",
		  (unsigned long long)goal);
	kvmd_pump(d);
	return device_answer(q, out);
}

static int device_watermarks(struct ctl *q, json_t *out)
{
	int rc = device_arg(q);
	u64 w[3];

	if (rc)
		return rc;
	if (options_watermarks(ctl_arg(q, 1), w) ||
	    mm_watermarks(q->d->mm, w[0], w[1], w[2]))
		return err_set(q->err, -EINVAL,
			       "watermarks: \"%s\" is not MIN,LOW,HIGH, rising "
			       "and within the device",
			       ctl_arg(q, 1));
	kvmd_pump(q->d);
	return device_answer(q, out);
}

static int events_list(struct ctl *q, json_t *out)
{
	const struct event_log *log = &q->d->events;
	const char *arg = ctl_arg(q, 0);
	const struct event_record *r;
	json_t *a = json_array(), *o;
	u64 since = 0, first, seq;

	if (arg && ctl_number(arg, ~0ull, &since)) {
		json_decref(a);
		return err_set(q->err, -EINVAL, "event %s: not a number", arg);
	}
	first = log->next > EVENT_LOG_MAX ? log->next - EVENT_LOG_MAX : 1;
	for (seq = max(first, since + 1); seq < log->next; seq++) {
		r = event_get(log, seq);
		if (!r || (r->tenant[0] && !ctl_sees_tenant(q, r->tenant)))
			continue;
		o = json_object();
		ctl_set(o, "seq", r->seq);
		ctl_set(o, "time_ns", r->time_ns);
		ctl_set_text(o, "event", r->event);
		json_object_set_new(o, "client",
				    r->client == EVENT_NOBODY
					    ? json_null()
					    : ctl_u64(r->client));
		json_object_set_new(o, "tenant",
				    r->tenant[0] ? json_string(r->tenant)
						 : json_null());
		ctl_set_text(o, "message", r->message);
		json_array_append_new(a, o);
	}
	ctl_set(out, "next", log->next);
	ctl_set(out, "lost", first > since + 1 ? first - since - 1 : 0);
	json_object_set_new(out, "events", a);
	return 0;
}

static int config_show(struct ctl *q, json_t *out)
{
	const struct mm_swap_set *swap = mm_swap_get(q->d->mm);
	const struct options *opt = q->d->opt;
	json_t *o = json_object();

	ctl_set_text(o, "socket", opt->socket);
	ctl_set_text(o, "device", opt->device);
	ctl_set(o, "size_bytes", q->d->dev->bytes);
	json_object_set_new(o, "limit_bytes",
			    opt->default_limit_bytes == MM_LIMIT_NONE
				    ? json_null()
				    : ctl_u64(opt->default_limit_bytes));
	ctl_set_text(o, "tenant_key", tenant_key_name(opt->tenant_key));
	ctl_set_text(o, "io", opt->io);
	ctl_set(o, "spin_us", opt->spin_us);
	ctl_set(o, "drain_ms", opt->drain_ms);
	ctl_set(o, "stall_ms", opt->stall_ms);
	json_object_set_new(o, "turns", json_boolean(opt->turns));
	ctl_set(o, "swap_ram_bytes", opt->swap_ram_bytes);
	ctl_set(o, "swap_lz4_bytes", opt->swap_lz4_bytes);
	json_object_set_new(o, "swap_file",
			    opt->swap_file ? json_string(opt->swap_file)
					   : json_null());
	ctl_set(o, "swap_deadline_ms", swap->deadline_ms);
	ctl_set(o, "swap_demote_low", swap->demote_low);
	ctl_set(o, "swap_demote_high", swap->demote_high);
	json_object_set_new(o, "swap_discard", json_boolean(swap->discard));
	ctl_set_text(o, "revoke", revoke_policy_name(opt->revoke));
	ctl_set(o, "revoke_ask_ms", opt->revoke_ask_ms);
	ctl_set(o, "revoke_fence_ms", opt->revoke_fence_ms);
	json_object_set_new(o, "log_file",
			    opt->log_file ? json_string(opt->log_file)
					  : json_null());
	ctl_set_text(o, "log_level", log_level_name(opt->log_level));
	json_object_set_new(o, "pid_file",
			    opt->pid_file ? json_string(opt->pid_file)
					  : json_null());
	json_object_set_new(o, "exit_with_parent",
			    json_boolean(opt->exit_with_parent));
	json_object_set_new(out, "config", o);
	return 0;
}

const struct ctl_def ctl_system_defs[] = {
	{ .object = "status", .handle = status_show },
	{ .object = "health", .handle = health_show },
	{ .object = "meminfo", .handle = meminfo_show },
	{ .object = "vmstat", .handle = vmstat_show },
	{ .object = "device", .verb = "list", .handle = device_list },
	{ .object = "device",
	  .verb = "show",
	  .args_min = 1,
	  .args_max = 1,
	  .handle = device_show },
	{ .object = "device",
	  .verb = "reclaim",
	  .args_min = 2,
	  .args_max = 2,
	  .admin = true,
	  .handle = device_reclaim },
	{ .object = "device",
	  .verb = "watermarks",
	  .args_min = 2,
	  .args_max = 2,
	  .admin = true,
	  .handle = device_watermarks },
	{ .object = "events",
	  .verb = "list",
	  .args_max = 1,
	  .handle = events_list },
	{ .object = "config", .verb = "show", .handle = config_show },
	{ .object = NULL },
};
