/* SPDX-License-Identifier: MIT */
/*
 * fuzz_mm.h - the core fed with bytes: every operation, any argument
 *
 * LLVMFuzzerTestOneInput() reads operations from its input, as a client that
 * is out to break things would send them. Client 0 is decent: its pages must
 * stay as they are whatever the others do. Tables and status words are
 * scribbled over too, by a client that found a way to write its own table.
 */
#ifndef SELFTESTS_KVMD_MM_FUZZ_MM_H
#define SELFTESTS_KVMD_MM_FUZZ_MM_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
