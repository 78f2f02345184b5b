/* SPDX-License-Identifier: MIT */
/*
 * svg.c - panels with axes, and what is drawn in them
 */
#include "tools/kvbench/serve/svg.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define MARGIN_LEFT  70.0
#define MARGIN_RIGHT 20.0
#define ESCAPED	     128

static const char style[] =
	"<style>\n"
	"text{font:12px sans-serif;fill:#333}\n"
	".title{font-size:15px;font-weight:bold}\n"
	".frame{fill:none;stroke:#888}\n"
	".grid{stroke:#888;stroke-opacity:.25}\n"
	".level{stroke:#888;stroke-dasharray:5 4}\n"
	".line{fill:none;stroke-width:1.8}\n"
	"@media (prefers-color-scheme: dark){text{fill:#ccc}}\n";

static const char *const colours[SVG_SERIES] = {
	"#3d85c6", "#e08a2c", "#4aa564", "#cc5550",
	"#8f6bc1", "#a08040", "#3aa0a0", "#c0609a",
};

void svg_escape(char *out, const char *s)
{
	size_t n = 0;
	const char *as;
	char one[2] = "";

	for (; *s && n + 8 < ESCAPED; s++) {
		one[0] = *s;
		as = *s == '&'		      ? "&amp;"
		     : *s == '<'	      ? "&lt;"
		     : *s == '>'	      ? "&gt;"
		     : *s == '"'	      ? "&quot;"
		     : *s >= ' ' && *s <= '~' ? one
					      : "?";
		n += (size_t)snprintf(out + n, ESCAPED - n, "%s", as);
	}
	out[n] = '\0';
}

static void put_text(struct svg *s, double x, double y, const char *anchor,
		     const char *text)
{
	char buf[ESCAPED];

	svg_escape(buf, text);
	fprintf(s->f,
		"<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x,
		y, anchor, buf);
}

int svg_open(struct svg *s, const char *path, double width, double height,
	     const char *title)
{
	char buf[ESCAPED];
	u32 i;

	memset(s, 0, sizeof(*s));
	s->f = fopen(path, "we");
	if (!s->f)
		return -errno;
	s->width = width;
	s->height = height;
	svg_escape(buf, title);
	fprintf(s->f,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" "
		"viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n"
		"<title>%s</title>\n%s",
		width, height, width, height, buf, style);
	for (i = 0; i < SVG_SERIES; i++)
		fprintf(s->f, ".s%u{stroke:%s;fill:%s}\n", i, colours[i],
			colours[i]);
	fprintf(s->f,
		".line{fill:none}\n.box{stroke:none}\n.hollow{fill:none}\n"
		"</style>\n"
		"<text class=\"title\" x=\"%.0f\" y=\"22\">%s</text>\n",
		MARGIN_LEFT, buf);
	return 0;
}

int svg_close(struct svg *s)
{
	bool bad;

	fprintf(s->f, "</svg>\n");
	bad = ferror(s->f) != 0;
	bad |= fclose(s->f) != 0;
	s->f = NULL;
	return bad ? -EIO : 0;
}

/* ---- axes ---- */

static double place(const struct svg_axis *a, double v)
{
	if (a->is_log)
		return (log(max(v, 1e-300)) - log(a->low)) /
		       (log(a->high) - log(a->low));
	return (v - a->low) / (a->high - a->low);
}

static double to_x(const struct svg *s, double v)
{
	double p = place(&s->x, v);

	return s->left + min(max(p, 0.0), 1.0) * (s->right - s->left);
}

static double to_y(const struct svg *s, double v)
{
	double p = place(&s->y, v);

	return s->bottom - min(max(p, 0.0), 1.0) * (s->bottom - s->top);
}

static u32 log_ticks(const struct svg_axis *a, double *at)
{
	static const double steps[] = { 1, 2, 5 };
	double decade = pow(10, floor(log10(a->low))), v;
	bool wide = a->high / a->low > 300;
	u32 n = 0, k;

	for (; decade <= a->high * 1.0001; decade *= 10) {
		for (k = 0; k < (wide ? 1 : ARRAY_SIZE(steps)); k++) {
			v = decade * steps[k];
			if (v >= a->low * 0.9999 && v <= a->high * 1.0001 &&
			    n < SVG_TICKS)
				at[n++] = v;
		}
	}
	return n;
}

u32 svg_ticks(const struct svg_axis *a, double *at)
{
	double rough = (a->high - a->low) / 6, step, v;
	u32 n = 0;

	if (a->is_log) {
		n = log_ticks(a, at);
		if (n > 1)
			return n;
		n = 0; /* a narrow one: as if it were linear */
	}
	step = pow(10, floor(log10(rough)));
	if (rough / step > 5)
		step *= 10;
	else if (rough / step > 2)
		step *= 5;
	else if (rough / step > 1)
		step *= 2;
	for (v = ceil(a->low / step - 1e-9) * step;
	     v <= a->high + step * 1e-9 && n < SVG_TICKS; v += step)
		at[n++] = fabs(v) < step * 1e-6 ? 0 : v;
	return n;
}

