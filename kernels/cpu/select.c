/* SPDX-License-Identifier: MIT */
/*
 * select.c - which row of the ops table this CPU runs
 *
 * Rows are listed best first, each with the row it falls back to; those of
 * other numerics than bf16 come last. The filled rows are made once, before
 * main(); nothing is written after that.
 *
 * Unasked, a CPU gets the fastest of the rows whose scores are within 0.02 nat.
 * Tiles multiply 16 times as fast as registers, so with them attention goes by
 * bf16 too; the vector rows take as long for both of its definitions, or
 * longer. bf16 products need an instruction of their own: without one each
 * weight is rounded in plain arithmetic, and int16 products, which use quants
 * as they are, take half the time for many rows of x, a third for one.
 */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <xmmintrin.h>

#include "kernels/cpu/rows.h"
#include "kernels/ref/ref.h"

#define MXCSR_DAZ 0x0040u
#define MXCSR_FTZ 0x8000u

/* CPUID leaf 7, EDX */
#define CPU_AMX_BF16 (1u << 22)
#define CPU_AMX_TILE (1u << 24)
#define CPU_AMX_INT8 (1u << 25)

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA  18

const struct kern_ops kern_ops_ref = {
	.name = "ref",
	.dequant = ref_dequant,
	.embed = ref_embed,
	.rmsnorm = ref_rmsnorm,
	.round = ref_round,
	.add = ref_add,
	.gated = ref_gated,
	.softcap = ref_softcap,
	.gemm = ref_gemm,
	.rope_table = ref_rope_table,
	.rope = ref_rope,
	.attn = ref_attn,
	.attn_merge = ref_attn_merge,
	.logits = ref_logits,
	.copy = ref_copy,
};

const struct kern_ops kern_ops_ref_bf16attn = {
	.name = "refbf16attn",
	.numerics = KERN_NUMERICS_BF16_ATTN,
	.attn = ref_attn_bf16,
};

const struct kern_ops kern_ops_refint8 = {
	.name = "refint8",
	.numerics = KERN_NUMERICS_INT8,
	.gemm = ref_gemm_int8,
};

const struct kern_ops kern_ops_refint16 = {
	.name = "refint16",
	.numerics = KERN_NUMERICS_INT16,
	.gemm = ref_gemm_int16,
};

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") &&
	       __builtin_cpu_supports("avx512bw") &&
	       __builtin_cpu_supports("avx512vl") &&
	       __builtin_cpu_supports("avx512dq") &&
	       __builtin_cpu_supports("fma");
}

static bool has_avx512bf16(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

static bool has_avx512vnni(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

/*
 * The kernel has to be asked for room for the tiles, once per process; it
 * refuses where it does not know them. (clang 14 has no names for the bits.)
 */
static bool has_tiles(u32 want)
{
	u32 eax, ebx, ecx, edx;

	want |= CPU_AMX_TILE;
	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
	       (edx & want) == want &&
	       !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM,
			XFEATURE_XTILEDATA);
}

static bool has_amx(void)
{
	return has_avx512bf16() && __builtin_cpu_supports("avx512vbmi") &&
	       has_tiles(CPU_AMX_BF16);
}

static bool has_amxint8(void)
{
	return has_amx() && has_tiles(CPU_AMX_INT8);
}

static bool has_avx2(void)
{
	/* Every CPU with AVX2 has F16C. */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_any(void)
{
	return true;
}

/* By numerics, best first. */
static const struct row {
	const struct kern_ops *ops;
	bool (*supports)(void);
	const struct kern_ops *parent; /* what it falls back to */
} rows[] = {
	{ &kern_ops_amx, has_amx, &kern_ops_avx512bf16 },
	{ &kern_ops_avx512bf16, has_avx512bf16, &kern_ops_avx512 },
	{ &kern_ops_avx512, has_avx512, &kern_ops_avx2 },
	{ &kern_ops_avx2, has_avx2, &kern_ops_ref },
	{ &kern_ops_ref, has_any, NULL },
	{ &kern_ops_amx_bf16attn, has_amx, &kern_ops_amx },
	{ &kern_ops_avx512_bf16attn, has_avx512, &kern_ops_avx512 },
	{ &kern_ops_avx2_bf16attn, has_avx2, &kern_ops_avx2 },
	{ &kern_ops_ref_bf16attn, has_any, &kern_ops_ref },
	{ &kern_ops_amxint8, has_amxint8, &kern_ops_amx },
	{ &kern_ops_avx512vnni, has_avx512vnni, &kern_ops_avx512 },
	{ &kern_ops_avx2int8, has_avx2, &kern_ops_avx2 },
	{ &kern_ops_refint8, has_any, &kern_ops_ref },
	{ &kern_ops_avx512int16, has_avx512vnni, &kern_ops_avx512 },
	{ &kern_ops_avx2int16, has_avx2, &kern_ops_avx2 },
	{ &kern_ops_refint16, has_any, &kern_ops_ref },
};

/* What is chosen where no name is given: the first that the CPU has. */
static const struct kern_ops *const unasked[] = {
	&kern_ops_amx_bf16attn, &kern_ops_avx512bf16, &kern_ops_avx512int16,
	&kern_ops_avx2int16,	&kern_ops_ref,
};

static struct kern_ops filled[ARRAY_SIZE(rows)];
static const char *names[ARRAY_SIZE(rows) + 1];

#define INHERIT(member)                              \
	do {                                         \
		if (!to->member)                     \
			to->member = parent->member; \
	} while (0)

static void inherit(struct kern_ops *to, const struct kern_ops *parent)
{
	if (!to->gemm) { /* whose order and sums they are */
		to->pack_rows = parent->pack_rows;
		to->pack_bytes = parent->pack_bytes;
		to->gemm_pack = parent->gemm_pack;
		to->gemm_gated = parent->gemm_gated;
	}
	INHERIT(dequant);
	INHERIT(embed);
	INHERIT(rmsnorm);
	INHERIT(round);
	INHERIT(add);
	INHERIT(gated);
	INHERIT(softcap);
	INHERIT(gemm);
	INHERIT(rope_table);
	INHERIT(rope);
	INHERIT(attn);
	INHERIT(attn_merge);
	INHERIT(logits);
	INHERIT(copy);
}

static u32 row_of(const struct kern_ops *ops)
{
	u32 i = 0;

	while (rows[i].ops != ops)
		i++;
	return i;
}

__attribute__((constructor)) static void rows_fill(void)
{
	const struct kern_ops *p;
	u32 nr = 0;

	__builtin_cpu_init();
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++) {
		filled[i] = *rows[i].ops;
		for (p = rows[i].parent; p; p = rows[row_of(p)].parent)
			inherit(&filled[i], p);
		if (rows[i].supports())
			names[nr++] = rows[i].ops->name;
	}
}

const char *const *kern_isa_list(void)
{
	return names;
}

const struct kern_ops *kern_select(const char *isa)
{
	const char *want = isa ? isa : getenv("KV_ISA");
	u32 i = 0;

	if (!want) {
		while (!rows[row_of(unasked[i])].supports())
			i++;
		return &filled[row_of(unasked[i])];
	}
	for (; i < ARRAY_SIZE(rows); i++)
		if (!strcmp(want, rows[i].ops->name))
			return rows[i].supports() ? &filled[i] : NULL;
	return NULL;
}

void kern_thread_init(void)
{
	_mm_setcsr(_mm_getcsr() | MXCSR_FTZ | MXCSR_DAZ);
}
