/* SPDX-License-Identifier: MIT */
/*
 * gguf_parse.c - validation of a GGUF header
 *
 * One pass with a cursor that never goes past the end of the file: magic,
 * version, counts, key-value pairs, tensor descriptions. Then what needs
 * the whole picture: duplicates (sorting), the alignment of the data
 * section, and that no two tensors share bytes. Counts in the file are never
 * trusted with memory: tables grow as their rows are read, and a row takes
 * bytes of the file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/include/dtype.h"
#include "runtime/model/gguf_priv.h"
#include "runtime/model/unicode.h"

#define ULL(x) ((unsigned long long)(x))

struct cursor {
	struct gguf *g;
	u64 pos;
	char *err;
	int rc; /* why the last take failed */
};

/* What is being read, for the sentence when the file ends in it. */
static const u8 *take(struct cursor *c, u64 n, const char *what)
{
	struct gguf *g = c->g;
	const u8 *p;

	if (n > g->size - c->pos) {
		c->rc = err_set(
			c->err, -EINVAL,
			"%s: the file ends inside %s (at byte %llu of %llu): "
			"truncated?",
			g->name, what, ULL(c->pos), ULL(g->size));
		return NULL;
	}
	c->rc = gguf_header_load(g, c->pos + n, c->err);
	if (c->rc)
		return NULL;
	p = g->header + c->pos;
	c->pos += n;
	return p;
}

static bool take_u32(struct cursor *c, u32 *v, const char *what)
{
	const u8 *p = take(c, sizeof(*v), what);

	if (p)
		memcpy(v, p, sizeof(*v));
	return p;
}

static bool take_u64(struct cursor *c, u64 *v, const char *what)
{
	const u8 *p = take(c, sizeof(*v), what);

	if (p)
		memcpy(v, p, sizeof(*v));
	return p;
}

/*
 * A name goes into sentences and onto terminals, so it is UTF-8 and holds no
 * control character. Returns an owned copy.
 */
static char *take_name(struct cursor *c, u64 max_len, const char *what)
{
	const u8 *p;
	char *s;
	u64 len;

	if (!take_u64(c, &len, what))
		return NULL;
	if (!len || len > max_len) {
		c->rc = err_set(c->err, -EINVAL,
				"%s: %s has a length of %llu, not 1 to %llu",
				c->g->name, what, ULL(len), ULL(max_len));
		return NULL;
	}
	p = take(c, len, what);
	if (!p)
		return NULL;
	for (u64 i = 0; i < len;) {
		u32 cp;

		i += utf8_decode((const char *)p + i, len - i, &cp);
		if (unicode_is_text(cp))
			continue;
		c->rc = err_set(
			c->err, -EINVAL, "%s: %s holds %s", c->g->name, what,
			cp == UNICODE_INVALID ? "bytes that are no UTF-8"
					      : "a control character");
		return NULL;
	}
	s = strndup((const char *)p, len);
	if (!s)
		c->rc = err_set(c->err, -ENOMEM, "%s: out of memory",
				c->g->name);
	return s;
}

/* Make room for row @nr in a table that doubles. */
static int grow(struct cursor *c, void **table, u64 nr, size_t row)
{
	void *p;
	u64 cap;

	if (nr & (nr - 1)) /* only at 0, 1, 2, 4, ... */
		return 0;
	cap = nr ? 2 * nr : 1;
	p = reallocarray(*table, cap, row);
	if (!p)
		return err_set(c->err, -ENOMEM, "%s: out of memory",
			       c->g->name);
	*table = p;
	return 0;
}

static int bad_value(struct cursor *c, const struct gguf_kv *kv,
		     const char *why, u64 num)
{
	return err_set(c->err, -EINVAL, "%s: key '%.64s': %s (%llu)",
		       c->g->name, kv->key, why, ULL(num));
}

static int check_bools(struct cursor *c, const struct gguf_kv *kv)
{
	for (u64 i = 0; i < kv->len; i++)
		if (kv->data[i] > 1)
			return bad_value(c, kv, "a bool is neither 0 nor 1",
					 kv->data[i]);
	return 0;
}

