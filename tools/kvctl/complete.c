/* SPDX-License-Identifier: MIT */
/*
 * complete.c - bash completion, generated from the command table
 *
 * Objects, verbs and options are written into the script; names of clients,
 * tenants and spaces are asked of the running daemon when TAB is pressed.
 */
#include "tools/kvctl/kvctl.h"

#include <string.h>

static bool seen_before(unsigned int at)
{
	unsigned int i;

	for (i = 0; i < at; i++)
		if (!strcmp(cmd_table[i].object, cmd_table[at].object))
			return true;
	return false;
}

static void print_verbs(const char *object)
{
	unsigned int i;

	printf("\t%s) words='", object);
	for (i = 0; i < cmd_table_len; i++) {
		const struct command *c = &cmd_table[i];

		if (!strcmp(c->object, object) && c->verb[0])
			printf("%s ", c->verb);
	}
	if (!strcmp(object, "wait"))
		printf("ready idle usage\\<80%%");
	else if (!strcmp(object, "completion"))
		printf("bash");
	printf("' ;;\n");
}

/* What the daemon is asked for, by what the command's first word is. */
static const struct {
	const char *args, *list, *cols;
} dynamic[] = {
	{ "CLIENT", "client list", "client" },
	{ "TENANT", "tenant list", "tenant" },
	{ "CLIENT:SPACE", "space list", "client,space" },
};

static void print_dynamic(const struct command *c)
{
	size_t n = strcspn(c->args, " "), i;

	for (i = 0; i < ARRAY_SIZE(dynamic); i++) {
		if (strncmp(dynamic[i].args, c->args, n) || dynamic[i].args[n])
			continue;
		printf("\t'%s%s%s') words=$(kvctl -H -o %s %s 2>/dev/null | "
		       "tr '\\t' ':') ;;\n",
		       c->object, c->verb[0] ? " " : "", c->verb,
		       dynamic[i].cols, dynamic[i].list);
	}
}

int cmd_completion(const struct invocation *inv)
{
	unsigned int i;

	if (strcmp(inv->args[0], "bash")) {
		fprintf(stderr,
			"kvctl: no completion for \"%s\"; there is "
			"bash\n",
			inv->args[0]);
		return EX_KV_USAGE;
	}
	printf("# bash completion of kvctl; made by kvctl completion bash\n"
	       "_kvctl()\n{\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} words='' w pos=() skip=\n"
	       "\tCOMPREPLY=()\n"
	       "\tfor w in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
	       "\t\tif [ -n \"$skip\" ]; then skip=; continue; fi\n"
	       "\t\tcase $w in\n\t\t");
	for (i = 0; i < option_table_len; i++) {
		if (!option_table[i].arg)
			continue;
		if (option_table[i].letter)
			printf("-%c|", option_table[i].letter);
		printf("--%s|", option_table[i].name);
	}
	printf("--) skip=1 ;;\n\t\t-*) ;;\n\t\t*) pos+=(\"$w\") ;;\n"
	       "\t\tesac\n\tdone\n"
	       "\tif [ \"${cur#-}\" != \"$cur\" ]; then\n\t\twords='");
	for (i = 0; i < option_table_len; i++)
		printf("--%s ", option_table[i].name);
	printf("'\n\telif [ ${#pos[@]} -eq 0 ]; then\n\t\twords='");
	for (i = 0; i < cmd_table_len; i++)
		if (!seen_before(i))
			printf("%s ", cmd_table[i].object);
	printf("'\n\telse\n\t\tcase \"${pos[*]}\" in\n");
	for (i = 0; i < cmd_table_len; i++)
		print_dynamic(&cmd_table[i]);
	for (i = 0; i < cmd_table_len; i++)
		if (!seen_before(i))
			print_verbs(cmd_table[i].object);
	printf("\t\tesac\n\tfi\n"
	       "\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n"
	       "complete -F _kvctl kvctl\n");
	return EX_KV_OK;
}
