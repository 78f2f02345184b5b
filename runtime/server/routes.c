/* SPDX-License-Identifier: MIT */
/*
 * routes.c - what each path answers
 */
#include <stdlib.h>
#include <string.h>

#include "kv.h"
#include "runtime/server/server_priv.h"

static int get_health(struct exchange *x)
{
	struct strbuf b = { 0 };
	struct api_error e;

	if (atomic_load(&http_server(x)->state) == SERVER_READY) {
		strbuf_puts(&b, "{\"status\":\"ok\"}");
		return http_json(x, 200, &b);
	}
	(void)api_refuse(&e, 503, NULL,
			 atomic_load(&http_server(x)->state) == SERVER_LOADING
				 ? "the model is being loaded"
				 : "the server is ending");
	return http_refuse(x, &e);
}

static int get_ping(struct exchange *x)
{
	struct strbuf b = { 0 };

	strbuf_puts(&b, "{}");
	return http_json(x, 200, &b);
}

static int get_version(struct exchange *x)
{
	struct strbuf b = { 0 };

	strbuf_puts(&b, "{\"version\":\"" KV_VERSION "\"}");
	return http_json(x, 200, &b);
}

static void put_model(const struct server *sv, struct strbuf *b)
{
	strbuf_puts(b, "{\"id\":");
	strbuf_put_json(b, sv->o->name, strlen(sv->o->name));
	strbuf_printf(b,
		      ",\"object\":\"model\",\"created\":%lld,\"owned_by\":"
		      "\"kvmd\",\"root\":",
		      (long long)sv->started);
	strbuf_put_json(b, sv->o->root, strlen(sv->o->root));
	strbuf_printf(b, ",\"parent\":null,\"max_model_len\":%u}",
		      sv->m.context);
}

static int get_models(struct exchange *x)
{
	struct strbuf b = { 0 };

	strbuf_puts(&b, "{\"object\":\"list\",\"data\":[");
	put_model(http_server(x), &b);
	strbuf_puts(&b, "]}");
	return http_json(x, 200, &b);
}

static int get_model(struct exchange *x)
{
	struct strbuf b = { 0 };
	struct api_error e;

	if (call_check_model(http_server(x), http_name(x), &e))
		return http_refuse(x, &e);
	put_model(http_server(x), &b);
	return http_json(x, 200, &b);
}

static void read_memory(const struct server *sv, struct metrics_now *now)
{
	struct kv_stats s;
	u64 room;

	now->block_size = sv->m.page_tokens;
	if (!sv->m.kv || kv_stats_get(sv->m.kv, &s))
		return;
	now->frames = s.client.frames;
	now->held = s.client.held;
	now->saved = s.client.saved;
	now->device_bytes = s.device.bytes;
	room = s.device.bytes - min(s.device.bytes, s.device.charged);
	if (room)
		now->usage = min((double)s.client.frames / (double)room, 1.0);
}

static int get_metrics(struct exchange *x)
{
	struct server *sv = http_server(x);
	struct feed_state fs;
	struct metrics_now now = { .model = sv->o->name };
	struct strbuf b = { 0 };
	u32 i;

	feed_state(sv->feed, &fs);
	now.nr_running = fs.nr_running;
	now.nr_waiting = fs.nr_waiting;
	now.nr_preempted = fs.stats.nr_preempted;
	now.nr_steps = fs.stats.nr_steps;
	now.nr_waits = fs.stats.nr_waits;
	now.nr_paused = fs.stats.nr_paused;
	now.nr_lost = fs.stats.nr_lost;
	now.nr_stale = fs.stats.nr_stale;
	now.nr_busy = fs.nr_busy;
	now.busy_s = fs.busy_s;
	now.host_s = fs.host_s;
	now.nr_streams = sv->nr_streams;
	now.nr_connections = http_connections(sv);
	for (i = 0; i < nr_routes; i++)
		now.handlers[i] = routes[i].path;
	if (atomic_load(&sv->state) != SERVER_LOADING)
		read_memory(sv, &now);
	metrics_put(&b, &sv->metrics, &now);
	return http_text(x, "text/plain; version=0.0.4; charset=utf-8", &b);
}

static int post_generate(struct exchange *x, bool chat)
{
	struct api_error e = { 0 };
	struct call *c;
	json_t *body = http_body(x);
	int rc;

	if (!body)
		return MHD_YES; /* it has been refused */
	rc = call_create(http_server(x), body, chat, &c, &e);
	json_decref(body);
	return rc ? http_refuse(x, &e) : http_call(x, c);
}

static int post_completions(struct exchange *x)
{
	return post_generate(x, false);
}

