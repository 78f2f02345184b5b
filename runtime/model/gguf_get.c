/* SPDX-License-Identifier: MIT */
/*
 * gguf_get.c - typed access to the metadata of a validated GGUF file
 *
 * Values are unaligned in the file and copied out by memcpy. Integers are
 * widened to s64 (or u64 above its range) and then checked against what the
 * caller asked for, so that a count may be stored in any integer type.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/include/dtype.h"
#include "runtime/model/gguf_priv.h"
#include "runtime/model/unicode.h"

static const struct {
	const char *name;
	u32 bytes;
} types[GGUF_NR_TYPES] = {
	[GGUF_U8] = { "u8", 1 },      [GGUF_I8] = { "i8", 1 },
	[GGUF_U16] = { "u16", 2 },    [GGUF_I16] = { "i16", 2 },
	[GGUF_U32] = { "u32", 4 },    [GGUF_I32] = { "i32", 4 },
	[GGUF_F32] = { "f32", 4 },    [GGUF_BOOL] = { "bool", 1 },
	[GGUF_STR] = { "string", 0 }, [GGUF_ARR] = { "array", 0 },
	[GGUF_U64] = { "u64", 8 },    [GGUF_I64] = { "i64", 8 },
	[GGUF_F64] = { "f64", 8 },
};

u32 gguf_type_bytes(u32 type)
{
	return type < GGUF_NR_TYPES ? types[type].bytes : 0;
}

const char *gguf_type_name(u32 type)
{
	return type < GGUF_NR_TYPES ? types[type].name : "?";
}

static bool is_int(u32 type)
{
	return type <= GGUF_I32 || type == GGUF_U64 || type == GGUF_I64;
}

#define LOAD(T, p)                                  \
	({                                          \
		T load_v;                           \
		memcpy(&load_v, p, sizeof(load_v)); \
		load_v;                             \
	})

/* A u64 above S64_MAX comes out negative: the caller looks at the type. */
static s64 load_int(u32 type, const u8 *p)
{
	switch (type) {
	case GGUF_U8:
	case GGUF_BOOL:
		return *p;
	case GGUF_I8:
		return (s8)*p;
	case GGUF_U16:
		return LOAD(u16, p);
	case GGUF_I16:
		return LOAD(s16, p);
	case GGUF_U32:
		return LOAD(u32, p);
	case GGUF_I32:
		return LOAD(s32, p);
	case GGUF_U64:
	case GGUF_I64:
		return LOAD(s64, p);
	}
	return 0;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
	u64 lo = 0, hi = g->nr_kvs;

	while (lo < hi) {
		u64 mid = lo + (hi - lo) / 2;
		const struct gguf_kv *kv = &g->kvs[g->kv_order[mid]];
		int c = strcmp(key, kv->key);

		if (!c)
			return kv;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return gguf_find(g, key);
}

static const struct gguf_kv *need(const struct gguf *g, const char *key,
				  char *err)
{
	const struct gguf_kv *kv = gguf_find(g, key);

	if (!kv)
		err_set(err, -ENOENT, "%s: key '%s' is missing", g->name, key);
	return kv;
}

static int wrong_type(const struct gguf *g, const struct gguf_kv *kv,
		      const char *want, char *err)
{
	const char *of = kv->type == GGUF_ARR ? " of " : "";

	return err_set(err, -EINVAL, "%s: key '%.64s' is %s%s%s, not %s",
		       g->name, kv->key, gguf_type_name(kv->type), of,
		       *of ? gguf_type_name(kv->elem_type) : "", want);
}

int gguf_get_u64(const struct gguf *g, const char *key, u64 *out, char *err)
{
	const struct gguf_kv *kv = need(g, key, err);
	s64 v;

	if (!kv)
		return -ENOENT;
	if (!is_int(kv->type))
		return wrong_type(g, kv, "an integer", err);
	v = load_int(kv->type, kv->data);
	if (v < 0 && kv->type != GGUF_U64)
		return err_set(err, -EINVAL, "%s: key '%.64s' is negative",
			       g->name, kv->key);
	*out = (u64)v;
	return 0;
}

int gguf_get_u32(const struct gguf *g, const char *key, u32 *out, char *err)
{
	u64 v;
	int rc = gguf_get_u64(g, key, &v, err);

	if (rc)
		return rc;
	if (v > UINT32_MAX)
		return err_set(err, -EINVAL,
			       "%s: key '%s' is %" PRIu64 ": too large",
			       g->name, key, v);
	*out = (u32)v;
	return 0;
}

int gguf_get_f32(const struct gguf *g, const char *key, float *out, char *err)
{
	const struct gguf_kv *kv = need(g, key, err);

	if (!kv)
		return -ENOENT;
	if (kv->type == GGUF_F32)
		*out = LOAD(float, kv->data);
	else if (kv->type == GGUF_F64)
		*out = (float)LOAD(double, kv->data);
	else if (kv->type == GGUF_U64)
		*out = (float)LOAD(u64, kv->data);
	else if (is_int(kv->type))
		*out = (float)load_int(kv->type, kv->data);
	else
		return wrong_type(g, kv, "a number", err);
	return 0;
}

int gguf_get_bool(const struct gguf *g, const char *key, bool *out, char *err)
{
	const struct gguf_kv *kv = need(g, key, err);

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_BOOL)
		return wrong_type(g, kv, "a bool", err);
	*out = *kv->data;
	return 0;
}

