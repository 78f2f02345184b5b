/* SPDX-License-Identifier: MIT */
/*
 * test_attn_amx.c - attention on tile registers, with the tiles in plain C
 *
 * attn_amx.c is compiled here on amx.h's emulation and AVX2: what test_amx.c
 * is to the product. On a CPU that has AMX, the row "amxbf16attn" of
 * test_attn runs the instructions.
 *
 * san: address
 */
#define AMX_EMULATED
#define amx_attn_bf16 amx_attn_emulated
#include "kernels/cpu/attn_amx.c"

#include "selftests/kernels/attn_tests.h"

static const struct kern_ops emulated = {
	.name = "amx, emulated",
	.numerics = KERN_NUMERICS_BF16_ATTN,
	.attn = amx_attn_emulated,
	.attn_merge = avx2_attn_merge,
};

static const struct kern_ops *attn_row(u32 i)
{
	return i ? NULL : &emulated;
}

static void attn_begin(void)
{
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		SKIP("this CPU has no AVX2");
	kern_thread_init();
}

TEST_HARNESS_MAIN
