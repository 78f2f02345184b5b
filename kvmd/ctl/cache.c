/* SPDX-License-Identifier: MIT */
/*
 * cache.c - requests about the page caches of published prefixes
 */
#include <errno.h>
#include "kvmd/ctl/ctl.h"
#include "include/kv/errbuf.h"
#include "kvmd/ipc/tenant.h"
#include "kvmd/kvmd.h"

static json_t *tree_json(u32 id, const struct mm_tree_info *t,
			 const struct mm_tenant_info *tenant)
{
	json_t *o = json_object();

	ctl_set(o, "tree", id);
	ctl_set_text(o, "tenant", tenant->name);
	json_object_set_new(o, "ns", ctl_ns(&t->ns));
	ctl_set(o, "areas", t->nr_areas);
	ctl_set(o, "pages", t->nodes);
	ctl_set(o, "pages_held", t->nodes_held);
	ctl_set(o, "pages_copying", t->nodes_copying);
	ctl_set(o, "tokens", t->tokens);
	ctl_set(o, "bytes", t->bytes);
	ctl_set(o, "asked_tokens", t->asked_tokens);
	ctl_set(o, "hit_tokens", t->hit_tokens);
	json_object_set_new(o, "hit_rate",
			    json_real(t->asked_tokens
					      ? (double)t->hit_tokens /
							(double)t->asked_tokens
					      : 0));
	return o;
}

static int cache_list(struct ctl *q, json_t *out)
{
	struct mm_tenant_info tenant;
	json_t *a = json_array();
	struct mm_tree_info t;
	u32 i;

	for (i = 0; i < MM_TREE_MAX; i++)
		if (!mm_tree_info(q->d->mm, i, &t) &&
		    !mm_tenant_info(q->d->mm, t.tenant, &tenant) &&
		    ctl_sees_tenant(q, tenant.name))
			json_array_append_new(a, tree_json(i, &t, &tenant));
	json_object_set_new(out, "trees", a);
	ctl_set_text(out, "policy", mm_cache_policy_name(q->d->mm));
	return 0;
}

/* Of one tenant, or of all. What somebody maps stays. */
static int cache_drop(struct ctl *q, json_t *out)
{
	const char *name = ctl_arg(q, 0);
	u32 first = 0, last = MM_TENANT_MAX - 1, i;
	u64 bytes = 0;

	if (name) {
		if (tenant_find(q->d, name, &first))
			return err_set(q->err, -ENOENT, "no tenant %s", name);
		last = first;
	}
	for (i = first; i <= last; i++)
		bytes += mm_cache_drop(q->d->mm, i, false);
	kvmd_pump(q->d);
	ctl_set(out, "dropped_bytes", bytes);
	return 0;
}

static int cache_policy(struct ctl *q, json_t *out)
{
	const char *name = ctl_arg(q, 0);

	if (mm_cache_policy(q->d->mm, name))
		return err_set(q->err, -EINVAL,
			       "there is no policy \"%s\" (lru, mglru, reuse)",
			       name);
	ctl_set_text(out, "policy", mm_cache_policy_name(q->d->mm));
	return 0;
}

const struct ctl_def ctl_cache_defs[] = {
	{ .object = "cache", .verb = "list", .handle = cache_list },
	{ .object = "cache",
	  .verb = "drop",
	  .args_max = 1,
	  .admin = true,
	  .handle = cache_drop },
	{ .object = "cache",
	  .verb = "policy",
	  .args_min = 1,
	  .args_max = 1,
	  .admin = true,
	  .handle = cache_policy },
	{ .object = NULL },
};