/* The elements of a value whose elem_type and len are set. */
static int parse_elems(struct cursor *c, struct gguf_kv *kv)
{
	u32 bytes = gguf_type_bytes(kv->elem_type);
	u64 len;

	if (bytes) {
		if (kv->len > (c->g->size - c->pos) / bytes)
			return bad_value(c, kv,
					 "more elements than the file "
					 "has bytes",
					 kv->len);
		kv->data = take(c, kv->len * bytes, "a value");
		if (!kv->data)
			return c->rc;
		return kv->elem_type == GGUF_BOOL ? check_bools(c, kv) : 0;
	}
	if (kv->len > (c->g->size - c->pos) / sizeof(len))
		return bad_value(c, kv, "more strings than the file has bytes",
				 kv->len);
	kv->data = c->g->header + c->pos;
	for (u64 i = 0; i < kv->len; i++)
		if (!take_u64(c, &len, "a string") || !take(c, len, "a string"))
			return c->rc;
	return 0;
}

static int parse_kv(struct cursor *c, struct gguf_kv *kv)
{
	if (!take_u32(c, &kv->type, "a value's type"))
		return c->rc;
	kv->elem_type = kv->type;
	kv->len = 1;
	if (kv->type == GGUF_ARR) {
		if (!take_u32(c, &kv->elem_type, "an array") ||
		    !take_u64(c, &kv->len, "an array"))
			return c->rc;
		if (kv->elem_type == GGUF_ARR)
			return err_set(c->err, -EOPNOTSUPP,
				       "%s: key '%.64s': arrays of arrays are "
				       "not read",
				       c->g->name, kv->key);
	}
	if (kv->elem_type >= GGUF_NR_TYPES)
		return bad_value(c, kv, "unknown value type", kv->elem_type);
	return parse_elems(c, kv);
}

static int parse_kvs(struct cursor *c, u64 nr)
{
	struct gguf *g = c->g;
	int rc;

	for (u64 i = 0; i < nr; i++) {
		struct gguf_kv kv = { 0 };

		rc = grow(c, (void **)&g->kvs, i, sizeof(kv));
		if (rc)
			return rc;
		kv.key = take_name(c, GGUF_KEY_MAX, "a key");
		if (!kv.key)
			return c->rc;
		rc = parse_kv(c, &kv);
		g->kvs[g->nr_kvs++] = kv; /* owned from here on */
		if (rc)
			return rc;
	}
	return 0;
}

/* Shape and size: everything but where the data lies. */
static int check_shape(struct cursor *c, struct gguf_tensor *t)
{
	const struct dtype_info *d = dtype_info(t->type);
	const char *file = c->g->name;

	if (!d)
		return err_set(c->err, -EOPNOTSUPP,
			       "%s: tensor '%s' has type %u, which is not "
			       "supported",
			       file, t->name, t->type);
	t->nr_elems = 1;
	for (u32 i = 0; i < t->nr_dims; i++) {
		if (!t->ne[i] ||
		    __builtin_mul_overflow(t->nr_elems, t->ne[i],
					   &t->nr_elems) ||
		    t->nr_elems > (u64)1 << 60)
			return err_set(c->err, -EINVAL,
				       "%s: tensor '%s': dimension %u is "
				       "%llu: impossible shape",
				       file, t->name, i, ULL(t->ne[i]));
	}
	if (t->ne[0] % d->block_len)
		return err_set(c->err, -EINVAL,
			       "%s: tensor '%s': rows of %llu elements are no "
			       "whole number of %s blocks",
			       file, t->name, ULL(t->ne[0]), d->name);
	if (__builtin_mul_overflow(t->nr_elems / d->block_len,
				   (u64)d->block_bytes, &t->nr_bytes))
		return err_set(c->err, -EINVAL,
			       "%s: tensor '%s' is impossibly large", file,
			       t->name);
	return 0;
}

