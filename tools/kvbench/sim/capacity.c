/* SPDX-License-Identifier: MIT */
/*
 * capacity.c - the highest rate at which a simulation keeps what is asked of it
 *
 * The search is the one that `kvbench serve --sweep` makes of a server. A
 * simulation does not have to be repeated.
 */
#include "tools/kvbench/sim/capacity.h"

#include "tools/kvbench/serve/sweep.h"

struct search {
	struct sim_setup *s;
	bool (*keeps)(struct fleet_result *r, double limit);
	double limit;
	char *err;
};

static int measure(void *arg, struct sweep_point *p)
{
	struct search *x = arg;
	struct fleet_result r;
	int rc;

	x->s->work.rate = p->rate;
	rc = setup_run(x->s, &r, x->err);
	p->ok = !rc && x->keeps(&r, x->limit);
	fleet_result_fini(&r);
	return rc;
}

int sim_capacity(struct sim_setup *s,
		 bool (*keeps)(struct fleet_result *r, double limit),
		 double limit, double *rate, char *err)
{
	static const struct sweep_opts o = {
		.low = 0.25, .high = 1000, .precision = 0.01, .max_points = 32
	};
	struct search x = { s, keeps, limit, err };
	static struct sweep sw; /* large */
	int rc = sweep_run(&o, measure, &x, &sw);

	*rate = rc ? 0 : sw.capacity;
	sweep_fini(&sw);
	return rc;
}
