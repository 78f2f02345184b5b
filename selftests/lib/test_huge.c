/* SPDX-License-Identifier: MIT */
/*
 * test_huge.c - what a mapping shows stays the same while its pages grow
 */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "selftests/harness.h"
#include "include/kv/types.h"
#include "tools/kvrun/huge.h"

#define HUGE_BYTES ((size_t)2 << 20)
#define BYTES	   (8 * HUGE_BYTES + 12345) /* the last page is a part */

/* A memfd, filled, read-only, at a multiple of a huge page plus @off. */
static const u32 *map(size_t off)
{
	int fd = memfd_create("weights", MFD_CLOEXEC);
	char *base = mmap(NULL, BYTES + 2 * HUGE_BYTES, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)ALIGN_UP((uintptr_t)base, HUGE_BYTES) + off;
	u32 *w;

	if (fd < 0 || ftruncate(fd, BYTES) || base == MAP_FAILED)
		return NULL;
	w = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (u32 i = 0; i < BYTES / sizeof(*w); i++)
		w[i] = i * 2654435761u;
	munmap(w, BYTES);
	w = mmap(at, BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	return w == MAP_FAILED ? NULL : w;
}

static u32 nr_wrong(const u32 *w)
{
	u32 nr = 0;

	for (u32 i = 0; i < BYTES / sizeof(*w); i++)
		nr += w[i] != i * 2654435761u;
	return nr;
}

TEST(huge, pages_show_the_same_before_while_and_after)
{
	const u32 *w = map(0);
	struct huge *h;

	ASSERT_TRUE(w != NULL);
	h = huge_start(w, BYTES);
	ASSERT_TRUE(h != NULL);
	EXPECT_EQ(0, nr_wrong(w));
	huge_wait(h);
	EXPECT_EQ(0, nr_wrong(w));
	huge_wait(h);
	huge_stop(h);
	EXPECT_EQ(0, nr_wrong(w));
}

/* A mapping that begins in the middle of a page's place has none there. */
TEST(huge, an_odd_place_and_one_too_short_are_left_alone)
{
	const u32 *w = map(4096);

	ASSERT_TRUE(w != NULL);
	huge_stop(huge_start(w, BYTES));
	EXPECT_EQ(0, nr_wrong(w));
	huge_stop(huge_start(w, 100));
	huge_stop(huge_start(w, 0));
	EXPECT_EQ(0, nr_wrong(w));
}

TEST(huge, stops_at_once_and_takes_none)
{
	const u32 *w = map(0);

	ASSERT_TRUE(w != NULL);
	huge_stop(huge_start(w, BYTES));
	EXPECT_EQ(0, nr_wrong(w));
	huge_wait(NULL);
	huge_stop(NULL);
}

TEST_HARNESS_MAIN
