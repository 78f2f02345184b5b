/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_TARGET_H
#define TOOLS_KVBENCH_SERVE_TARGET_H
/*
 * target.h - the server that is asked
 */
#include <jansson.h>
#include <sys/socket.h>
#include "tools/kvbench/serve/render.h"

struct target {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char host[272]; /* for the header: with the port */
	char base[256]; /* path before /v1, no slash at its end */
};

/**
 * target_parse - look up a server by its URL, and which of its addresses
 * answers
 * @url: http://HOST[:PORT][/PATH]; a /v1 at the end is left out
 * @err: 256 bytes
 */
int __must_check target_parse(const char *url, struct target *t, char *err);

/* target_connect - a socket that is being connected, or -errno */
int target_connect(const struct target *t);

/**
 * target_call - ask once and wait for the answer
 * @body: JSON to post; NULL: get
 * @status: of HTTP
 * @out: the JSON of the answer, NULL if it is none; json_decref() it
 * @err: 256 bytes
 *
 * Return: 0 if there was an answer, whatever its status; -errno.
 */
int __must_check target_call(const struct target *t, const struct render *r,
			     const char *path, const struct strbuf *body,
			     double seconds, int *status, json_t **out,
			     char *err);

#endif
