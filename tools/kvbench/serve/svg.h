/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SVG_H
#define TOOLS_KVBENCH_SERVE_SVG_H
/*
 * svg.h - panels with axes, and what is drawn in them
 *
 * Colours are classes: text and lines of the frame follow the reader's light
 * or dark scheme, the series are of a middle tone that shows on both.
 */
#include <stdio.h>
#include "include/kv/types.h"

struct svg_axis {
	const char *label;
	double low, high;
	bool is_log;
};

struct svg {
	FILE *f;
	double width, height;
	/* the panel: its rectangle in pixels, and its axes */
	double left, top, right, bottom;
	struct svg_axis x, y;
	double legend_at;
};

#define SVG_SERIES 8 /* colours */
#define SVG_TICKS  24

/* svg_open - -errno; the file is closed by svg_close() */
int __must_check svg_open(struct svg *s, const char *path, double width,
			  double height, const char *title);
/* svg_close - 0, or -EIO if not all could be written */
int __must_check svg_close(struct svg *s);

/**
 * svg_panel - begin a panel: frame, ticks, grid, labels
 * @top: of the frame, in pixels
 * @height: of the frame
 * @x: an axis whose ends are equal is made wider
 */
void svg_panel(struct svg *s, double top, double height,
	       const struct svg_axis *x, const struct svg_axis *y);
/* svg_legend - one entry more, above the panel */
void svg_legend(struct svg *s, u32 series, const char *name);

/* All of these are in the axes' units and are cut off at the frame. */
void svg_line(struct svg *s, u32 series, const double *x, const double *y,
	      u32 nr);
void svg_dot(struct svg *s, u32 series, double x, double y, bool filled);
void svg_box(struct svg *s, u32 series, double x0, double y0, double x1,
	     double y1);
/* svg_level - a dashed line across */
void svg_level(struct svg *s, double y, const char *label);

/* svg_ticks - where an axis has marks; how many */
u32 svg_ticks(const struct svg_axis *a, double *at);
/* svg_text - as it stands in XML: escaped; 128 bytes */
void svg_escape(char *out, const char *s);

#endif
