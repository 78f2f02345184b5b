/* SPDX-License-Identifier: MIT */
/*
 * step_log.c - a line of JSON for each step, for `kvbench plot steps`
 *
 * What it says is documented in kvbench(1). A file that cannot be written to
 * is nobody's misfortune but the reader's: the engine goes on.
 */
#include <stdio.h>

#include "runtime/engine/engine_priv.h"

void step_log(const struct engine *e, u64 prefill)
{
	u32 i, waiting = 0;

	if (!e->o.steps)
		return;
	for (i = 0; i < e->nr_reqs; i++)
		waiting += e->reqs[i]->state == REQUEST_WAITING;
	fprintf(e->o.steps,
		"{\"t\":%.6f,\"dur_ms\":%.3f,\"prefill\":%llu,\"decode\":%llu,"
		"\"running\":%u,\"waiting\":%u}\n",
		e->begun_s, (engine_now(e) - e->begun_s) * 1e3,
		(unsigned long long)prefill,
		(unsigned long long)(e->nr_tokens - prefill), e->nr_run,
		waiting);
}
