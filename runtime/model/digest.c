/* SPDX-License-Identifier: MIT */
/*
 * digest.c - SHA-256 of a file, computed once
 *
 * The cache has one small text file per device and inode, replaced by rename:
 *	<size> <mtime ns> <ctime ns> <digest>
 * It is believed only when all three numbers are the file's. A file that was
 * changed within the last seconds is not remembered: a second change in the
 * same tick of the file system's clock would not show.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "runtime/model/digest.h"

#define PIECE	  (4u << 20)
#define SETTLED_S 3

static u64 ns_of(const struct timespec *t)
{
	return (u64)t->tv_sec * 1000000000u + (u64)t->tv_nsec;
}

/* mkdir -p of everything before the last slash. */
static void make_dirs(char *path)
{
	char *p;

	for (p = strchr(path + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		(void)mkdir(path, 0700);
		*p = '/';
	}
}

/* Return: malloc'ed, or NULL if there is no place for a cache. */
static char *cache_path(const struct stat *st)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	char *path;
	int n;

	if (xdg && *xdg == '/')
		n = asprintf(&path, "%s/kvmd/digests/%jx-%jx", xdg,
			     (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	else if (home && *home == '/')
		n = asprintf(&path, "%s/.cache/kvmd/digests/%jx-%jx", home,
			     (uintmax_t)st->st_dev, (uintmax_t)st->st_ino);
	else
		return NULL;
	return n < 0 ? NULL : path;
}

static bool parse_hex(const char *s, u8 out[DIGEST_BYTES])
{
	size_t i;

	if (strlen(s) != 2 * DIGEST_BYTES)
		return false;
	for (i = 0; i < DIGEST_BYTES; i++)
		if (sscanf(s + 2 * i, "%2hhx", &out[i]) != 1)
			return false;
	return true;
}

static bool cache_load(const char *path, const struct stat *st,
		       u8 out[DIGEST_BYTES])
{
	uint64_t size, mtime, ctime;
	char hex[2 * DIGEST_BYTES + 1];
	FILE *f = fopen(path, "re");
	int n;

	if (!f)
		return false;
	n = fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu64 " %64[0-9a-f]", &size,
		   &mtime, &ctime, hex);
	fclose(f);
	return n == 4 && size == (u64)st->st_size &&
	       mtime == ns_of(&st->st_mtim) && ctime == ns_of(&st->st_ctim) &&
	       parse_hex(hex, out);
}

static void cache_store(char *path, const struct stat *st,
			const u8 digest[DIGEST_BYTES])
{
	char *tmp;
	size_t i;
	FILE *f;
	int bad;

	if (time(NULL) - st->st_ctim.tv_sec < SETTLED_S)
		return;
	if (asprintf(&tmp, "%s.%d", path, (int)getpid()) < 0)
		return;
	make_dirs(tmp);
	f = fopen(tmp, "wxe");
	if (f) {
		fprintf(f, "%ju %" PRIu64 " %" PRIu64 " ",
			(uintmax_t)st->st_size, ns_of(&st->st_mtim),
			ns_of(&st->st_ctim));
		for (i = 0; i < DIGEST_BYTES; i++)
			fprintf(f, "%02x", digest[i]);
		fputc('\n', f);
		bad = ferror(f);
		if (fclose(f) || bad || rename(tmp, path))
			(void)unlink(tmp);
	}
	free(tmp);
}

void digest_forget(int fd)
{
	struct stat st;
	char *path;

	if (fstat(fd, &st))
		return;
	path = cache_path(&st);
	if (path)
		(void)unlink(path);
	free(path);
}

int digest_stream_open(struct digest_stream *s, int fd, const char *name,
		       char *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	*s = (struct digest_stream){ .fd = fd, .name = name };
	if (!ctx || EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(ctx);
		return err_set(err, -ENOMEM, "%s: no memory for its digest",
			       name);
	}
	s->ctx = ctx;
	return 0;
}

int digest_stream_read(struct digest_stream *s, void *dst, u64 bytes, char *err)
{
	u8 *to = dst;
	ssize_t n;

	while (bytes) {
		n = pread(s->fd, to, min((u64)PIECE, bytes), (off_t)s->at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "%s: %s", s->name,
				       strerror(errno));
		if (n == 0)
			return err_set(err, -ESTALE,
				       "%s: the file became shorter", s->name);
		/* what lies in memory now is what is hashed and used */
		if (EVP_DigestUpdate(s->ctx, to, (size_t)n) != 1)
			return err_set(err, -ENOMEM, "%s: its digest failed",
				       s->name);
		to += n;
		s->at += (u64)n;
		bytes -= (u64)n;
	}
	return 0;
}

int digest_stream_skip(struct digest_stream *s, u64 bytes, char *err)
{
	u8 *piece;
	int rc = 0;

	if (!bytes)
		return 0;
	piece = malloc(min((u64)PIECE, bytes));
	if (!piece)
		return err_set(err, -ENOMEM, "%s: no memory for its digest",
			       s->name);
	while (!rc && bytes) {
		u64 n = min((u64)PIECE, bytes);

		rc = digest_stream_read(s, piece, n, err);
		bytes -= n;
	}
	free(piece);
	return rc;
}

int digest_stream_end(struct digest_stream *s, u8 out[DIGEST_BYTES], char *err)
{
	int rc = EVP_DigestFinal_ex(s->ctx, out, NULL) == 1 ? 0 : -ENOMEM;

	if (rc)
		err_set(err, rc, "%s: its digest failed", s->name);
	digest_stream_close(s);
	return rc;
}

void digest_stream_close(struct digest_stream *s)
{
	EVP_MD_CTX_free(s->ctx);
	s->ctx = NULL;
}

static int hash(int fd, const char *name, u64 bytes, u8 out[DIGEST_BYTES],
		char *err)
{
	struct digest_stream s;
	int rc = digest_stream_open(&s, fd, name, err);

	if (rc)
		return rc;
	rc = digest_stream_skip(&s, bytes, err);
	if (!rc)
		return digest_stream_end(&s, out, err);
	digest_stream_close(&s);
	return rc;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
	       a->st_size == b->st_size &&
	       ns_of(&a->st_mtim) == ns_of(&b->st_mtim) &&
	       ns_of(&a->st_ctim) == ns_of(&b->st_ctim);
}

int digest_file(int fd, const char *name, u8 out[DIGEST_BYTES], char *err)
{
	struct stat st, now;
	char *path;
	int rc = 0;

	if (fstat(fd, &st))
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	path = cache_path(&st);
	if (path && cache_load(path, &st, out))
		goto out_free;
	rc = hash(fd, name, (u64)st.st_size, out, err);
	if (!rc && (fstat(fd, &now) || !is_same(&st, &now)))
		rc = err_set(err, -ESTALE, "%s: the file is being changed",
			     name);
	if (!rc && path)
		cache_store(path, &st, out);
out_free:
	free(path);
	return rc;
}