int gguf_get_str(const struct gguf *g, const char *key, struct gguf_str *out,
		 char *err)
{
	const struct gguf_kv *kv = need(g, key, err);

	if (!kv)
		return -ENOENT;
	if (kv->type != GGUF_STR)
		return wrong_type(g, kv, "a string", err);
	out->len = LOAD(u64, kv->data);
	out->ptr = (const char *)kv->data + sizeof(u64);
	return 0;
}

bool gguf_str_is(const struct gguf *g, const char *key, const char *s)
{
	struct gguf_str v;

	return !gguf_get_str(g, key, &v, NULL) && v.len == strlen(s) &&
	       !memcmp(v.ptr, s, v.len);
}

int gguf_get_arr(const struct gguf *g, const char *key, enum gguf_type type,
		 struct gguf_arr *out, char *err)
{
	const struct gguf_kv *kv = need(g, key, err);
	bool ok;

	if (!kv)
		return -ENOENT;
	ok = kv->type == GGUF_ARR &&
	     (type == GGUF_I64 ? is_int(kv->elem_type) : kv->elem_type == type);
	if (!ok) {
		char want[32];

		snprintf(want, sizeof(want), "array of %s",
			 type == GGUF_I64 ? "integers" : gguf_type_name(type));
		return wrong_type(g, kv, want, err);
	}
	out->type = kv->elem_type;
	out->len = kv->len;
	out->data = kv->data;
	return 0;
}

s64 gguf_arr_int(const struct gguf_arr *arr, u64 i)
{
	return load_int(arr->type, arr->data + i * types[arr->type].bytes);
}

float gguf_arr_f32(const struct gguf_arr *arr, u64 i)
{
	return LOAD(float, arr->data + i * sizeof(float));
}

struct gguf_str gguf_arr_next_str(const struct gguf_arr *arr, u64 *pos)
{
	const u8 *p = arr->data + *pos;
	struct gguf_str s = { .len = LOAD(u64, p) };

	s.ptr = (const char *)p + sizeof(u64);
	*pos += sizeof(u64) + s.len;
	return s;
}

const char *gguf_show(struct gguf_str s, char *buf)
{
	size_t n = min(s.len, (size_t)GGUF_SHOW_LEN - 1);

	for (size_t i = 0; i < n; i++)
		buf[i] = s.ptr[i] >= 0x20 && s.ptr[i] < 0x7f ? s.ptr[i] : '?';
	buf[n] = '\0';
	return buf;
}

const char *gguf_key(const struct gguf *g, u64 i, u32 *type)
{
	if (i >= g->nr_kvs)
		return NULL;
	if (type)
		*type = g->kvs[i].type;
	return g->kvs[i].key;
}

const char *gguf_name(const struct gguf *g)
{
	return g->name;
}

