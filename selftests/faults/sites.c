/* SPDX-License-Identifier: MIT */
/*
 * sites.c - the sites that a program passes, one after the other made to fail
 */
#include "selftests/faults/sites.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "selftests/lib_kvmd.h"

static const char *const names[SHIM_NR_FN] = {
#define NAME(name, err) [SHIM_##name] = #name,
	SHIM_FUNCTIONS(NAME)
#undef NAME
};

int sites_open(struct sites *s, const char *dir)
{
	static unsigned int nr;
	void *p;
	int fd;

	memset(s, 0, sizeof(*s));
	snprintf(s->path, sizeof(s->path), "%.200s/sites%u", dir, nr++);
	fd = open(s->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(*s->map))) {
		close(fd);
		return -errno;
	}
	p = mmap(NULL, sizeof(*s->map), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		 0);
	close(fd);
	if (p == MAP_FAILED)
		return -ENOMEM;
	s->map = p;
	return 0;
}

void sites_close(struct sites *s)
{
	if (s->map)
		munmap(s->map, sizeof(*s->map));
	s->map = NULL;
}

void sites_preload(const struct sites *s)
{
	char shim[600];

	snprintf(shim, sizeof(shim), "%s/selftests/faults/shim.so",
		 test_build_dir());
	setenv("LD_PRELOAD", shim, 1);
	setenv("KV_SHIM_MAP", s->path, 1);
}

void sites_mode(struct sites *s, enum shim_mode mode)
{
	s->map->mode = (uint32_t)mode;
}

static int by_key(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return (x->key > y->key) - (x->key < y->key);
}

uint32_t sites_take(struct sites *s, uint64_t *seen)
{
	uint64_t n;
	uint32_t i;

	s->nr = 0;
	for (i = 0; i < SHIM_SITES; i++) {
		n = s->map->site[i].count;
		if (n > seen[i])
			s->list[s->nr++] = (struct site){
				.key = s->map->site[i].key,
				.count = n - seen[i],
				.fn = s->map->site[i].fn,
				.slot = i,
			};
		seen[i] = n;
	}
	qsort(s->list, s->nr, sizeof(s->list[0]), by_key);
	return s->nr;
}

void sites_arm(struct sites *s, uint32_t i, uint64_t nth, uint64_t burst)
{
	s->map->mode = SHIM_OFF;
	s->map->target = s->list[i].key;
	s->map->fn = s->list[i].fn;
	s->map->nth = nth;
	s->map->burst = burst;
	s->map->passed = 0;
	s->map->fired = 0;
	s->map->mode = SHIM_FAIL;
}

uint64_t sites_fired(const struct sites *s)
{
	return s->map->fired;
}

const char *sites_fn(const struct sites *s, uint32_t i)
{
	return names[s->list[i].fn];
}

void sites_print(const struct sites *s, uint32_t i, const char *exe)
{
	const struct shim_site *x = &s->map->site[s->list[i].slot];
	char cmd[1024], line[256];
	uint32_t k;
	FILE *f;

	printf("  %s, passed %llu times, KV_FAULT_SITE=%llx, below\n",
	       names[x->fn], (unsigned long long)s->list[i].count,
	       (unsigned long long)s->list[i].key);
	for (k = 0; k < x->nr_frames; k++) {
		/* a return address: the call is before it */
		snprintf(cmd, sizeof(cmd),
			 "addr2line -sfp -e '%s' %#llx 2>/dev/null", exe,
			 (unsigned long long)x->frame[k] - 1);
		f = popen(cmd, "r");
		if (f && fgets(line, sizeof(line), f))
			printf("    %s", line);
		if (f)
			pclose(f);
	}
}
