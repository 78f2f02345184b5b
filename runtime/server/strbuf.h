/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_STRBUF_H
#define RUNTIME_SERVER_STRBUF_H
/*
 * strbuf.h - text that grows
 *
 * Zero it to begin. Memory that runs out is remembered: what is added after
 * that is lost, and whoever hands the text on looks at failed first.
 */
#include "kv/types.h"

struct strbuf {
	char *p; /* NUL-terminated once something was added */
	size_t len, cap;
	bool failed;
};

void strbuf_free(struct strbuf *b);
void strbuf_add(struct strbuf *b, const char *s, size_t len);
void strbuf_puts(struct strbuf *b, const char *s);
void __printf(2, 3) strbuf_printf(struct strbuf *b, const char *fmt, ...);
void strbuf_put_uint(struct strbuf *b, u64 v);

/* A JSON string, quotes included; what is no UTF-8 becomes U+FFFD. */
void strbuf_put_json(struct strbuf *b, const char *s, size_t len);
/* What stands within its quotes. */
void strbuf_put_escaped(struct strbuf *b, const char *s, size_t len);

/* A JSON number; what JSON has no number for becomes the largest it has. */
void strbuf_put_real(struct strbuf *b, double v);

/* [1,2,3] */
void strbuf_put_ids(struct strbuf *b, const u32 *ids, size_t nr);

#endif
