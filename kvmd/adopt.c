/* SPDX-License-Identifier: MIT */
/*
 * adopt.c - going on with what a killed kvmd left
 *
 * In order:
 *
 *	keep_open()		descriptors from the keeper, the block
 *	device, swap		opened as ever; the swap file's lock is waited
 *				for: then the dead process writes no more
 *	adopt_core()		extents, clients' memory, mm_recover()
 *	the socket		its backlog was never closed
 *	adopt_finish()		tenants, weights, then clients: answers that
 *				are owed, RESUME, grants, messages
 *
 * What the core asks for meanwhile waits (d->adopting): nobody may hear of
 * anything before he was told that things are numbered anew.
 *
 * Both blocks say how they are laid out. What another build of kvmd left is
 * read by the names of its fields (lib/record.h) into a block of this one,
 * which is put to the keeper before the other is dropped.
 *
 * If the state is of another version or size, or does not fit, kvmd begins
 * anew: clients find their socket closed, as if there were no keeper. What is
 * in swap is lost then, too. Killed in here, the next one starts over: nothing
 * is let go that was not used up.
 */
#include "kvmd/adopt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"
#include "kvmd/log.h"
#include "kvmd/trace.h"

int adopt_core_memory(struct kvmd *d, char *err)
{
	int fd;

	d->state_fd = memfd_create_sealed("kvmd-state", d->state_bytes, 0);
	if (d->state_fd < 0)
		return err_set(err, d->state_fd, "kvmd's state: %s",
			       strerror(-d->state_fd));
	fd = memfd_reopen_ro(d->state_fd);
	if (fd < 0)
		return err_set(err, fd,
			       "/proc/self/fd: %s: what clients may only read "
			       "is passed through it; mount /proc",
			       strerror(-fd));
	close(fd);
	d->state_map = memfd_map(d->state_fd, d->state_bytes);
	if (!d->state_map)
		return err_set(err, -ENOMEM, "kvmd's state: no memory for it");
	return 0;
}

/* What another build left, as this one would have. */
static int convert_core(struct kvmd *d, const struct mm_config *cfg,
			const void *from, u64 from_bytes, int from_fd,
			char *err)
{
	u32 was = d->keep.block->mm_gen, gen;
	int rc;

	rc = adopt_core_memory(d, err);
	if (!rc)
		rc = mm_convert(cfg, d->state_map, from, from_bytes, from_fd,
				err);
	if (rc)
		return rc;
	log_info("the core of another build of kvmd is read", "bytes=%llu",
		 (unsigned long long)from_bytes);
	gen = keep_gen(&d->keep);
	keep_put(&d->keep, KEEP_MM, 0, gen, d->state_fd);
	d->keep.block->mm_gen = gen;
	keep_drop(&d->keep, KEEP_MM, 0, was);
	return 0;
}

static int map_core(struct kvmd *d, const struct mm_config *cfg, char *err)
{
	int rc, fd = keep_take(&d->keep, KEEP_MM, 0, d->keep.block->mm_gen);
	struct stat st;
	void *map;

	if (fd < 0)
		return err_set(err, -ENOENT, "there is none");
	map = fstat(fd, &st) ? NULL : memfd_map(fd, (u64)st.st_size);
	if (!map) {
		close(fd);
		return err_set(err, -ENOMEM, "no memory");
	}
	if (mm_is_ours(cfg, map, (u64)st.st_size)) {
		d->state_fd = fd;
		d->state_map = map;
		return 0;
	}
	rc = convert_core(d, cfg, map, (u64)st.st_size, fd, err);
	munmap(map, (u64)st.st_size);
	close(fd);
	return rc;
}

static void let_go(struct kvmd *d)
{
	session_forget_all(d);
	if (d->state_map)
		munmap(d->state_map, d->state_bytes);
	if (d->state_fd >= 0)
		close(d->state_fd);
	d->state_map = NULL;
	d->state_fd = -1;
	d->mm = NULL;
	d->adopting = false;
}

int adopt_core(struct kvmd *d, const struct mm_config *cfg,
	       const struct mm_host_ops *ops, char *err)
{
	struct mm_recover how = { .tiers_lost = swap_lost(&d->swap) };
	struct mm_recover_client *clients;
	char text[KV_ERRLEN];
	int rc;

	clients = calloc(MM_CLIENT_MAX, sizeof(*clients));
	if (!clients)
		return err_set(err, -ENOMEM, "no memory");
	d->adopting = true;
	rc = map_core(d, cfg, text);
	if (!rc) {
		session_adopt_all(d, clients);
		how.clients = clients;
		rc = mm_recover(cfg, d->state_map, &how, ops, d, &d->mm);
		if (rc)
			err_set(text, rc, "%s", strerror(-rc));
	}
	if (rc)
		err_set(err, rc, "its core: %s", text);
	free(clients);
	if (rc)
		let_go(d);
	else
		dev_adopt(d->dev);
	return rc;
}

static void tenants_adopt(struct kvmd *d)
{
	struct mm_tenant_info info;
	u32 i, tenant;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (!d->keep.block->tenant_pinned[i])
			continue;
		d->keep.block->tenant_pinned[i] = false;
		if (mm_tenant_info(d->mm, i, &info) ||
		    mm_tenant_get(d->mm, info.name, &tenant))
			continue;
		d->keep.block->tenant_pinned[tenant] = true;
		d->tenant_pinned_nr++;
	}
}

void adopt_finish(struct kvmd *d)
{
	session_rejoin_all(d);
	tenants_adopt(d);
	weights_adopt(d);
	mm_now(d->mm, d->now_ns); /* deadlines are counted from here */
	mm_recover_end(d->mm);
	keep_taken(&d->keep);
	trace_point(d, KV_TP_ADOPTED, EVENT_NOBODY, d->keep.block->lives);
	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "restart",
		  EVENT_NOBODY, NULL,
		  "kvmd %s goes on with what its predecessor left: %u clients",
		  KV_VERSION, d->nr_sessions);
	session_resume_all(d);
}
