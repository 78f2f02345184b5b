/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_TEXT_H
#define TOOLS_KVBENCH_SERVE_TEXT_H
/*
 * text.h - text that grows at its end
 */
#include "include/kv/types.h"

struct text {
	char *p; /* ends with a zero byte, once something was put */
	size_t len, room;
	bool failed; /* memory: what it holds is not all */
};

void text_fini(struct text *t);
void text_put(struct text *t, const char *p, size_t len);
void text_puts(struct text *t, const char *s);
__printf(2, 3) void text_printf(struct text *t, const char *fmt, ...);
void text_put_u32(struct text *t, u32 v);
/* text_put_escaped - as it stands within the quotes of a JSON string */
void text_put_escaped(struct text *t, const char *p, size_t len);

#endif
