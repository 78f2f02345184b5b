/* SPDX-License-Identifier: MIT */
/*
 * swap.c - requests about swap tiers
 */
#include <errno.h>
#include "kvmd/ctl/ctl.h"
#include "include/kv/errbuf.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/kvmd.h"

static int swap_list(struct ctl *q, json_t *out)
{
	const struct kvmd *d = q->d;
	const struct mm_swap_set *set = mm_swap_get(d->mm);
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
	ctl_set(out, "deadline_ms", set->deadline_ms);
	ctl_set(out, "demote_low", set->demote_low);
	ctl_set(out, "demote_high", set->demote_high);
	json_object_set_new(out, "discard", json_boolean(set->discard));
	return 0;
}

static int set_answer(struct ctl *q, const struct mm_swap_set *set, json_t *out)
{
	int rc = swap_set(q->d, set);

	return rc ? rc : swap_list(q, out);
}

static int swap_set_deadline(struct ctl *q, json_t *out)
{
	struct mm_swap_set set = *mm_swap_get(q->d->mm);

	if (options_deadline(ctl_arg(q, 0), &set))
		return err_set(q->err, -EINVAL,
			       "swap deadline: \"%s\" is no number of "
			       "milliseconds up to %u",
			       ctl_arg(q, 0), OPTIONS_DEADLINE_MAX);
	return set_answer(q, &set, out);
}

static int swap_set_demote(struct ctl *q, json_t *out)
{
	struct mm_swap_set set = *mm_swap_get(q->d->mm);

	if (options_demote(ctl_arg(q, 0), &set))
		return err_set(q->err, -EINVAL,
			       "swap demote: \"%s\" is not LOW,HIGH, percent "
			       "that rise",
			       ctl_arg(q, 0));
	return set_answer(q, &set, out);
}

static int swap_set_discard(struct ctl *q, json_t *out)
{
	struct mm_swap_set set = *mm_swap_get(q->d->mm);

	if (options_discard(ctl_arg(q, 0), &set))
		return err_set(q->err, -EINVAL,
			       "swap discard: \"%s\" is neither on nor off",
			       ctl_arg(q, 0));
	return set_answer(q, &set, out);
}

const struct ctl_def ctl_swap_defs[] = {
	{ .object = "swap", .verb = "list", .handle = swap_list },
	{ .object = "swap",
	  .verb = "deadline",
	  .args_min = 1,
	  .args_max = 1,
	  .admin = true,
	  .handle = swap_set_deadline },
	{ .object = "swap",
	  .verb = "demote",
	  .args_min = 1,
	  .args_max = 1,
	  .admin = true,
	  .handle = swap_set_demote },
	{ .object = "swap",
	  .verb = "discard",
	  .args_min = 1,
	  .args_max = 1,
	  .admin = true,
	  .handle = swap_set_discard },
	{ .object = NULL },
};
