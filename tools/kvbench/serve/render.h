/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_RENDER_H
#define TOOLS_KVBENCH_SERVE_RENDER_H
/*
 * render.h - a request as the bytes that are sent
 */
#include "runtime/server/strbuf.h"
#include "tools/kvbench/serve/work.h"

/* The answer of a request that another one quotes. */
struct quote {
	char *text; /* NULL: none was kept */
	size_t len; /* a zero byte may be in it */
	u32 *ids;
	u32 nr_ids;
};

struct render {
	bool is_chat;
	bool as_ids; /* prompts as token ids; else as text */
	bool ignore_eos;
	bool want_ids; /* ask for the ids of answers */
	double temperature;
	const char *model; /* NULL: none is named */
	u32 first_id, nr_ids; /* token ids that prompts are made of */
	double words_per_token; /* of text */
	double extra_tokens; /* that the server adds to any prompt of text */
	const char *host, *path, *headers; /* headers: each with CRLF */
};

/**
 * render_request - the whole HTTP request of request @i
 * @quotes: by request; NULL if no prompt quotes one
 * @out: emptied first
 *
 * Return: 0, -ENOMEM.
 */
int __must_check render_request(const struct render *r, const struct work *w,
				u32 i, const struct quote *quotes,
				struct strbuf *out);
/* render_post - a request with a body of JSON */
int __must_check render_post(const struct render *r, const char *path,
			     const struct strbuf *body, struct strbuf *out);
/* render_words - @nr words that the name stands for */
void render_words(u64 name, u32 nr, struct strbuf *out);

#endif
