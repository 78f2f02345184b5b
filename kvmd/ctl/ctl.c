/* SPDX-License-Identifier: MIT */
/*
 * ctl.c - requests in, JSON out
 *
 *	parse -> handle (on the loop) -> text (on a worker) -> reply
 *
 * The connection is busy in between: it reads no further request and is not
 * freed, whatever happens to its peer.
 */
#include "kvmd/ctl/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

static const struct ctl_def *const tables[] = {
	ctl_system_defs, ctl_object_defs,   ctl_space_defs, ctl_admin_defs,
	ctl_cache_defs,	 ctl_pressure_defs, ctl_oom_defs,   ctl_swap_defs,
};

/* ---- memory ---- */

/*
 * jansson leaves out what it has no memory for, and its callers would have to
 * look at each of hundreds of calls. What is short shows here instead: an
 * answer is whole or refused.
 */
static __thread bool short_of_memory;

static void *json_alloc(size_t size)
{
	void *p = malloc(size);

	short_of_memory |= !p;
	return p;
}

void ctl_setup(void)
{
	json_set_alloc_funcs(json_alloc, free);
}

/* ---- helpers of the handlers ---- */

const char *ctl_arg(const struct ctl *q, unsigned int i)
{
	/* without a verb the arguments begin one word earlier */
	return i + 2 < q->nr_words ? q->word[i + 2] : NULL;
}

int ctl_number(const char *text, u64 most, u64 *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return errno || *end || *out > most ? -EINVAL : 0;
}

bool ctl_sees_tenant(const struct ctl *q, const char *tenant)
{
	return q->c->sees_all || !strcmp(q->c->tenant, tenant);
}

bool ctl_sees(const struct ctl *q, const struct session *s)
{
	if (ctl_sees_tenant(q, s->tenant_name))
		return true;
	return q->d->opt->tenant_key == TENANT_KEY_PID &&
	       peer_same_user(&q->c->peer, &s->peer);
}

int ctl_session(struct ctl *q, const char *word, struct session **out)
{
	u64 id;

	if (ctl_number(word, MM_CLIENT_MAX - 1, &id))
		return err_set(q->err, -EINVAL, "client %s: not a number",
			       word);
	*out = q->d->sessions[id];
	if (!*out)
		return err_set(q->err, -ENOENT, "client %s: there is none",
			       word);
	if (!ctl_sees(q, *out))
		return err_set(q->err, -EPERM,
			       "client %s: belongs to another tenant", word);
	return 0;
}

json_t *ctl_u64(u64 n)
{
	return json_integer((json_int_t)min(n, (u64)INT64_MAX));
}

void ctl_set(json_t *o, const char *key, u64 n)
{
	json_object_set_new(o, key, ctl_u64(n));
}

void ctl_set_text(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, json_string(text));
}

/* ---- the reply ---- */

struct ctl_job {
	struct work work;
	struct conn *c;
	struct kv_msg msg;
	json_t *out;
	int fd; /* or -errno */
	u64 bytes;
};

static void ctl_job_run(struct work *w)
{
	struct ctl_job *job = container_of(w, struct ctl_job, work);
	char *text = json_dumps(job->out, JSON_COMPACT);

	if (!text) {
		job->fd = -ENOMEM;
		return;
	}
	job->bytes = strlen(text);
	job->fd = memfd_of_text("kvmd-ctl", text, job->bytes);
	free(text);
}

static void ctl_job_done(struct work *w)
{
	struct ctl_job *job = container_of(w, struct ctl_job, work);
	struct kv_msg_ctl body = { .bytes = job->bytes };
	struct conn *c = job->c;

	c->busy = false;
	if (job->fd < 0)
		conn_refuse(c, &job->msg, job->fd, "no memory for the answer");
	else
		conn_reply(c, &job->msg, &body, sizeof(body), &job->fd, 1);
	if (job->fd >= 0)
		close(job->fd);
	if (!c->closing)
		conn_watch(c);
	json_decref(job->out);
	free(job);
}

