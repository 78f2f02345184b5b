/* SPDX-License-Identifier: MIT */
/*
 * test_spin.c - the spin model of the step protocol, whole and in parts
 *
 * long: yes
 * timeout: 1500
 *
 * step.pml has to hold; without any one of its rules it has to fail. Needs
 * spin and a C compiler, some 3 GB of memory and a few minutes.
 */
#include "selftests/harness.h"
#include "include/kv/types.h"

#define MODEL "selftests/spin/step.pml"

static const char *const rules[] = {
	"C1",	   "C2",      "C3_ORDER",  "C3_EARLIER", "C5",
	"C6",	   "K0",      "K1",	   "K2",	 "K2_ORDER",
	"K3",	   "K4",      "K4_EVERY",  "K5_BUMP",	 "K5_RISE",
	"K6_RESV", "K6_BUMP", "K7_SOURCE", "K7_MAPPING",
};

static void need_spin(void)
{
	if (system("command -v spin >/dev/null 2>&1"))
		SKIP("spin is not installed");
	if (access(MODEL, R_OK))
		SKIP("run from the top of the tree");
}

/* Check the model built with @flags. Return: errors pan found, or -1. */
static int model_errors(const char *flags, unsigned long *states)
{
	const char *dir = test_tmpdir();
	char cmd[2048], line[256];
	int errors = -1;
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "top=$PWD && cd '%s' && rm -f pan* *.trail && "
		 "spin -a %s \"$top/" MODEL "\" >spin.log 2>&1 && "
		 "cc -w -O2 -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM=8000 "
		 "pan.c -o pan && ./pan -m3000000 2>&1",
		 dir, flags);
	f = popen(cmd, "r");
	if (!f)
		return -1;
	*states = 0;
	while (fgets(line, sizeof(line), f)) {
		char *e = strstr(line, "errors: ");

		if (e)
			errors = (int)strtol(e + 8, NULL, 10);
		if (strstr(line, "states, stored"))
			*states = strtoul(line, NULL, 10);
		if (strstr(line, "search depth too small") ||
		    strstr(line, "out of memory"))
			TH_LOG("%s", line);
	}
	pclose(f);
	return errors;
}

TEST_TIMEOUT(spin, the_protocol_holds, 600)
{
	unsigned long states;

	need_spin();
	EXPECT_EQ(model_errors("-DSTEPS=2 -DMOVES=1", &states), 0);
	TH_LOG("figure: spin, 2 steps, 1 move: %lu states, 0 errors", states);
}

TEST_TIMEOUT(spin, the_protocol_holds_when_the_client_dies, 600)
{
	unsigned long states;

	need_spin();
	EXPECT_EQ(model_errors("-DSTEPS=2 -DMOVES=1 -DDEATH", &states), 0);
	TH_LOG("figure: spin, with a death: %lu states, 0 errors", states);
	EXPECT_GT(model_errors("-DSTEPS=2 -DMOVES=1 -DDEATH -DNO_K8", &states),
		  0);
}

TEST_TIMEOUT(spin, the_protocol_fails_without_any_one_of_its_rules, 900)
{
	char flags[64];
	unsigned long states;
	unsigned int i, found = 0;
	int errors;

	need_spin();
	for (i = 0; i < ARRAY_SIZE(rules); i++) {
		snprintf(flags, sizeof(flags), "-DNO_%s", rules[i]);
		errors = model_errors(flags, &states);
		TH_LOG("without %s: %s", rules[i],
		       errors > 0 ? "an error" : "nothing found");
		EXPECT_GT(errors, 0);
		found += errors > 0;
	}
	TH_LOG("figure: spin %u of %zu rules missed when taken away", found,
	       ARRAY_SIZE(rules));
}

TEST_HARNESS_MAIN
