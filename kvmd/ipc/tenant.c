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

int tenant_setup(struct kvmd *d, char *err)
{
	struct mm_limits lim = { .weight = 100 };
	unsigned int i;
	u32 tenant;
	int rc;

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
