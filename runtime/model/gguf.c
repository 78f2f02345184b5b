/* SPDX-License-Identifier: MIT */
/*
 * gguf.c - opening, mapping and closing a GGUF file
 *
 * A file has a header (metadata and the table of tensors) and, behind it,
 * the data of the tensors. The two are held differently:
 *
 *	header	read() into private memory piece by piece as the parser asks
 *		for it. What was validated cannot change afterwards, whoever
 *		writes to the file.
 *	data	one read-only mapping of the whole file. Its bytes are only
 *		ever used as numbers, so a writer can spoil results but break
 *		no bound. A file that shrinks takes pages away and a reader
 *		of those gets SIGBUS; there is no handler for it here, since
 *		one cannot say for a whole process what to do about it. Who
 *		must survive uses gguf_read(), who copies checks with
 *		gguf_unchanged() afterwards.
 *
 * The size is taken once, at open, and every bound is against that number.
 */
#include "runtime/model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/model/gguf_priv.h"

#define HEADER_STEP (1ull << 20)

static int read_at(int fd, void *dst, u64 len, u64 from)
{
	u8 *p = dst;

	while (len) {
		ssize_t n = pread(fd, p, min(len, (u64)1 << 30), (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -ESTALE;
		p += n;
		from += (u64)n;
		len -= (u64)n;
	}
	return 0;
}

int gguf_header_load(struct gguf *g, u64 len, char *err)
{
	u64 want;
	int rc;

	if (len <= g->header_len)
		return 0;
	if (len > g->header_cap)
		return err_set(err, -EINVAL,
			       "%s: the header is longer than %llu MiB",
			       g->name, GGUF_HEADER_MAX >> 20);
	want = min(ALIGN_UP(len, HEADER_STEP), g->header_cap);
	rc = read_at(g->fd, g->header + g->header_len, want - g->header_len,
		     g->header_len);
	if (rc)
		return err_set(err, rc, "%s: cannot read the header: %s",
			       g->name, strerror(-rc));
	g->header_len = want;
	return 0;
}

static struct gguf *gguf_alloc(const char *name)
{
	struct gguf *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->fd = -1;
	g->name = strdup(name);
	if (!g->name) {
		free(g);
		return NULL;
	}
	return g;
}

void gguf_close(struct gguf *g)
{
	if (!g)
		return;
	for (u64 i = 0; i < g->nr_kvs; i++)
		free(g->kvs[i].key);
	for (u64 i = 0; i < g->nr_tensors; i++)
		free((char *)g->tensors[i].name);
	free(g->kvs);
	free(g->kv_order);
	free(g->tensors);
	free(g->tensor_order);
	if (g->fd < 0) {
		free(g->header);
	} else {
		if (g->header)
			munmap(g->header, g->header_cap);
		if (g->file)
			munmap((void *)g->file, g->size);
		close(g->fd);
	}
	free(g->name);
	free(g);
}

/* Size, identity, mapping and the room for the header's copy. */
static int attach_file(struct gguf *g, int fd, char *err)
{
	void *p;

	g->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (g->fd < 0)
		return err_set(err, -errno, "%s: %s", g->name, strerror(errno));
	if (fstat(g->fd, &g->st))
		return err_set(err, -errno, "%s: %s", g->name, strerror(errno));
	if (!S_ISREG(g->st.st_mode))
		return err_set(err, -EINVAL, "%s: not a regular file", g->name);
	if (!g->st.st_size)
		return err_set(err, -EINVAL, "%s: the file is empty", g->name);
	g->size = (u64)g->st.st_size;

	p = mmap(NULL, g->size, PROT_READ, MAP_SHARED, g->fd, 0);
	if (p == MAP_FAILED)
		return err_set(err, -errno, "%s: cannot map it: %s", g->name,
			       strerror(errno));
	g->file = p;

	g->header_cap = min(g->size, GGUF_HEADER_MAX);
	p = mmap(NULL, g->header_cap, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_set(err, -errno, "%s: no memory for the header",
			       g->name);
	g->header = p;
	return 0;
}

int gguf_open_fd(int fd, const char *name, struct gguf **out, char *err)
{
	struct gguf *g = gguf_alloc(name);
	int rc;

	if (!g)
		return err_set(err, -ENOMEM, "%s: out of memory", name);
	rc = attach_file(g, fd, err);
	if (!rc)
		rc = gguf_parse(g, err);
	if (rc) {
		gguf_close(g);
		return rc;
	}
	/* the rest of the reservation was never touched, but give it back */
	if (ALIGN_UP(g->header_len, 4096) < g->header_cap) {
		u64 keep = ALIGN_UP(g->header_len, 4096);

		munmap(g->header + keep, g->header_cap - keep);
		g->header_cap = keep;
	}
	*out = g;
	return 0;
}

int gguf_open(const char *path, struct gguf **out, char *err)
{
	/* O_NONBLOCK: a FIFO without a writer must not hang us */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	int rc;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = gguf_open_fd(fd, path, out, err);
	close(fd);
	return rc;
}

int gguf_open_mem(const void *buf, size_t len, const char *name,
		  struct gguf **out, char *err)
{
	struct gguf *g = gguf_alloc(name);
	void *copy;
	int rc;

	if (!g || posix_memalign(&copy, 64, len ? len : 1)) {
		gguf_close(g);
		return err_set(err, -ENOMEM, "%s: out of memory", name);
	}
	if (len)
		memcpy(copy, buf, len);
	g->size = g->header_cap = g->header_len = len;
	g->header = copy;
	g->file = copy;
	rc = gguf_parse(g, err);
	if (rc) {
		gguf_close(g);
		return rc;
	}
	*out = g;
	return 0;
}

int gguf_unchanged(const struct gguf *g, char *err)
{
	struct stat st;

	if (g->fd < 0)
		return 0;
	if (fstat(g->fd, &st))
		return err_set(err, -errno, "%s: %s", g->name, strerror(errno));
	if (st.st_size != g->st.st_size || st.st_ino != g->st.st_ino ||
	    st.st_dev != g->st.st_dev ||
	    st.st_mtim.tv_sec != g->st.st_mtim.tv_sec ||
	    st.st_mtim.tv_nsec != g->st.st_mtim.tv_nsec ||
	    st.st_ctim.tv_sec != g->st.st_ctim.tv_sec ||
	    st.st_ctim.tv_nsec != g->st.st_ctim.tv_nsec)
		return err_set(err, -ESTALE,
			       "%s: the file changed while it was read",
			       g->name);
	return 0;
}

int gguf_read(const struct gguf *g, const struct gguf_tensor *t, u64 from,
	      void *dst, u64 len, char *err)
{
	int rc;

	if (from > t->nr_bytes || len > t->nr_bytes - from)
		return err_set(err, -EINVAL,
			       "%s: tensor '%s' has no bytes %llu+%llu",
			       g->name, t->name, (unsigned long long)from,
			       (unsigned long long)len);
	if (g->fd < 0) {
		memcpy(dst, g->file + t->offset + from, len);
		return 0;
	}
	rc = read_at(g->fd, dst, len, t->offset + from);
	if (rc)
		return err_set(err, rc, "%s: cannot read tensor '%s': %s",
			       g->name, t->name,
			       rc == -ESTALE ? "the file became shorter"
					     : strerror(-rc));
	return 0;
}
