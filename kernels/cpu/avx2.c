/* SPDX-License-Identifier: MIT */
/*
 * avx2.c - the rows for AVX2 with FMA
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vec_ops.h"

const struct kern_ops kern_ops_avx2 = {
	.name = "avx2",
	.dequant = vec_dequant,
	.embed = vec_embed,
	.rmsnorm = vec_rmsnorm,
	.round = vec_round,
	.add = vec_add,
	.gated = vec_gated,
	.softcap = vec_softcap,
	.gemm = avx2_gemm,
	.rope = vec_rope,
	.attn = avx2_attn,
	.attn_merge = avx2_attn_merge,
	.logits = vec_logits,
};

const struct kern_ops kern_ops_avx2_bf16attn = {
	.name = "avx2bf16attn",
	.numerics = KERN_NUMERICS_BF16_ATTN,
	.attn = avx2_attn_bf16,
};

const struct kern_ops kern_ops_avx2int8 = {
	.name = "avx2int8",
	.numerics = KERN_NUMERICS_INT8,
	.gemm = avx2_gemm_int8,
};

const struct kern_ops kern_ops_avx2int16 = {
	.name = "avx2int16",
	.numerics = KERN_NUMERICS_INT16,
	.pack_rows = INT16_FEW,
	.pack_bytes = INT16_PACK_BYTES,
	.gemm = avx2_gemm_int16,
	.gemm_pack = avx2_gemm_int16_pack,
};
