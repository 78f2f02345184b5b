/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KEEP_CHANNEL_H
#define KVMD_KEEP_CHANNEL_H
/*
 * channel.h - packets of proto.h, one at a time
 */
#include "kvmd/keep/proto.h"

/* channel_send - @fd -1: none; 0 or -errno. Sleeps while there is no room, and
 * some seconds while too many descriptors are under way, in all until one
 * leaves at once. One thread of a process. */
int channel_send(int sock, const struct keep_msg *msg, int fd);
/**
 * channel_recv - the next packet
 * @sock: socket
 * @msg: packet
 * @fd: its descriptor, the caller's; -1: it has none
 * @wait: sleep until there is one
 *
 * Return: 1; 0: the other side is gone; -EAGAIN; -EBADMSG; others.
 */
int channel_recv(int sock, struct keep_msg *msg, int *fd, bool wait);

#endif
