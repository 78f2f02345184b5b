/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - requests about what tenants lose and lost by want of memory
 */
#include <errno.h>
#include "kvmd/ctl/ctl.h"
#include "include/kv/errbuf.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/kvmd.h"

static json_t *kind_json(const struct mm_pressure *p, u32 kind)
{
	json_t *o = json_object();

	ctl_set(o, "avg10", p->avg[kind][0]);
	ctl_set(o, "avg60", p->avg[kind][1]);
	ctl_set(o, "avg300", p->avg[kind][2]);
	ctl_set(o, "total_us", p->total_us[kind]);
	return o;
}

static void add_row(json_t *rows, const char *tenant,
		    const struct mm_pressure *p)
{
	json_t *o = json_object();

	json_object_set_new(o, "tenant",
			    tenant ? json_string(tenant) : json_null());
	ctl_set(o, "waiting", p->nr_waiting);
	ctl_set(o, "working", p->nr_working);
	json_object_set_new(o, "some", kind_json(p, 0));
	json_object_set_new(o, "full", kind_json(p, 1));
	json_array_append_new(rows, o);
}

static int pressure_show(struct ctl *q, json_t *out)
{
	json_t *rows = json_array();
	struct mm_tenant_info info;
	struct mm_pressure p;
	u32 i;

	mm_now(q->d->mm, q->d->now_ns);
	if (!mm_pressure(q->d->mm, MM_NONE, &p))
		add_row(rows, NULL, &p);
	for (i = 0; i < MM_TENANT_MAX; i++)
		if (!mm_tenant_info(q->d->mm, i, &info) &&
		    ctl_sees_tenant(q, info.name) &&
		    !mm_pressure(q->d->mm, i, &p))
			add_row(rows, info.name, &p);
	json_object_set_new(out, "pressure", rows);
	return 0;
}

const struct ctl_def ctl_pressure_defs[] = {
	{ .object = "pressure", .handle = pressure_show },
	{ .object = NULL },
};
