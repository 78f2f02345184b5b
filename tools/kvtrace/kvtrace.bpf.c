// SPDX-License-Identifier: MIT
/*
 * kvtrace.bpf.c - what runs in the kernel when a probe of kvmd fires
 *
 * Sums per CPU, kept in maps; no event leaves the kernel. Names are read the
 * first time that a client is met. Needs no BTF of the kernel: all it looks at
 * are arguments of probes.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <asm/ptrace.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
#include "include/kv/fault_record.h"
#include "tools/kvtrace/faults.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define EAGAIN	  11
#define ENODATA	  61
#define ECANCELED 125

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FAULT_CLASSES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct fault_key);
	__type(value, struct fault_sums);
} faults SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAULT_CLASSES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct client_key);
	__type(value, struct client_names);
} clients SEC(".maps");

/* Faults that found no room in a map, or could not be read. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Hits of each probe, by the cookie it was attached with. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FAULT_PROBES);
	__type(key, __u32);
	__type(value, __u64);
} hits SEC(".maps");

static const struct fault_sums no_sums;

static void add_one(void *map, __u32 at)
{
	__u64 *n = bpf_map_lookup_elem(map, &at);

	if (n)
		(*n)++;
}

/* Position of the highest bit set; 0 has slot 0 too. */
static __u32 log2_slot(__u64 v)
{
	__u32 n = 0;

	if (v >> 32) {
		v >>= 32;
		n = 32;
	}
	if (v >> 16) {
		v >>= 16;
		n += 16;
	}
	if (v >> 8) {
		v >>= 8;
		n += 8;
	}
	if (v >> 4) {
		v >>= 4;
		n += 4;
	}
	if (v >> 2) {
		v >>= 2;
		n += 2;
	}
	n += v >> 1;
	return n < FAULT_SLOTS ? n : FAULT_SLOTS - 1;
}

static __u32 cause_of(const struct fault_record *r)
{
	if (r->res == -EAGAIN)
		return CAUSE_SHORT;
	if (r->res == -ENODATA)
		return CAUSE_LOST;
	if (r->res == -ECANCELED)
		return CAUSE_CANCELLED;
	if (r->res < 0)
		return CAUSE_ERROR;
	if (r->swap_in)
		return CAUSE_SWAP_IN;
	if (r->cow)
		return CAUSE_COW;
	if (r->fresh)
		return CAUSE_FRESH;
	return r->prefix ? CAUSE_PREFIX : CAUSE_NONE;
}

static void learn_names(const struct fault_record *r)
{
	struct client_key key = { .pid = r->pid, .client = r->client };
	struct client_names names = { 0 };

	if (bpf_map_lookup_elem(&clients, &key))
		return;
	bpf_probe_read_user_str(names.client, sizeof(names.client),
				(void *)r->name);
	bpf_probe_read_user_str(names.tenant, sizeof(names.tenant),
				(void *)r->tenant);
	bpf_map_update_elem(&clients, &key, &names, BPF_NOEXIST);
}

SEC("usdt")
int BPF_USDT(on_fault, void *record)
{
	struct fault_record r;
	struct fault_key key = { 0 };
	struct fault_sums *s;

	if (bpf_probe_read_user(&r, sizeof(r), record)) {
		add_one(&lost, FAULT_LOST_SLOT);
		return 0;
	}
	key.pid = r.pid;
	key.client = r.client;
	key.cause = cause_of(&r);
	key.waited = r.waited != 0;
	s = bpf_map_lookup_elem(&faults, &key);
	if (!s) {
		learn_names(&r);
		bpf_map_update_elem(&faults, &key, &no_sums, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&faults, &key);
	}
	if (!s) {
		add_one(&lost, FAULT_LOST_SLOT);
		return 0;
	}
	s->faults++;
	s->prefix += r.prefix;
	s->fresh += r.fresh;
	s->cow += r.cow;
	s->swap_in += r.swap_in;
	s->latency_ns += r.latency_ns;
	s->slot[log2_slot(r.latency_ns)]++;
	return 0;
}

SEC("usdt")
int BPF_USDT(on_any)
{
	add_one(&hits, (__u32)bpf_usdt_cookie(ctx));
	return 0;
}
