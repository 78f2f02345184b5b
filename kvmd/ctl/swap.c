/* SPDX-License-Identifier: MIT */
/*
 * swap.c - requests about swap tiers
 */
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/kvmd.h"

static int swap_list(struct ctl *q, json_t *out)
{
	const struct kvmd *d = q->d;
	json_t *rows = json_array(), *o;
	struct mm_usage u;
	u32 i;

	mm_usage_get(d->mm, &u);
	for (i = 0; swap_tier_name(d, i); i++) {
		o = json_object();
		ctl_set_text(o, "tier", swap_tier_name(d, i));
		ctl_set(o, "room_bytes", u.swap_bytes[i]);
		ctl_set(o, "used_bytes", u.swap_used[i]);
		ctl_set(o, "page_bytes", u.swap_pages[i]);
		ctl_set(o, "ratio",
			u.swap_used[i] ? u.swap_pages[i] * 100 / u.swap_used[i]
				       : 100);
		ctl_set(o, "waiting", d->swap.lane[i].queue.nr);
		ctl_set(o, "moving_bytes", d->swap.lane[i].bytes);
		json_array_append_new(rows, o);
	}
	json_object_set_new(out, "tiers", rows);
	return 0;
}

const struct ctl_def ctl_swap_defs[] = {
	{ .object = "swap", .verb = "list", .handle = swap_list },
	{ .object = NULL },
};
