/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVCTL_KVCTL_H
#define TOOLS_KVCTL_KVCTL_H
/*
 * kvctl.h - what kvctl's files share: options, exit codes, the command table
 *
 * A command is one row of the table in cmd.c: object, verb, the request line
 * it sends to kvmd and the view that shows the answer. Usage, hints, shell
 * completion and dispatch all read that table, and nothing else knows the
 * names.
 */
#include <jansson.h>
#include <stdio.h>
#include "include/kv/types.h"
#include "lib/clock.h"

/* Exit statuses, documented in kvctl(8). */
enum {
	EX_KV_OK = 0,
	EX_KV_FAILED = 1,
	EX_KV_USAGE = 2,
	EX_KV_NOT_RUNNING = 3,
	EX_KV_PERMISSION = 4,
	EX_KV_BROKEN = 4, /* check: the books are left broken, as fsck says */
	EX_KV_TIMEOUT = 5,
	EX_KV_NO_OBJECT = 6,
	EX_KV_LIMIT = 7,
	EX_KV_PARTIAL = 8,
	EX_KV_AGAIN = 75,
};

enum unit_mode {
	UNIT_BINARY, /* 1.5G, powers of 1024 */
	UNIT_SI, /* 1.6GB, powers of 1000 */
	UNIT_BYTES, /* 1610612736 */
};

struct options {
	const char *socket;
	const char *columns; /* -o */
	const char *sort; /* -s */
	double watch_s; /* -w, 0 = once */
	unsigned long count; /* -n, 0 = for ever */
	double timeout_s; /* wait */
	enum unit_mode units;
	bool json, pretty, no_header, quiet, color, dry_run, yes, batch;
};

/* ---- cmd.c: the table ---- */

struct command;

/* One run of a command: its row, its words and the options. */
struct invocation {
	const struct command *cmd;
	const struct options *opt;
	int nr_args;
	char *const *args; /* after object and verb */
	json_t *last; /* the answer before, when watching */
	double last_s; /* how long ago */
};

#define CMD_DEFAULT (1u << 0) /* the verb when none is named */
#define CMD_ADMIN   (1u << 1) /* needs KV_HELLO_ADMIN */
#define CMD_WATCH   (1u << 2) /* -w makes sense */
#define CMD_ALONE   (1u << 3) /* the object is the whole command */

/**
 * struct command - one row
 * @request: what is sent; the words of the command line follow it. NULL: @run
 *	does all of it
 * @show: prints the answer as text; returns an exit status
 * @run: instead of request and show
 */
struct command {
	const char *object, *verb;
	const char *args; /* for usage */
	u8 min_args, max_args;
	u8 flags; /* CMD_* */
	const char *request;
	int (*show)(const struct invocation *inv, json_t *answer);
	int (*run)(const struct invocation *inv);
	const char *help;
};

extern const struct command cmd_table[];
extern const unsigned int cmd_table_len;

/* A global option; the table generates getopt's and the completion's. */
struct option_row {
	char letter; /* 0: long form only */
	const char *name;
	const char *arg; /* NULL: a flag */
	const char *help;
};
extern const struct option_row option_table[];
extern const unsigned int option_table_len;

/**
 * cmd_find - the row for the words of a command line
 * @words: words
 * @nr: how many
 * @used: words that named the command
 *
 * Prints why on standard error if there is none.
 * Return: the row, or NULL.
 */
const struct command *cmd_find(char *const *words, int nr, int *used);
void cmd_usage(FILE *out);
int cmd_help(const struct invocation *inv);
int cmd_completion(const struct invocation *inv);

/* ---- ask.c: requests ---- */

/**
 * ask - send a request, parse the answer
 * @opt: options
 * @flags: KV_HELLO_ADMIN or 0
 * @request: the line
 * @out: the answer, on success only
 *
 * Prints a sentence on standard error on failure.
 * Return: EX_KV_*.
 */
int ask(const struct options *opt, unsigned int flags, const char *request,
	json_t **out);
/* ask_quiet - the same, -errno and nothing printed */
int ask_quiet(const struct options *opt, unsigned int flags,
	      const char *request, json_t **out);
