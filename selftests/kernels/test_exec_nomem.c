/* SPDX-License-Identifier: MIT */
/*
 * test_exec_nomem.c - without memory to pack x, a product has the same bits
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "selftests/kernels/kern_test.h"

static bool no_maps; /* every mmap() from here on fails */
static u32 nr_refused;

/* In the place of libc's, whose own allocator does not call it by name. */
__attribute__((visibility("default"))) void *
mmap(void *at, size_t bytes, int prot, int flags, int fd, off_t off)
{
	if (no_maps) {
		nr_refused++;
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, bytes, prot, flags, fd, off);
}

TEST(exec_nomem, a_product_whose_x_cannot_be_packed)
{
	enum { M = 100, K = 320, N = 64 };
	u64 seed = test_seed();
	struct kern_mat w = kt_mat(&seed, KV_DTYPE_Q8_0, N, K);
	struct kern_mat strips = kt_strips(&w);
	u16 *x = kt_bf16s(&seed, M * K, 1);
	float *y = kt_alloc(M * N * 4), *want = kt_alloc(M * N * 4);
	struct kern_gemm p = kt_gemm(strips, x, y, M);
	struct kern_exec e;

	ASSERT_EQ(0, kern_exec_init(&e, NULL, 2));
	if (!e.kern->gemm_pack) {
		kern_exec_fini(&e);
		SKIP("no row of this CPU packs x");
	}
	no_maps = true;
	e.ops->gemm(&e, &p, 1);
	no_maps = false;
	EXPECT_LT(0, nr_refused);
	p.y = want;
	e.ops->gemm(&e, &p, 1);
	EXPECT_SAME(y, want, M * N, "without memory");
	kern_exec_fini(&e);
	free((void *)w.data);
	free((void *)strips.data);
	free(x);
	free(y);
	free(want);
}

TEST_HARNESS_MAIN
