/* SPDX-License-Identifier: MIT */
/*
 * weights_adopt.c - file mappings of a predecessor
 *
 * Each record is a mapping, if its memory was handed over. Leases of sessions
 * that live count. One whose filler has gone begins anew when somebody wants
 * it: those who did have sent messages, which are handled again. What the
 * predecessor was emptying is charged until it is empty; memory that no record
 * names was nobody's yet, or any more. In the end the tenants are charged for
 * what there is: the predecessor may have died between the record and the
 * charge.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/ipc/session.h"
#include "kvmd/ipc/weights.h"
#include "kvmd/kvmd.h"

/* Its memory, if it has any, goes with it. */
static void record_drop(struct kvmd *d, u32 slot, int fd)
{
	struct keep_weights *r = &d->keep.block->weights[slot];

	r->state = 0;
	keep_order();
	if (fd >= 0)
		weights_memory_left(d, slot, r->gen, fd);
}

static int users_adopt(struct weights *w)
{
	u64 *leases = w->d->keep.block->leases[w->slot].client;
	struct weights_user *u;
	struct session *s;
	u32 i;

	for (i = 0; i < MM_CLIENT_MAX; i++) {
		s = w->d->sessions[i];
		if (!s || s->state != SESSION_LIVE) {
			leases[i] = 0;
			continue;
		}
		if (!(leases[i] >> 32))
			continue;
		u = weights_user_add(w, s);
		if (!u)
			return -1;
		u->nr_opens = (u32)(leases[i] >> 32);
	}
	return 0;
}

/* It was being filled: by somebody who lives? */
static bool filler_adopt(struct weights *w)
{
	u32 i = w->keep->filler - 1;
	struct session *s = i < MM_CLIENT_MAX ? w->d->sessions[i] : NULL;

	if (!s || s->state != SESSION_LIVE)
		return false;
	w->filler = s;
	w->state = WEIGHTS_FILLING;
	w->keep->state = 1 + (u32)WEIGHTS_FILLING;
	weights_fill_watch(w);
	return true;
}

static void adopt(struct kvmd *d, u32 slot)
{
	struct keep_weights *r = &d->keep.block->weights[slot];
	int fd = keep_take(&d->keep, KEEP_WEIGHTS, slot, r->gen);
	struct weights *w;
	bool is_ready;
	u32 tenant;

	if (fd < 0 || mm_tenant_get(d->mm, r->tenant, &tenant)) {
		record_drop(d, slot, fd);
		return;
	}
	if (r->state == 1 + (u32)WEIGHTS_GOING) {
		weights_memory_going(d, slot, tenant, fd);
		return;
	}
	w = weights_new(d, slot);
	if (!w) {
		mm_tenant_put(d->mm, tenant);
		record_drop(d, slot, fd);
		return;
	}
	w->id = r->id;
	w->tenant = tenant;
	w->key = r->key;
	w->charged_bytes = r->charged_bytes;
	w->idle_since_ns = d->now_ns;
	is_ready = r->state == 1 + (u32)WEIGHTS_READY;
	w->state = is_ready ? WEIGHTS_READY : WEIGHTS_FILLING;
	if (weights_memory_adopt(w, fd) || users_adopt(w) ||
	    (!is_ready && !filler_adopt(w)))
		weights_free(w);
	else if (is_ready)
		weights_memory_look(w);
}

static u64 bytes_of(const struct kvmd *d, u32 tenant)
{
	const struct weights *w;
	u64 bytes = 0;

	TAILQ_FOREACH(w, &d->weights.list, link)
	if (w->tenant == tenant)
		bytes += w->charged_bytes;
	return bytes + weights_going(d, tenant);
}

/* What the core has charged to @tenant is what its memory takes. */
static void settle(struct kvmd *d, u32 tenant)
{
	struct mm_tenant_info info;
	u64 bytes;
	int rc;

	do {
		if (mm_tenant_info(d->mm, tenant, &info))
			return;
		bytes = bytes_of(d, tenant);
		rc = 0;
		if (info.charged_bytes > bytes)
			mm_tenant_uncharge(d->mm, tenant,
					   info.charged_bytes - bytes);
		else if (info.charged_bytes < bytes)
			rc = mm_tenant_charge(d->mm, tenant,
					      bytes - info.charged_bytes);
		if (rc == -EAGAIN)
			weights_drop_going(d);
	} while (rc == -EAGAIN);
	if (rc)
		log_warn("weights are not all charged", "tenant=%s", info.name);
}

void weights_adopt(struct kvmd *d)
{
	struct keep_fd left;
	u32 i;

	for (i = 0; i < KEEP_WEIGHTS_MAX; i++)
		if (d->keep.block->weights[i].state)
			adopt(d, i);
	while (keep_take_any(&d->keep, KEEP_WEIGHTS, &left))
		weights_memory_left(d, left.index, left.gen, left.fd);
	for (i = 0; i < MM_TENANT_MAX; i++)
		settle(d, i);
}
