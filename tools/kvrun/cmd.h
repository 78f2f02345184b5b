/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_CMD_H
#define TOOLS_KVRUN_CMD_H
/*
 * cmd.h - kvrun's subcommands
 *
 * A row in main.c's table names each. argv[0] is the subcommand's name, so
 * that getopt_long works on (argc, argv) as it is. The return value is the
 * exit status.
 */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* one sentence is on standard error */
	EXIT_USAGE = 2,
	EXIT_NO_DAEMON = 3,
	EXIT_NO_PERMISSION = 4,
};

int cmd_generate(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_serve(int argc, char **argv);

int cmd_tokenize(int argc, char **argv);
int cmd_detokenize(int argc, char **argv);

#endif
