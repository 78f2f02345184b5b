/* SPDX-License-Identifier: MIT */
#ifndef KVMD_OPTIONS_H
#define KVMD_OPTIONS_H
/*
 * options.h - what kvmd was told on its command line
 */
#include <kv/abi.h>
#include "include/kv/types.h"
#include "kvmd/log.h"
#include "kvmd/mm/swap_set.h"

#define OPTIONS_LIMITS_MAX   64u
#define OPTIONS_DEADLINE_MAX 600000u /* ms */

enum tenant_key {
	TENANT_KEY_UID,
	TENANT_KEY_CGROUP,
	TENANT_KEY_PID,
};

struct tenant_option {
	char tenant[KV_NAME_LEN];
	u64 max_bytes;
};

struct swap_limit_option {
	char tenant[KV_NAME_LEN]; /* "": of those without one of their own */
	char tier[8]; /* or "all" */
	u64 max_bytes;
};

struct options {
	const char *socket;
	const char *device;
	u64 size_bytes;
	const char *log_file;
	enum log_level log_level;
	unsigned int tenant_key; /* enum tenant_key */
	struct tenant_option limits[OPTIONS_LIMITS_MAX];
	unsigned int nr_limits;
	u64 default_limit_bytes; /* of tenants without one of their own */
	const char *io;
	const char *pid_file;
	unsigned int drain_ms;
	unsigned int stall_ms; /* of who fills weights that others wait for */
	unsigned int revoke; /* enum mm_revoke_policy */
	unsigned int revoke_ask_ms, revoke_fence_ms;
	unsigned int spin_us;
	unsigned int turns; /* clients that share processors take turns */
	u64 swap_ram_bytes; /* 0: no such tier */
	u64 swap_lz4_bytes; /* likewise, of smaller pages */
	const char *swap_file; /* NULL: no such tier */
	u64 swap_size_bytes; /* of it */
	struct mm_swap_set swap;
	struct swap_limit_option swap_limits[OPTIONS_LIMITS_MAX];
	unsigned int nr_swap_limits;
	bool watermarks_set; /* else they follow the device's size */
	u64 watermark[3]; /* min, low, high; bytes */
	const char *cache_policy;
	const char *swap_fault; /* NULL: none but the disk's own */
	int ready_fd; /* -1: none */
	bool exit_with_parent;
	bool keeper; /* be started again when killed */
	int kept_fd; /* the keeper's channel, -1: there is none */
	unsigned int life; /* how many kvmd the keeper had before */
	bool check;
};

enum options_verdict {
	OPTIONS_RUN,
	OPTIONS_DONE, /* --help or --version was printed */
	OPTIONS_WRONG, /* said on standard error */
};

enum options_verdict options_parse(struct options *o, int argc, char **argv);
/* options_watermarks - "MIN,LOW,HIGH", rising; 0 or -EINVAL */
int options_watermarks(const char *text, u64 out[3]);
/* What may be changed of swap: milliseconds, "LOW,HIGH" percent, "on" or "off";
 * 0 or -EINVAL */
int options_deadline(const char *text, struct mm_swap_set *out);
int options_demote(const char *text, struct mm_swap_set *out);
int options_discard(const char *text, struct mm_swap_set *out);
/* options_bytes - "4G", "512M", "max"; 0 or -EINVAL */
int options_bytes(const char *text, u64 *out);
const char *tenant_key_name(unsigned int key);
const char *revoke_policy_name(unsigned int policy);

#endif