/* Ends that can be drawn: apart, and above zero on a logarithmic axis. */
static void make_sound(struct svg_axis *a)
{
	if (!isfinite(a->low) || !isfinite(a->high)) {
		a->low = a->is_log ? 1 : 0;
		a->high = 10;
	}
	if (a->is_log) {
		a->low = max(a->low, 1e-9);
		if (a->high < a->low * 1.01)
			a->high = a->low * 10;
	} else if (a->high - a->low < 1e-9) {
		a->high = a->low + 1;
	}
}

static void draw_ticks(struct svg *s)
{
	double at[SVG_TICKS];
	char buf[32];
	u32 n, i;

	n = svg_ticks(&s->x, at);
	for (i = 0; i < n; i++) {
		double x = to_x(s, at[i]);

		fprintf(s->f, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n",
			x, s->top, s->bottom);
		snprintf(buf, sizeof(buf), "%.4g", at[i]);
		put_text(s, x, s->bottom + 16, "middle", buf);
	}
	n = svg_ticks(&s->y, at);
	for (i = 0; i < n; i++) {
		double y = to_y(s, at[i]);

		fprintf(s->f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>\n",
			s->left, y, s->right);
		snprintf(buf, sizeof(buf), "%.4g", at[i]);
		put_text(s, s->left - 6, y + 4, "end", buf);
	}
}

void svg_panel(struct svg *s, double top, double height,
	       const struct svg_axis *x, const struct svg_axis *y)
{
	char buf[ESCAPED];

	s->left = MARGIN_LEFT;
	s->right = s->width - MARGIN_RIGHT;
	s->top = top;
	s->bottom = top + height;
	s->x = *x;
	s->y = *y;
	s->legend_at = s->right;
	make_sound(&s->x);
	make_sound(&s->y);
	draw_ticks(s);
	fprintf(s->f,
		"<rect class=\"frame\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
		"height=\"%.1f\"/>\n",
		s->left, s->top, s->right - s->left, height);
	put_text(s, (s->left + s->right) / 2, s->bottom + 32, "middle",
		 x->label);
	svg_escape(buf, y->label);
	fprintf(s->f,
		"<text transform=\"translate(16 %.1f) rotate(-90)\" "
		"text-anchor=\"middle\">%s</text>\n",
		(s->top + s->bottom) / 2, buf);
}

void svg_legend(struct svg *s, u32 series, const char *name)
{
	s->legend_at -= 26 + 6.7 * (double)strlen(name);
	fprintf(s->f,
		"<rect class=\"s%u\" x=\"%.1f\" y=\"%.1f\" width=\"10\" "
		"height=\"10\"/>\n",
		series % SVG_SERIES, s->legend_at, s->top - 15);
	put_text(s, s->legend_at + 14, s->top - 6, "start", name);
}

/* ---- what is drawn ---- */

void svg_line(struct svg *s, u32 series, const double *x, const double *y,
	      u32 nr)
{
	u32 i;

	if (!nr)
		return;
	fprintf(s->f, "<path class=\"s%u line\" d=\"", series % SVG_SERIES);
	for (i = 0; i < nr; i++)
		fprintf(s->f, "%c%.1f %.1f", i ? 'L' : 'M', to_x(s, x[i]),
			to_y(s, y[i]));
	fprintf(s->f, "\"/>\n");
}

void svg_dot(struct svg *s, u32 series, double x, double y, bool filled)
{
	fprintf(s->f,
		"<circle class=\"s%u%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"/>\n",
		series % SVG_SERIES, filled ? "" : " hollow", to_x(s, x),
		to_y(s, y));
}

void svg_box(struct svg *s, u32 series, double x0, double y0, double x1,
	     double y1)
{
	double left = to_x(s, x0), top = to_y(s, y1);

	fprintf(s->f,
		"<rect class=\"s%u box\" x=\"%.2f\" y=\"%.1f\" "
		"width=\"%.2f\" height=\"%.1f\"/>\n",
		series % SVG_SERIES, left, top, max(to_x(s, x1) - left, 0.2),
		max(to_y(s, y0) - top, 0.0));
}

void svg_level(struct svg *s, double y, const char *label)
{
	double at = to_y(s, y);

	fprintf(s->f, "<path class=\"level\" d=\"M%.1f %.1fH%.1f\"/>\n",
		s->left, at, s->right);
	put_text(s, s->left + 6, at - 4, "start", label);
}
