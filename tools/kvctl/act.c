/* SPDX-License-Identifier: MIT */
/*
 * act.c - commands that do more than show one answer: wait, follow, and the
 *	   those that change something and may ask back first
 */
#include "tools/kvctl/kvctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- wait ---- */

struct condition {
	enum { WAIT_READY, WAIT_IDLE, WAIT_USAGE } kind;
	double percent;
};

static bool parse_condition(const char *s, struct condition *c)
{
	char *end;

	c->percent = 0;
	if (!strcmp(s, "ready")) {
		c->kind = WAIT_READY;
		return true;
	}
	if (!strcmp(s, "idle")) {
		c->kind = WAIT_IDLE;
		return true;
	}
	if (strncmp(s, "usage<", 6))
		return false;
	c->kind = WAIT_USAGE;
	c->percent = strtod(s + 6, &end);
	return end != s + 6 && !strcmp(end, "%") && c->percent > 0 &&
	       c->percent <= 100;
}

static bool condition_holds(const struct condition *c, const json_t *a)
{
	u64 used = 0, total = 0;
	json_t *d;
	size_t i;

	if (c->kind == WAIT_READY)
		return !strcmp(member_str(a, "state"), "ok");
	if (c->kind == WAIT_IDLE)
		return !member_u64(a, "clients") && !member_u64(a, "spaces");
	json_array_foreach(member(a, "devices"), i, d)
	{
		used += member_u64(d, "held_bytes") +
			member_u64(d, "charged_bytes");
		total += member_u64(d, "total_bytes");
	}
	return total && 100.0 * (double)used / (double)total < c->percent;
}

/* Polls: ten times a second, at once at the beginning. */
int run_wait(const struct invocation *inv)
{
	const struct options *opt = inv->opt;
	double end = clock_s() + opt->timeout_s;
	struct condition c;
	json_t *a;
	int rc;

	if (!parse_condition(inv->args[0], &c)) {
		fprintf(stderr,
			"kvctl: wait takes ready, idle or usage<N%%, not "
			"\"%s\"\n",
			inv->args[0]);
		return EX_KV_USAGE;
	}
	for (;;) {
		rc = ask_quiet(opt, 0, "status", &a);
		if (!rc) {
			bool ok = condition_holds(&c, a);

			if (ok && opt->json)
				print_json(opt, a);
			json_decref(a);
			if (ok)
				return EX_KV_OK;
		} else {
			rc = ask_exit_status(opt, rc);
			/* Not running yet is what ready waits for. */
			if (rc != EX_KV_NOT_RUNNING || c.kind != WAIT_READY) {
				rc = ask(opt, 0, "status", &a);
				if (rc)
					return rc;
				json_decref(a); /* there it is again */
			}
		}
		if (clock_s() >= end)
			break;
		clock_sleep_s(min(0.1, end - clock_s()));
	}
	fprintf(stderr, "kvctl: not %s after %g s\n", inv->args[0],
		opt->timeout_s);
	return EX_KV_TIMEOUT;
}

/* ---- events follow ---- */

int run_events_follow(const struct invocation *inv)
{
	double every = inv->opt->watch_s ? inv->opt->watch_s : 0.25;
	char request[64];
	unsigned long n = 0;
	json_t *a, *list;
	u64 since = 0;
	int rc;

	while (!inv->opt->count || n < inv->opt->count) {
		snprintf(request, sizeof(request), "events list %" PRIu64,
			 since);
		rc = ask(inv->opt, 0, request, &a);
		if (rc)
			return rc;
		list = member(a, "events");
		if (since && member_u64(a, "next") <= since) {
			since = 0; /* a successor's list, which begins anew */
		} else if (json_array_size(list)) {
			json_t *e =
				json_array_get(list, json_array_size(list) - 1);

			n += json_array_size(list);
			if (inv->opt->json)
				print_json(inv->opt, a);
			else
				show_events(inv, a);
			since = member_u64(e, "seq");
		}
		json_decref(a);
		if (ferror(stdout))
			return EX_KV_FAILED;
		clock_sleep_s(every);
	}
	return EX_KV_OK;
}

/* ---- kill, revoke, limit ---- */

static bool say_dry_run(const struct invocation *inv)
{
	int i;

	if (!inv->opt->dry_run)
		return false;
	printf("would ask kvmd: %s", inv->cmd->request);
	for (i = 0; i < inv->nr_args; i++)
		printf(" %s", inv->args[i]);
	putchar('\n');
	return true;
}

/* run_plain - nothing to ask back. Return: -1 go on, else the exit status. */
int run_plain(const struct invocation *inv)
{
	return say_dry_run(inv) ? EX_KV_OK : -1;
}

static bool is_client(const char *arg)
{
	if (arg[0] && strspn(arg, "0123456789") == strlen(arg))
		return true;
	fprintf(stderr,
		"kvctl: \"%s\" is no client; kvctl client list shows their "
		"numbers\n",
		arg);
	return false;
}

/* Return: -1 go on, else the exit status. */
int run_kill(const struct invocation *inv)
{
	char request[128], name[64], line[16];
	json_t *a;
	int rc;

	if (!is_client(inv->args[0]))
		return EX_KV_USAGE;
	if (say_dry_run(inv))
		return EX_KV_OK;
	if (inv->opt->yes || !isatty(STDIN_FILENO))
		return -1;
	snprintf(request, sizeof(request), "client show %s", inv->args[0]);
	rc = ask(inv->opt, 0, request, &a);
	if (rc)
		return rc;
	fmt_clean(name, sizeof(name), member_str(a, "client.name"));
	fprintf(stderr, "kill client %s: %s (pid %" PRIu64 ")? [y/N] ",
		inv->args[0], name, member_u64(a, "client.pid"));
	json_decref(a);
	if (!fgets(line, sizeof(line), stdin) ||
	    (line[0] != 'y' && line[0] != 'Y')) {
		fprintf(stderr, "kvctl: nothing was done\n");
		return EX_KV_FAILED;
	}
	return -1;
}

int run_revoke(const struct invocation *inv)
{
	if (!is_client(inv->args[0]))
		return EX_KV_USAGE;
	return say_dry_run(inv) ? EX_KV_OK : -1;
}

int run_limit(const struct invocation *inv)
{
	static const char *const keys[] = {
		"max=",	     "high=",	  "low=",	"min=",	  "swap=",
		"swap.ram=", "swap.lz4=", "swap.disk=", "weight="
	};
	unsigned int k;
	int i;

	for (i = 1; i < inv->nr_args; i++) {
		for (k = 0; k < ARRAY_SIZE(keys); k++)
			if (!strncmp(inv->args[i], keys[k], strlen(keys[k])) &&
			    inv->args[i][strlen(keys[k])])
				break;
		if (k == ARRAY_SIZE(keys)) {
			fprintf(stderr,
				"kvctl: \"%s\" is no limit; there are max=, "
				"high=, low=, min=, swap=, swap.ram=, "
				"swap.lz4=, swap.disk= (bytes, 4G, max) and "
				"weight=\n",
				inv->args[i]);
			return EX_KV_USAGE;
		}
	}
	return say_dry_run(inv) ? EX_KV_OK : -1;
}
