/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_VOCAB_H
#define RUNTIME_MODEL_VOCAB_H
/*
 * vocab.h - text to token ids and back
 *
 * Two tokenizers, chosen by the file's tokenizer.ggml.model:
 *	"llama"  SentencePiece BPE: pairs merge by the score of what they
 *		 make, characters without a token become byte tokens
 *	"gpt2"   byte-level BPE over words that the pre-tokenizer cuts
 *		 (tokenizer.ggml.pre "qwen2"): pairs merge by rank
 * Anything else is refused by vocab_load() with a sentence that names it.
 * A vocab is immutable once loaded: any number of threads may use it.
 */
#include "kv/errbuf.h"
#include "kv/types.h"

struct gguf;
struct vocab;

/* Token classes: the file's own numbers. */
enum vocab_class {
	VOCAB_NORMAL = 1,
	VOCAB_UNKNOWN = 2,
	VOCAB_CONTROL = 3,
	VOCAB_USER = 4, /* always matched whole in the text */
	VOCAB_UNUSED = 5,
	VOCAB_BYTE = 6,
};

enum {
	/* add BOS and EOS where the file says that the model wants them */
	VOCAB_ADD_SPECIAL = 1 << 0,
	/* text like <|im_start|> becomes the control token of that name */
	VOCAB_PARSE_SPECIAL = 1 << 1,
	/* detokenize: leave control tokens out */
	VOCAB_SKIP_SPECIAL = 1 << 2,
	/* detokenize: undo VOCAB_ADD_SPECIAL (leading BOS, trailing EOS) */
	VOCAB_STRIP_ADDED = 1 << 3,
};

/* No context is this long; a byte of text may take 36 of memory. */
#define VOCAB_TEXT_MAX ((size_t)64 << 20)

#define VOCAB_NONE ((u32)~0u) /* no such token */

/**
 * vocab_load - build the tables from a file
 * @out: set on success only; vocab_free() it. Keeps nothing of @g.
 *
 * Return: 0, -EOPNOTSUPP for an unknown tokenizer or pre-tokenizer, -EINVAL
 * for inconsistent tables, -ENOMEM.
 */
int __must_check vocab_load(const struct gguf *g, struct vocab **out,
			    char *err);
void vocab_free(struct vocab *v);

/**
 * vocab_tokenize - the ids of a text
 * @text: any bytes; those that are no UTF-8 are taken one by one, as byte
 *	tokens
 * @flags: VOCAB_ADD_SPECIAL, VOCAB_PARSE_SPECIAL
 * @ids: set on success to an array to free(); never NULL
 * @nr: its length
 *
 * Return: 0, -E2BIG for a text over VOCAB_TEXT_MAX bytes, -ENOMEM.
 */
int __must_check vocab_tokenize(const struct vocab *v, const char *text,
				size_t len, unsigned int flags, u32 **ids,
				size_t *nr);

/**
 * struct vocab_part - a piece of a text with its own trust
 * @flags: VOCAB_PARSE_SPECIAL or 0
 *
 * The parts are tokenized as one text (a word may cross from one into the
 * next), but a control token is only recognised when it lies inside one part
 * that allows it: what a user typed cannot end his turn.
 */
struct vocab_part {
	const char *text;
	size_t len;
	unsigned int flags;
};

int __must_check vocab_tokenize_parts(const struct vocab *v,
				      const struct vocab_part *parts,
				      size_t nr_parts, unsigned int flags,
				      u32 **ids, size_t *nr);

/**
 * vocab_piece - the bytes that one token stands for
 * @len: set to their number
 *
 * Spaces are spaces, a byte token is its byte, a control token its name.
 * Return: the bytes (not NUL-terminated), "" for an id out of range.
 */
const char *vocab_piece(const struct vocab *v, u32 id, size_t *len);

/**
 * vocab_detokenize - the bytes of a list of ids
 * @flags: VOCAB_SKIP_SPECIAL, VOCAB_STRIP_ADDED
 * @text: set on success to a NUL-terminated buffer to free()
 *
 * Return: 0, -ERANGE for an id that the vocabulary does not have, -ENOMEM.
 */
int __must_check vocab_detokenize(const struct vocab *v, const u32 *ids,
				  size_t nr, unsigned int flags, char **text,
				  size_t *len);

/**
 * struct vocab_stream - detokenize token by token, always whole characters
 *
 * Zero it to begin. Bytes of a character that is not complete yet are held
 * back; bytes that cannot become one are replaced by U+FFFD.
 */
struct vocab_stream {
	u8 hold[4];
	u8 nr_hold;
};

/**
 * vocab_stream_push - the text that one more token adds
 * @flags: VOCAB_SKIP_SPECIAL or 0
 * @out: buffer to append to, grown by realloc, NUL-terminated
 * @len: bytes in it, 0 with *@out == NULL to begin
 *
 * vocab_stream_end() flushes what is held, as U+FFFD.
 * Return: 0, -ERANGE, -ENOMEM.
 */
int __must_check vocab_stream_push(const struct vocab *v,
				   struct vocab_stream *st, u32 id,
				   unsigned int flags, char **out, size_t *len);
int __must_check vocab_stream_end(struct vocab_stream *st, char **out,
				  size_t *len);

u32 vocab_size(const struct vocab *v);
u32 vocab_bos(const struct vocab *v); /* VOCAB_NONE where there is none */
u32 vocab_eos(const struct vocab *v);
u32 vocab_unk(const struct vocab *v);
bool vocab_adds_bos(const struct vocab *v);
bool vocab_adds_eos(const struct vocab *v);
enum vocab_class vocab_class(const struct vocab *v, u32 id);

/* Does this token end a generation (end of text, end of turn)? */
bool vocab_is_eog(const struct vocab *v, u32 id);

/* The token with exactly this name in the file, or VOCAB_NONE. */
u32 vocab_find(const struct vocab *v, const char *name, size_t len);

#endif
