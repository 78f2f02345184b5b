/* SPDX-License-Identifier: MIT */
/*
 * main.c - kvrun: one program, a subcommand per row
 *
 * Exit status: 0 done, 1 failed with a sentence on standard error, 2 not
 * understood, 3 no kvmd to attach to, 4 no permission.
 */
#include <stdio.h>
#include <string.h>

#include "kv/types.h"
#include "tools/kvrun/cmd.h"
#include "lib/stdfds.h"

static const struct {
	const char *name;
	int (*fn)(int argc, char **argv);
	const char *help;
} cmds[] = {
	{
		.name = "generate",
		.fn = cmd_generate,
		.help = "continue a prompt",
	},
	{
		.name = "score",
		.fn = cmd_score,
		.help = "log-probability of each token of a text",
	},
	{
		.name = "chat",
		.fn = cmd_chat,
		.help = "talk to an instruct model",
	},
	{
		.name = "serve",
		.fn = cmd_serve,
		.help = "answer over HTTP, in OpenAI's dialect",
	},
	{
		.name = "tokenize",
		.fn = cmd_tokenize,
		.help = "text on standard input to token ids",
	},
	{
		.name = "detokenize",
		.fn = cmd_detokenize,
		.help = "token ids on standard input to text",
	},
};

static void usage(FILE *out)
{
	fprintf(out, "usage: kvrun COMMAND [OPTION]...\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++)
		fprintf(out, "  %-12s %s\n", cmds[i].name, cmds[i].help);
	fprintf(out, "\nkvrun COMMAND --help lists its options.\n");
}

int main(int argc, char **argv)
{
	stdfds_fill();
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		usage(stdout);
		return EXIT_OK;
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		printf("kvrun %s\n", KV_VERSION);
		return EXIT_OK;
	}
	for (size_t i = 0; i < ARRAY_SIZE(cmds); i++)
		if (!strcmp(argv[1], cmds[i].name))
			return cmds[i].fn(argc - 1, argv + 1);
	fprintf(stderr, "kvrun: there is no command '%s'\n", argv[1]);
	usage(stderr);
	return EXIT_USAGE;
}
