/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_API_ERROR_H
#define RUNTIME_SERVER_API_ERROR_H
/*
 * api_error.h - a refusal, in the form that OpenAI's clients read
 *
 *	{"error":{"message":"","type":"","param":null,"code":null}}
 */
#include "kv/errbuf.h"

struct strbuf;

struct api_error {
	int status; /* of HTTP; 0: no error */
	const char *code; /* NULL: none */
	const char *param; /* NULL: none in particular */
	char message[KV_ERRLEN];
};

/* Set it; the return value is -EINVAL, so that one can return it. */
int __attribute__((format(printf, 4, 5)))
api_refuse(struct api_error *e, int status, const char *param, const char *fmt,
	   ...);

/* The object of above. */
void api_error_put(struct strbuf *b, const struct api_error *e);

#endif
