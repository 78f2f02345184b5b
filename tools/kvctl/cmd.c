/* SPDX-License-Identifier: MIT */
/*
 * cmd.c - the one table of objects, verbs and options
 *
 * Usage, the hint for a misspelt word, shell completion and dispatch are
 * generated from it. Shortcuts are rows like any other.
 */
#include "tools/kvctl/kvctl.h"

#include <string.h>

const struct option_row option_table[] = {
	{ 'j', "json", NULL, "one JSON object, bytes as integers" },
	{ 'p', "pretty", NULL, "indented JSON" },
	{ 'H', "no-header", NULL, "no header, cells separated by a tab" },
	{ 'o', "columns", "COLS", "these columns, or \"all\"" },
	{ 's', "sort", "COL", "sort; numbers from the largest" },
	{ 'b', "batch", NULL, "top: print instead of taking the screen" },
	{ 0, "bytes", NULL, "sizes in bytes" },
	{ 0, "si", NULL, "sizes in powers of 1000" },
	{ 'w', "watch", "SEC", "again every SEC seconds" },
	{ 'n', "count", "N", "stop after N times" },
	{ 't', "timeout", "SEC", "wait: give up after SEC seconds (30)" },
	{ 'S', "socket", "PATH", "kvmd's socket ($KVMD_SOCKET)" },
	{ 'q', "quiet", NULL, "only the exit status" },
	{ 0, "color", "WHEN", "auto, always or never ($NO_COLOR)" },
	{ 0, "dry-run", NULL, "say what would be asked, change nothing" },
	{ 'y', "yes", NULL, "do not ask back" },
	{ 'V', "version", NULL, "print the version" },
	{ 'h', "help", NULL, "print this" },
};
const unsigned int option_table_len = ARRAY_SIZE(option_table);

#define D CMD_DEFAULT
#define W CMD_WATCH
#define A CMD_ADMIN
#define O CMD_ALONE

