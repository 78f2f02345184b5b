/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVCTL_TOP_H
#define TOOLS_KVCTL_TOP_H
/*
 * top.h - one sample of the daemon, and one frame of text made from it
 *
 * top.c knows what is shown, top_screen.c the terminal and the keys.
 */
#include "tools/kvctl/kvctl.h"

struct sample {
	json_t *status, *tenants, *clients, *spaces, *vmstat;
	double time_s;
};

enum panel { PANEL_CLIENTS, PANEL_SPACES, PANEL_TENANTS, PANEL_NR };

struct top_view {
	enum panel panel;
	bool tree; /* spaces below the space they were forked from */
	const char *sort; /* column, NULL: the panel's own order */
	char filter[32]; /* rows whose name or tenant contains it */
	unsigned int selected; /* row of the panel */
};

extern const char *const panel_names[PANEL_NR];

/* sample_take - 0 or EX_KV_*; prints why */
int sample_take(const struct options *opt, struct sample *s);
void sample_free(struct sample *s);

/* top_head - the lines above the panel; @prev NULL: no rates */
void top_head(FILE *out, const struct options *opt, const struct sample *now,
	      const struct sample *prev, int width);
/* top_rows - the panel's rows, filtered and in tree order; a new array */
json_t *top_rows(const struct sample *s, const struct top_view *v);
const struct table *top_table(const struct top_view *v);

/* top_screen - the live screen, until q; EX_KV_* */
int top_screen(const struct options *opt, double every_s);

#endif
