/* SPDX-License-Identifier: MIT */
/*
 * stdfds.c - descriptors 0, 1 and 2 belong to standard input and output
 */
#include "lib/stdfds.h"

#include <errno.h>
#include <fcntl.h>

void stdfds_fill(void)
{
	int fd;

	/* in order: open() takes the lowest that is free */
	for (fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0)
			return;
	}
}