static int post_chat(struct exchange *x)
{
	return post_generate(x, true);
}

/* ---- tokens ---- */

static void put_pieces(struct strbuf *b, const struct vocab *v, const u32 *ids,
		       size_t nr)
{
	size_t i, len;

	strbuf_puts(b, "[");
	for (i = 0; i < nr; i++) {
		const char *s = vocab_piece(v, ids[i], &len);

		strbuf_printf(b, "%s{\"id\":%u,\"piece\":", i ? "," : "",
			      ids[i]);
		strbuf_put_json(b, s, len);
		strbuf_puts(b, "}");
	}
	strbuf_puts(b, "]");
}

static bool is_on(const json_t *body, const char *key, bool otherwise)
{
	const json_t *v = json_object_get(body, key);

	return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* llama.cpp asks with content, vLLM with prompt or messages. */
static int tokenize(struct server *sv, const json_t *body, struct strbuf *b,
		    struct api_error *e)
{
	const json_t *content = json_object_get(body, "content");
	const json_t *text = content ? content
				     : json_object_get(body, "prompt");
	const json_t *messages = json_object_get(body, "messages");
	unsigned int flags = VOCAB_PARSE_SPECIAL;
	u32 *ids;
	size_t nr;
	int rc;

	if (content ? is_on(body, "add_special", false)
		    : is_on(body, "add_special_tokens", true))
		flags |= VOCAB_ADD_SPECIAL;
	if (json_is_string(text))
		rc = prompt_ids(sv, content ? "content" : "prompt", text, flags,
				&ids, &nr, e);
	else if (json_is_array(messages) && json_array_size(messages))
		rc = prompt_chat(sv, messages, &ids, &nr, e);
	else
		rc = api_refuse(e, 400, "prompt",
				"a prompt, messages or content is needed");
	if (rc)
		return rc;
	strbuf_puts(b, "{\"tokens\":");
	if (content && is_on(body, "with_pieces", false))
		put_pieces(b, sv->m.vocab, ids, nr);
	else
		strbuf_put_ids(b, ids, nr);
	if (!content)
		strbuf_printf(b, ",\"count\":%zu,\"max_model_len\":%u", nr,
			      sv->m.context);
	strbuf_puts(b, "}");
	free(ids);
	return 0;
}

static int detokenize(struct server *sv, const json_t *body, struct strbuf *b,
		      struct api_error *e)
{
	size_t nr, len;
	char *text;
	u32 *ids;
	int rc = json_read_ids("tokens", json_object_get(body, "tokens"),
			       vocab_size(sv->m.vocab), &ids, &nr, e);

	if (rc)
		return rc;
	if (vocab_detokenize(sv->m.vocab, ids, nr, VOCAB_STRIP_ADDED, &text,
			     &len))
		rc = api_refuse(e, 500, NULL, "no memory");
	free(ids);
	if (rc)
		return rc;
	strbuf_puts(b, "{\"prompt\":");
	strbuf_put_json(b, text, len);
	strbuf_puts(b, ",\"content\":");
	strbuf_put_json(b, text, len);
	strbuf_puts(b, "}");
	free(text);
	return 0;
}

static int post_with(struct exchange *x,
		     int (*fn)(struct server *, const json_t *, struct strbuf *,
			       struct api_error *))
{
	struct api_error e = { 0 };
	struct strbuf b = { 0 };
	json_t *body = http_body(x);
	int rc;

	if (!body)
		return MHD_YES;
	rc = fn(http_server(x), body, &b, &e);
	json_decref(body);
	if (!rc)
		return http_json(x, 200, &b);
	strbuf_free(&b);
	return http_refuse(x, &e);
}

static int post_tokenize(struct exchange *x)
{
	return post_with(x, tokenize);
}

static int post_detokenize(struct exchange *x)
{
	return post_with(x, detokenize);
}

/* clang-format off */
const struct route routes[] = {
	{ "/v1/completions", "POST", false, false, post_completions },
	{ "/v1/chat/completions", "POST", false, false, post_chat },
	{ "/v1/models", "GET", false, false, get_models },
	{ "/v1/models/{model}", "GET", false, false, get_model },
	{ "/tokenize", "POST", false, false, post_tokenize },
	{ "/detokenize", "POST", false, false, post_detokenize },
	{ "/metrics", "GET", false, true, get_metrics },
	{ "/version", "GET", false, true, get_version },
	{ "/health", "GET", true, true, get_health },
	{ "/ping", "GET", true, true, get_ping },
};
/* clang-format on */
const u32 nr_routes = ARRAY_SIZE(routes);
_Static_assert(ARRAY_SIZE(routes) <= METRICS_HANDLERS, "handlers");
