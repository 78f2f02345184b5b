/* SPDX-License-Identifier: MIT */
/*
 * avx512.c - the rows for AVX-512 (F, BW, VL, DQ), with BF16, with tiles;
 * with VNNI and int8 tiles for the products in integers
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vec_ops.h"

const struct kern_ops kern_ops_avx512 = {
	.name = "avx512",
	.dequant = vec_dequant,
	.embed = vec_embed,
	.rmsnorm = vec_rmsnorm,
	.round = vec_round,
	.add = vec_add,
	.gated = vec_gated,
	.softcap = vec_softcap,
	.gemm = avx512_gemm,
	.rope = vec_rope,
	.attn = avx512_attn,
	.attn_merge = avx512_attn_merge,
	.logits = vec_logits,
};

const struct kern_ops kern_ops_avx512bf16 = {
	.name = "avx512bf16",
	.gemm = avx512bf16_gemm,
};

const struct kern_ops kern_ops_amx = {
	.name = "amx",
	.pack_rows = KERN_PACK_ROWS,
	.pack_bytes = KERN_PACK_BF16,
	.gemm = amx_gemm,
	.gemm_pack = amx_gemm_pack,
	.gemm_gated = amx_gemm_gated,
};

const struct kern_ops kern_ops_avx512_bf16attn = {
	.name = "avx512bf16attn",
	.numerics = KERN_NUMERICS_BF16_ATTN,
	.attn = avx512_attn_bf16,
};

const struct kern_ops kern_ops_amx_bf16attn = {
	.name = "amxbf16attn",
	.numerics = KERN_NUMERICS_BF16_ATTN,
	.attn = amx_attn_bf16,
};

const struct kern_ops kern_ops_avx512vnni = {
	.name = "avx512vnni",
	.numerics = KERN_NUMERICS_INT8,
	.gemm = avx512vnni_gemm,
};

const struct kern_ops kern_ops_amxint8 = {
	.name = "amxint8",
	.numerics = KERN_NUMERICS_INT8,
	.gemm = amx_gemm_int8,
};

const struct kern_ops kern_ops_avx512int16 = {
	.name = "avx512int16",
	.numerics = KERN_NUMERICS_INT16,
	.pack_rows = INT16_FEW,
	.pack_bytes = INT16_PACK_BYTES,
	.gemm = avx512vnni_gemm_int16,
	.gemm_pack = avx512vnni_gemm_int16_pack,
};
