/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_CHAT_TEMPLATE_H
#define RUNTIME_MODEL_CHAT_TEMPLATE_H
/*
 * chat_template.h - the turn formats of instruct models
 *
 * The file's tokenizer.chat_template is a Jinja program. It is not run: its
 * text is searched for the markers of a known format, and our renderer of
 * that format is used.
 */
#include "runtime/model/vocab.h"

enum chat_format {
	CHAT_NONE,
	CHAT_CHATML, /* <|im_start|>role\n text <|im_end|>\n */
	CHAT_GEMMA, /* <start_of_turn>role\n text <end_of_turn>\n */
};

struct chat_template {
	enum chat_format format;
	char *system; /* what the template says when nobody does, or NULL */
};

struct chat_msg {
	const char *role; /* "system", "user" or "assistant" */
	const char *text;
	size_t len;
};

/**
 * chat_template_detect - find out how this model wants to be talked to
 * @out: set on success only; chat_template_fini() it
 *
 * Return: 0, -EOPNOTSUPP with a sentence that names the file when there is
 * no template, one we do not know, or its markers are no tokens.
 */
int __must_check chat_template_detect(const struct gguf *g,
				      const struct vocab *v,
				      struct chat_template *out, char *err);
void chat_template_fini(struct chat_template *t);

/**
 * chat_template_render - the prompt text of a conversation
 * @prompt: end with the opening of the model's turn
 * @text: set on success to a NUL-terminated buffer to free()
 *
 * Return: 0, -EINVAL for a role or an order the format does not have
 * (@err says which), -ENOMEM.
 */
int __must_check chat_template_render(const struct chat_template *t,
				      const struct chat_msg *msgs, size_t nr,
				      bool prompt, char **text, size_t *len,
				      char *err);

/**
 * chat_template_tokenize - the same as ids, markers in messages inert
 *
 * Only the template's own markers become control tokens; BOS is added where
 * the model wants one.
 */
int __must_check chat_template_tokenize(const struct chat_template *t,
					const struct vocab *v,
					const struct chat_msg *msgs, size_t nr,
					bool prompt, u32 **ids, size_t *nr_ids,
					char *err);

#endif
