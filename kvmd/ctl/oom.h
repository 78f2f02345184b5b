/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CTL_OOM_H
#define KVMD_CTL_OOM_H
/*
 * oom.h - reports of memory that was not to be had, told as events
 */
struct kvmd;

/* oom_tell - an event for each report since the last call */
void oom_tell(struct kvmd *d);

#endif