const struct command cmd_table[] = {
	{ "status", "show", "", 0, 0, D | W, "status", show_status, NULL,
	  "the daemon and its devices" },
	{ "health", "show", "", 0, 0, D | W, "health", show_health, NULL,
	  "what is wrong, if anything" },
	{ "meminfo", "show", "", 0, 0, D | W, "meminfo", show_meminfo, NULL,
	  "where the memory is" },
	{ "vmstat", "show", "", 0, 0, D | W, "vmstat", show_vmstat, NULL,
	  "counters; with -w also their rates" },
	{ "device", "list", "", 0, 0, D | W, "device list", show_device_list,
	  NULL, "devices" },
	{ "device", "show", "N", 1, 1, W, "device show", show_object, NULL,
	  "one device" },
	{ "device", "reclaim", "N BYTES", 2, 2, A, "device reclaim",
	  show_object, run_plain, "have so much more of it free" },
	{ "device", "watermarks", "N MIN,LOW,HIGH", 2, 2, A,
	  "device watermarks", show_object, run_plain,
	  "free memory below which it is reclaimed" },
	{ "client", "list", "", 0, 0, D | W, "client list", show_client_list,
	  NULL, "attached processes" },
	{ "client", "show", "CLIENT", 1, 1, W, "client show", show_client, NULL,
	  "one process and its geometries" },
	{ "client", "kill", "CLIENT", 1, 1, A, "kill", show_kill, run_kill,
	  "kill a process, take its memory back" },
	{ "client", "revoke", "CLIENT BYTES", 2, 2, A, "client revoke",
	  show_revoke, run_revoke, "take memory back from a process" },
	{ "tenant", "list", "", 0, 0, D | W, "tenant list", show_tenant_list,
	  NULL, "tenants, what they hold, their limits" },
	{ "tenant", "show", "TENANT", 1, 1, W, "tenant show", show_object, NULL,
	  "one tenant" },
	{ "tenant", "limit", "TENANT KEY=VALUE...", 2, 10, A, "tenant limit",
	  show_object, run_limit,
	  "set max, high, low, min, swap, swap.TIER (4G, max) or weight" },
	{ "pressure", "show", "", 0, 0, D | W, "pressure", show_pressure, NULL,
	  "time lost waiting for memory, by tenant" },
	{ "oom", "", "[N]", 0, 1, O, "oom", show_oom, NULL,
	  "who held what when memory was not to be had" },
	{ "space", "list", "[CLIENT]", 0, 1, D | W, "space list",
	  show_space_list, NULL, "address spaces: one a sequence" },
	{ "space", "show", "CLIENT:SPACE", 1, 1, W, "space show", show_space,
	  NULL, "one space and its areas" },
	{ "space", "dump", "CLIENT:SPACE", 1, 1, W, "space dump",
	  show_space_dump, NULL, "its page table" },
	{ "swap", "list", "", 0, 0, D | W, "swap list", show_swap_list, NULL,
	  "swap tiers, and what pages take there" },
	{ "swap", "deadline", "MSEC", 1, 1, A, "swap deadline", show_swap_list,
	  run_plain, "give a page up that takes longer; 0: never" },
	{ "swap", "demote", "LOW,HIGH", 1, 1, A, "swap demote", show_swap_list,
	  run_plain, "percent of a tier below which pages go on" },
	{ "swap", "discard", "on | off", 1, 1, A, "swap discard",
	  show_swap_list, run_plain,
	  "give room that is not used any more back" },
	{ "cache", "list", "", 0, 0, D | W, "cache list", show_cache_list, NULL,
	  "published prefixes, by model" },
	{ "cache", "drop", "[TENANT]", 0, 1, A, "cache drop", show_cache_drop,
	  run_plain, "forget what nobody maps of them" },
	{ "cache", "policy", "NAME", 1, 1, A, "cache policy", show_object,
	  run_plain, "what is given up first: lru, mglru, reuse" },
	{ "weights", "list", "", 0, 0, D | W, "weights list", show_weights_list,
	  NULL, "file mappings that kvmd holds" },
	{ "events", "list", "[SINCE]", 0, 1, D, "events list", show_events,
	  NULL, "the last events" },
	{ "events", "follow", "", 0, 0, 0, NULL, NULL, run_events_follow,
	  "events as they come" },
	{ "config", "show", "", 0, 0, D, "config show", show_config, NULL,
	  "options in force" },
	{ "who", "", "OFFSET | CLIENT:GEOM:ENTRY", 1, 1, O, "who", show_who,
	  NULL, "whose is this place of the device" },
	{ "check", "", "", 0, 0, O | A | W, "check", show_check, NULL,
	  "fsck of the books: 0 clean, 4 broken" },
	{ "top", "", "", 0, 0, O, NULL, NULL, run_top,
	  "live screen; -b prints" },
	{ "wait", "", "ready | idle | usage<N%", 1, 1, O, NULL, NULL, run_wait,
	  "until it holds, for scripts" },
	{ "ps", "", "", 0, 0, O | W, "client list", show_client_list, NULL,
	  "short for client list" },
	{ "limit", "", "TENANT KEY=VALUE...", 2, 10, O | A, "tenant limit",
	  show_object, run_limit, "short for tenant limit" },
	{ "kill", "", "CLIENT", 1, 1, O | A, "kill", show_kill, run_kill,
	  "short for client kill" },
	{ "completion", "", "bash", 1, 1, O, NULL, NULL, cmd_completion,
	  "print the completion for a shell" },
	{ "help", "", "", 0, 1, O, NULL, NULL, cmd_help, "print this" },
};
const unsigned int cmd_table_len = ARRAY_SIZE(cmd_table);

void cmd_usage(FILE *out)
{
	char left[64];
	unsigned int i;

	fprintf(out, "usage: kvctl [OPTIONS] OBJECT [VERB] [ARGS]\n\n");
	for (i = 0; i < cmd_table_len; i++) {
		const struct command *c = &cmd_table[i];

		snprintf(left, sizeof(left), "%s%s%s %s", c->object,
			 c->verb[0] ? " " : "", c->verb, c->args);
		fprintf(out, "  %-36s %s%s\n", left, c->help,
			c->flags & CMD_ADMIN ? " (admin)" : "");
	}
	fprintf(out, "\nThe first verb of an object is the one meant when none "
		     "is named.\n\n");
	for (i = 0; i < option_table_len; i++) {
		const struct option_row *o = &option_table[i];

		snprintf(left, sizeof(left), "%c%c%c --%s%s%s",
			 o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
			 o->letter ? ',' : ' ', o->name, o->arg ? " " : "",
			 o->arg ? o->arg : "");
		fprintf(out, "  %-24s %s\n", left, o->help);
	}
	fprintf(out, "\nexit status: 0 ok, 1 failed, 2 usage, 3 kvmd is not "
		     "running, 4 no permission\n(check: broken), 5 timeout, 6 "
		     "no such object, 7 over a limit or busy,\n8 partly done, "
		     "75 try again\n");
}

