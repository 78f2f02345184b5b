/* SPDX-License-Identifier: MIT */
/*
 * tracer.c - programs in the kernel, and what they counted
 *
 * The object is built in (kvtrace.skel.h is generated from kvtrace.bpf.c).
 * Only the program that a view needs is loaded. Probes are found through
 * /proc/PID/exe, so that a binary which has been replaced since is no matter.
 */
#include "tools/kvtrace/kvtrace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kvtrace.skel.h>

struct tracer {
	struct kvtrace *skel;
	struct bpf_link *link[FAULT_PROBES];
	unsigned int nr_links;
	int nr_cpus;
};

static bool verbose;

static int __attribute__((format(printf, 2, 0)))
print_libbpf(enum libbpf_print_level level, const char *fmt, va_list args)
{
	return verbose ? vfprintf(stderr, fmt, args) : 0;
}

static int refuse(int err)
{
	if (err == EPERM || err == EACCES) {
		fprintf(stderr,
			"kvtrace: the kernel lets no BPF program be loaded or "
			"attached here (%s); root can, unless the kernel is "
			"locked down\n",
			strerror(err));
		return EX_KV_PERMISSION;
	}
	if (err == ENOSYS || err == EOPNOTSUPP || err == EINVAL)
		fprintf(stderr,
			"kvtrace: this kernel has no BPF, or too little of it "
			"(%s); 5.15 and later have; --verbose says more\n",
			strerror(err));
	else
		fprintf(stderr,
			"kvtrace: the programs cannot be loaded: %s; "
			"--verbose says more\n",
			strerror(err));
	return EX_KV_FAILED;
}

static int attach(struct tracer *t, const struct trace_opts *opt, bool faults,
		  const char *name)
{
	LIBBPF_OPTS(bpf_usdt_opts, o, .usdt_cookie = t->nr_links);
	struct bpf_program *prog = faults ? t->skel->progs.on_fault
					  : t->skel->progs.on_any;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)opt->pid);
	t->link[t->nr_links] = bpf_program__attach_usdt(prog, opt->pid, path,
							"kvmd", name, &o);
	if (t->link[t->nr_links]) {
		t->nr_links++;
		return EX_KV_OK;
	}
	if (errno != ENOENT && errno != ESRCH)
		return refuse(errno);
	if (access(path, F_OK) && errno == ENOENT) {
		fprintf(stderr, "kvtrace: there is no process %d\n",
			(int)opt->pid);
		return EX_KV_NO_OBJECT;
	}
	fprintf(stderr,
		"kvtrace: process %d has no probe kvmd:%s; is it a kvmd, and "
		"as new as kvtrace?\n",
		(int)opt->pid, name);
	return EX_KV_NO_OBJECT;
}

int tracer_open(const struct trace_opts *opt, const char *const *probes,
		bool faults, struct tracer **out)
{
	struct tracer *t = calloc(1, sizeof(*t));
	int rc = EX_KV_OK;

	if (!t)
		return EX_KV_FAILED;
	verbose = opt->verbose;
	libbpf_set_print(print_libbpf);
	t->nr_cpus = libbpf_num_possible_cpus();
	t->skel = t->nr_cpus > 0 ? kvtrace__open() : NULL;
	if (!t->skel) {
		rc = refuse(errno);
		goto out_close;
	}
	bpf_program__set_autoload(t->skel->progs.on_fault, faults);
	bpf_program__set_autoload(t->skel->progs.on_any, !faults);
	rc = kvtrace__load(t->skel);
	if (rc) {
		rc = refuse(-rc);
		goto out_close;
	}
	while (!rc && *probes)
		rc = attach(t, opt, faults, *probes++);
	if (rc)
		goto out_close;
	*out = t;
	return EX_KV_OK;

out_close:
	tracer_close(t);
	return rc;
}

void tracer_detach(struct tracer *t)
{
	while (t->nr_links)
		bpf_link__destroy(t->link[--t->nr_links]);
}

void tracer_close(struct tracer *t)
{
	if (!t)
		return;
	tracer_detach(t);
	kvtrace__destroy(t->skel);
	free(t);
}

int fault_key_cmp(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct fault_key));
}

void fault_add(struct fault_sums *to, const struct fault_sums *s)
{
	unsigned int i;

	to->faults += s->faults;
	to->prefix += s->prefix;
	to->fresh += s->fresh;
	to->cow += s->cow;
	to->swap_in += s->swap_in;
	to->latency_ns += s->latency_ns;
	for (i = 0; i < FAULT_SLOTS; i++)
		to->slot[i] += s->slot[i];
}

int tracer_faults(struct tracer *t, struct fault_row **rows, size_t *nr)
{
	int fd = bpf_map__fd(t->skel->maps.faults), cpu, rc = 0;
	struct fault_sums *per_cpu =
		calloc((size_t)t->nr_cpus, sizeof(*per_cpu));
	struct fault_row *all = calloc(FAULT_CLASSES, sizeof(*all));
	struct fault_key key, *at = NULL;
	size_t n = 0;

	if (!per_cpu || !all)
		rc = -ENOMEM;
	while (!rc && n < FAULT_CLASSES &&
	       !bpf_map_get_next_key(fd, at, &key)) {
		at = &key;
		if (bpf_map_lookup_elem(fd, &key, per_cpu)) {
			rc = -errno;
			break;
		}
		all[n].key = key;
		for (cpu = 0; cpu < t->nr_cpus; cpu++)
			fault_add(&all[n].sums, &per_cpu[cpu]);
		n++;
	}
	free(per_cpu);
	if (rc) {
		free(all);
		return rc;
	}
	qsort(all, n, sizeof(*all), fault_key_cmp);
	*rows = all;
	*nr = n;
	return 0;
}

void tracer_names(struct tracer *t, const struct fault_key *k,
		  struct client_names *out)
{
	struct client_key key = { .pid = k->pid, .client = k->client };

	if (!bpf_map_lookup_elem(bpf_map__fd(t->skel->maps.clients), &key, out))
		return;
	memset(out, 0, sizeof(*out));
	out->client[0] = out->tenant[0] = '?';
}

static u64 sum_cpus(struct tracer *t, const struct bpf_map *map, u32 at)
{
	u64 *per_cpu = calloc((size_t)t->nr_cpus, sizeof(*per_cpu)), sum = 0;
	int cpu;

	if (per_cpu && !bpf_map_lookup_elem(bpf_map__fd(map), &at, per_cpu))
		for (cpu = 0; cpu < t->nr_cpus; cpu++)
			sum += per_cpu[cpu];
	free(per_cpu);
	return sum;
}

u64 tracer_lost(struct tracer *t)
{
	return sum_cpus(t, t->skel->maps.lost, FAULT_LOST_SLOT);
}

u64 tracer_hits(struct tracer *t, u32 i)
{
	return sum_cpus(t, t->skel->maps.hits, i);
}
