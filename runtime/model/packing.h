/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_PACKING_H
#define RUNTIME_MODEL_PACKING_H
/*
 * packing.h - where a model's tensors lie in the mapping that kvmd holds
 *
 * Packing version 2: every matrix of a quantised type and 16 rows in strips
 * (kernels/include/pack.h), everything else as the file has it, one tensor
 * after the other in the order of the file. What the plan says follows from
 * the file's header alone, so the runtime that fills the mapping and those
 * that find it filled agree without a word.
 */
#include "kv/errbuf.h"
#include "kv/types.h"
#include "runtime/model/digest.h"
#include "runtime/model/gguf.h"

#define PACKING_VERSION 2

struct packing;
struct pool;

/* A tensor in the mapping. */
struct packed_tensor {
	u64 at; /* offset, a multiple of 64 */
	u64 bytes;
	u64 stride; /* bytes from a row, or from a strip, to the next */
	u32 layout; /* enum kern_layout */
};

/**
 * packing_plan - lay the tensors of a file out
 * @g: the file; must outlive the plan
 * @out: packing_free() it
 *
 * Return: 0 or -ENOMEM.
 */
int __must_check packing_plan(const struct gguf *g, struct packing **out,
			      char *err);
void packing_free(struct packing *p);

/* Length of the mapping. */
u64 packing_bytes(const struct packing *p);

/* @t: of the file that was planned */
const struct packed_tensor *packing_of(const struct packing *p,
				       const struct gguf_tensor *t);

/**
 * packing_fill - read the file and write the mapping
 * @fd: the file, the same that was planned
 * @dst: [packing_bytes()], zeroed
 * @want: the file's digest
 * @pool: its threads do the packing, while one of them reads on
 *
 * Return: 0, -ESTALE if the bytes read are not those of @want, -ENOMEM, or
 * the system's -errno. On failure @dst holds nothing of use.
 */
int __must_check packing_fill(const struct packing *p, int fd, void *dst,
			      const u8 want[DIGEST_BYTES], struct pool *pool,
			      char *err);

#endif
