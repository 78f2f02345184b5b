/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_SESSION_H
#define TOOLS_KVRUN_SESSION_H
/*
 * session.h - what generate, score and chat have in common: a model that is
 *	loaded, attached and ready to be asked
 */
#include <getopt.h>
#include <stdio.h>

#include "kv/errbuf.h"
#include "runtime/engine/engine.h"

struct kv;
struct gguf;
struct vocab;

struct session_opts {
	const char *model; /* -m */
	const char *socket; /* NULL: the environment's, or the usual one */
	FILE *steps; /* the caller's, or NULL: the engine's step log */
	const char *user; /* drop to this user before attaching */
	const char *isa; /* NULL: the best */
	const char *size; /* of a private device, as kvmd takes it */
	const char *swap; /* of a private kvmd, likewise; NULL: none */
	bool private; /* a kvmd of our own */
	bool contig; /* no kvmd: the contiguous reference */
	bool stats; /* a line on standard error at the end */
	u32 threads; /* 0: all */
	bool pin;
	enum engine_preempt preempt;
	enum engine_batching batching;
	enum engine_prefill prefill;
	enum engine_admit admit;
	u32 tbt_slo_ms; /* 0: no target */
	enum engine_order order;
	bool no_prefix_cache;
	u32 step_tokens; /* 0: the engine's */
	u32 context; /* 0: the model's */
	u32 max_seqs; /* that compute at a time; 0: the engine's */
	/* ends waits for memory; NULL: SIGTERM and SIGINT do */
	const volatile int *stop;
};

enum {
	SESSION_OPT_FIRST = 1024,
	SESSION_OPT_SOCKET = SESSION_OPT_FIRST,
	SESSION_OPT_PRIVATE,
	SESSION_OPT_USER,
	SESSION_OPT_KV,
	SESSION_OPT_ISA,
	SESSION_OPT_SIZE,
	SESSION_OPT_SWAP,
	SESSION_OPT_PREEMPT,
	SESSION_OPT_ORDER,
	SESSION_OPT_NO_PREFIX_CACHE,
	SESSION_OPT_STATS,
	SESSION_OPT_CHUNK,
	SESSION_OPT_CONTEXT,
	SESSION_OPT_PIN,
	SESSION_OPT_MAX_SEQS,
	SESSION_OPT_BATCHING,
	SESSION_OPT_PREFILL,
	SESSION_OPT_ADMIT,
	SESSION_OPT_TBT,
	SESSION_OPT_LAST,
};

/* In each command's table of long options; -m, -t and -h are short too. */
/* clang-format off */
#define SESSION_LONG_OPTIONS \
	{ "model", required_argument, NULL, 'm' }, \
	{ "threads", required_argument, NULL, 't' }, \
	{ "help", no_argument, NULL, 'h' }, \
	{ "socket", required_argument, NULL, SESSION_OPT_SOCKET }, \
	{ "pin", no_argument, NULL, SESSION_OPT_PIN }, \
	{ "private", no_argument, NULL, SESSION_OPT_PRIVATE }, \
	{ "user", required_argument, NULL, SESSION_OPT_USER }, \
	{ "kv", required_argument, NULL, SESSION_OPT_KV }, \
	{ "isa", required_argument, NULL, SESSION_OPT_ISA }, \
	{ "size", required_argument, NULL, SESSION_OPT_SIZE }, \
	{ "swap", required_argument, NULL, SESSION_OPT_SWAP }, \
	{ "preempt", required_argument, NULL, SESSION_OPT_PREEMPT }, \
	{ "batching", required_argument, NULL, SESSION_OPT_BATCHING }, \
	{ "prefill", required_argument, NULL, SESSION_OPT_PREFILL }, \
	{ "admit", required_argument, NULL, SESSION_OPT_ADMIT }, \
	{ "tbt-slo-ms", required_argument, NULL, SESSION_OPT_TBT }, \
	{ "order", required_argument, NULL, SESSION_OPT_ORDER }, \
	{ "no-prefix-cache", no_argument, NULL, \
	  SESSION_OPT_NO_PREFIX_CACHE }, \
	{ "stats", no_argument, NULL, SESSION_OPT_STATS }, \
	{ "chunk", required_argument, NULL, SESSION_OPT_CHUNK }, \
	{ "context", required_argument, NULL, SESSION_OPT_CONTEXT }, \
	{ "max-num-seqs", required_argument, NULL, SESSION_OPT_MAX_SEQS }
/* clang-format on */

/* The part of --help that all commands share. */
void session_usage(FILE *out);

/**
 * session_option - take one of the common options
 * @c: what getopt_long returned, 'm' and 't' included
 *
 * Return: 0, or -EINVAL with a sentence.
 */
int __must_check session_option(struct session_opts *o, int c, const char *arg,
				char *err);

struct session {
	const struct session_opts *o;
	struct vocab *vocab;
	struct model *model;
	struct engine *engine;
	char err[KV_ERRLEN];

	/* private to session.c */
	struct gguf *gguf;
	int fd;
	u8 digest[32];
	struct kern_exec exec;
	bool has_exec;
	struct kv *kv;
	struct packing *packing;
	struct kv_weights *weights;
	struct kv_backend *backend;
	struct private_kvmd *own;
};

/**
 * session_open - load, attach, get ready
 * @s: filled in; session_close() it in any case
 * @o: outlives @s
 *
 * Return: 0, or an exit status; the sentence is in @s->err.
 */
int __must_check session_open(struct session *s, const struct session_opts *o);
void session_close(struct session *s);

/**
 * session_step - one engine step
 *
 * Return: 1 more to do, 0 done, -EINTR a signal came, -ESHUTDOWN kvmd goes
 * away, or another -errno; the sentence is in @s->err.
 */
int __must_check session_step(struct session *s);

/* What session_step() does first: kvmd's events. 0 or -errno, likewise. */
int __must_check session_attend(struct session *s);

/* Stay attached until SIGTERM, SIGINT or the end of standard input. */
int __must_check session_hold(struct session *s);

/* The exit status for an error of a step or a request. */
int session_exit_status(int rc);

/*
 * SIGTERM and SIGINT only set a flag from here on; a second one, before the
 * first was seen, ends the program. Called when the session is open: until
 * then, while somebody else may be filling the weights, the first one does.
 */
void session_catch_signals(void);
int session_signal(void); /* the signal that came, or 0 */
void session_clear_signal(void);

/* A count below 2^31 with nothing after it. */
int __must_check parse_count(const char *text, u32 *out);
int __must_check parse_real(const char *text, float *out);

#endif
