/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_GGUF_H
#define RUNTIME_MODEL_GGUF_H
/*
 * gguf.h - a checked reader of GGUF model files, versions 2 and 3
 *
 * gguf_open() validates the whole header before it returns: whatever the
 * getters hand out afterwards lies inside the file (or the private copy of
 * its header), so that their callers need no further bounds checks.
 */
#include <stdio.h>

#include "kv/errbuf.h"
#include "kv/types.h"

struct gguf;

/* Metadata value types: the file's own numbers. */
enum gguf_type {
	GGUF_U8 = 0,
	GGUF_I8 = 1,
	GGUF_U16 = 2,
	GGUF_I16 = 3,
	GGUF_U32 = 4,
	GGUF_I32 = 5,
	GGUF_F32 = 6,
	GGUF_BOOL = 7,
	GGUF_STR = 8,
	GGUF_ARR = 9,
	GGUF_U64 = 10,
	GGUF_I64 = 11,
	GGUF_F64 = 12,
	GGUF_NR_TYPES
};

#define GGUF_MAX_DIMS 4

/* A string of the file: not NUL-terminated, may hold any byte. */
struct gguf_str {
	const char *ptr;
	size_t len;
};

/* An array of the file; the elements are packed and unaligned. */
struct gguf_arr {
	u32 type; /* enum gguf_type of one element, never GGUF_ARR */
	u64 len; /* elements */
	const u8 *data;
};

/**
 * struct gguf_tensor - one tensor of the file
 * @name: NUL-terminated, at most 64 bytes
 * @type: enum kv_dtype, always one that dtype.h knows
 * @nr_dims: 1 to GGUF_MAX_DIMS
 * @ne: elements per dimension, fastest first; 1 beyond @nr_dims
 * @nr_elems: their product
 * @nr_bytes: size of the data
 * @offset: of the data from the start of the file
 * @data: into the read-only mapping (see gguf_unchanged)
 */
struct gguf_tensor {
	const char *name;
	u32 type;
	u32 nr_dims;
	u64 ne[GGUF_MAX_DIMS];
	u64 nr_elems;
	u64 nr_bytes;
	u64 offset;
	const void *data;
};

/**
 * gguf_open - open and validate a file
 * @path: the file; kept for the sentences
 * @out: set on success only; gguf_close() it
 * @err: KV_ERRLEN bytes, or NULL: the sentence for a refusal
 *
 * gguf_open_fd takes a descriptor, which stays the caller's and may be
 * closed at once. gguf_open_mem reads @len bytes at @buf, which must stay
 * until gguf_close(). @name stands for the path in sentences.
 *
 * Return: 0, -EINVAL for anything wrong with the contents, -EOPNOTSUPP for
 * a version or tensor type that is not read, or the system's -errno.
 */
int __must_check gguf_open(const char *path, struct gguf **out, char *err);
int __must_check gguf_open_fd(int fd, const char *name, struct gguf **out,
			      char *err);
int __must_check gguf_open_mem(const void *buf, size_t len, const char *name,
			       struct gguf **out, char *err);
void gguf_close(struct gguf *g);

/**
 * gguf_unchanged - is the file still the one that was validated?
 *
 * The header is a private copy, tensor data is a mapping of the file: its
 * bytes may change under the reader (any bit pattern is a valid weight) and
 * a file that shrinks raises SIGBUS on the lost pages. A reader that copies
 * weights out calls this afterwards and drops the copy on failure; one that
 * must survive a shrinking file reads with gguf_read() instead.
 *
 * Return: 0, or -ESTALE when size, times, inode or device differ.
 */
int __must_check gguf_unchanged(const struct gguf *g, char *err);

/**
 * gguf_read - copy a part of a tensor by pread
 * @t: tensor of @g
 * @from: first byte within the tensor
 * @len: bytes; @from + @len must lie inside
 *
 * Return: 0, -EINVAL outside the tensor, -ESTALE if the file became
 * shorter, or the system's -errno.
 */
int __must_check gguf_read(const struct gguf *g, const struct gguf_tensor *t,
			   u64 from, void *dst, u64 len, char *err);

/* The path or name given at open, the version, the size in bytes. */
const char *gguf_name(const struct gguf *g);
u32 gguf_version(const struct gguf *g);
u64 gguf_size(const struct gguf *g);

/*
 * The bytes before the first tensor, as they were when they were validated:
 * a private copy. @len: how many of them.
 */
const void *gguf_header(const struct gguf *g, u64 *len);

/**
 * gguf_get_u64 and the others - a metadata value by key
 * @out: set on success only
 * @err: set when the key exists with a wrong type or range; for -ENOENT too
 *
 * Integers of any width convert to any other that holds the value; the
 * float getter takes f32, f64 and integers. gguf_get_arr takes an array whose
 * elements have the class of @type: GGUF_STR, GGUF_F32 (f32 only), GGUF_BOOL
 * or GGUF_I64 (any integer; read it with gguf_arr_int).
 *
 * Return: 0, -ENOENT if there is no such key, -EINVAL for a wrong type.
 */
int gguf_get_u64(const struct gguf *g, const char *key, u64 *out, char *err);
int gguf_get_u32(const struct gguf *g, const char *key, u32 *out, char *err);
int gguf_get_f32(const struct gguf *g, const char *key, float *out, char *err);
int gguf_get_bool(const struct gguf *g, const char *key, bool *out, char *err);
int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out,
		 char *err);
int gguf_get_arr(const struct gguf *g, const char *key, enum gguf_type type,
		 struct gguf_arr *out, char *err);
bool gguf_has(const struct gguf *g, const char *key);

/* True if the string value of @key equals @s. */
bool gguf_str_is(const struct gguf *g, const char *key, const char *s);

/* Elements of a non-string array; @i < arr->len is the caller's duty. */
s64 gguf_arr_int(const struct gguf_arr *arr, u64 i);
float gguf_arr_f32(const struct gguf_arr *arr, u64 i);

/* The next string: *@pos is 0 at first and is moved on. */
struct gguf_str gguf_arr_next_str(const struct gguf_arr *arr, u64 *pos);

#define GGUF_SHOW_LEN 80

/**
 * gguf_show - a string of the file, fit for a sentence
 * @buf: GGUF_SHOW_LEN bytes
 *
 * What is no printable ASCII becomes '?', what does not fit is cut.
 * Return: @buf.
 */
const char *gguf_show(struct gguf_str s, char *buf);

/* Metadata keys in file order, for dumps: NULL past the end. */
const char *gguf_key(const struct gguf *g, u64 i, u32 *type);

/* Tensors in file order, and by name (NULL if there is none). */
u64 gguf_nr_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, u64 i);
const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name);

/**
 * gguf_dump - write keys and tensors for a person to read
 * @max_elems: array elements shown per key
 */
void gguf_dump(const struct gguf *g, FILE *out, u64 max_elems);

#endif
