/* SPDX-License-Identifier: MIT */
#ifndef KVMD_COPY_H
#define KVMD_COPY_H
/*
 * copy.h - pages that the core wants copied into a page cache
 */
#include "kvmd/mm/mm.h"

struct kvmd;

/* copy_submit - begin MM_REQ_COPY; its end is told by mm_copy_done() */
void copy_submit(struct kvmd *d, const struct mm_copy_io *io);

#endif
