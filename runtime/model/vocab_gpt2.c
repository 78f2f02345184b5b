/* SPDX-License-Identifier: MIT */
/*
 * vocab_gpt2.c - byte alphabet and merges of the byte-level tokenizer
 *
 * The file writes bytes as printable characters: a byte that is printable
 * in Latin-1 stands for itself, the other 68 are U+0100 and up in order.
 * That is undone once at load, so that keys are plain bytes. Merges come as
 * "left right" in that alphabet, best first; they are kept in one
 * open-addressing table by the pair of ids.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "runtime/model/gguf.h"
#include "runtime/model/unicode.h"
#include "runtime/model/vocab_priv.h"

#define ULL(x)	   ((unsigned long long)(x))
#define NR_ESCAPED 68

static bool is_plain(u32 b)
{
	return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) ||
	       (b >= 0xae && b <= 0xff);
}

/* The byte that U+0100 + @n stands for: the n-th that is not plain. */
static u8 escaped_byte(u32 n)
{
	if (n < 33)
		return (u8)n; /* 00-20 */
	if (n < 67)
		return (u8)(0x7f + n - 33); /* 7f-a0 */
	return 0xad;
}

ssize_t gpt2_unescape(const char *s, size_t len, char *out)
{
	ssize_t n = 0;

	for (size_t i = 0; i < len;) {
		u32 cp;

		i += utf8_decode(s + i, len - i, &cp);
		if (cp < 0x100 && is_plain(cp))
			out[n++] = (char)cp;
		else if (cp >= 0x100 && cp < 0x100 + NR_ESCAPED)
			out[n++] = (char)escaped_byte(cp - 0x100);
		else
			return -1;
	}
	return n;
}

static u64 pair_hash(const struct vocab *v, u32 left, u32 right)
{
	return hash_mix(((u64)left << 32 | right) ^ v->seed,
			0x9e3779b97f4a7c15ull);
}

static struct merge *pair_slot(const struct vocab *v, u32 left, u32 right)
{
	u64 i = pair_hash(v, left, right);

	for (;; i++) {
		struct merge *m = &v->merges[i & v->merge_mask];

		if (m->left == VOCAB_NONE ||
		    (m->left == left && m->right == right))
			return m;
	}
}

const struct merge *vocab_gpt2_merge(const struct vocab *v, u32 left, u32 right)
{
	const struct merge *m = pair_slot(v, left, right);

	return m->left == VOCAB_NONE ? NULL : m;
}

/* Refuse merge number @i, showing at most the beginning of it. */
static int bad_merge(const struct gguf *g, u64 i, struct gguf_str s,
		     const char *why, char *err)
{
	char show[GGUF_SHOW_LEN];

	return err_set(err, -EINVAL, "%s: merge %llu '%s' %s", gguf_name(g),
		       ULL(i), gguf_show(s, show), why);
}

/*
 * The halves become ids through their bytes. The space that divides them is
 * the only one: a space inside a half is written as U+0120.
 */
static int add_merge(struct vocab *v, const struct gguf *g, u64 i,
		     struct gguf_str s, char *buf, char *err)
{
	const char *gap = memchr(s.ptr, ' ', s.len);
	u32 left, right, both;
	ssize_t nl, nr = -1;
	struct merge *m;

	if (!gap)
		return bad_merge(g, i, s, "is no pair", err);
	nl = gpt2_unescape(s.ptr, (size_t)(gap - s.ptr), buf);
	if (nl > 0)
		nr = gpt2_unescape(gap + 1, s.len - (size_t)(gap - s.ptr) - 1,
				   buf + nl);
	if (nl <= 0 || nr <= 0)
		return bad_merge(g, i, s, "is no pair of byte strings", err);
	left = vocab_lookup(v, buf, (size_t)nl);
	right = vocab_lookup(v, buf + nl, (size_t)nr);
	both = vocab_lookup(v, buf, (size_t)(nl + nr));
	if (left == VOCAB_NONE || right == VOCAB_NONE || both == VOCAB_NONE)
		return bad_merge(g, i, s, "has a part that is no token", err);
	m = pair_slot(v, left, right);
	if (m->left == VOCAB_NONE)
		*m = (struct merge){ left, right, (u32)i, both };
	return 0;
}

int vocab_gpt2_load(struct vocab *v, const struct gguf *g, char *err)
{
	struct gguf_arr arr;
	u64 pos = 0, longest = 0;
	u32 nr_slots = 16;
	char *buf;
	int rc;

	rc = gguf_get_arr(g, "tokenizer.ggml.merges", GGUF_STR, &arr, err);
	if (rc)
		return rc;
	if (arr.len > 1 << 26)
		return err_set(err, -EINVAL, "%s: %llu merges", gguf_name(g),
			       ULL(arr.len));
	for (u64 i = 0; i < arr.len; i++)
		longest = max(longest, gguf_arr_next_str(&arr, &pos).len);
	while (nr_slots < arr.len + arr.len / 2)
		nr_slots *= 2;
	v->merge_mask = nr_slots - 1;
	v->merges = malloc(nr_slots * sizeof(*v->merges));
	buf = malloc(longest + 1);
	if (!v->merges || !buf) {
		free(buf);
		return err_set(err, -ENOMEM, "%s: out of memory", gguf_name(g));
	}
	memset(v->merges, 0xff, nr_slots * sizeof(*v->merges));
	pos = 0;
	for (u64 i = 0; i < arr.len && !rc; i++)
		rc = add_merge(v, g, i, gguf_arr_next_str(&arr, &pos), buf,
			       err);
	free(buf);
	return rc;
}
