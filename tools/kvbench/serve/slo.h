/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SLO_H
#define TOOLS_KVBENCH_SERVE_SLO_H
/*
 * slo.h - bounds on figures, by their names
 */
#include <jansson.h>
#include "include/kv/types.h"

#define SLO_MAX 16

struct slo_term {
	char key[40];
	bool at_least;
	double limit;
};

struct slo {
	struct slo_term term[SLO_MAX];
	u32 nr;
};

/* slo_parse - "p99_itl_ms<=60,request_throughput>=2"; false: it is none */
bool slo_parse(const char *s, struct slo *slo);
/* slo_parse_goodput - add "ttft:500"; false: it is none */
bool slo_parse_goodput(const char *s, struct slo *slo);

/*
 * slo_unknown - the first key that is no figure; NULL: all are
 *
 * A figure of which nothing was measured is null, and is one.
 */
const char *slo_unknown(const struct slo *slo, const json_t *figures);

/**
 * slo_holds - do the figures keep to it
 * @why: 128 bytes: the first term that does not hold; "" if all do
 *
 * A figure of which nothing was measured does not hold.
 */
bool slo_holds(const struct slo *slo, const json_t *figures, char *why);

#endif
