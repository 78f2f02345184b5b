/* SPDX-License-Identifier: MIT */
/*
 * test_options.c - kvmd's command line
 */
#include "kvmd/options.h"
#include "selftests/harness.h"
#include <getopt.h>
#include <unistd.h>

/* kvmd --NAME VALUE; what it says goes to @said, of @room bytes. */
static enum options_verdict parse(struct options *o, const char *name,
				  const char *value, char *said, size_t room)
{
	char *argv[] = { (char *)(uintptr_t) "kvmd", (char *)(uintptr_t)name,
			 (char *)(uintptr_t)value, NULL };
	int fds[2], old = dup(2);
	enum options_verdict v;
	ssize_t n;

	ASSERT_EQ(0, pipe(fds));
	dup2(fds[1], 2);
	close(fds[1]);
	optind = 0;
	v = options_parse(o, 3, argv);
	fflush(stderr);
	dup2(old, 2);
	close(old);
	n = v == OPTIONS_RUN ? 0 : read(fds[0], said, room - 1);
	said[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	return v;
}

TEST(options, room_for_less_than_a_page_is_an_error_that_names_the_option)
{
	static const struct {
		const char *name, *value;
		bool ok;
	} rows[] = {
		{ "--swap-size", "0", false },
		{ "--swap-size", "1", false },
		{ "--swap-size", "4095", false },
		{ "--swap-size", "4096", true },
		{ "--swap-size", "3K", false },
		{ "--swap-size", "1M", true },
		{ "--swap-ram", "0", true },
		{ "--swap-ram", "0K", true },
		{ "--swap-ram", "4095", false },
		{ "--swap-ram", "4K", true },
		{ "--swap-lz4", "1000", false },
		{ "--swap-lz4", "1G", true },
	};
	struct options o;
	char said[500];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(rows[i].ok ? OPTIONS_RUN : OPTIONS_WRONG,
			  parse(&o, rows[i].name, rows[i].value, said,
				sizeof(said)));
		if (!rows[i].ok)
			EXPECT_TRUE(strstr(said, rows[i].name));
	}
	EXPECT_EQ(OPTIONS_RUN,
		  parse(&o, "--swap-size", "1M", said, sizeof(said)));
	EXPECT_EQ(1u << 20, o.swap_size_bytes);
}

TEST(options, turns_are_on_or_off)
{
	struct options o;
	char said[500];

	EXPECT_EQ(OPTIONS_RUN, parse(&o, "--spin", "20", said, sizeof(said)));
	EXPECT_TRUE(o.turns);
	EXPECT_EQ(OPTIONS_RUN, parse(&o, "--turns", "off", said, sizeof(said)));
	EXPECT_FALSE(o.turns);
	EXPECT_EQ(OPTIONS_RUN, parse(&o, "--turns", "on", said, sizeof(said)));
	EXPECT_TRUE(o.turns);
	EXPECT_EQ(OPTIONS_WRONG,
		  parse(&o, "--turns", "maybe", said, sizeof(said)));
}

TEST(options, what_swap_tiers_are_told)
{
	static const struct {
		const char *name, *value;
		bool ok;
	} rows[] = {
		{ "--swap-deadline", "0", true },
		{ "--swap-deadline", "600000", true },
		{ "--swap-deadline", "600001", false },
		{ "--swap-deadline", "soon", false },
		{ "--swap-demote", "10,20", true },
		{ "--swap-demote", "0,0", true },
		{ "--swap-demote", "20,10", false },
		{ "--swap-demote", "10,101", false },
		{ "--swap-demote", "10", false },
		{ "--swap-demote", "10,20x", false },
		{ "--swap-limit", "ram:1G", true },
		{ "--swap-limit", "uid:7=disk:1G", true },
		{ "--swap-limit", "uid:7=all:max", true },
		{ "--swap-limit", "uid:7=tape:1G", false },
		{ "--swap-limit", "=ram:1G", false },
		{ "--swap-limit", "ram", false },
		{ "--swap-limit", "ram:much", false },
	};
	struct options o;
	char said[500];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EXPECT_EQ(rows[i].ok ? OPTIONS_RUN : OPTIONS_WRONG,
			  parse(&o, rows[i].name, rows[i].value, said,
				sizeof(said)));
		if (!rows[i].ok)
			EXPECT_TRUE(strstr(said, rows[i].name));
	}
	EXPECT_EQ(OPTIONS_RUN, parse(&o, "--swap-limit", "uid:7=disk:2M", said,
				     sizeof(said)));
	EXPECT_EQ(1, o.nr_swap_limits);
	EXPECT_STREQ("uid:7", o.swap_limits[0].tenant);
	EXPECT_STREQ("disk", o.swap_limits[0].tier);
	EXPECT_EQ(2u << 20, o.swap_limits[0].max_bytes);
}

TEST_HARNESS_MAIN
