/* SPDX-License-Identifier: MIT */
/*
 * api_error.c - refusals as JSON
 */
#include <errno.h>
#include <string.h>

#include "runtime/server/api_error.h"
#include "runtime/server/strbuf.h"

int api_refuse(struct api_error *e, int status, const char *param,
	       const char *fmt, ...)
{
	va_list ap;

	e->status = status;
	e->param = param;
	e->code = NULL;
	va_start(ap, fmt);
	vsnprintf(e->message, sizeof(e->message), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static const char *type_of(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	case 503:
		return "service_unavailable_error";
	}
	return status >= 500 ? "server_error" : "invalid_request_error";
}

static void put_or_null(struct strbuf *b, const char *s)
{
	if (s)
		strbuf_put_json(b, s, strlen(s));
	else
		strbuf_puts(b, "null");
}

void api_error_put(struct strbuf *b, const struct api_error *e)
{
	strbuf_puts(b, "{\"error\":{\"message\":");
	strbuf_put_json(b, e->message, strlen(e->message));
	strbuf_printf(b, ",\"type\":\"%s\",\"param\":", type_of(e->status));
	put_or_null(b, e->param);
	strbuf_puts(b, ",\"code\":");
	put_or_null(b, e->code);
	strbuf_puts(b, "}}");
}
