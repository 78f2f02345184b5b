/* SPDX-License-Identifier: MIT */
/*
 * test_huge.c - what memory shows stays the same when its pages become huge
 */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "selftests/harness.h"
#include "lib/huge.h"

#define BYTES (4 * (size_t)HUGE_PAGE)

/* A memfd of which the first @nr words are written. */
static u32 *map(u32 nr, u32 **again)
{
	int fd = memfd_create("huge", MFD_CLOEXEC);
	u32 *w;

	if (fd < 0 || ftruncate(fd, BYTES))
		return NULL;
	w = huge_map(fd, BYTES);
	*again = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (!w || (uintptr_t)w % HUGE_PAGE || *again == MAP_FAILED)
		return NULL;
	for (u32 i = 0; i < nr; i++)
		w[i] = i * 2654435761u;
	return w;
}

static u32 nr_wrong(const u32 *w, u32 nr)
{
	u32 wrong = 0;

	for (u32 i = 0; i < BYTES / sizeof(*w); i++)
		wrong += w[i] != (i < nr ? i * 2654435761u : 0);
	return wrong;
}

/* Full, in part, empty; the system may have no huge pages, and that is fine. */
TEST(huge, memory_shows_what_it_showed_whoever_maps_it)
{
	const u32 all = BYTES / sizeof(u32), part = all / 3;
	const u32 nr[] = { all, part, 0 };
	u32 *w, *again, i;

	for (i = 0; i < 3; i++) {
		w = map(nr[i], &again);
		ASSERT_TRUE(w != NULL);
		TH_LOG("%d", huge_make(w, BYTES));
		EXPECT_EQ(0, nr_wrong(w, nr[i]));
		EXPECT_EQ(0, nr_wrong(again, nr[i]));
		w[7] = 1;
		EXPECT_EQ(again[7], 1);
		munmap(again, BYTES);
		munmap(w, BYTES);
	}
}

/* Kernels differ in what they say. */
TEST(huge, memory_in_which_none_fits_stays_good)
{
	u32 *again, *w = map(BYTES / sizeof(u32), &again);

	ASSERT_TRUE(w != NULL);
	TH_LOG("%d", huge_make((char *)w + 4096, 4096));
	EXPECT_EQ(0, nr_wrong(w, BYTES / sizeof(u32)));
	EXPECT_EQ(0, nr_wrong(again, BYTES / sizeof(u32)));
}

TEST_HARNESS_MAIN
