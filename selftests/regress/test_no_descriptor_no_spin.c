/* SPDX-License-Identifier: MIT */
/*
 * test_no_descriptor_no_spin.c - who cannot be accepted costs nothing
 *
 * When kvmd had no descriptor left, the listening socket stayed readable: the
 * loop ran without a pause and wrote a line to the log each time round, until
 * somebody left. Whoever may connect could fill the disk with that. Apart from
 * that the loop ran without a pause when memory was refused before the first
 * client came: the time between two looks was doubled, from zero.
 */
#include "selftests/kvmd/ipc/raw.h"
#include <sys/resource.h>

#define NR_SOCKS 60

static unsigned int lines_with(const char *file, const char *text)
{
	unsigned int nr = 0;
	char line[512];
	FILE *f = fopen(file, "re");

	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, text) != NULL;
	fclose(f);
	return nr;
}

static void fill(rlim_t nr_files)
{
	struct rlimit lim = { nr_files, nr_files };
	struct test_kvmd d;
	double before;
	int sock[NR_SOCKS], i;
	struct raw a;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	for (i = 0; i < NR_SOCKS; i++) {
		sock[i] = raw_connect(d.socket);
		ASSERT_GE(sock[i], 0);
	}
	usleep(300000);
	before = test_cpu_s(d.pid);
	usleep(1000000);
	EXPECT_TRUE(test_cpu_s(d.pid) - before < 0.25);
	EXPECT_LE(lines_with(d.log, "accept failed"), 2);
	for (i = 0; i < NR_SOCKS; i++)
		close(sock[i]);
	usleep(300000);
	/* and there is service again */
	raw_attach(&a, d.socket);
	raw_detach(&a);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/* A connection takes two descriptors: the first or the second may lack. */
TEST(no_descriptor, neither_spins_nor_fills_the_log)
{
	fill(97);
	fill(96);
}

TEST_HARNESS_MAIN
