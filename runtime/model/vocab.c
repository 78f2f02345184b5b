/* SPDX-License-Identifier: MIT */
/*
 * vocab.c - loading a vocabulary from a GGUF file
 *
 *	read	tokens, classes and scores; keys and pieces into the arena
 *	index	the hash table by key, the special tokens, the byte tokens
 *	merges	gpt2 only (vocab_gpt2.c)
 *	ids	BOS, EOS, unknown, what ends a generation
 *
 * Everything is copied: the file may be closed afterwards. After loading
 * nothing is written any more, so that a vocabulary needs no lock.
 */
#include "runtime/model/vocab.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "runtime/model/gguf.h"
#include "runtime/model/vocab_priv.h"

#define ULL(x)	     ((unsigned long long)(x))
#define INSERT_AHEAD 16u /* slots asked for before they are looked at */

/* What ends a generation besides EOS, by name; control tokens only. */
static const char *const eog_names[] = {
	"<|im_end|>", "<|endoftext|>", "<end_of_turn>",	  "<eos>",
	"</s>",	      "<|eot_id|>",    "<|end_of_text|>",
};

/*
 * What opens and closes turns. Some files call these user tokens, which are
 * found in any text: they are control tokens, or a message could hold them.
 */
static const char *const turn_names[] = {
	"<|im_start|>",
	"<|im_end|>",
	"<start_of_turn>",
	"<end_of_turn>",
};

static u64 load_tail(const u8 *p, size_t len)
{
	u64 x = 0;

	memcpy(&x, p, len);
	return x;
}

static u64 key_hash(const struct vocab *v, const char *key, size_t len)
{
	const u8 *p = (const u8 *)key;
	u64 h = v->seed ^ len;

	while (len > 8) {
		h = hash_mix(h ^ load_tail(p, 8), 0x9e3779b97f4a7c15ull);
		p += 8;
		len -= 8;
	}
	h = hash_mix(h ^ load_tail(p, len), 0xd6e8feb86659fd93ull);
	return hash_mix(h, v->seed | 1);
}

/* @i: the key's hash */
static u32 lookup_at(const struct vocab *v, u64 i, const char *key, size_t len)
{
	for (;; i++) {
		u32 slot = v->slots[i & v->slot_mask];
		const struct token *t;

		if (!slot)
			return VOCAB_NONE;
		t = &v->tokens[slot - 1];
		if (t->key_len == len && !memcmp(v->arena + t->key, key, len))
			return slot - 1;
	}
}

u32 vocab_lookup(const struct vocab *v, const char *key, size_t len)
{
	return lookup_at(v, key_hash(v, key, len), key, len);
}

/* Each step asks for the memory that the next one wants of all keys. */
void vocab_lookup_many(const struct vocab *v, const struct vocab_key *keys,
		       u32 nr, u32 *ids)
{
	u64 hash[VOCAB_MANY];
	u32 i;

	for (i = 0; i < nr; i++) {
		hash[i] = key_hash(v, keys[i].ptr, keys[i].len);
		__builtin_prefetch(&v->slots[hash[i] & v->slot_mask]);
	}
	for (i = 0; i < nr; i++) {
		ids[i] = v->slots[hash[i] & v->slot_mask];
		if (ids[i])
			__builtin_prefetch(&v->tokens[ids[i] - 1]);
	}
	for (i = 0; i < nr; i++)
		if (ids[i])
			__builtin_prefetch(token_key(v, ids[i] - 1));
	for (i = 0; i < nr; i++)
		ids[i] = lookup_at(v, hash[i], keys[i].ptr, keys[i].len);
}

/* @i: the key's hash */
static void slot_insert(struct vocab *v, u64 i, u32 id)
{
	const char *key = token_key(v, id);
	const struct token *t;

	for (;; i++) {
		u32 slot = v->slots[i & v->slot_mask];

		if (!slot) {
			v->slots[i & v->slot_mask] = id + 1;
			return;
		}
		/* of equal keys the first stays */
		t = &v->tokens[slot - 1];
		if (t->key_len == v->tokens[id].key_len &&
		    !memcmp(token_key(v, slot - 1), key, t->key_len))
			return;
	}
}

