# SPDX-License-Identifier: MIT
kernels-y += kernels/ref/dequant.o kernels/ref/strip.o kernels/ref/norm.o kernels/ref/pointwise.o \
	kernels/ref/gemm.o kernels/ref/gemm_int8.o kernels/ref/gemm_int16.o \
	kernels/ref/ints.o kernels/ref/rope.o kernels/ref/attn.o \
	kernels/ref/logits.o
kernels-y += kernels/cpu/select.o kernels/cpu/pool.o kernels/cpu/exec.o \
	kernels/cpu/attn_plan.o
kernels-y += kernels/cpu/avx2.o kernels/cpu/gemm_avx2.o kernels/cpu/attn_avx2.o \
	kernels/cpu/gemm_int8_avx2.o kernels/cpu/gemm_int16_avx2.o
kernels-y += kernels/cpu/avx512.o kernels/cpu/gemm_avx512.o \
	kernels/cpu/attn_avx512.o kernels/cpu/gemm_avx512bf16.o \
	kernels/cpu/gemm_amx.o kernels/cpu/attn_amx.o \
	kernels/cpu/gemm_int8_vnni.o kernels/cpu/gemm_int8_amx.o \
	kernels/cpu/gemm_int16_vnni.o

# Packing a model is on the way to its first token.
CFLAGS-kernels/ref/strip.o := -O3

# Instruction-set flags go to the objects that kern_select() guards, never to
# the others: a binary must start on any x86-64.
avx2-flags := -mavx2 -mfma -mf16c
avx512-flags := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c \
	-mprefer-vector-width=512
CFLAGS-kernels/cpu/avx2.o := $(avx2-flags)
CFLAGS-kernels/cpu/gemm_avx2.o := $(avx2-flags)
# Sanitizers make gcc give up following their variables, after a minute.
int8-flags := $(if $(SAN),-fno-var-tracking)
CFLAGS-kernels/cpu/gemm_int8_avx2.o := $(avx2-flags) $(int8-flags)
CFLAGS-kernels/cpu/gemm_int16_avx2.o := $(avx2-flags) $(int8-flags)
CFLAGS-kernels/cpu/attn_avx2.o := $(avx2-flags)
CFLAGS-kernels/cpu/avx512.o := $(avx512-flags)
CFLAGS-kernels/cpu/gemm_avx512.o := $(avx512-flags)
CFLAGS-kernels/cpu/attn_avx512.o := $(avx512-flags)
CFLAGS-kernels/cpu/gemm_avx512bf16.o := $(avx512-flags) -mavx512bf16
amx-flags := $(avx512-flags) -mavx512bf16 -mavx512vbmi -mamx-tile -mamx-bf16
CFLAGS-kernels/cpu/gemm_amx.o := $(amx-flags)
CFLAGS-kernels/cpu/attn_amx.o := $(amx-flags)
CFLAGS-kernels/cpu/gemm_int8_vnni.o := $(avx512-flags) -mavx512vnni $(int8-flags)
CFLAGS-kernels/cpu/gemm_int16_vnni.o := $(avx512-flags) -mavx512vnni $(int8-flags)
CFLAGS-kernels/cpu/gemm_int8_amx.o := $(avx512-flags) -mamx-tile -mamx-int8 \
	$(int8-flags)
