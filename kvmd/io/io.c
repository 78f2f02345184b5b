/* SPDX-License-Identifier: MIT */
/*
 * io.c - the part of the event loop that both backends share
 *
 * Watches live in a table of slots. An event carries the slot's number and
 * its generation, so that one that was already on its way when the watch was
 * removed is recognised and dropped; the watch itself may be freed at once.
 */
#include "kvmd/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int io_try(const struct io_ops *ops, struct io **out)
{
	struct io *io = calloc(1, sizeof(*io));
	u32 i;
	int rc;

	if (!io)
		return -ENOMEM;
	io->slots = calloc(IO_SLOT_MAX, sizeof(*io->slots));
	if (!io->slots) {
		free(io);
		return -ENOMEM;
	}
	for (i = 0; i < IO_SLOT_MAX; i++)
		io->slots[i].next_free = i + 1;
	io->ops = ops;
	rc = ops->init(io);
	if (rc) {
		free(io->slots);
		free(io);
		return rc;
	}
	*out = io;
	return 0;
}

int io_create(const char *name, struct io **out)
{
	int rc;

	if (!strcmp(name, "uring"))
		return io_try(&io_uring_ops, out);
	if (!strcmp(name, "epoll"))
		return io_try(&io_epoll_ops, out);
	if (strcmp(name, "auto"))
		return -EINVAL;
	rc = io_try(&io_uring_ops, out);
	return rc ? io_try(&io_epoll_ops, out) : 0;
}

void io_destroy(struct io *io)
{
	if (!io)
		return;
	io->ops->fini(io);
	free(io->slots);
	free(io);
}

const char *io_name(const struct io *io)
{
	return io->ops->name;
}

int io_add(struct io *io, struct io_watch *w)
{
	u32 slot = io->first_free;
	int rc;

	if (slot >= IO_SLOT_MAX)
		return -ENOSPC;
	io->first_free = io->slots[slot].next_free;
	io->slots[slot].watch = w;
	io->slots[slot].in_flight = false;
	w->slot = slot + 1;
	rc = io->ops->add(io, slot);
	if (rc) {
		w->slot = 0;
		io_slot_free(io, slot);
		return rc;
	}
	io->nr_watches++;
	return 0;
}

void io_mod(struct io *io, struct io_watch *w)
{
	if (w->slot)
		io->ops->mod(io, w->slot - 1);
}

void io_del(struct io *io, struct io_watch *w)
{
	u32 slot = w->slot - 1;

	if (!w->slot)
		return;
	w->slot = 0;
	io->nr_watches--;
	io->slots[slot].watch = NULL;
	io->ops->del(io, slot);
}

void io_slot_free(struct io *io, u32 slot)
{
	struct io_slot *s = &io->slots[slot];

	s->watch = NULL;
	s->gen++;
	s->next_free = io->first_free;
	io->first_free = slot;
}

int io_wait(struct io *io, s64 timeout_ns)
{
	return io->ops->wait(io, timeout_ns);
}
