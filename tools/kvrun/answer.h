/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_ANSWER_H
#define TOOLS_KVRUN_ANSWER_H
/*
 * answer.h - print what was generated
 */
#include <stdio.h>

#include "runtime/engine/request.h"
#include "runtime/model/vocab.h"

/* The text of a sequence that is being made; free() the text. */
struct answer_stream {
	struct vocab_stream vs;
	const struct vocab *vocab;
	char *text; /* whole characters so far, NUL-terminated, or NULL */
	size_t len;
	size_t shown; /* bytes of it */
};

/* One more token; end tokens are left out. 0 or -ENOMEM. */
int __must_check answer_push(struct answer_stream *a, u32 id);
/* No more come: what was held back. */
int __must_check answer_end(struct answer_stream *a);
/* Write what has not been written yet. */
void answer_show(struct answer_stream *a, FILE *out);

/* The generated text of a sequence, to free(); 0 or -errno. */
int __must_check answer_text(const struct vocab *v, const struct seq *s,
			     char **text, size_t *len);

struct answer_json {
	const struct vocab *vocab;
	const char *model;
	const struct request *req;
	const u32 *prompt;
	size_t nr_prompt;
	const struct engine_stats *stats;
	double seconds;
};

/* The one object that generate --json prints; 0 or -errno. */
int __must_check answer_print_json(FILE *out, const struct answer_json *a);

#endif
