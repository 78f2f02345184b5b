/* SPDX-License-Identifier: MIT */
#ifndef KVMD_TRACE_H
#define KVMD_TRACE_H
/*
 * trace.h - trace points as crash points
 *
 * With KV_KILL_AT=NAME:N in its environment kvmd kills itself when it passes
 * the trace point NAME (include/uapi/kv/trace.h) for the N-th time. Without
 * it a point costs one comparison.
 */
#include "include/kv/types.h"

/* trace_setup - read KV_KILL_AT; -EINVAL if it names no point */
int __must_check trace_setup(char *err);
/* trace_point - mm_host_ops.trace */
void trace_point(void *host, u32 point, u32 client, u64 arg);

#endif
