/* SPDX-License-Identifier: MIT */
#ifndef LIB_STDFDS_H
#define LIB_STDFDS_H

/**
 * stdfds_fill - make sure that descriptors 0, 1 and 2 are in use
 *
 * A program that was started with one of them closed would get it for the
 * next file or socket that it opens, and print into that. Whatever is closed
 * becomes /dev/null, opened the wrong way round: reading and writing fail as
 * they would on a closed one, so that lost output is still an error.
 */
void stdfds_fill(void);

#endif
