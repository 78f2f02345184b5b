/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_ANSWER_H
#define TOOLS_KVBENCH_SERVE_ANSWER_H
/*
 * answer.h - one streamed completion: tokens, usage, how it ended
 */
#include "tools/kvbench/serve/failures.h"
#include "tools/kvbench/serve/http.h"
#include "tools/kvbench/serve/sse.h"
#include "runtime/server/strbuf.h"

struct answer {
	struct http http;
	struct sse sse;
	/* an event with a choice; brings: a token, else only how it ended */
	void (*choice)(void *arg, bool brings);
	void *arg;
	bool is_chat, keep; /* keep: text and ids are wanted */
	/* what came */
	u32 nr_events; /* that brought a token */
	u32 prompt_tokens, output_tokens, cached_tokens;
	bool has_usage, has_cached;
	bool is_finished; /* a reason was given, or [DONE] */
	struct strbuf text; /* with keep; of an error: what the server said */
	u32 *ids;
	u32 nr_ids, ids_room;
	struct failure failure;
};

void answer_init(struct answer *a, bool is_chat,
		 void (*choice)(void *arg, bool brings), void *arg);
void answer_fini(struct answer *a);
/* answer_reset - the next request on the same connection */
void answer_reset(struct answer *a, bool keep);

/**
 * answer_take - the next bytes of the connection
 *
 * Return: 1 when the answer is over, good or bad (a->failure); 0: more is
 * to come.
 */
int __must_check answer_take(struct answer *a, const char *p, size_t len);
/* answer_eof - the connection has ended, and so has the answer */
void answer_eof(struct answer *a);

/* answer_error - what an error says, in any of the usual forms; NULL: none */
const char *answer_error(const json_t *v);

#endif