u32 gguf_version(const struct gguf *g)
{
	return g->version;
}

u64 gguf_size(const struct gguf *g)
{
	return g->size;
}

const void *gguf_header(const struct gguf *g, u64 *len)
{
	*len = min(g->header_len, g->data_start);
	return g->header;
}

u64 gguf_nr_tensors(const struct gguf *g)
{
	return g->nr_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, u64 i)
{
	return i < g->nr_tensors ? &g->tensors[i] : NULL;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *g, const char *name)
{
	u64 lo = 0, hi = g->nr_tensors;

	while (lo < hi) {
		u64 mid = lo + (hi - lo) / 2;
		const struct gguf_tensor *t = &g->tensors[g->tensor_order[mid]];
		int c = strcmp(name, t->name);

		if (!c)
			return t;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

static void dump_str(FILE *out, const char *s, size_t len)
{
	size_t shown = min(len, (size_t)120);

	fputc('"', out);
	for (size_t i = 0, n; i < shown; i += n) {
		u32 cp;

		n = utf8_decode(s + i, shown - i, &cp);
		if (cp == '\n')
			fputs("\\n", out);
		else if (unicode_is_text(cp) && cp != '"' && cp != '\\')
			fwrite(s + i, 1, n, out);
		else
			for (size_t k = 0; k < n; k++)
				fprintf(out, "\\x%02x", (u8)s[i + k]);
	}
	fprintf(out, "\"%s", shown < len ? "..." : "");
}

static void dump_elem(FILE *out, u32 type, const u8 *p)
{
	switch (type) {
	case GGUF_F32:
		fprintf(out, "%g", (double)LOAD(float, p));
		return;
	case GGUF_F64:
		fprintf(out, "%g", LOAD(double, p));
		return;
	case GGUF_BOOL:
		fputs(*p ? "true" : "false", out);
		return;
	case GGUF_STR:
		dump_str(out, (const char *)p + sizeof(u64), LOAD(u64, p));
		return;
	case GGUF_U64:
		fprintf(out, "%" PRIu64, LOAD(u64, p));
		return;
	}
	fprintf(out, "%" PRId64, load_int(type, p));
}

static void dump_kv(FILE *out, const struct gguf_kv *kv, u64 max_elems)
{
	const u8 *p = kv->data;

	fprintf(out, "%-44s %s", kv->key, gguf_type_name(kv->elem_type));
	if (kv->type != GGUF_ARR) {
		fputc(' ', out);
		dump_elem(out, kv->type, p);
		fputc('\n', out);
		return;
	}
	fprintf(out, "[%" PRIu64 "]", kv->len);
	for (u64 i = 0; i < kv->len && i < max_elems; i++) {
		fputc(' ', out);
		dump_elem(out, kv->elem_type, p);
		p += kv->elem_type == GGUF_STR ? sizeof(u64) + LOAD(u64, p)
					       : types[kv->elem_type].bytes;
	}
	fputs(kv->len > max_elems ? " ...\n" : "\n", out);
}

static void dump_tensor(FILE *out, const struct gguf_tensor *t)
{
	const struct dtype_info *d = dtype_info(t->type);

	fprintf(out, "%-44s %-5s", t->name, d ? d->name : "?");
	for (u32 i = 0; i < t->nr_dims; i++)
		fprintf(out, "%s%" PRIu64, i ? " x " : " ", t->ne[i]);
	fprintf(out, "  %" PRIu64 " bytes at %" PRIu64 "\n", t->nr_bytes,
		t->offset);
}

void gguf_dump(const struct gguf *g, FILE *out, u64 max_elems)
{
	fprintf(out,
		"%s: GGUF version %u, %" PRIu64 " bytes, %" PRIu64
		" keys, %" PRIu64 " tensors\n",
		g->name, g->version, g->size, g->nr_kvs, g->nr_tensors);
	for (u64 i = 0; i < g->nr_kvs; i++)
		dump_kv(out, &g->kvs[i], max_elems);
	for (u64 i = 0; i < g->nr_tensors; i++)
		dump_tensor(out, &g->tensors[i]);
}
