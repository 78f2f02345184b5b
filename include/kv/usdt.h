/* SPDX-License-Identifier: MIT */
#ifndef KV_USDT_H
#define KV_USDT_H
/*
 * usdt.h - static probes, as libbpf, bpftrace and perf find them in a binary
 *
 *	USDT_SEMAPHORE(kvmd, cow);		one file, at its top
 *	USDT_DECLARE(kvmd, cow);		a header, if others fire it too
 *
 *	if (unlikely(usdt_on(kvmd, cow)))
 *		USDT(kvmd, cow, client, space, tokens);
 *
 * A probe is a nop and a note: where it is, its name, where its arguments lie.
 * It costs nothing but its semaphore, a word that the kernel raises in this
 * process while somebody is attached: load, test, branch, and no argument is
 * computed before that. selftests/e2e/probes.sh counts these instructions.
 *
 * The note is "stapsdt" version 3, which <sys/sdt.h> of SystemTap defined:
 * three addresses (of the nop, of a mark by which tools see that the binary
 * was relocated since, of the semaphore), then provider, name and arguments
 * as strings. An argument is "8@" and the register or constant that holds it;
 * all are 64 bits wide here. Tools take twelve at most.
 *
 * The nop is of five bytes, so that kernels which can put a call there do.
 */
#include "include/kv/types.h"

#define USDT_DECLARE(provider, name)             \
	extern u16 provider##_##name##_semaphore \
		__attribute__((visibility("hidden")))
#define USDT_SEMAPHORE(provider, name)                    \
	USDT_DECLARE(provider, name);                     \
	u16 provider##_##name##_semaphore __attribute__(( \
		used, section(".probes"), visibility("hidden")))

/* usdt_on - is somebody attached? The kernel changes the word. */
#define usdt_on(provider, name) READ_ONCE(provider##_##name##_semaphore)

/* clang-format off */
#define USDT_NOTE(provider, name, args)					\
	"990:	.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"			\
	"	.pushsection .note.stapsdt, \"?\", \"note\"\n"		\
	"	.balign 4\n"						\
	"	.4byte 992f - 991f, 994f - 993f, 3\n"			\
	"991:	.asciz \"stapsdt\"\n"					\
	"992:	.balign 4\n"						\
	"993:	.8byte 990b, _.stapsdt.base, "				\
			#provider "_" #name "_semaphore\n"		\
	"	.asciz \"" #provider "\"\n"				\
	"	.asciz \"" #name "\"\n"					\
	"	.asciz \"" args "\"\n"					\
	"994:	.balign 4\n"						\
	"	.popsection\n"						\
	"	.ifndef _.stapsdt.base\n"				\
	"	.pushsection .stapsdt.base, \"aG\", \"progbits\", "	\
			".stapsdt.base, comdat\n"			\
	"	.weak _.stapsdt.base\n"					\
	"	.hidden _.stapsdt.base\n"				\
	"_.stapsdt.base:\n"						\
	"	.space 1\n"						\
	"	.size _.stapsdt.base, 1\n"				\
	"	.popsection\n"						\
	"	.endif\n"
/* clang-format on */

/* For each number of arguments: the string, and the operands. */
#define USDT_S1						     "8@%0"
#define USDT_S2						     USDT_S1 " 8@%1"
#define USDT_S3						     USDT_S2 " 8@%2"
#define USDT_S4						     USDT_S3 " 8@%3"
#define USDT_S5						     USDT_S4 " 8@%4"
#define USDT_S6						     USDT_S5 " 8@%5"
#define USDT_S7						     USDT_S6 " 8@%6"
#define USDT_S8						     USDT_S7 " 8@%7"
#define USDT_S9						     USDT_S8 " 8@%8"
#define USDT_S10					     USDT_S9 " 8@%9"
#define USDT_S11					     USDT_S10 " 8@%10"
#define USDT_S12					     USDT_S11 " 8@%11"
#define USDT_O(a)					     "nr"((u64)(a))
#define USDT_O1(a)					     USDT_O(a)
#define USDT_O2(a, ...)					     USDT_O(a), USDT_O1(__VA_ARGS__)
#define USDT_O3(a, ...)					     USDT_O(a), USDT_O2(__VA_ARGS__)
#define USDT_O4(a, ...)					     USDT_O(a), USDT_O3(__VA_ARGS__)
#define USDT_O5(a, ...)					     USDT_O(a), USDT_O4(__VA_ARGS__)
#define USDT_O6(a, ...)					     USDT_O(a), USDT_O5(__VA_ARGS__)
#define USDT_O7(a, ...)					     USDT_O(a), USDT_O6(__VA_ARGS__)
#define USDT_O8(a, ...)					     USDT_O(a), USDT_O7(__VA_ARGS__)
#define USDT_O9(a, ...)					     USDT_O(a), USDT_O8(__VA_ARGS__)
#define USDT_O10(a, ...)				     USDT_O(a), USDT_O9(__VA_ARGS__)
#define USDT_O11(a, ...)				     USDT_O(a), USDT_O10(__VA_ARGS__)
#define USDT_O12(a, ...)				     USDT_O(a), USDT_O11(__VA_ARGS__)
#define USDT_NTH(a, b, c, d, e, f, g, h, i, j, k, l, n, ...) n
#define USDT_NR(...) \
	USDT_NTH(__VA_ARGS__, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define USDT_CAT(a, b)	a##b
#define USDT_GLUE(a, b) USDT_CAT(a, b)

/*
 * USDT - fire a probe with 1 to 12 integers or pointers; after usdt_on(). Who
 * is attached may follow the pointers, so what they point to is written before.
 */
#define USDT(provider, name, ...)                                      \
	__asm__ __volatile__(                                          \
		USDT_NOTE(provider, name,                              \
			  USDT_GLUE(USDT_S, USDT_NR(__VA_ARGS__)))     \
		:                                                      \
		: USDT_GLUE(USDT_O, USDT_NR(__VA_ARGS__))(__VA_ARGS__) \
		: "memory")

#endif
