/* SPDX-License-Identifier: MIT */
#ifndef KV_FAULT_RECORD_H
#define KV_FAULT_RECORD_H
/*
 * fault_record.h - what the probe kvmd:fault points to
 *
 * One read of memory instead of one argument after the other, which is what a
 * tracer's program spends most of its time on. Compiled for the kernel too, so
 * it has the kernel's type names. It only grows, at its end.
 */
#include <linux/types.h>

/**
 * struct fault_record - a request for pages that has been answered
 * @client: kvmd's number for it
 * @pid: its process
 * @name: address of its name in kvmd, zero-terminated, KV_NAME_LEN at most
 * @tenant: of its tenant's name
 * @latency_ns: from when the request was taken off the ring until its last
 *	completion was written
 * @res: of the completion: copies, tokens mapped, or -errno
 * @waited: it was answered later than at once
 * @fresh: pages taken past the end of a space
 * @cow: pages taken in place of shared ones
 * @swap_in: pages whose reading it began
 * @prefix: pages mapped from a page cache; all others are 0 then
 */
struct fault_record {
	__u32 client;
	__u32 pid;
	__u64 name, tenant;
	__u64 latency_ns;
	__s32 res;
	__u32 waited;
	__u32 fresh, cow, swap_in, prefix;
};

#endif
