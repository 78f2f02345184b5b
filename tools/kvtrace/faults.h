/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVTRACE_FAULTS_H
#define TOOLS_KVTRACE_FAULTS_H
/*
 * faults.h - what the programs in the kernel count, and kvtrace reads
 *
 * Compiled for the kernel too, so it has the kernel's type names. Sums only
 * grow; kvtrace takes differences, so that nothing is lost between two looks.
 */
#include <linux/types.h>

#define FAULT_SLOTS	40 /* of a histogram; slot n: below 2^(n + 1) ns */
#define FAULT_NAME_LEN	64
#define FAULT_CLASSES	4096 /* at most, or faults are lost */
#define FAULT_PROBES	16
#define FAULT_LOST_SLOT 0

/*
 * A fault counts once, under the slowest thing that it took a page for, or
 * under why it got none.
 */
enum fault_cause {
	CAUSE_NONE, /* all pages were there */
	CAUSE_PREFIX,
	CAUSE_FRESH,
	CAUSE_COW,
	CAUSE_SWAP_IN,
	CAUSE_SHORT, /* -EAGAIN: no memory */
	CAUSE_LOST, /* -ENODATA: a page could not be read back */
	CAUSE_CANCELLED,
	CAUSE_ERROR, /* any other */
	CAUSE_NR
};

struct fault_key {
	__u32 pid;
	__u32 client;
	__u32 cause;
	__u32 waited; /* it was answered later */
};

struct fault_sums {
	__u64 faults;
	__u64 prefix, fresh, cow, swap_in; /* pages */
	__u64 latency_ns;
	__u64 slot[FAULT_SLOTS];
};

struct client_key {
	__u32 pid;
	__u32 client;
};

struct client_names {
	char client[FAULT_NAME_LEN];
	char tenant[FAULT_NAME_LEN];
};

#endif
