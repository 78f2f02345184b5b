/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_FAULTS_LEFT_H
#define SELFTESTS_FAULTS_LEFT_H
/*
 * left.h - are there more descriptors and mappings than before?
 */

/* left_begin - count them; from now on calls fail that are to */
void left_begin(void);
/* left_more - 0; 13 there are more descriptors, 14 more mappings */
int left_more(void);

#endif
