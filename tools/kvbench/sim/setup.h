/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_SETUP_H
#define TOOLS_KVBENCH_SIM_SETUP_H
/*
 * setup.h - a simulation as a user describes it
 *
 * Everything that can be chosen is a key with a value: what the engines do,
 * what they run on, what is asked of them. So each of it can be compared.
 */
#include "tools/kvbench/sim/fleet.h"

struct sim_setup {
	struct fleet_cfg fleet;
	struct work_opts work;
	char *texts[8]; /* values that are kept as they are */
	u32 nr_texts;
};

void setup_init(struct sim_setup *s);
void setup_fini(struct sim_setup *s);
/**
 * setup_set - choose one thing
 * @key: as setup_key() names it
 * @value: its text
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, -EINVAL: there is no such key, or the value is none.
 */
int __must_check setup_set(struct sim_setup *s, const char *key,
			   const char *value, char *err);
/* setup_key - name of key @i and what it is; NULL: there are no more */
const char *setup_key(u32 i, const char **what);

#endif