/* Normal tokens first: of equal names they are the ones that text makes. */
static int build_slots(struct vocab *v)
{
	u64 *hash = malloc(v->nr * sizeof(*hash));
	u32 nr_slots = 16, id, ahead;

	while (nr_slots < 2 * (u64)v->nr)
		nr_slots *= 2;
	v->slot_mask = nr_slots - 1;
	v->slots = calloc(nr_slots, sizeof(*v->slots));
	if (!hash || !v->slots) {
		free(hash);
		return -ENOMEM;
	}
	for (id = 0; id < v->nr; id++)
		hash[id] = key_hash(v, token_key(v, id), v->tokens[id].key_len);
	for (int pass = 0; pass < 2; pass++) {
		for (id = 0; id < v->nr; id++) {
			ahead = min(id + INSERT_AHEAD, v->nr - 1);
			__builtin_prefetch(
				&v->slots[hash[ahead] & v->slot_mask]);
			if ((v->tokens[id].class == VOCAB_NORMAL) == !pass &&
			    v->tokens[id].key_len)
				slot_insert(v, hash[id], id);
		}
	}
	free(hash);
	return 0;
}

static u32 arena_add(struct vocab *v, const char *s, size_t len)
{
	u32 at = (u32)v->arena_len;

	if (len)
		memcpy(v->arena + at, s, len);
	v->arena_len += len;
	return at;
}

