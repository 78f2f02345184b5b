/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_FORMAT_H
#define KVMD_MM_FORMAT_H
/*
 * format.h - the block's description of itself (lib/record.h)
 */
#include "kvmd/mm/state.h"

/* format_bytes - what it takes */
u64 format_bytes(void);

/* format_write - into a block whose layout is known */
void format_write(struct mm *mm);

/* mm_init - a block in which nothing has happened; its magic is still to come.
 * -EINVAL: no such sizes */
int mm_init(const struct mm_config *cfg, struct mm *mm);

#endif
