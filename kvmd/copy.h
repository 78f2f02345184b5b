/* SPDX-License-Identifier: MIT */
#ifndef KVMD_COPY_H
#define KVMD_COPY_H
/*
 * copy.h - pages that the core wants copied, into a page cache or elsewhere
 */
#include "kvmd/mm/mm.h"

struct kvmd;

/* copy_submit - begin MM_REQ_COPY; its end is told by mm_copy_done() */
void copy_submit(struct kvmd *d, const struct mm_copy_io *io);

/* move_submit - begin MM_REQ_MOVE; its end is told by mm_move_done() */
void move_submit(struct kvmd *d, const struct mm_move_io *io);

#endif
