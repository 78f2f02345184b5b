/* SPDX-License-Identifier: MIT */
/*
 * oom.c - reports of memory that was not to be had: the request, the events
 */
#include "kvmd/ctl/oom.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "kvmd/ctl/ctl.h"
#include "include/kv/errbuf.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/kvmd.h"

static const char *const cause_names[] = {
	[MM_OOM_TOO_BIG] = "too_big",
	[MM_OOM_GAVE_UP] = "gave_up",
	[MM_OOM_KILL] = "kill",
};

static const char *const why_names[] = {
	[MM_OOM_WHY_MAX] = "tenant_max",  [MM_OOM_WHY_DEVICE] = "device",
	[MM_OOM_WHY_ADMIN] = "admin",	  [MM_OOM_WHY_LIMIT] = "tenant_limit",
	[MM_OOM_WHY_WEIGHTS] = "weights", [MM_OOM_WHY_TICKET] = "reservation",
};

static json_t *limit_json(u64 bytes)
{
	return bytes == MM_LIMIT_NONE ? json_null() : ctl_u64(bytes);
}

/* Of another tenant, totals only. */
static json_t *tenants_json(struct ctl *q, const struct mm_oom *r)
{
	const struct mm_oom_tenant *t;
	json_t *a = json_array(), *o;

	for (t = r->tenants; t < r->tenants + r->nr_tenants; t++) {
		o = json_object();
		ctl_set_text(o, "tenant", t->name);
		ctl_set(o, "held_bytes", t->held_bytes);
		ctl_set(o, "charged_bytes", t->charged_bytes);
		json_object_set_new(o, "max_bytes",
				    limit_json(t->limits.max_bytes));
		json_array_append_new(a, o);
		if (!ctl_sees_tenant(q, t->name))
			continue;
		json_object_set_new(o, "high_bytes", limit_json(t->high_bytes));
		ctl_set(o, "low_bytes", t->limits.low_bytes);
		ctl_set(o, "min_bytes", t->limits.min_bytes);
		ctl_set(o, "weight", t->limits.weight);
		ctl_set(o, "cached_held_bytes", t->cache_bytes);
		ctl_set(o, "swap_bytes", t->swap_bytes);
	}
	return a;
}

static json_t *clients_json(struct ctl *q, const struct mm_oom *r)
{
	const struct mm_oom_client *c;
	json_t *a = json_array(), *o;

	for (c = r->clients; c < r->clients + r->nr_clients; c++) {
		if (!ctl_sees_tenant(q, c->tenant))
			continue;
		o = json_object();
		ctl_set(o, "client", c->client);
		ctl_set_text(o, "name", c->name);
		ctl_set_text(o, "tenant", c->tenant);
		ctl_set(o, "held_bytes", c->held_bytes);
		ctl_set(o, "spaces", c->nr_spaces);
		json_object_set_new(o, "cache", json_boolean(c->cache));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *spaces_json(struct ctl *q, const struct mm_oom *r)
{
	const struct mm_oom_space *s;
	json_t *a = json_array(), *o;

	for (s = r->spaces; s < r->spaces + r->nr_spaces; s++) {
		if (!ctl_sees_tenant(q, s->tenant))
			continue;
		o = json_object();
		ctl_set(o, "client", s->client);
		ctl_set(o, "space", s->space);
		ctl_set_text(o, "tenant", s->tenant);
		ctl_set(o, "rss_bytes", s->bytes);
		ctl_set(o, "priority", s->priority);
		json_object_set_new(o, "busy", json_boolean(s->busy));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *report_json(struct ctl *q, const struct mm_oom *r)
{
	json_t *o = json_object();

	ctl_set(o, "seq", r->seq);
	ctl_set(o, "time_ns", r->time_ns);
	ctl_set_text(o, "cause", cause_names[r->cause]);
	ctl_set_text(o, "why", why_names[r->why]);
	ctl_set(o, "client", r->client);
	ctl_set_text(o, "name", r->name);
	ctl_set_text(o, "tenant", r->tenant);
	json_object_set_new(o, "for_client",
			    r->for_client == MM_NONE ? json_null()
						     : ctl_u64(r->for_client));
	ctl_set(o, "step", r->step);
	ctl_set(o, "lacked_bytes", r->bytes);
	ctl_set(o, "waited_ns", r->waited_ns);
	ctl_set(o, "total_bytes", r->device_bytes);
	ctl_set(o, "held_bytes", r->held_bytes);
	ctl_set(o, "ready_bytes", r->ready_bytes);
	ctl_set(o, "charged_bytes", r->charged_bytes);
	json_object_set_new(o, "tenants", tenants_json(q, r));
	json_object_set_new(o, "clients", clients_json(q, r));
	json_object_set_new(o, "spaces", spaces_json(q, r));
	return o;
}

/* The last @n, or all there are, the oldest first. */
static int oom_list(struct ctl *q, json_t *out)
{
	const char *arg = ctl_arg(q, 0);
	const struct mm_oom *r;
	u64 n = MM_OOM_MAX, next = mm_oom_next(q->d->mm), seq;
	json_t *a;

	if (arg && (ctl_number(arg, MM_OOM_MAX, &n) || !n))
		return err_set(q->err, -EINVAL,
			       "oom %s: not a number from 1 to %u", arg,
			       MM_OOM_MAX);
	a = json_array();
	for (seq = next > n ? next - n : 1; seq < next; seq++) {
		r = mm_oom_get(q->d->mm, seq);
		if (r && ctl_sees_tenant(q, r->tenant))
			json_array_append_new(a, report_json(q, r));
	}
	ctl_set(out, "next", next);
	json_object_set_new(out, "reports", a);
	return 0;
}

static void tell(struct kvmd *d, const struct mm_oom *r)
{
	static const char *const did[] = {
		[MM_OOM_TOO_BIG] = "asked for more than it can ever have",
		[MM_OOM_GAVE_UP] = "gave up waiting",
		[MM_OOM_KILL] = "is killed, it gives nothing back",
	};

	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "oom", r->client,
		  r->tenant, "report %llu: %s: %llu bytes (%s)",
		  (unsigned long long)r->seq, did[r->cause],
		  (unsigned long long)r->bytes, why_names[r->why]);
}

void oom_tell(struct kvmd *d)
{
	u64 next = mm_oom_next(d->mm);
	const struct mm_oom *r;

	for (; d->oom_told + 1 < next; d->oom_told++) {
		r = mm_oom_get(d->mm, d->oom_told + 1);
		if (r)
			tell(d, r);
	}
}

const struct ctl_def ctl_oom_defs[] = {
	{ .object = "oom", .args_max = 1, .handle = oom_list },
	{ .object = NULL },
};
