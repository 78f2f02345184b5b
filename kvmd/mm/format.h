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

/* format_is_for - was a block of ours made with these sizes? */
bool format_is_for(const struct mm_config *cfg, const struct mm *mm);

/* mm_layout_of - where each array begins; -EINVAL: no such sizes */
int mm_layout_of(const struct mm_config *cfg, struct mm_layout *l);

/* mm_init - a block in which nothing has happened; its magic is still to come.
 * -EINVAL: no such sizes */
int mm_init(const struct mm_config *cfg, struct mm *mm);

#endif