int cmd_help(const struct invocation *inv)
{
	unsigned int i;
	int n = 0;

	if (!inv->nr_args) {
		cmd_usage(stdout);
		return EX_KV_OK;
	}
	for (i = 0; i < cmd_table_len; i++) {
		const struct command *c = &cmd_table[i];

		if (strcmp(c->object, inv->args[0]))
			continue;
		printf("kvctl %s%s%s %s\n\t%s\n", c->object,
		       c->verb[0] ? " " : "", c->verb, c->args, c->help);
		n++;
	}
	if (n)
		return EX_KV_OK;
	fprintf(stderr, "kvctl: there is no \"%s\"; see kvctl help\n",
		inv->args[0]);
	return EX_KV_USAGE;
}

/* Edits that turn a into b: for hints, so short words only. */
static unsigned int edit_distance(const char *a, const char *b)
{
	unsigned int row[32], i, j, diag, up;
	size_t la = strlen(a), lb = strlen(b);

	if (la >= ARRAY_SIZE(row) || lb >= ARRAY_SIZE(row))
		return 99;
	for (j = 0; j <= lb; j++)
		row[j] = j;
	for (i = 1; i <= la; i++) {
		diag = row[0];
		row[0] = i;
		for (j = 1; j <= lb; j++) {
			up = row[j];
			row[j] = min(row[j], row[j - 1]) + 1;
			row[j] = min(row[j], diag + (a[i - 1] != b[j - 1]));
			diag = up;
		}
	}
	return row[lb];
}

/* The word of the table nearest to @word, if it is near at all. */
static const char *nearest(const char *object, const char *word)
{
	unsigned int i, best = 3, d;
	const char *name, *found = NULL;

	for (i = 0; i < cmd_table_len; i++) {
		if (object && strcmp(cmd_table[i].object, object))
			continue;
		name = object ? cmd_table[i].verb : cmd_table[i].object;
		d = strncmp(name, word, strlen(word))
			    ? edit_distance(word, name)
			    : 1;
		if (d < best) {
			best = d;
			found = name;
		}
	}
	return found;
}

static void hint_object(const char *word)
{
	const char *near = nearest(NULL, word);

	fprintf(stderr, "kvctl: there is no object \"%s\"", word);
	if (near)
		fprintf(stderr, "; did you mean \"%s\"?\n", near);
	else
		fprintf(stderr, "; see kvctl help\n");
}

static void hint_verb(const char *object, const char *word)
{
	const char *near = nearest(object, word);
	unsigned int i;

	fprintf(stderr, "kvctl: %s has no verb \"%s\"", object, word);
	if (near) {
		fprintf(stderr, "; did you mean \"%s\"?\n", near);
		return;
	}
	fprintf(stderr, "; it has");
	for (i = 0; i < cmd_table_len; i++)
		if (!strcmp(cmd_table[i].object, object))
			fprintf(stderr, " %s", cmd_table[i].verb);
	fputc('\n', stderr);
}

/* Other names of an object: the plural, and events for one event. */
static bool object_is(const struct command *c, const char *word)
{
	size_t n = strlen(c->object);

	if (!strcmp(c->object, word))
		return true;
	if (!strcmp(c->object, "events") && !strcmp(word, "event"))
		return true;
	return !(c->flags & CMD_ALONE) && !strncmp(c->object, word, n) &&
	       !strcmp(word + n, "s");
}

const struct command *cmd_find(char *const *words, int nr, int *used)
{
	const struct command *dflt = NULL, *any = NULL;
	unsigned int i;

	for (i = 0; i < cmd_table_len; i++) {
		const struct command *c = &cmd_table[i];

		if (!object_is(c, words[0]))
			continue;
		any = c;
		if (c->flags & CMD_DEFAULT)
			dflt = c;
		if ((c->flags & CMD_ALONE) ||
		    (nr > 1 && !strcmp(c->verb, words[1]))) {
			*used = c->flags & CMD_ALONE ? 1 : 2;
			return c;
		}
	}
	if (!any) {
		hint_object(words[0]);
		return NULL;
	}
	if (nr > 1 || !dflt) {
		hint_verb(any->object, nr > 1 ? words[1] : "");
		return NULL;
	}
	*used = 1;
	return dflt;
}
#undef D
#undef W
#undef A
#undef O
