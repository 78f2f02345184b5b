/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_VOCAB_PRIV_H
#define RUNTIME_MODEL_VOCAB_PRIV_H
/*
 * vocab_priv.h - the tables of a vocabulary, shared by vocab*.c and tok_*.c
 *
 * A token has a key, which is what the tokenizer matches, and a piece, which
 * is what it stands for in a text:
 *
 *			key			piece
 *	llama normal	"\u2581the"		" the"
 *	llama byte	"<0x0A>"		"\n"
 *	gpt2 normal	" the"			the same (the file's byte
 *						alphabet is undone at load)
 *	control		its name		the same
 *	llama user	spaces as U+2581	spaces
 *
 * Keys and pieces lie in one arena. "slots" is an open-addressing table of
 * ids by key: normal tokens first, so that they win over a control token of
 * the same name.
 */
#include "runtime/model/vocab.h"

#define SPACE_MARK     "\xe2\x96\x81" /* U+2581 */
#define SPACE_MARK_LEN 3

enum vocab_kind { VOCAB_LLAMA, VOCAB_GPT2 };

struct token {
	u32 key, key_len; /* in the arena */
	u32 piece, piece_len;
	u32 prio; /* llama: better scores are smaller */
	u8 class; /* enum vocab_class */
	u8 eog;
};

/* gpt2: two adjacent tokens and what they become. */
struct merge {
	u32 left, right; /* left == VOCAB_NONE: the slot is empty */
	u32 rank; /* smaller merges first */
	u32 id;
};

struct vocab {
	enum vocab_kind kind;
	u32 nr;
	struct token *tokens;
	char *arena;
	u64 arena_len;
	u64 seed; /* of the hash, random per load: files are not trusted */
	u32 *slots; /* id + 1, 0 is empty */
	u32 slot_mask;
	u32 max_key; /* longest key of all, in bytes */

	struct merge *merges; /* gpt2 */
	u32 merge_mask;

	u32 *special; /* control and user tokens by key, one of each class */
	u32 nr_special;
	bool special_first[256]; /* does any begin with this byte? */

	u32 byte_ids[256];
	u32 bos, eos, unk;
	bool add_bos, add_eos, add_space;
	bool has_unused; /* llama: tokens that are split again at the end */
	bool joins_space[256]; /* llama: a token has a space behind this byte */
};

/* A growing list of ids. */
struct idlist {
	u32 *ids;
	size_t nr, cap;
};

int idlist_add(struct idlist *l, u32 id);

/* The token with this key, or VOCAB_NONE. */
u32 vocab_lookup(const struct vocab *v, const char *key, size_t len);

#define VOCAB_MANY 96u

struct vocab_key {
	const char *ptr;
	size_t len;
};

/*
 * The same for up to VOCAB_MANY keys: ids[nr]. The tables are larger than the
 * caches near a core, and so each key waits less for them.
 */
void vocab_lookup_many(const struct vocab *v, const struct vocab_key *keys,
		       u32 nr, u32 *ids);

static inline const char *token_key(const struct vocab *v, u32 id)
{
	return v->arena + v->tokens[id].key;
}

/* vocab_special.c: build the sorted table. Return: 0, -EINVAL for a token with
 * a name that is too long, -ENOMEM.
 */
int vocab_special_build(struct vocab *v, const struct gguf *g, char *err);

/**
 * vocab_special_match - the longest special token that begins here
 * @text: @len bytes
 * @nr_control: bytes of @text within which a control token may lie; user
 *	tokens are not limited by it
 *
 * Return: the id, or VOCAB_NONE.
 */
u32 vocab_special_match(const struct vocab *v, const char *text, size_t len,
			size_t nr_control);

/* tok_llama.c, tok_gpt2.c: append the ids of a text without special tokens.
 * For llama its spaces are U+2581 already.
 */
int tok_llama(const struct vocab *v, const char *text, u32 len,
	      struct idlist *out);
int tok_gpt2(const struct vocab *v, const char *text, u32 len,
	     struct idlist *out);

/* tok_pre.c: the length of the first word of a text, by qwen2's rules. */
size_t tok_pre_qwen2(const char *text, size_t len);

/* vocab_gpt2.c: what only this kind reads from the file. */
int vocab_gpt2_load(struct vocab *v, const struct gguf *g, char *err);
/* The bytes that @s stands for in gpt2's alphabet; @out has @len of room.
 * Return: their number, or -1 if a character is not in the alphabet.
 */
ssize_t gpt2_unescape(const char *s, size_t len, char *out);

/* The merge of two tokens, or NULL. */
const struct merge *vocab_gpt2_merge(const struct vocab *v, u32 left,
				     u32 right);

/* A 64-bit mix for the tables. */
static inline u64 hash_mix(u64 a, u64 b)
{
	__uint128_t m = (__uint128_t)a * b;

	return (u64)m ^ (u64)(m >> 64);
}

#endif