static int parse_tensor(struct cursor *c, struct gguf_tensor *t)
{
	if (!take_u32(c, &t->nr_dims, "a tensor"))
		return c->rc;
	if (!t->nr_dims || t->nr_dims > GGUF_MAX_DIMS)
		return err_set(c->err, -EINVAL,
			       "%s: tensor '%s' has %u dimensions, not 1 to %u",
			       c->g->name, t->name, t->nr_dims, GGUF_MAX_DIMS);
	for (u32 i = 0; i < GGUF_MAX_DIMS; i++)
		t->ne[i] = 1;
	for (u32 i = 0; i < t->nr_dims; i++)
		if (!take_u64(c, &t->ne[i], "a tensor"))
			return c->rc;
	if (!take_u32(c, &t->type, "a tensor") ||
	    !take_u64(c, &t->offset, "a tensor"))
		return c->rc;
	return check_shape(c, t);
}

static int parse_tensors(struct cursor *c, u64 nr)
{
	struct gguf *g = c->g;
	int rc;

	for (u64 i = 0; i < nr; i++) {
		struct gguf_tensor t = { 0 };

		rc = grow(c, (void **)&g->tensors, i, sizeof(t));
		if (rc)
			return rc;
		t.name = take_name(c, GGUF_NAME_MAX, "a tensor name");
		if (!t.name)
			return c->rc;
		rc = parse_tensor(c, &t);
		g->tensors[g->nr_tensors++] = t; /* owned from here on */
		if (rc)
			return rc;
	}
	return 0;
}

static int cmp_key(const void *a, const void *b, void *arg)
{
	const struct gguf *g = arg;

	return strcmp(g->kvs[*(const u32 *)a].key, g->kvs[*(const u32 *)b].key);
}

static int cmp_name(const void *a, const void *b, void *arg)
{
	const struct gguf *g = arg;

	return strcmp(g->tensors[*(const u32 *)a].name,
		      g->tensors[*(const u32 *)b].name);
}

static int cmp_offset(const void *a, const void *b, void *arg)
{
	const struct gguf *g = arg;
	u64 x = g->tensors[*(const u32 *)a].offset;
	u64 y = g->tensors[*(const u32 *)b].offset;

	return x < y ? -1 : x > y;
}

static u32 *sorted(struct gguf *g, u64 nr,
		   int (*cmp)(const void *, const void *, void *))
{
	u32 *order = calloc(nr ? nr : 1, sizeof(*order));

	if (!order)
		return NULL;
	for (u64 i = 0; i < nr; i++)
		order[i] = (u32)i;
	qsort_r(order, nr, sizeof(*order), cmp, g);
	return order;
}

static int index_keys(struct cursor *c)
{
	struct gguf *g = c->g;

	g->kv_order = sorted(g, g->nr_kvs, cmp_key);
	if (!g->kv_order)
		return err_set(c->err, -ENOMEM, "%s: out of memory", g->name);
	for (u64 i = 1; i < g->nr_kvs; i++) {
		const char *key = g->kvs[g->kv_order[i]].key;

		if (!strcmp(g->kvs[g->kv_order[i - 1]].key, key))
			return err_set(c->err, -EINVAL,
				       "%s: key '%.64s' appears twice", g->name,
				       key);
	}
	return 0;
}

static int index_names(struct cursor *c)
{
	struct gguf *g = c->g;

	g->tensor_order = sorted(g, g->nr_tensors, cmp_name);
	if (!g->tensor_order)
		return err_set(c->err, -ENOMEM, "%s: out of memory", g->name);
	for (u64 i = 1; i < g->nr_tensors; i++) {
		const char *name = g->tensors[g->tensor_order[i]].name;

		if (!strcmp(g->tensors[g->tensor_order[i - 1]].name, name))
			return err_set(c->err, -EINVAL,
				       "%s: tensor '%s' appears twice", g->name,
				       name);
	}
	return 0;
}

