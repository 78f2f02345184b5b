/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_GGUF_WRITE_H
#define SELFTESTS_GGUF_WRITE_H
/*
 * gguf_write.h - build tiny GGUF files in memory
 *
 *	struct gguf_writer w = { 0 };
 *	gw_str(&w, "general.architecture", "qwen2");
 *	gw_tensor(&w, "x", KV_DTYPE_F32, 2, (u64[]){ 4, 3 }, data, 48);
 *	buf = gw_finish(&w, &len);	(free() it)
 *
 * Nothing is checked: a test can write nonsense. Running out of memory
 * aborts the test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/gguf.h"

struct gw_buf {
	u8 *p;
	size_t len, cap;
};

struct gguf_writer {
	u32 version; /* 0: 3 */
	u32 align; /* 0: 32, and no key for it */
	u64 nr_kvs, nr_tensors;
	struct gw_buf kvs, infos, data;
};

static inline void gw_put(struct gw_buf *b, const void *p, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len) + 256;
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			abort();
	}
	if (p)
		memcpy(b->p + b->len, p, len);
	else
		memset(b->p + b->len, 0, len);
	b->len += len;
}

static inline void gw_put_u32(struct gw_buf *b, u32 v)
{
	gw_put(b, &v, sizeof(v));
}

static inline void gw_put_u64(struct gw_buf *b, u64 v)
{
	gw_put(b, &v, sizeof(v));
}

static inline void gw_put_str(struct gw_buf *b, const char *s, size_t len)
{
	gw_put_u64(b, len);
	if (len)
		gw_put(b, s, len);
}

/* A key and its type; the value follows by hand. */
static inline void gw_key(struct gguf_writer *w, const char *key, u32 type)
{
	gw_put_str(&w->kvs, key, strlen(key));
	gw_put_u32(&w->kvs, type);
	w->nr_kvs++;
}

static inline void gw_raw(struct gguf_writer *w, const char *key, u32 type,
			  const void *v, size_t len)
{
	gw_key(w, key, type);
	gw_put(&w->kvs, v, len);
}

static inline void gw_u32(struct gguf_writer *w, const char *key, u32 v)
{
	gw_raw(w, key, GGUF_U32, &v, sizeof(v));
}

static inline void gw_f32(struct gguf_writer *w, const char *key, float v)
{
	gw_raw(w, key, GGUF_F32, &v, sizeof(v));
}

static inline void gw_bool(struct gguf_writer *w, const char *key, bool v)
{
	u8 b = v;

	gw_raw(w, key, GGUF_BOOL, &b, 1);
}

static inline void gw_str(struct gguf_writer *w, const char *key, const char *s)
{
	gw_key(w, key, GGUF_STR);
	gw_put_str(&w->kvs, s, strlen(s));
}

static inline void gw_arr(struct gguf_writer *w, const char *key, u32 type,
			  const void *v, u64 nr, size_t elem_bytes)
{
	gw_key(w, key, GGUF_ARR);
	gw_put_u32(&w->kvs, type);
	gw_put_u64(&w->kvs, nr);
	gw_put(&w->kvs, v, nr * elem_bytes);
}

static inline void gw_arr_f32(struct gguf_writer *w, const char *key,
			      const float *v, u64 nr)
{
	gw_arr(w, key, GGUF_F32, v, nr, sizeof(*v));
}

static inline void gw_arr_i32(struct gguf_writer *w, const char *key,
			      const s32 *v, u64 nr)
{
	gw_arr(w, key, GGUF_I32, v, nr, sizeof(*v));
}

static inline void gw_arr_str(struct gguf_writer *w, const char *key,
			      const char *const *v, u64 nr)
{
	gw_key(w, key, GGUF_ARR);
	gw_put_u32(&w->kvs, GGUF_STR);
	gw_put_u64(&w->kvs, nr);
	for (u64 i = 0; i < nr; i++)
		gw_put_str(&w->kvs, v[i], strlen(v[i]));
}

/* A tensor at a given offset of the data section; adds no data. */
static inline void gw_tensor_at(struct gguf_writer *w, const char *name,
				u32 type, u32 nr_dims, const u64 *ne,
				u64 offset)
{
	gw_put_str(&w->infos, name, strlen(name));
	gw_put_u32(&w->infos, nr_dims);
	gw_put(&w->infos, ne, nr_dims * sizeof(*ne));
	gw_put_u32(&w->infos, type);
	gw_put_u64(&w->infos, offset);
	w->nr_tensors++;
}

/* @data NULL writes zeroes. */
static inline void gw_tensor(struct gguf_writer *w, const char *name, u32 type,
			     u32 nr_dims, const u64 *ne, const void *data,
			     size_t len)
{
	u32 align = w->align ? w->align : 32;

	gw_tensor_at(w, name, type, nr_dims, ne, w->data.len);
	gw_put(&w->data, data, len);
	gw_put(&w->data, NULL, (align - w->data.len % align) % align);
}

/* The bytes of the file, to free(); the writer is empty again. */
static inline u8 *gw_finish(struct gguf_writer *w, size_t *len)
{
	struct gw_buf out = { 0 };
	u32 align = w->align ? w->align : 32;

	if (w->align)
		gw_u32(w, "general.alignment", w->align);
	gw_put(&out, "GGUF", 4);
	gw_put_u32(&out, w->version ? w->version : 3);
	gw_put_u64(&out, w->nr_tensors);
	gw_put_u64(&out, w->nr_kvs);
	gw_put(&out, w->kvs.p, w->kvs.len);
	gw_put(&out, w->infos.p, w->infos.len);
	if (w->nr_tensors)
		gw_put(&out, NULL, (align - out.len % align) % align);
	gw_put(&out, w->data.p, w->data.len);
	free(w->kvs.p);
	free(w->infos.p);
	free(w->data.p);
	*w = (struct gguf_writer){ 0 };
	*len = out.len;
	return out.p;
}

/* Write the file and empty the writer. Returns 0 or -1 with errno. */
static inline int gw_write(struct gguf_writer *w, const char *path)
{
	size_t len;
	u8 *buf = gw_finish(w, &len);
	FILE *f = fopen(path, "wb");
	int rc = -1;

	if (f) {
		rc = fwrite(buf, 1, len, f) == len ? 0 : -1;
		if (fclose(f))
			rc = -1;
	}
	free(buf);
	return rc;
}

#endif
