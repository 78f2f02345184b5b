/* SPDX-License-Identifier: MIT */
/*
 * memfd.c - shared memory that the other side cannot pull away
 */
#include "kvmd/ipc/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvmd/ipc/feature.h"

/* linux/memfd.h of 6.3: not an executable; older kernels refuse the flag. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int memfd_create_sealed(const char *name, u64 bytes, unsigned int flags)
{
	const unsigned int mfd = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int seals = F_SEAL_SHRINK, fd, rc;

	fd = feature_may_try_new() ? memfd_create(name, mfd | MFD_NOEXEC_SEAL)
				   : -1;
	if (fd < 0) /* older than 6.3, or the real reason comes now */
		fd = memfd_create(name, mfd);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) ||
	    fchmod(fd, flags & MEMFD_READABLE ? 0400 : 0600))
		goto out_close;
	if (!(flags & MEMFD_GROWS))
		seals |= F_SEAL_GROW;
	if (!(flags & MEMFD_UNSEALED))
		seals |= F_SEAL_SEAL;
	if (fcntl(fd, F_ADD_SEALS, seals))
		goto out_close;
	return fd;

out_close:
	rc = -errno;
	close(fd);
	return rc;
}

int memfd_reopen_ro(int fd)
{
	char path[32];
	int ro;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro < 0 ? -errno : ro;
}

void *memfd_map(int fd, u64 bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_NORESERVE, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

s64 memfd_resident(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	return (s64)st.st_blocks * 512;
}

int memfd_of_text(const char *name, const char *text, size_t len)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE |
			  F_SEAL_SEAL;
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), ro;
	size_t done = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	while (done < len) {
		n = write(fd, text + done, len - done);
		if (n <= 0) {
			close(fd);
			return -ENOSPC;
		}
		done += (size_t)n;
	}
	ro = fcntl(fd, F_ADD_SEALS, seals) ? -errno : memfd_reopen_ro(fd);
	close(fd);
	return ro;
}
