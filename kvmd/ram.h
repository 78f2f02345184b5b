/* SPDX-License-Identifier: MIT */
#ifndef KVMD_RAM_H
#define KVMD_RAM_H
/*
 * ram.h - how much memory this process's cgroups let it have
 *
 * A container sees all of the machine's memory in sysconf(), and is killed when
 * it takes more than its cgroup may.
 */
#include "include/kv/types.h"

/**
 * ram_limit - the least of the memory limits above this process
 * @cgroups: "/proc/self/cgroup"
 * @root: "/sys/fs/cgroup"
 *
 * v2's memory.max and v1's memory.limit_in_bytes of the process's cgroup and of
 * all that are above it. A container without a cgroup namespace has the path of
 * the host and finds its own cgroup at the root.
 *
 * Return: bytes; ~0 if there is none.
 */
u64 ram_limit(const char *cgroups, const char *root);

#endif
