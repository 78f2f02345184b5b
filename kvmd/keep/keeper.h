/* SPDX-License-Identifier: MIT */
#ifndef KVMD_KEEP_KEEPER_H
#define KVMD_KEEP_KEEPER_H
/*
 * keeper.h - the process that starts kvmd again
 */
#include "kvmd/options.h"

/**
 * keeper_run - start kvmd, keep what it wants kept, start it again
 * @opt: options; pid_file, ready_fd and exit_with_parent are looked at
 * @argc, @argv: kvmd's command line, passed on
 *
 * Context: the whole process is the keeper's.
 * Return: kvmd's exit status.
 */
int keeper_run(const struct options *opt, int argc, char **argv);

#endif
