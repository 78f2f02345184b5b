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

#define MERGE_BATCH (VOCAB_MANY / 3)
#define TEXT_MIN    4096ull /* bytes of a batch's texts */

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
		u32 cp = (u8)s[i];

		if (cp < 0x80 && is_plain(cp)) { /* most of them */
			out[n++] = s[i++];
			continue;
		}
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

/* Merges that are looked up together: left, right and both of each. */
struct batch {
	struct gguf_str s[MERGE_BATCH];
	struct vocab_key keys[3 * MERGE_BATCH];
	u32 ids[3 * MERGE_BATCH];
	u32 nr;
	u64 first; /* the number of the first */
	u64 used, cap;
	char text[]; /* [cap] their bytes */
};

/*
 * The halves become ids through their bytes. The space that divides them is
 * the only one: a space inside a half is written as U+0120.
 */
static int batch_add(struct batch *b, const struct gguf *g, struct gguf_str s,
		     char *err)
{
	const char *gap = memchr(s.ptr, ' ', s.len);
	struct vocab_key *k = &b->keys[3 * b->nr];
	char *text = b->text + b->used;
	ssize_t nl, nr = -1;

	if (!gap)
		return bad_merge(g, b->first + b->nr, s, "is no pair", err);
	nl = gpt2_unescape(s.ptr, (size_t)(gap - s.ptr), text);
	if (nl > 0)
		nr = gpt2_unescape(gap + 1, s.len - (size_t)(gap - s.ptr) - 1,
				   text + nl);
	if (nl <= 0 || nr <= 0)
		return bad_merge(g, b->first + b->nr, s,
				 "is no pair of byte strings", err);
	k[0] = (struct vocab_key){ text, (size_t)nl };
	k[1] = (struct vocab_key){ text + nl, (size_t)nr };
	k[2] = (struct vocab_key){ text, (size_t)(nl + nr) };
	b->s[b->nr++] = s;
	b->used += (u64)(nl + nr);
	return 0;
}

static int batch_merge(struct vocab *v, struct batch *b, const struct gguf *g,
		       char *err)
{
	u32 i;

	vocab_lookup_many(v, b->keys, 3 * b->nr, b->ids);
	for (i = 0; i < b->nr; i++) {
		const u32 *id = &b->ids[3 * i];

		__builtin_prefetch(
			&v->merges[pair_hash(v, id[0], id[1]) & v->merge_mask]);
	}
	for (i = 0; i < b->nr; i++) {
		const u32 *id = &b->ids[3 * i];
		struct merge *m = pair_slot(v, id[0], id[1]);

		if (id[0] == VOCAB_NONE || id[1] == VOCAB_NONE ||
		    id[2] == VOCAB_NONE)
			return bad_merge(g, b->first + i, b->s[i],
					 "has a part that is no token", err);
		if (v->tokens[id[2]].class == VOCAB_CONTROL)
			return bad_merge(g, b->first + i, b->s[i],
					 "makes a control token", err);
		if (m->left == VOCAB_NONE)
			*m = (struct merge){ id[0], id[1], (u32)(b->first + i),
					     id[2] };
	}
	b->first += b->nr;
	b->nr = 0;
	b->used = 0;
	return 0;
}

int vocab_gpt2_load(struct vocab *v, const struct gguf *g, char *err)
{
	struct gguf_arr arr;
	u64 pos = 0, longest = 0;
	u32 nr_slots = 16;
	struct batch *b;
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
	longest = max(longest, TEXT_MIN);
	b = malloc(sizeof(*b) + longest);
	if (!v->merges || !b) {
		free(b);
		return err_set(err, -ENOMEM, "%s: out of memory", gguf_name(g));
	}
	*b = (struct batch){ .cap = longest };
	memset(v->merges, 0xff, nr_slots * sizeof(*v->merges));
	pos = 0;
	for (u64 i = 0; i < arr.len && !rc; i++) {
		struct gguf_str s = gguf_arr_next_str(&arr, &pos);

		if (b->nr == MERGE_BATCH || s.len > b->cap - b->used)
			rc = batch_merge(v, b, g, err);
		if (!rc)
			rc = batch_add(b, g, s, err);
	}
	if (!rc)
		rc = batch_merge(v, b, g, err);
	free(b);
	return rc;
}
