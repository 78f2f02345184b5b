/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CTL_CTL_H
#define KVMD_CTL_CTL_H
/*
 * ctl.h - inspection and administration (Documentation/abi/ctl.rst)
 *
 * A request is a line of words. Handlers build one JSON object from the state
 * as it is at this moment of the loop; turning it into text is a worker's job.
 */
#include <jansson.h>
#include "include/kv/errbuf.h"
#include "include/kv/types.h"

struct conn;
struct kv_msg;
struct kv_namespace;
struct kv_rank;
struct kvmd;
struct session;

#define CTL_WORDS_MAX 14u
#define CTL_LINE_MAX  512u

/* A request while it is answered. */
struct ctl {
	struct kvmd *d;
	struct conn *c;
	const struct kv_msg *msg;
	char line[CTL_LINE_MAX + 1];
	char *word[CTL_WORDS_MAX]; /* object, verb, arguments */
	unsigned int nr_words;
	char err[KV_ERRLEN];
	bool answered; /* the handler has replied itself */
};

/**
 * struct ctl_def - a request
 * @object: first word
 * @verb: second word, NULL: none
 * @args_min, @args_max: words behind them
 * @admin: needs KV_HELLO_ADMIN
 * @handle: fill @out; 0, or -errno with a sentence in q->err
 */
struct ctl_def {
	const char *object, *verb;
	unsigned int args_min, args_max;
	bool admin;
	int (*handle)(struct ctl *q, json_t *out);
};

/* ctl_setup - once, before the first request */
void ctl_setup(void);
/* ctl_request - body of a KV_MSG_CTL packet */
void ctl_request(struct conn *c, const struct kv_msg *msg, const char *body,
		 size_t len);
/* ctl_arg - argument @i (after object and verb), or NULL */
const char *ctl_arg(const struct ctl *q, unsigned int i);
/* ctl_number - a decimal number; 0 or -EINVAL */
int ctl_number(const char *text, u64 most, u64 *out);
/* ctl_sees - may the asking peer see details of this session? */
bool ctl_sees(const struct ctl *q, const struct session *s);
/* ctl_sees_tenant - and of this tenant? */
bool ctl_sees_tenant(const struct ctl *q, const char *tenant);
/* ctl_session - the session that a word names; 0, -EINVAL, -ENOENT, -EPERM */
int ctl_session(struct ctl *q, const char *word, struct session **out);

/* Bytes and counts: JSON integers are signed, so what is above is capped. */
json_t *ctl_u64(u64 n);
void ctl_set(json_t *o, const char *key, u64 n);
void ctl_set_text(json_t *o, const char *key, const char *text);
/* ctl_ns - a namespace, each member in hex, "" if it is zero */
json_t *ctl_ns(const struct kv_namespace *ns);
json_t *ctl_rank(const struct kv_rank *rank);

/* Tables of the handlers' files, each ends with an entry without object. */
extern const struct ctl_def ctl_system_defs[];
extern const struct ctl_def ctl_object_defs[];
extern const struct ctl_def ctl_space_defs[];
extern const struct ctl_def ctl_admin_defs[];
extern const struct ctl_def ctl_cache_defs[];
extern const struct ctl_def ctl_pressure_defs[];
extern const struct ctl_def ctl_swap_defs[];
extern const struct ctl_def ctl_oom_defs[];

#endif
