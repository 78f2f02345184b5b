/* SPDX-License-Identifier: MIT */
/*
 * keep.c - kvmd's side: the block, and descriptors that outlive kvmd
 */
#include "kvmd/keep/keep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "include/uapi/kv/abi.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/keep/channel.h"
#include "kvmd/log.h"

#define PATIENCE_SEC 5

/* ---- what was left ---- */

static int fd_order(const void *a, const void *b)
{
	const struct keep_fd *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->index != y->index)
		return x->index < y->index ? -1 : 1;
	return x->gen < y->gen ? -1 : x->gen > y->gen;
}

static int fd_add(struct keep *k, const struct keep_msg *m, int fd)
{
	struct keep_fd *more;

	if (k->nr_fds == k->room) {
		k->room = k->room ? k->room * 2 : 256;
		more = realloc(k->fds, k->room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		k->fds = more;
	}
	k->fds[k->nr_fds++] = (struct keep_fd){
		.kind = m->kind, .index = m->index, .gen = m->gen, .fd = fd
	};
	return 0;
}

static int receive_all(struct keep *k, char *err)
{
	struct keep_msg m;
	int rc, fd;

	for (;;) {
		rc = channel_recv(k->channel, &m, &fd, true);
		if (rc != 1)
			return err_set(err, rc ? rc : -EPIPE,
				       "the keeper says nothing: %s",
				       strerror(rc ? -rc : EPIPE));
		if (m.op == KEEP_END)
			break;
		rc = fd >= 0 ? fd_add(k, &m, fd) : -EBADMSG;
		if (rc) {
			if (fd >= 0)
				close(fd);
			return err_set(err, rc, "what the keeper has: %s",
				       strerror(-rc));
		}
	}
	if (k->nr_fds)
		qsort(k->fds, k->nr_fds, sizeof(*k->fds), fd_order);
	return 0;
}

int keep_take(struct keep *k, enum keep_kind kind, u32 index, u32 gen)
{
	const struct keep_fd key = { .kind = kind, .index = index, .gen = gen };
	struct keep_fd *f = NULL;
	int fd;

	if (k->nr_fds)
		f = bsearch(&key, k->fds, k->nr_fds, sizeof(key), fd_order);
	if (!f)
		return -1;
	fd = f->fd;
	f->fd = -1;
	return fd;
}

bool keep_take_any(struct keep *k, enum keep_kind kind, struct keep_fd *out)
{
	u32 i;

	for (i = 0; i < k->nr_fds; i++) {
		if (k->fds[i].kind != kind || k->fds[i].fd < 0)
			continue;
		*out = k->fds[i];
		k->fds[i].fd = -1;
		return true;
	}
	return false;
}

/* Close what was not taken; @path: but for the socket and its lock. */
static void fds_close(struct keep *k, bool path)
{
	u32 i;

	for (i = 0; i < k->nr_fds; i++) {
		struct keep_fd *f = &k->fds[i];

		if (f->fd < 0 ||
		    (path && (f->kind == KEEP_LOCK || f->kind == KEEP_LISTEN)))
			continue;
		close(f->fd);
		f->fd = -1;
		keep_drop(k, f->kind, f->index, f->gen);
	}
}

void keep_taken(struct keep *k)
{
	fds_close(k, false);
	free(k->fds);
	k->fds = NULL;
	k->nr_fds = k->room = 0;
}

/* ---- the block ---- */

/* A memfd of its size, described. */
static int block_make(u64 device_bytes, int *fd, struct keep_block **out,
		      char *err)
{
	u64 bytes = keep_block_bytes(device_bytes);

	*fd = memfd_create_sealed("kvmd-keep", bytes, 0);
	if (*fd < 0)
		return err_set(err, *fd, "what kvmd leaves behind: %s",
			       strerror(-*fd));
	*out = memfd_map(*fd, bytes);
	if (!*out) {
		close(*fd);
		*fd = -1;
		return err_set(err, -ENOMEM,
			       "what kvmd leaves behind: no memory for it");
	}
	keep_block_init(*out, device_bytes);
	return 0;
}

/* It is complete from now on. */
static void block_put(struct keep *k)
{
	keep_order();
	k->block->head.magic = KEEP_MAGIC;
	keep_put(k, KEEP_BLOCK, 0, k->block_gen, k->block_fd);
}

static int block_new(struct keep *k, u64 device_bytes, char *err)
{
	int rc;

	rc = block_make(device_bytes, &k->block_fd, &k->block, err);
	if (rc)
		return rc;
	k->bytes = keep_block_bytes(device_bytes);
	block_put(k);
	return 0;
}

static void block_unmap(struct keep *k)
{
	if (k->block)
		munmap(k->block, k->bytes);
	if (k->block_fd >= 0)
		close(k->block_fd);
	k->block = NULL;
	k->block_fd = -1;
	k->found = false;
}

/* The newest one: it was complete when it was put. An older one goes. */
static int block_take(struct keep *k)
{
	int fd = -1;
	u32 i;

	for (i = 0; i < k->nr_fds; i++) { /* sorted by gen */
		if (k->fds[i].kind != KEEP_BLOCK)
			continue;
		if (fd >= 0) {
			close(fd);
			keep_drop(k, KEEP_BLOCK, 0, k->block_gen);
		}
		fd = k->fds[i].fd;
		k->fds[i].fd = -1;
		k->block_gen = k->fds[i].gen;
	}
	return fd;
}

/* Ours takes the place of one that another build left. */
static int block_convert(struct keep *k, u64 device_bytes, char *err)
{
	struct keep_block *to;
	int fd, rc;

	rc = block_make(device_bytes, &fd, &to, err);
	if (rc)
		return rc;
	rc = record_convert(&to->head, &k->block->head, k->bytes, k->block_fd,
			    err);
	if (rc) {
		munmap(to, keep_block_bytes(device_bytes));
		close(fd);
		return rc;
	}
	munmap(k->block, k->bytes);
	close(k->block_fd);
	k->block = to;
	k->block_fd = fd;
	k->bytes = keep_block_bytes(device_bytes);
	k->block_gen++;
	block_put(k);
	keep_drop(k, KEEP_BLOCK, 0, k->block_gen - 1);
	log_info("what another build of kvmd left is read", "lives=%u",
		 k->block->lives);
	return 0;
}

/* Go on with what was left, if that can be. */
static int block_adopt(struct keep *k, u64 device_bytes, char *err)
{
	struct stat st;
	bool ours;
	int rc;

	if (fstat(k->block_fd, &st))
		return err_set(err, -errno, "%s", strerror(errno));
	k->bytes = (u64)st.st_size;
	k->block = memfd_map(k->block_fd, k->bytes);
	if (!k->block)
		return err_set(err, -ENOMEM, "no memory");
	rc = keep_block_check(k->block, k->bytes, &ours, err);
	if (!rc && !ours)
		rc = block_convert(k, device_bytes, err);
	if (rc)
		return rc;
	if (k->block->device_bytes != device_bytes)
		return err_set(err, -EINVAL,
			       "it is of a device of %llu bytes, not %llu",
			       (unsigned long long)k->block->device_bytes,
			       (unsigned long long)device_bytes);
	if (!k->block->ready)
		return err_set(err, -ENOENT,
			       "it was killed before it served anybody, or its "
			       "keeper did not follow");
	return 0;
}

int keep_open(struct keep *k, int channel, u64 device_bytes, char *err)
{
	const struct timeval patience = { .tv_sec = PATIENCE_SEC };
	int rc;

	device_bytes -= device_bytes % KV_EXTENT_SIZE;
	*k = (struct keep){ .channel = channel,
			    .block_fd = -1,
			    .owner = k->owner };
	if (channel < 0)
		return block_new(k, device_bytes, err);
	setsockopt(channel, SOL_SOCKET, SO_RCVTIMEO, &patience,
		   sizeof(patience));
	setsockopt(channel, SOL_SOCKET, SO_SNDTIMEO, &patience,
		   sizeof(patience));
	rc = receive_all(k, err);
	if (rc)
		return rc;
	k->block_fd = block_take(k);
	rc = k->block_fd < 0 ? -ENOENT : block_adopt(k, device_bytes, err);
	if (k->lost) /* it has what was there before, which stays true */
		return err_set(err, -EPIPE, "the keeper does not take it");
	if (rc)
		return keep_forget(k, device_bytes, err);
	k->found = true;
	k->block->lives++;
	return 0;
}

int keep_forget(struct keep *k, u64 device_bytes, char *err)
{
	u32 lives = k->found ? k->block->lives : 0;
	u32 made_dir = k->found && k->block->made_dir;
	u32 made_file = k->found && k->block->made_file;
	u32 mm_gen = k->found ? k->block->mm_gen : 0;
	int rc;

	if (k->found)
		k->block->ready = false; /* whatever is dropped of it */
	block_unmap(k);
	keep_drop(k, KEEP_BLOCK, 0, k->block_gen);
	keep_drop(k, KEEP_MM, 0, mm_gen);
	fds_close(k, true);
	rc = block_new(k, device_bytes - device_bytes % KV_EXTENT_SIZE, err);
	if (rc)
		return rc;
	k->block->lives = lives;
	k->block->made_dir = made_dir;
	k->block->made_file = made_file;
	return 0;
}

void keep_close(struct keep *k)
{
	keep_taken(k);
	block_unmap(k);
	if (k->channel >= 0)
		close(k->channel);
	k->channel = -1;
}

u32 keep_gen(struct keep *k)
{
	return ++k->block->next_gen;
}

/* ---- the channel ---- */

static void tell(struct keep *k, const struct keep_msg *m, int fd)
{
	int rc;

	if (k->channel < 0 || k->lost)
		return;
	rc = channel_send(k->channel, m, fd);
	if (!rc)
		return;
	log_warn("nothing is kept any more", "error=\"%s\"", strerror(-rc));
	k->lost = true;
	if (k->block)
		k->block->ready = false; /* what the keeper has is old now */
	shutdown(k->channel, SHUT_RDWR); /* whoever watches it finds that */
}

void keep_ready(struct keep *k)
{
	const struct keep_msg m = { .op = KEEP_READY };

	tell(k, &m, -1);
}

void keep_put(struct keep *k, enum keep_kind kind, u32 index, u32 gen, int fd)
{
	const struct keep_msg m = {
		.op = KEEP_PUT, .kind = kind, .index = index, .gen = gen
	};

	tell(k, &m, fd);
	keep_order();
}

void keep_drop(struct keep *k, enum keep_kind kind, u32 index, u32 gen)
{
	const struct keep_msg m = {
		.op = KEEP_DROP, .kind = kind, .index = index, .gen = gen
	};

	keep_order();
	tell(k, &m, -1);
}
