/* SPDX-License-Identifier: MIT */
/*
 * listen.c - the socket that clients connect to
 *
 * The order matters: lock, look at what lies at the path, bind, set owner and
 * mode, listen. Until listen() nobody can connect, so nobody meets a socket
 * whose mode is not set yet.
 *
 * The lock file is removed at the end while the lock is held. Another kvmd
 * that opened it just before finds, once it has the lock, that its file is
 * not the one at the path any more, and tries again.
 */
#include "kvmd/ipc/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/ipc/peer.h"

#define LISTEN_BACKLOG 128
#define LOCK_TRIES     16

static int make_dir(struct listener *l, char *err)
{
	char dir[LISTEN_PATH_MAX], *slash;

	snprintf(dir, sizeof(dir), "%s", l->path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return 0;
	*slash = '\0';
	if (!mkdir(dir, 0755)) {
		l->made_dir = true;
		/* whatever the umask: the socket's own mode decides */
		return chmod(dir, 0755)
			       ? err_set(err, -errno, "socket %s: %s: %s",
					 l->path, dir, strerror(errno))
			       : 0;
	}
	if (errno == EEXIST)
		return 0;
	return err_set(err, -errno,
		       "socket %s: cannot make the directory %s: %s", l->path,
		       dir, strerror(errno));
}

/* Who has the lock. */
static int lock_sign(int fd)
{
	char pid[16];
	int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());

	return ftruncate(fd, 0) || pwrite(fd, pid, (size_t)n, 0) != n ? -EIO
								      : 0;
}

static int lock_once(struct listener *l, char *err)
{
	struct stat mine, there;
	char pid[16] = "";
	ssize_t n;
	int fd, rc;

	fd = open(l->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
		  0600);
	if (fd < 0)
		return err_set(err, -errno, "socket %s: cannot lock %s: %s",
			       l->path, l->lock_path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK) {
			rc = err_set(err, -errno,
				     "socket %s: cannot lock %s: %s", l->path,
				     l->lock_path, strerror(errno));
			/* nobody has signed it, so we may have made it; who
			 * opened it too finds that it is not at the path */
			if (!fstat(fd, &mine) && !mine.st_size)
				unlink(l->lock_path);
			close(fd);
			return rc;
		}
		n = pread(fd, pid, sizeof(pid) - 1, 0);
		pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
		close(fd);
		return err_set(err, -EADDRINUSE,
			       "socket %s: another kvmd (pid %s) serves it",
			       l->path, *pid ? pid : "unknown");
	}
	if (fstat(fd, &mine) || stat(l->lock_path, &there) ||
	    mine.st_ino != there.st_ino || mine.st_dev != there.st_dev) {
		close(fd);
		return -EAGAIN;
	}
	l->lock_fd = fd;
	if (lock_sign(fd))
		return err_set(err, -errno, "socket %s: cannot write %s: %s",
			       l->path, l->lock_path, strerror(errno));
	return 0;
}

/*
 * Does a living process answer on @fd? A socket can outlive its process for
 * a moment: io_uring lets go of its files after the process has ended.
 */
static bool peer_lives(int fd)
{
	struct peer p;
	bool lives;

	if (peer_get(fd, &p))
		return true;
	lives = !peer_is_gone(&p);
	peer_put(&p);
	return lives;
}

/* Remove a socket that nobody answers on. */
static int remove_stale(struct listener *l, const struct sockaddr_un *sun,
			char *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(l->path, &st))
		return errno == ENOENT ? 0
				       : err_set(err, -errno, "socket %s: %s",
						 l->path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST,
			       "socket %s: something that is no socket lies "
			       "there",
			       l->path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "socket %s: %s", l->path,
			       strerror(errno));
	rc = connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) ? -errno
								     : 0;
	if (!rc && !peer_lives(fd))
		rc = -ECONNREFUSED;
	close(fd);
	if (rc != -ECONNREFUSED && rc != -ENOENT)
		return err_set(err, rc == -EACCES ? rc : -EADDRINUSE,
			       "socket %s: another program serves it", l->path);
	if (unlink(l->path) && errno != ENOENT)
		return err_set(err, -errno,
			       "socket %s: cannot remove a dead kvmd's: %s",
			       l->path, strerror(errno));
	return 0;
}

static int set_owner(const char *path)
{
	struct group *g = geteuid() ? NULL : getgrnam("kvmem");

	if (g && chown(path, 0, g->gr_gid)) {
		if (errno != EINVAL)
			return -errno;
		g = NULL; /* no group of this user namespace */
	}
	return chmod(path, g ? 0660 : 0600) ? -errno : 0;
}

static int bind_and_listen(struct listener *l, const struct sockaddr_un *sun,
			   char *err)
{
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "socket %s: %s", l->path,
			       strerror(errno));
	if (bind(fd, (const struct sockaddr *)sun, sizeof(*sun))) {
		rc = err_set(err, -errno, "socket %s: cannot bind: %s", l->path,
			     strerror(errno));
		close(fd);
		return rc;
	}
	l->watch.fd = fd;
	rc = set_owner(l->path);
	if (rc)
		return err_set(err, rc, "socket %s: cannot set its owner: %s",
			       l->path, strerror(-rc));
	if (listen(fd, LISTEN_BACKLOG))
		return err_set(err, -errno, "socket %s: cannot listen: %s",
			       l->path, strerror(errno));
	return 0;
}

int listen_open(struct listener *l, const char *path, char *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int rc, i;

	l->watch.fd = -1;
	l->lock_fd = -1;
	if (strlen(path) >= sizeof(sun.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "socket %s: a path of %zu bytes is too long "
			       "(at most %zu)",
			       path, strlen(path), sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, path, strlen(path) + 1);
	memcpy(l->path, path, strlen(path) + 1);
	snprintf(l->lock_path, sizeof(l->lock_path), "%s.lock", path);
	rc = make_dir(l, err);
	for (i = 0; !rc && i < LOCK_TRIES; i++) {
		rc = lock_once(l, err);
		if (rc != -EAGAIN)
			break;
		rc = i + 1 < LOCK_TRIES
			     ? 0
			     : err_set(err, -EADDRINUSE,
				       "socket %s: %s keeps changing", path,
				       l->lock_path);
	}
	if (!rc)
		rc = remove_stale(l, &sun, err);
	if (!rc)
		rc = bind_and_listen(l, &sun, err);
	if (rc)
		listen_close(l);
	return rc;
}

int listen_adopt(struct listener *l, const char *path, int fd, int lock_fd,
		 bool made_dir)
{
	if (fd < 0 || lock_fd < 0 || strlen(path) >= sizeof(l->path))
		return -EBADF;
	l->watch.fd = fd;
	l->lock_fd = lock_fd;
	l->made_dir = made_dir;
	snprintf(l->path, sizeof(l->path), "%s", path);
	snprintf(l->lock_path, sizeof(l->lock_path), "%s.lock", path);
	(void)lock_sign(lock_fd); /* a full disk costs nobody his client */
	return 0;
}

void listen_close(struct listener *l)
{
	char *slash;

	if (l->watch.fd >= 0) {
		close(l->watch.fd);
		unlink(l->path);
	}
	l->watch.fd = -1;
	if (l->lock_fd > 0) {
		unlink(l->lock_path);
		close(l->lock_fd);
	}
	l->lock_fd = -1;
	slash = l->made_dir ? strrchr(l->path, '/') : NULL;
	if (slash) {
		*slash = '\0';
		rmdir(l->path); /* unless others use it by now */
	}
	l->made_dir = false;
}
