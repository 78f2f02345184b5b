/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_GGUF_PRIV_H
#define RUNTIME_MODEL_GGUF_PRIV_H
/*
 * gguf_priv.h - what gguf.c, gguf_parse.c and gguf_get.c share
 */
#include <sys/stat.h>

#include "runtime/model/gguf.h"

/* A header is a vocabulary and some numbers: 6 MB for 262,144 tokens. */
#define GGUF_HEADER_MAX	   (256ull << 20)
#define GGUF_KEY_MAX	   65535
#define GGUF_NAME_MAX	   64
#define GGUF_DEFAULT_ALIGN 32

struct gguf_kv {
	char *key; /* owned */
	u32 type; /* enum gguf_type */
	u32 elem_type; /* of an array, else @type */
	u64 len; /* elements, 1 for a plain value */
	const u8 *data; /* into the header copy */
};

struct gguf {
	char *name; /* owned: for sentences */
	u32 version;
	u64 size; /* of the file, taken once */

	const u8 *file; /* read-only mapping, or the copy of a memory file */
	u8 *header; /* private copy of the first bytes, == file for mem */
	u64 header_cap; /* bytes reserved at @header */
	u64 header_len; /* bytes of it that were read */
	int fd; /* own duplicate, -1 for a memory file */
	struct stat st; /* as it was at open */

	struct gguf_kv *kvs; /* file order */
	u32 *kv_order; /* indices sorted by key */
	u64 nr_kvs;
	struct gguf_tensor *tensors; /* file order; names are owned */
	u32 *tensor_order; /* indices sorted by name */
	u64 nr_tensors;
	u64 data_start;
};

/* Bytes of one value of a fixed-size type, 0 for strings and arrays. */
u32 gguf_type_bytes(u32 type);
const char *gguf_type_name(u32 type);
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key);

/* gguf.c: make sure that the first @len bytes of the header are there. */
int gguf_header_load(struct gguf *g, u64 len, char *err);

/* gguf_parse.c: fill kvs and tensors; what failed half-way is freed by
 * gguf_close().
 */
int gguf_parse(struct gguf *g, char *err);

#endif