int ask_exit_status(const struct options *opt, int err);
int print_json(const struct options *opt, const json_t *v);

/* ---- fmt.c: numbers for people ---- */

void fmt_bytes(char *buf, size_t len, u64 bytes, enum unit_mode mode);
void fmt_count(char *buf, size_t len, u64 n);
void fmt_duration(char *buf, size_t len, u64 ns);
void fmt_clean(char *buf, size_t len, const char *s);

/* ---- tab.c: tables ---- */

enum col_kind {
	COL_STR, /* left */
	COL_INT,
	COL_COUNT, /* 81k */
	COL_BYTES,
	COL_NS, /* a duration */
	COL_LIMIT, /* bytes, or null: "max" */
	COL_USER, /* a uid: its name */
	COL_SHORT, /* the first 12 characters */
	COL_HUNDREDTHS, /* 1234: 12.34 */
	COL_PERCENT, /* key over key2, both numbers */
};

#define COL_HIDDEN (1u << 0) /* shown with -o only */

struct col {
	const char *name; /* header; -o and -s take it in any case */
	const char *key; /* member; "a.b" reaches into objects */
	const char *key2; /* COL_PERCENT */
	u8 kind;
	u8 flags;
};

struct table {
	const struct col *cols;
	unsigned int nr_cols;
	const char *indent;
	const char *sort; /* default column, NULL: as it came */
};

/* tab_print - rows of a JSON array; EX_KV_USAGE for a column that is not */
int tab_print(const struct options *opt, const struct table *t,
	      const json_t *rows);
/* tab_print_to - the same to any stream, at most @max rows; 0: all */
int tab_print_to(FILE *out, const struct options *opt, const struct table *t,
		 const json_t *rows, size_t max);
/* tab_cell - one value as text */
void tab_cell(char *buf, size_t len, const struct options *opt,
	      const struct col *c, const json_t *row);
json_t *member(const json_t *row, const char *path);
u64 member_u64(const json_t *row, const char *path);
const char *member_str(const json_t *row, const char *path);

/* ---- show*.c: views ---- */

extern const struct table device_table, client_table, tenant_table, space_table;

int show_status(const struct invocation *inv, json_t *a);
int show_health(const struct invocation *inv, json_t *a);
int show_meminfo(const struct invocation *inv, json_t *a);
int show_vmstat(const struct invocation *inv, json_t *a);
int show_device_list(const struct invocation *inv, json_t *a);
int show_client_list(const struct invocation *inv, json_t *a);
int show_client(const struct invocation *inv, json_t *a);
int show_tenant_list(const struct invocation *inv, json_t *a);
int show_space_list(const struct invocation *inv, json_t *a);
int show_swap_list(const struct invocation *inv, json_t *a);
int show_cache_list(const struct invocation *inv, json_t *a);
int show_cache_drop(const struct invocation *inv, json_t *a);
int show_space(const struct invocation *inv, json_t *a);
int show_space_dump(const struct invocation *inv, json_t *a);
int show_weights_list(const struct invocation *inv, json_t *a);
int show_events(const struct invocation *inv, json_t *a);
int show_config(const struct invocation *inv, json_t *a);
int show_who(const struct invocation *inv, json_t *a);
int show_check(const struct invocation *inv, json_t *a);
int show_kill(const struct invocation *inv, json_t *a);
int show_revoke(const struct invocation *inv, json_t *a);
int show_pressure(const struct invocation *inv, json_t *a);
int show_oom(const struct invocation *inv, json_t *a);
int show_object(const struct invocation *inv, json_t *a);
void status_line(FILE *out, const struct options *opt, const json_t *a);

/* ---- commands with a file of their own ---- */

int run_events_follow(const struct invocation *inv);
int run_kill(const struct invocation *inv);
int run_plain(const struct invocation *inv);
int run_revoke(const struct invocation *inv);
int run_limit(const struct invocation *inv);
int run_wait(const struct invocation *inv);
int run_top(const struct invocation *inv);

/* Colour: the escape, or "" where no colour is wanted. */
const char *tint(const struct options *opt, const char *sgr);

#endif