static void ctl_answer(struct ctl *q, json_t *out)
{
	struct ctl_job *job = calloc(1, sizeof(*job));

	if (!job) {
		json_decref(out);
		conn_refuse(q->c, q->msg, -ENOMEM, "no memory for the answer");
		return;
	}
	job->c = q->c;
	job->msg = *q->msg;
	job->out = out;
	job->work.run = ctl_job_run;
	job->work.done = ctl_job_done;
	q->c->busy = true;
	conn_watch(q->c);
	work_submit(q->d->pool, &job->work);
}

/* ---- the request ---- */

static int ctl_parse(struct ctl *q, const char *body, size_t len)
{
	char *at = q->line, *save = NULL, *word;

	len = strnlen(body, len);
	if (len > CTL_LINE_MAX)
		return err_set(q->err, -EINVAL,
			       "request: %zu bytes are too long, at most %u",
			       len, CTL_LINE_MAX);
	log_text(q->line, sizeof(q->line), body, len);
	while ((word = strtok_r(at, " ", &save))) {
		at = NULL;
		if (q->nr_words == CTL_WORDS_MAX)
			return err_set(q->err, -EINVAL,
				       "request: more than %u words",
				       CTL_WORDS_MAX);
		q->word[q->nr_words++] = word;
	}
	return q->nr_words ? 0
			   : err_set(q->err, -EINVAL, "request: it is empty");
}

static const struct ctl_def *ctl_find(const struct ctl *q)
{
	const struct ctl_def *def;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		for (def = tables[i]; def->object; def++) {
			if (strcmp(def->object, q->word[0]))
				continue;
			if (!def->verb ||
			    (q->nr_words > 1 && !strcmp(def->verb, q->word[1])))
				return def;
		}
	}
	return NULL;
}

static int ctl_run(struct ctl *q, json_t *out)
{
	const struct ctl_def *def = ctl_find(q);
	unsigned int nr_args;
	unsigned int i;

	if (!def)
		return err_set(q->err, -EINVAL, "%s%s%s: no such request",
			       q->word[0], q->nr_words > 1 ? " " : "",
			       q->nr_words > 1 ? q->word[1] : "");
	if (!def->verb) { /* so that arguments are always behind a verb */
		if (q->nr_words == CTL_WORDS_MAX)
			return err_set(q->err, -EINVAL,
				       "request: too many words");
		for (i = q->nr_words; i > 1; i--)
			q->word[i] = q->word[i - 1];
		q->word[1] = q->word[0];
		q->nr_words++;
	}
	nr_args = q->nr_words - 2;
	if (nr_args < def->args_min || nr_args > def->args_max)
		return err_set(q->err, -EINVAL,
			       "%s%s%s: %u arguments are not possible",
			       def->object, def->verb ? " " : "",
			       def->verb ? def->verb : "", nr_args);
	if (def->admin && !q->c->admin)
		return err_set(q->err, -EPERM,
			       "%s%s%s: needs an administrator's connection",
			       def->object, def->verb ? " " : "",
			       def->verb ? def->verb : "");
	json_object_set_new(out, "schema", json_string("kvctl/1"));
	json_object_set_new(out, "object", json_string(def->object));
	return def->handle(q, out);
}

void ctl_request(struct conn *c, const struct kv_msg *msg, const char *body,
		 size_t len)
{
	struct ctl q = { .d = c->d, .c = c, .msg = msg };
	json_t *out = json_object();
	int rc;

	if (!out) {
		conn_refuse(c, msg, -ENOMEM, "no memory for the answer");
		return;
	}
	short_of_memory = false;
	rc = ctl_parse(&q, body, len);
	if (!rc)
		rc = ctl_run(&q, out);
	if (!rc && !q.answered && short_of_memory)
		rc = err_set(q.err, -ENOMEM, "no memory for the answer");
	if (rc)
		conn_refuse(c, msg, rc, "%s", q.err);
	if (rc || q.answered)
		json_decref(out);
	else
		ctl_answer(&q, out);
}
