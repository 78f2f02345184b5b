/* SPDX-License-Identifier: MIT */
/*
 * tier_file.c - a file or a partition as a tier
 *
 * Requests go to kvmd/io/rw.c, which makes runs of neighbours. The file is
 * read and written past the kernel's page cache (O_DIRECT) where the file
 * system has that: its memory is better used for something else, and a write
 * that is done has left. A file is made as large as it is to be at once, so
 * that a full disk is found at the start; one that kvmd has made is removed at
 * the end. What it held of an earlier kvmd means nothing: only pages whose
 * checksum kvmd has in its memory are ever read back.
 *
 * Two kvmd with one file would write over each other: it is locked. The lock is
 * the open file's, and that the kernel has until the last request of a process
 * that was killed has ended: who waits for the lock waits for that.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/io/work.h"
#include "kvmd/log.h"

#define SIZE_DEFAULT (4ull << 30)
#define LOCK_MS	     10000u
#define END_MS	     1000

struct tier_file {
	char *path; /* to be removed, or NULL */
	int fd;
	bool is_device;
	struct rw *rw;
};

/* Its end, on a thread. */
struct file_end {
	struct work work;
	char *path; /* as above */
	int fd; /* -1: it is needed still */
	bool *over;
};

/*
 * O_DIRECT or not, as the file system likes it. Asked for afterwards: open()
 * that refuses it has made the file already.
 */
static int open_either(const char *path, int flags)
{
	int fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	fcntl(fd, F_SETFL, O_DIRECT); /* if it can */
	return fd;
}

static int lock_file(const struct tier *t, int fd)
{
	u32 ms;

	for (ms = 0; flock(fd, LOCK_EX | LOCK_NB); ms++) {
		if (errno != EWOULDBLOCK || !t->env.adopts || ms >= LOCK_MS)
			return -errno;
		usleep(1000);
	}
	return 0;
}

static int size_device(struct tier *t, int fd)
{
	u64 bytes;

	if (ioctl(fd, BLKGETSIZE64, &bytes))
		return -errno;
	bytes -= bytes % TIER_ALIGN;
	if (!t->bytes)
		t->bytes = bytes;
	return t->bytes <= bytes ? 0 : -ENOSPC;
}

static int size_file(struct tier *t, int fd)
{
	int rc;

	if (!t->bytes)
		t->bytes = SIZE_DEFAULT;
	rc = fallocate(fd, 0, 0, (off_t)t->bytes) ? -errno : 0;
	if (rc == -EOPNOTSUPP) /* what it lacks is found when it is written */
		rc = ftruncate(fd, (off_t)t->bytes) ? -errno : 0;
	return rc;
}

static int file_open(struct tier *t, const char *path, char *err)
{
	struct tier_file *f = calloc(1, sizeof(*f));
	bool made = true;
	struct stat st;
	int rc;

	if (!f)
		return err_set(err, -ENOMEM, "swap file: no memory");
	f->fd = open_either(path, O_CREAT | O_EXCL);
	if (f->fd == -EEXIST) {
		made = t->env.adopts && t->env.made;
		f->fd = open_either(path, 0);
	}
	t->made = made;
	t->outlives = true;
	rc = min(f->fd, 0);
	if (!rc && fstat(f->fd, &st))
		rc = -errno;
	if (!rc && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		rc = -EINVAL;
	if (!rc)
		rc = lock_file(t, f->fd);
	f->is_device = !rc && S_ISBLK(st.st_mode);
	if (!rc)
		rc = f->is_device ? size_device(t, f->fd) : size_file(t, f->fd);
	if (!rc && made) {
		f->path = strdup(path);
		rc = f->path ? 0 : -ENOMEM;
	}
	if (!rc)
		rc = rw_create(t->env.io, f->fd, &f->rw);
	if (!rc) {
		t->priv = f;
		return 0;
	}
	if (f->fd >= 0) {
		if (made)
			unlink(path);
		close(f->fd);
	}
	free(f->path);
	free(f);
	return err_set(err, rc, "swap file %s: %s", path,
		       rc == -EAGAIN   ? "another kvmd uses it"
		       : rc == -ENOSPC ? "there is not so much room"
		       : rc == -EINVAL ? "neither a file nor a partition"
				       : strerror(-rc));
}

static void end_run(struct work *w)
{
	struct file_end *e = container_of(w, struct file_end, work);

	if (e->path)
		unlink(e->path);
	if (e->fd >= 0)
		close(e->fd);
}

static void end_done(struct work *w)
{
	struct file_end *e = container_of(w, struct file_end, work);

	*e->over = true;
	free(e->path);
	free(e);
}

/*
 * Both may wait for the disk, for ever. What is not done in a moment is left to
 * the thread, or to the end of the process. Without memory for a thread they
 * are done here: most disks answer.
 */
static void file_end(struct io *io, char *path, int fd)
{
	bool over = false;
	struct file_end here = { .work = { .run = end_run, .done = end_done },
				 .path = path,
				 .fd = fd,
				 .over = &over };
	struct file_end *e = malloc(sizeof(*e));
	struct work_pool *pool;

	if (!e || work_pool_create(io, 1, &pool)) {
		free(e);
		end_run(&here.work);
		free(path);
		return;
	}
	*e = here;
	work_submit(pool, &e->work);
	work_pool_wait(pool, END_MS);
	if (over) {
		work_pool_destroy(pool);
		return;
	}
	log_warn("a disk does not answer",
		 "text=\"the end of the swap file is left to the kernel\"");
	work_pool_leave(pool);
}

static void file_close(struct tier *t)
{
	struct tier_file *f = t->priv;

	rw_destroy(f->rw);
	file_end(t->env.io, f->path, t->busy ? -1 : f->fd);
	if (!t->busy)
		free(f);
}

static void file_done(struct rw_req *rw)
{
	tier_end(container_of(rw, struct tier_req, rw), rw->err);
}

static void file_submit(struct tier *t, struct tier_req *req)
{
	struct tier_file *f = t->priv;

	req->rw.write = req->write;
	req->rw.bytes = req->bytes;
	req->rw.off = req->off;
	req->rw.buf = req->buf;
	req->rw.done = file_done;
	rw_submit(f->rw, &req->rw);
}

static void file_kick(struct tier *t)
{
	struct tier_file *f = t->priv;

	rw_kick(f->rw);
}

static void file_wait(struct tier *t, int ms)
{
	struct tier_file *f = t->priv;

	rw_wait(f->rw, ms);
}

static int file_discard(struct tier *t, u64 off, u64 bytes)
{
	struct tier_file *f = t->priv;
	u64 range[2] = { off, bytes };
	int rc;

	if (f->is_device)
		rc = ioctl(f->fd, BLKDISCARD, range);
	else
		rc = fallocate(f->fd,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (off_t)off, (off_t)bytes);
	return rc ? -errno : 0;
}

const struct tier_ops tier_file_ops = {
	.name = "file",
	.open = file_open,
	.close = file_close,
	.submit = file_submit,
	.kick = file_kick,
	.wait = file_wait,
	.discard = file_discard,
};
