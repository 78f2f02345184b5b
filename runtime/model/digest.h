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

/**
 * digest_copy - copy a file into memory and check what was copied
 * @dst: @bytes long, the file's size
 * @want: its digest
 *
 * Return: 0, -ESTALE if the bytes are not those of the digest, or the
 * system's -errno.
 */
int __must_check digest_copy(int fd, const char *name, void *dst, u64 bytes,
			     const u8 want[DIGEST_BYTES], char *err);

#endif
