/* SPDX-License-Identifier: MIT */
/*
 * weights_idle.c - mappings that nobody has open, when their bytes are wanted
 *
 * The core asks in the midst of what it does (mm_host_ops.spare), so those that
 * it wants are only marked then, and dropped when the loop comes round, or by a
 * mapping that waits for their bytes. One that was opened meanwhile stays: the
 * core looks again, and asks for another. A record that a mapping wants is free
 * at once.
 */
#include "kvmd/ipc/weights.h"
#include "kvmd/kvmd.h"

void weights_drop(struct weights *w, const char *why)
{
	event_add(&w->d->events, w->d->now_ns, LOG_LEVEL_INFO, "weights_drop",
		  EVENT_NOBODY, NULL, "%s, %llu bytes: %s", w->key.name,
		  (unsigned long long)w->charged_bytes, why);
	w->d->n.weights_drops++;
	weights_free(w);
}

static bool is_idle(const struct weights *w)
{
	return w->state == WEIGHTS_READY && TAILQ_EMPTY(&w->users);
}

/* The one of @tenant that was used longest ago, of at most @most bytes. */
static struct weights *oldest_idle(const struct kvmd *d, u32 tenant, u64 most)
{
	struct weights *w, *oldest = NULL;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		if (is_idle(w) && w->tenant == tenant &&
		    w->spare_seq != d->weights.spare_seq &&
		    w->charged_bytes <= most &&
		    (!oldest || w->idle_since_ns < oldest->idle_since_ns))
			oldest = w;
	}
	return oldest;
}

static struct weights *oldest_of_all(const struct kvmd *d)
{
	struct weights *w, *oldest = NULL;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		if (is_idle(w) &&
		    (!oldest || w->idle_since_ns < oldest->idle_since_ns))
			oldest = w;
	}
	return oldest;
}

bool weights_drop_for_slot(struct kvmd *d, u32 tenant)
{
	struct weights *w;

	d->weights.spare_seq++;
	w = oldest_idle(d, tenant, ~0ull);
	if (!w)
		w = oldest_of_all(d);
	if (!w)
		return false;
	weights_drop(w, "nobody has it open and another mapping wants its "
			"place");
	mm_spared(d->mm);
	kvmd_pump(d);
	return true;
}

u64 weights_spare(void *host, u32 tenant, u64 want, u64 most)
{
	struct kvmd *d = host;
	struct weights *w;
	u64 got = 0;

	d->weights.spare_seq++;
	if (!want) /* it comes by itself */
		got = min(weights_coming(d, tenant), most);
	while (!want || got < want) {
		w = oldest_idle(d, tenant, most - got);
		if (!w)
			break;
		w->spare_seq = d->weights.spare_seq;
		got += w->charged_bytes;
		if (want)
			w->goes = d->weights.some_go = true;
	}
	return got;
}

void weights_drop_going(struct kvmd *d)
{
	struct weights *w, *next;

	d->weights.some_go = false;
	for (w = TAILQ_FIRST(&d->weights.list); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (w->goes && is_idle(w))
			weights_drop(w, "nobody has it open and room is "
					"wanted");
		else
			w->goes = false;
	}
}

void weights_go(struct kvmd *d)
{
	weights_drop_going(d);
	mm_spared(d->mm);
	kvmd_pump(d);
}
