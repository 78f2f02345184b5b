/* SPDX-License-Identifier: MIT */
/*
 * test_ram.c - limits of cgroups, in folders made for it
 */
#include "selftests/harness.h"
#include <sys/stat.h>
#include "kvmd/ram.h"

/* A file below the test's folder, and the folders on the way. */
static void put(const char *name, const char *text)
{
	char path[400], *at;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	for (at = path + strlen(test_tmpdir()) + 1; (at = strchr(at, '/'));
	     at++) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	f = fopen(path, "we");
	ASSERT_TRUE(f != NULL);
	fputs(text, f);
	fclose(f);
}

static u64 limit(const char *cgroups)
{
	char list[300], root[300];

	put("list", cgroups);
	snprintf(list, sizeof(list), "%.200s/list", test_tmpdir());
	snprintf(root, sizeof(root), "%.200s/fs", test_tmpdir());
	return ram_limit(list, root);
}

TEST(ram, has_no_limit_where_none_is_set)
{
	EXPECT_EQ(~0ull, limit(""));
	EXPECT_EQ(~0ull, limit("0::/system.slice/x\n"));
	put("fs/system.slice/x/memory.max", "max\n");
	EXPECT_EQ(~0ull, limit("0::/system.slice/x\n"));
	EXPECT_EQ(~0ull, limit("nonsense\n:\n::\n"));
}

TEST(ram, is_limited_by_the_least_of_the_cgroups_above)
{
	put("fs/system.slice/x/memory.max", "2000000\n");
	EXPECT_EQ(2000000, limit("0::/system.slice/x\n"));
	put("fs/system.slice/memory.max", "1000000\n");
	EXPECT_EQ(1000000, limit("0::/system.slice/x\n"));
	put("fs/system.slice/x/memory.max", "5000\n");
	EXPECT_EQ(5000, limit("0::/system.slice/x\n"));
}

TEST(ram, of_a_container_is_limited_at_its_root)
{
	put("fs/memory.max", "3000000\n");
	EXPECT_EQ(3000000, limit("0::/\n"));
	EXPECT_EQ(3000000, limit("0::/docker/0123456789ab\n"));
	EXPECT_EQ(3000000, limit("0::/../../elsewhere\n"));
}

TEST(ram, of_the_older_hierarchy_counts_as_well)
{
	put("fs/memory/docker/1/memory.limit_in_bytes", "70000\n");
	put("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
	EXPECT_EQ(70000, limit("3:cpu,cpuacct:/a\n4:memory:/docker/1\n"));
	EXPECT_EQ(70000, limit("4:hugetlb,memory:/docker/1\n0::/\n"));
	EXPECT_EQ(9223372036854771712ull, limit("4:memory:/other\n"));
	EXPECT_EQ(~0ull, limit("4:notmemory,memory2:/docker/1\n"));
}

TEST_HARNESS_MAIN
