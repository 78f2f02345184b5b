/* SPDX-License-Identifier: MIT */
#ifndef CPU_ROWS_H
#define CPU_ROWS_H
/*
 * rows.h - the rows of the ops table, one per instruction set and numerics
 *
 * A NULL function means: as the parent. kern_select() hands out rows with
 * the gaps filled.
 */
#include "kernels/include/kern.h"

extern const struct kern_ops kern_ops_ref;
extern const struct kern_ops kern_ops_avx2;
extern const struct kern_ops kern_ops_avx512;
extern const struct kern_ops kern_ops_avx512bf16;
extern const struct kern_ops kern_ops_amx;
extern const struct kern_ops kern_ops_refint8;
extern const struct kern_ops kern_ops_avx2int8;
extern const struct kern_ops kern_ops_avx512vnni;
extern const struct kern_ops kern_ops_amxint8;
extern const struct kern_ops kern_ops_refint16;
extern const struct kern_ops kern_ops_avx2int16;
extern const struct kern_ops kern_ops_avx512int16;

extern const struct kern_ops kern_ops_ref_bf16attn;
extern const struct kern_ops kern_ops_avx2_bf16attn;
extern const struct kern_ops kern_ops_avx512_bf16attn;
extern const struct kern_ops kern_ops_amx_bf16attn;

#endif
