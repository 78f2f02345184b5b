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

/*
 * Where products of a second sequence take as long as reading the weights,
 * batches gain nothing, nor does scheduling them. So figures by the law of such
 * cores have beside them what they are by this one, which multiplies fast
 * enough: Gemma at Q8_0 on two cores with AMX, reckoned as 10.6 ms to read the
 * weights, 0.13 ms a token and 0.36 ms one with logits. It is a prediction.
 */
#define LAW_TILES ((struct law){ { 0.0106, 0.00013, 0.00023, 0.00001 } })

struct sim_setup {
	struct fleet_cfg fleet;
	struct work_opts work;
	char *texts[8]; /* values that are kept as they are, one a field */
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
/* setup_choose - several, "key=value key=value"; 0, -EINVAL, -ENOMEM */
int __must_check setup_choose(struct sim_setup *s, const char *text, char *err);
/**
 * setup_run - make the requests, and simulate
 * @r: fleet_result_fini() it in any case
 *
 * Return: as fleet_run(); -EIO: the books do not balance.
 */
int __must_check setup_run(const struct sim_setup *s, struct fleet_result *r,
			   char *err);
/* setup_key - name of key @i and what it is; NULL: there are no more */
const char *setup_key(u32 i, const char **what);

#endif
