/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_DIGEST_H
#define RUNTIME_MODEL_DIGEST_H
/*
 * digest.h - the SHA-256 that names a model file
 */
#include "kv/errbuf.h"
#include "kv/types.h"

#define DIGEST_BYTES 32

/**
 * digest_file - the digest of an open file
 * @fd: the file; its offset is not used
 * @name: stands for it in sentences
 * @out: the digest
 * @err: KV_ERRLEN bytes
 *
 * Remembered under ${XDG_CACHE_HOME:-~/.cache}/kvmd/digests by device, inode,
 * size, modification and change time; a cache that cannot be written is no
 * error.
 *
 * Return: 0, -ESTALE if the file changed meanwhile, or the system's -errno.
 */
int __must_check digest_file(int fd, const char *name, u8 out[DIGEST_BYTES],
			     char *err);

/* Drop what is remembered of a file: its bytes have shown that it is wrong. */
void digest_forget(int fd);

/**
 * struct digest_stream - a file that is read once, from front to end
 * @at: bytes read and hashed so far
 *
 * Whoever fills memory from a file reads it through this: the bytes that
 * were used are the bytes that were hashed, whatever happens to the file
 * meanwhile.
 */
struct digest_stream {
	int fd;
	const char *name; /* for sentences */
	u64 at;
	void *ctx;
};

int __must_check digest_stream_open(struct digest_stream *s, int fd,
				    const char *name, char *err);
/*
 * The next @bytes, to @dst or nowhere. Return: 0, -ESTALE if the file ends
 * before, -ENOMEM, or the system's -errno.
 */
int __must_check digest_stream_read(struct digest_stream *s, void *dst,
				    u64 bytes, char *err);
int __must_check digest_stream_skip(struct digest_stream *s, u64 bytes,
				    char *err);
/* The digest of what was read; closes the stream in any case. */
int __must_check digest_stream_end(struct digest_stream *s,
				   u8 out[DIGEST_BYTES], char *err);
void digest_stream_close(struct digest_stream *s);

#endif
