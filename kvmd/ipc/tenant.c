/* SPDX-License-Identifier: MIT */
/*
 * tenant.c - tenants and the limits that the operator gave them
 */
#include "kvmd/ipc/tenant.h"

#include <errno.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "kvmd/kvmd.h"

int tenant_find(struct kvmd *d, const char *name, u32 *tenant)
{
	struct mm_tenant_info info;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (!mm_tenant_info(d->mm, i, &info) &&
		    !strncmp(info.name, name, sizeof(info.name))) {
			*tenant = i;
			return 0;
		}
	}
	return -ENOENT;
}

/* What --swap-limit says of @name; "": of all that it does not name. */
static int swap_limits(struct kvmd *d, const char *name, u32 tenant)
{
	unsigned int i;
	int rc = 0;
	u32 t;

	for (i = 0; !rc && i < d->opt->nr_swap_limits; i++) {
		const struct swap_limit_option *l = &d->opt->swap_limits[i];
		const char *tier;

		if (strcmp(l->tenant, name))
			continue;
		if (!strcmp(l->tier, "all"))
			rc = mm_tenant_swap_limit(d->mm, tenant, l->max_bytes);
		for (t = 0; !rc && (tier = swap_tier_name(d, t)); t++)
			if (!strcmp(l->tier, tier))
				rc = mm_tenant_tier_limit(d->mm, tenant, t,
							  l->max_bytes);
	}
	return rc;
}

int tenant_get(struct kvmd *d, const char *name, u32 *tenant)
{
	const struct mm_limits lim = {
		.max_bytes = d->opt->default_limit_bytes,
		.weight = 100,
	};
	bool is_new = tenant_find(d, name, tenant) != 0;
	int rc = mm_tenant_get(d->mm, name, tenant);

	if (rc || !is_new)
		return rc;
	rc = mm_tenant_limit(d->mm, *tenant, &lim);
	if (!rc)
		rc = swap_limits(d, "", *tenant);
	if (!rc)
		rc = swap_limits(d, name, *tenant);
	if (rc)
		mm_tenant_put(d->mm, *tenant);
	return rc;
}

int tenant_pin(struct kvmd *d, const char *name, u32 *tenant)
{
	if (d->tenant_pinned_nr && !tenant_find(d, name, tenant) &&
	    d->keep.block->tenant_pinned[*tenant])
		return 0;
	if (tenant_get(d, name, tenant))
		return -ENOSPC;
	d->keep.block->tenant_pinned[*tenant] = true;
	d->tenant_pinned_nr++;
	return 0;
}

static bool is_tier(const struct kvmd *d, const char *name)
{
	const char *tier;
	u32 t;

	for (t = 0; (tier = swap_tier_name(d, t)); t++)
		if (!strcmp(tier, name))
			return true;
	return !strcmp(name, "all");
}

int tenant_setup(struct kvmd *d, char *err)
{
	struct mm_limits lim = { .weight = 100 };
	unsigned int i;
	u32 tenant;
	int rc;

	for (i = 0; i < d->opt->nr_swap_limits; i++)
		if (!is_tier(d, d->opt->swap_limits[i].tier))
			return err_set(err, -EINVAL,
				       "swap limit: there is no tier %s",
				       d->opt->swap_limits[i].tier);
	for (i = 0; i < d->opt->nr_limits; i++) {
		const struct tenant_option *o = &d->opt->limits[i];

		lim.max_bytes = o->max_bytes;
		rc = tenant_pin(d, o->tenant, &tenant);
		if (!rc)
			rc = mm_tenant_limit(d->mm, tenant, &lim);
		if (rc)
			return err_set(err, rc, "limit of tenant %s: %s",
				       o->tenant, strerror(-rc));
	}
	return 0;
}
