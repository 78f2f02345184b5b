/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_MIGRATE_H
#define KVMD_MM_MIGRATE_H
/*
 * migrate.h - pages on their way from one frame to another
 */
#include "kvmd/mm/state.h"

/**
 * migrate_begin - K1 and K2 for a page that is idle (K0)
 * @mm: core; fewer than MOVE_IO_MAX pages are on their way
 * @c: whose it is
 * @frame: used frame among the chunks that are being emptied
 *
 * Return: false if there is no frame for it elsewhere.
 */
bool migrate_begin(struct mm *mm, struct client *c, u32 frame);

/* migrate_batch - K3 and K4 for those that have begun: copied, or back */
void migrate_batch(struct mm *mm, struct client *c);

/* migrate_node_is_read - may a step of the tenant still read a prefix node's
 * pages through an entry that is gone? */
bool migrate_node_is_read(const struct mm *mm, u32 tenant, u32 node);

#endif
