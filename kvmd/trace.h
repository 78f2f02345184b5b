/* SPDX-License-Identifier: MIT */
#ifndef KVMD_TRACE_H
#define KVMD_TRACE_H
/*
 * trace.h - trace points as crash points, and as probes
 *
 * With KV_KILL_AT=NAME:N in its environment kvmd kills itself when it passes
 * the trace point NAME (include/uapi/kv/trace.h) for the N-th time; under a
 * keeper the first kvmd does, and KV_KILL_NEXT_AT is for the second. With
 * KV_KILL_CLIENT_AT=NAME:N it kills the client that the point is about, if
 * that client's name begins with "victim". The probe kvmd:point fires at each,
 * kvmd:revoke at those of a revoke (include/kv/usdt.h). Without any of these a
 * point costs one look at a word.
 */
#include "include/kv/types.h"

/* trace_setup - read both; -EINVAL if one names no point */
int __must_check trace_setup(char *err);
/* trace_point - mm_host_ops.trace */
void trace_point(void *host, u32 point, u32 client, u64 arg);

#endif