/* Offsets become file offsets; then each tensor must lie in the file. */
static int place_tensor(struct cursor *c, struct gguf_tensor *t, u64 align)
{
	struct gguf *g = c->g;

	if (t->offset % align)
		return err_set(c->err, -EINVAL,
			       "%s: tensor '%s' lies at offset %llu, which is "
			       "no multiple of the alignment %llu",
			       g->name, t->name, ULL(t->offset), ULL(align));
	if (t->offset > g->size - g->data_start ||
	    t->nr_bytes > g->size - g->data_start - t->offset)
		return err_set(c->err, -EINVAL,
			       "%s: tensor '%s' (%llu bytes at offset %llu) "
			       "goes past the end of the file: truncated?",
			       g->name, t->name, ULL(t->nr_bytes),
			       ULL(t->offset));
	t->offset += g->data_start;
	t->data = g->file + t->offset;
	return 0;
}

static int place_tensors(struct cursor *c)
{
	struct gguf *g = c->g;
	u64 align = GGUF_DEFAULT_ALIGN;
	u32 *order;
	int rc = 0;

	rc = gguf_get_u64(g, "general.alignment", &align, c->err);
	if (rc && rc != -ENOENT)
		return rc;
	if (align < 8 || align > 1 << 20 || (align & (align - 1)))
		return err_set(c->err, -EINVAL,
			       "%s: general.alignment is %llu, not a power of "
			       "two from 8 to 1 MiB",
			       g->name, ULL(align));
	if (!g->nr_tensors)
		return 0;
	g->data_start = ALIGN_UP(c->pos, align);
	if (g->data_start > g->size)
		return err_set(c->err, -EINVAL,
			       "%s: the file ends before its tensor data: "
			       "truncated?",
			       g->name);
	for (u64 i = 0; i < g->nr_tensors; i++) {
		rc = place_tensor(c, &g->tensors[i], align);
		if (rc)
			return rc;
	}
	order = sorted(g, g->nr_tensors, cmp_offset);
	if (!order)
		return err_set(c->err, -ENOMEM, "%s: out of memory", g->name);
	for (u64 i = 1; i < g->nr_tensors && !rc; i++) {
		const struct gguf_tensor *a = &g->tensors[order[i - 1]];
		const struct gguf_tensor *b = &g->tensors[order[i]];

		if (a->offset + a->nr_bytes > b->offset)
			rc = err_set(c->err, -EINVAL,
				     "%s: tensors '%s' and '%s' overlap",
				     g->name, a->name, b->name);
	}
	free(order);
	return rc;
}

static int check_version(struct cursor *c)
{
	struct gguf *g = c->g;
	const u8 *magic = take(c, 4, "the magic");

	if (!magic || memcmp(magic, "GGUF", 4))
		return err_set(c->err, -EINVAL, "%s: not a GGUF file", g->name);
	if (!take_u32(c, &g->version, "the version"))
		return c->rc;
	if (g->version == 2 || g->version == 3)
		return 0;
	if (!(g->version & 0xffff) && g->version)
		return err_set(c->err, -EOPNOTSUPP,
			       "%s: a big-endian GGUF file is not read",
			       g->name);
	return err_set(c->err, -EOPNOTSUPP,
		       "%s: GGUF version %u is not read, only 2 and 3", g->name,
		       g->version);
}

int gguf_parse(struct gguf *g, char *err)
{
	struct cursor c = { .g = g, .err = err };
	u64 nr_tensors, nr_kvs;
	int rc;

	rc = check_version(&c);
	if (rc)
		return rc;
	if (!take_u64(&c, &nr_tensors, "the counts") ||
	    !take_u64(&c, &nr_kvs, "the counts"))
		return c.rc;
	/* the shortest row: name of 1, 1 dimension; key of 1, a u8 */
	if (nr_tensors > g->size / 33 || nr_kvs > g->size / 14 ||
	    nr_tensors > UINT32_MAX || nr_kvs > UINT32_MAX)
		return err_set(err, -EINVAL,
			       "%s: claims %llu tensors and %llu keys, more "
			       "than its %llu bytes can hold",
			       g->name, ULL(nr_tensors), ULL(nr_kvs),
			       ULL(g->size));
	rc = parse_kvs(&c, nr_kvs);
	if (!rc)
		rc = index_keys(&c);
	if (!rc)
		rc = parse_tensors(&c, nr_tensors);
	if (!rc)
		rc = index_names(&c);
	if (!rc)
		rc = place_tensors(&c);
	return rc;
}
