/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_VALUES_H
#define TOOLS_KVBENCH_SERVE_VALUES_H
/*
 * values.h - values of options
 *
 * What is none is said on stderr, and false.
 */
#include "tools/kvbench/serve/dist.h"

bool value_real(const char *s, double least, double most, double *out);
bool value_whole(const char *s, u32 least, u32 most, u32 *out);
/* value_word - one of some words, NULL behind them: its number, or -1 */
int value_word(const char *s, const char *const *words);
bool value_lengths(const char *s, struct dist *d, bool *has);
/* value_two - LO:HI, of which LO is @least at least */
bool value_two(const char *s, double least, double *low, double *high);

#endif
