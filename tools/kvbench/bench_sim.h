/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_BENCH_SIM_H
#define TOOLS_KVBENCH_BENCH_SIM_H

/* `kvbench sim`; @argv[0] is "sim". Return: the exit status. */
int sim_main(int argc, char **argv);

#endif
