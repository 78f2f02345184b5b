/* SPDX-License-Identifier: MIT */
/*
 * left.c - are there more descriptors and mappings than before?
 *
 * The heap's own mapping is not counted, and a count that cannot be had, as a
 * call failed that was meant to, counts for nothing.
 */
#include "selftests/faults/left.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int fds, maps;

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	if (!dir)
		return -1;
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static int count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int nr = 0;

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f))
		nr += !strstr(line, "[heap]");
	fclose(f);
	return nr;
}

void left_begin(void)
{
	void (*ready)(void);

	count_maps(); /* the first time something is allocated */
	fds = count_fds();
	maps = count_maps();
	/* from here on calls may fail: shim.c */
	ready = (void (*)(void))dlsym(RTLD_DEFAULT, "shim_ready");
	if (ready)
		ready();
}

int left_more(void)
{
	if (fds >= 0 && count_fds() > fds)
		return 13;
	if (maps >= 0 && count_maps() > maps)
		return 14;
	return 0;
}