/* A copy with each @from as @to; the arena has room for the worst case. */
static void arena_add_replaced(struct vocab *v, struct gguf_str s,
			       const char *from, const char *to)
{
	size_t from_len = strlen(from), to_len = strlen(to);

	for (size_t i = 0; i < s.len;) {
		if (s.len - i >= from_len &&
		    !memcmp(s.ptr + i, from, from_len)) {
			arena_add(v, to, to_len);
			i += from_len;
		} else {
			arena_add(v, s.ptr + i++, 1);
		}
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* "<0x0A>" is 10; -1 if @s is not of that form. */
static int byte_name(struct gguf_str s)
{
	int hi, lo;

	if (s.len != 6 || memcmp(s.ptr, "<0x", 3) || s.ptr[5] != '>')
		return -1;
	hi = hex_digit(s.ptr[3]);
	lo = hex_digit(s.ptr[4]);
	return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

static void set_key(struct vocab *v, struct token *t, u64 from)
{
	t->key = (u32)from;
	t->key_len = (u32)(v->arena_len - from);
}

static void set_piece(struct vocab *v, struct token *t, u64 from)
{
	t->piece = (u32)from;
	t->piece_len = (u32)(v->arena_len - from);
}

static int add_llama(struct vocab *v, u32 id, struct gguf_str s,
		     const char *file, char *err)
{
	struct token *t = &v->tokens[id];
	u64 from = v->arena_len;
	int byte;
	char c;

	if (t->class == VOCAB_USER)
		arena_add_replaced(v, s, " ", SPACE_MARK);
	else
		arena_add(v, s.ptr, s.len);
	set_key(v, t, from);

	from = v->arena_len;
	if (t->class == VOCAB_BYTE) {
		byte = byte_name(s);
		if (byte < 0)
			return err_set(err, -EINVAL,
				       "%s: token %u is a byte token, but not "
				       "named like <0x0A>",
				       file, id);
		c = (char)byte;
		arena_add(v, &c, 1);
		v->byte_ids[byte] = id;
	} else if (t->class == VOCAB_CONTROL || t->class == VOCAB_UNKNOWN) {
		arena_add(v, s.ptr, s.len);
	} else {
		arena_add_replaced(v, s, SPACE_MARK, " ");
	}
	set_piece(v, t, from);
	return 0;
}

static void add_gpt2(struct vocab *v, u32 id, struct gguf_str s)
{
	struct token *t = &v->tokens[id];
	u64 from = v->arena_len;
	ssize_t n = -1;

	if (t->class == VOCAB_NORMAL)
		n = gpt2_unescape(s.ptr, s.len, v->arena + from);
	if (n >= 0)
		v->arena_len += (u64)n;
	else
		arena_add(v, s.ptr, s.len);
	set_key(v, t, from);
	set_piece(v, t, from);
	if (n == 1)
		v->byte_ids[(u8)v->arena[from]] = id;
}

/* The bytes that some token has right before a space. */
static void note_joins(struct vocab *v, const char *key, u32 len)
{
	bool in_text = false;

	for (u32 i = 0; i < len;) {
		if (len - i >= SPACE_MARK_LEN &&
		    !memcmp(key + i, SPACE_MARK, SPACE_MARK_LEN)) {
			if (in_text)
				v->joins_space[(u8)key[i - 1]] = true;
			in_text = false;
			i += SPACE_MARK_LEN;
		} else {
			in_text = true;
			i++;
		}
	}
}

static void note_token(struct vocab *v, u32 id)
{
	const struct token *t = &v->tokens[id];

	if (t->key_len > v->max_key)
		v->max_key = t->key_len;
	if (t->class == VOCAB_UNUSED)
		v->has_unused = true;
	if (v->kind == VOCAB_LLAMA &&
	    (t->class == VOCAB_NORMAL || t->class == VOCAB_UNUSED ||
	     t->class == VOCAB_USER))
		note_joins(v, token_key(v, id), t->key_len);
}

/* Higher scores first: their bits, made monotonic and turned round. */
static u32 score_prio(float score)
{
	u32 bits;

	score += 0.0f; /* -0 and 0 are one score */
	memcpy(&bits, &score, sizeof(bits));
	bits = bits >> 31 ? ~bits : bits | 0x80000000u;
	return ~bits;
}

static int read_classes(struct vocab *v, const struct gguf *g, char *err)
{
	const char *key = "tokenizer.ggml.token_type";
	struct gguf_arr arr;
	int rc;

	if (!gguf_has(g, key)) {
		for (u32 i = 0; i < v->nr; i++)
			v->tokens[i].class = VOCAB_NORMAL;
		return 0;
	}
	rc = gguf_get_arr(g, key, GGUF_I64, &arr, err);
	if (rc)
		return rc;
	if (arr.len != v->nr)
		return err_set(err, -EINVAL,
			       "%s: %s has %llu entries for %u "
			       "tokens",
			       gguf_name(g), key, ULL(arr.len), v->nr);
	for (u32 i = 0; i < v->nr; i++) {
		s64 class = gguf_arr_int(&arr, i);

		if (class < VOCAB_NORMAL || class > VOCAB_BYTE)
			return err_set(err, -EINVAL,
				       "%s: token %u has the unknown class "
				       "%lld",
				       gguf_name(g), i, (long long)class);
		v->tokens[i].class = (u8) class;
	}
	return 0;
}

static bool is_turn_name(struct gguf_str s)
{
	for (size_t i = 0; i < ARRAY_SIZE(turn_names); i++)
		if (s.len == strlen(turn_names[i]) &&
		    !memcmp(s.ptr, turn_names[i], s.len))
			return true;
	return false;
}

static int read_scores(struct vocab *v, const struct gguf *g, char *err)
{
	const char *key = "tokenizer.ggml.scores";
	struct gguf_arr arr;
	int rc = gguf_get_arr(g, key, GGUF_F32, &arr, err);

	if (rc)
		return rc;
	if (arr.len != v->nr)
		return err_set(err, -EINVAL,
			       "%s: %s has %llu entries for %u "
			       "tokens",
			       gguf_name(g), key, ULL(arr.len), v->nr);
	for (u32 i = 0; i < v->nr; i++) {
		float score = gguf_arr_f32(&arr, i);

		if (isnan(score))
			return err_set(err, -EINVAL,
				       "%s: the score of token %u is no number",
				       gguf_name(g), i);
		v->tokens[i].prio = score_prio(score);
	}
	return 0;
}

static int read_tokens(struct vocab *v, const struct gguf *g, char *err)
{
	const char *file = gguf_name(g);
	struct gguf_arr arr;
	u64 pos = 0, bytes;
	int rc = gguf_get_arr(g, "tokenizer.ggml.tokens", GGUF_STR, &arr, err);

	if (rc)
		return rc;
	if (!arr.len || arr.len > 1 << 24)
		return err_set(err, -EINVAL, "%s: a vocabulary of %llu tokens",
			       file, ULL(arr.len));
	v->nr = (u32)arr.len;
	v->tokens = calloc(v->nr, sizeof(*v->tokens));
	for (u32 i = 0; i < v->nr; i++)
		gguf_arr_next_str(&arr, &pos);
	/* a user token's key is at most three times its name, its piece one */
	bytes = 4 * (pos - 8 * (u64)v->nr);
	if (bytes > UINT32_MAX)
		return err_set(err, -EINVAL, "%s: token names of %llu MiB",
			       file, ULL(bytes >> 22));
	v->arena = malloc(bytes + 1);
	if (!v->tokens || !v->arena)
		return err_set(err, -ENOMEM, "%s: out of memory", file);

	rc = read_classes(v, g, err);
	if (!rc && v->kind == VOCAB_LLAMA)
		rc = read_scores(v, g, err);
	pos = 0;
	for (u32 i = 0; i < v->nr && !rc; i++) {
		struct gguf_str s = gguf_arr_next_str(&arr, &pos);

		if (v->tokens[i].class == VOCAB_USER && is_turn_name(s))
			v->tokens[i].class = VOCAB_CONTROL;
		if (v->kind == VOCAB_LLAMA)
			rc = add_llama(v, i, s, file, err);
		else
			add_gpt2(v, i, s);
		note_token(v, i);
	}
	return rc;
}

/* An id that the file names, in range or absent. */
static int read_id(const struct vocab *v, const struct gguf *g, const char *key,
		   u32 *id, char *err)
{
	u32 val;
	int rc = gguf_get_u32(g, key, &val, err);

	if (rc == -ENOENT)
		return 0;
	if (rc)
		return rc;
	if (val >= v->nr)
		return err_set(err, -EINVAL,
			       "%s: %s is %u, but there are %u tokens",
			       gguf_name(g), key, val, v->nr);
	*id = val;
	return 0;
}

static int read_flag(const struct gguf *g, const char *key, bool *flag,
		     char *err)
{
	int rc = gguf_get_bool(g, key, flag, err);

	return rc == -ENOENT ? 0 : rc;
}

static u32 if_exists(const struct vocab *v, u32 id)
{
	return id < v->nr ? id : VOCAB_NONE;
}

static int read_special(struct vocab *v, const struct gguf *g, char *err)
{
	bool llama = v->kind == VOCAB_LLAMA;
	u32 eot = VOCAB_NONE, eom = VOCAB_NONE;
	int rc;

	/* SentencePiece's own numbers where a file of that kind is silent */
	v->unk = llama ? if_exists(v, 0) : VOCAB_NONE;
	v->bos = llama ? if_exists(v, 1) : VOCAB_NONE;
	v->eos = llama ? if_exists(v, 2) : VOCAB_NONE;
	v->add_bos = v->add_space = llama;

	rc = read_id(v, g, "tokenizer.ggml.bos_token_id", &v->bos, err);
	if (!rc)
		rc = read_id(v, g, "tokenizer.ggml.eos_token_id", &v->eos, err);
	if (!rc)
		rc = read_id(v, g, "tokenizer.ggml.unknown_token_id", &v->unk,
			     err);
	if (!rc)
		rc = read_id(v, g, "tokenizer.ggml.eot_token_id", &eot, err);
	if (!rc)
		rc = read_id(v, g, "tokenizer.ggml.eom_token_id", &eom, err);
	if (!rc)
		rc = read_flag(g, "tokenizer.ggml.add_bos_token", &v->add_bos,
			       err);
	if (!rc)
		rc = read_flag(g, "tokenizer.ggml.add_eos_token", &v->add_eos,
			       err);
	if (!rc)
		rc = read_flag(g, "tokenizer.ggml.add_space_prefix",
			       &v->add_space, err);
	if (rc)
		return rc;
	if (v->bos == VOCAB_NONE)
		v->add_bos = false;
	if (v->eos == VOCAB_NONE)
		v->add_eos = false;
	if (v->eos != VOCAB_NONE)
		v->tokens[v->eos].eog = 1;
	if (eot != VOCAB_NONE)
		v->tokens[eot].eog = 1;
	if (eom != VOCAB_NONE)
		v->tokens[eom].eog = 1;
	return 0;
}

static void mark_eog(struct vocab *v)
{
	for (size_t i = 0; i < ARRAY_SIZE(eog_names); i++) {
		u32 id = vocab_find(v, eog_names[i], strlen(eog_names[i]));

		if (id != VOCAB_NONE && v->tokens[id].class == VOCAB_CONTROL)
			v->tokens[id].eog = 1;
	}
}

/* Every byte must become something, or text would vanish. */
static int check_bytes(const struct vocab *v, const struct gguf *g, char *err)
{
	if (v->kind == VOCAB_LLAMA && v->unk != VOCAB_NONE)
		return 0;
	for (int i = 0; i < 256; i++)
		if (v->byte_ids[i] == VOCAB_NONE)
			return err_set(err, -EINVAL,
				       "%s: no token stands for byte 0x%02x",
				       gguf_name(g), i);
	return 0;
}

static int choose_kind(struct vocab *v, const struct gguf *g, char *err)
{
	struct gguf_str model, pre = { "", 0 };
	char show[GGUF_SHOW_LEN];
	int rc = gguf_get_str(g, "tokenizer.ggml.model", &model, err);

	if (rc)
		return rc;
	if (gguf_str_is(g, "tokenizer.ggml.model", "llama")) {
		v->kind = VOCAB_LLAMA;
		return 0;
	}
	v->kind = VOCAB_GPT2;
	if (!gguf_str_is(g, "tokenizer.ggml.model", "gpt2"))
		return err_set(err, -EOPNOTSUPP,
			       "%s: tokenizer model '%s' is not supported",
			       gguf_name(g), gguf_show(model, show));
	rc = gguf_get_str(g, "tokenizer.ggml.pre", &pre, err);
	if (rc && rc != -ENOENT)
		return rc;
	if (!gguf_str_is(g, "tokenizer.ggml.pre", "qwen2"))
		return err_set(err, -EOPNOTSUPP,
			       "%s: pre-tokenizer '%s' is not supported",
			       gguf_name(g), gguf_show(pre, show));
	return 0;
}

int vocab_load(const struct gguf *g, struct vocab **out, char *err)
{
	struct vocab *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(err, -ENOMEM, "%s: out of memory", gguf_name(g));
	memset(v->byte_ids, 0xff, sizeof(v->byte_ids));
	if (getrandom(&v->seed, sizeof(v->seed), GRND_NONBLOCK) < 0)
		v->seed = (u64)(uintptr_t)v;

	rc = choose_kind(v, g, err);
	if (!rc)
		rc = read_tokens(v, g, err);
	if (!rc)
		rc = read_special(v, g, err);
	if (!rc)
		rc = check_bytes(v, g, err);
	if (!rc && build_slots(v))
		rc = err_set(err, -ENOMEM, "%s: out of memory", gguf_name(g));
	if (!rc)
		rc = vocab_special_build(v, g, err);
	if (!rc && v->kind == VOCAB_GPT2)
		rc = vocab_gpt2_load(v, g, err);
	if (rc) {
		vocab_free(v);
		return rc;
	}
	mark_eog(v);
	*out = v;
	return 0;
}

void vocab_free(struct vocab *v)
{
	if (!v)
		return;
	free(v->tokens);
	free(v->arena);
	free(v->slots);
	free(v->merges);
	free(v->special);
	free(v);
}

u32 vocab_find(const struct vocab *v, const char *name, size_t len)
{
	u32 id = len ? vocab_lookup(v, name, len) : VOCAB_NONE;

	if (id != VOCAB_NONE && v->tokens[id].class != VOCAB_NORMAL)
		return id;
	/* a normal token of the same key hides a special one */
	for (u32 i = 0; i < v->nr_special; i++) {
		const struct token *t = &v->tokens[v->special[i]];

		if (t->key_len == len && !memcmp(v->arena + t->key, name, len))
			return v->special[i];
	}
	return id;
}

u32 vocab_size(const struct vocab *v)
{
	return v->nr;
}

u32 vocab_bos(const struct vocab *v)
{
	return v->bos;
}

u32 vocab_eos(const struct vocab *v)
{
	return v->eos;
}

u32 vocab_unk(const struct vocab *v)
{
	return v->unk;
}

bool vocab_adds_bos(const struct vocab *v)
{
	return v->add_bos;
}

bool vocab_adds_eos(const struct vocab *v)
{
	return v->add_eos;
}

enum vocab_class vocab_class(const struct vocab *v, u32 id)
{
	return id < v->nr ? v->tokens[id].class : VOCAB_UNUSED;
}

bool vocab_is_eog(const struct vocab *v, u32 id)
{
	return id < v->nr && v->tokens[id].eog;
}

const char *vocab_piece(const struct vocab *v, u32 id, size_t *len)
{
	if (id >= v->nr) {
		*len = 0;
		return "";
	}
	*len = v->tokens[id].piece_len;
	return v->arena + v->tokens[id].piece;
}
