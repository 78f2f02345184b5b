/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_EXTENT_H
#define KVMD_MM_EXTENT_H
/*
 * extent.h - who has which 8 MiB of the device, and on whose account
 */
#include "kvmd/mm/state.h"

/* extent_init - all of the device is bare */
void extent_init(struct mm *mm);

/* extent_refill - ask for memory until enough is ready or coming */
void extent_refill(struct mm *mm);

/* extent_nr_possible - bare extents that the device's size still allows */
u32 extent_nr_possible(const struct mm *mm);

/* extent_nr_coming - extents being populated or scrubbed */
u32 extent_nr_coming(const struct mm *mm);

/* extent_tenant_room - extents that @tenant may still be given */
u32 extent_tenant_room(const struct mm *mm, u32 tenant);

/**
 * tenant_excess - how much of its share of the device a tenant is above
 * @mm: core
 * @tenant: tenant
 *
 * A share is what the weights leave, by the weights of the tenants that have
 * clients or hold something.
 *
 * Return: extents above it, divided by its weight; below 0: it holds less.
 */
double tenant_excess(const struct mm *mm, u32 tenant);

/* tenant_next_giver - of those not @asked the one with most excess, which is
 * asked then; or MM_NONE */
u32 tenant_next_giver(const struct mm *mm, bool asked[MM_TENANT_MAX]);

/* tenant_unprotected - of @used bytes what others may have: above its low, or
 * above its min */
static inline u64 tenant_unprotected(const struct tenant *t, u64 used,
				     bool below_low)
{
	u64 keep = below_low ? t->limits.min_bytes : t->limits.low_bytes;

	return used - min(used, keep);
}

/* tenant_above - bytes above @most that it is with @more than it has */
u64 tenant_above(const struct tenant *t, u64 most, u64 more);

/**
 * tenant_fit - a tenant gives what is idle, to have no more than @most
 * @mm: core
 * @tenant: index
 * @keeps: its client that keeps what it holds empty, or NULL
 * @most: bytes
 * @more: that it will have more than now
 *
 * Extents held empty, weights that nobody has open, then pages of its cache
 * that nobody maps.
 *
 * Return: bytes that will go only when the core has returned (spare.h).
 */
u64 tenant_fit(struct mm *mm, u32 tenant, const struct client *keeps, u64 most,
	       u64 more);

/**
 * extent_grant - give a ready extent to a client
 * @mm: core
 * @c: client; its tenant is charged and has room
 *
 * Return: the extent, on the client's list of wholly free ones.
 */
u32 extent_grant(struct mm *mm, struct client *c);

/* extent_set_mask - chunks of a granted extent were taken or given back */
void extent_set_mask(struct mm *mm, struct client *c, u32 e, u8 free_mask);

/**
 * extent_return - take an extent without slabs from its client
 * @mm: core
 * @c: client
 * @e: granted extent, wholly free
 * @release: give the memory to the system instead of scrubbing it
 */
void extent_return(struct mm *mm, struct client *c, u32 e, bool release);

/* extent_trim - return empty extents beyond @keep; how many went */
u32 extent_trim(struct mm *mm, struct client *c, u32 keep, bool release);

/**
 * extent_reclaim - return empty extents of other clients
 * @mm: core
 * @tenant: of this tenant, MM_NONE: of all
 * @except: a client that keeps its own, or NULL
 * @release: as for extent_return()
 *
 * Return: how many went.
 */
u32 extent_reclaim(struct mm *mm, u32 tenant, const struct client *except,
		   bool release);

/* extent_device_left - bytes that are neither memory of extents nor weights */
u64 extent_device_left(const struct mm *mm);

/* extent_release_empty - have @bytes bare, of what is ready or held empty */
void extent_release_empty(struct mm *mm, u64 bytes);
/* extent_release_cache - and then of pages of the cache that nobody maps */
void extent_release_cache(struct mm *mm, u64 bytes);

/* extent_quarantine - the client is going: its extents wait, still charged */
void extent_quarantine(struct mm *mm, struct client *c);

/* extent_scrub_all - no kernel can run: uncharge and scrub them */
void extent_scrub_all(struct mm *mm, struct client *c);

#endif
