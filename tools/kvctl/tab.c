/* SPDX-License-Identifier: MIT */
/*
 * tab.c - a JSON array of objects as a table
 *
 * The columns are data: name, member, kind. -o picks and orders them, -s
 * sorts (numbers from the largest, words from A), -H leaves out the header
 * and separates by one tab, which no cell can contain. A member that the
 * daemon did not send, or that is null, is "-".
 */
#include "tools/kvctl/kvctl.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#define TAB_COLS_MAX 32
#define TAB_CELL     128

json_t *member(const json_t *row, const char *path)
{
	char key[64];
	const char *dot;
	json_t *v = (json_t *)(uintptr_t)row;

	while (v && (dot = strchr(path, '.'))) {
		snprintf(key, sizeof(key), "%.*s", (int)(dot - path), path);
		v = json_object_get(v, key);
		path = dot + 1;
	}
	return json_object_get(v, path);
}

u64 member_u64(const json_t *row, const char *path)
{
	json_t *v = member(row, path);

	if (json_is_true(v))
		return 1;
	return json_is_integer(v) ? (u64)json_integer_value(v) : 0;
}

const char *member_str(const json_t *row, const char *path)
{
	const char *s = json_string_value(member(row, path));

	return s ? s : "";
}

static void cell_user(char *buf, size_t len, json_int_t uid)
{
	struct passwd *pw = getpwuid((uid_t)uid);

	if (pw)
		fmt_clean(buf, len, pw->pw_name);
	else
		snprintf(buf, len, "%" JSON_INTEGER_FORMAT, uid);
}

static void cell_percent(char *buf, size_t len, const json_t *row,
			 const struct col *c)
{
	u64 whole = member_u64(row, c->key2);

	if (!whole)
		snprintf(buf, len, "-");
	else
		snprintf(buf, len, "%.1f%%",
			 100.0 * (double)member_u64(row, c->key) /
				 (double)whole);
}

void tab_cell(char *buf, size_t len, const struct options *opt,
	      const struct col *c, const json_t *row)
{
	const json_t *v = member(row, c->key);
	u64 n = json_is_integer(v) ? (u64)json_integer_value(v) : 0;

	if (!v || json_is_null(v)) {
		snprintf(buf, len, c->kind == COL_LIMIT && v ? "max" : "-");
		return;
	}
	if (json_is_string(v)) {
		fmt_clean(buf, len, json_string_value(v));
		if (c->kind == COL_SHORT && len > 12)
			buf[12] = '\0';
		if (!buf[0])
			snprintf(buf, len, "-");
		return;
	}
	if (json_is_boolean(v)) {
		snprintf(buf, len, "%s", json_is_true(v) ? "yes" : "no");
		return;
	}
	switch (c->kind) {
	case COL_BYTES:
	case COL_LIMIT:
		fmt_bytes(buf, len, n, opt->units);
		break;
	case COL_COUNT:
		if (opt->units == UNIT_BYTES)
			snprintf(buf, len, "%" PRIu64, n);
		else
			fmt_count(buf, len, n);
		break;
	case COL_NS:
		fmt_duration(buf, len, n);
		break;
	case COL_USER:
		cell_user(buf, len, json_integer_value(v));
		break;
	case COL_HUNDREDTHS:
		snprintf(buf, len, "%.2f", (double)json_integer_value(v) / 100);
		break;
	case COL_PERCENT:
		cell_percent(buf, len, row, c);
		break;
	default:
		snprintf(buf, len, "%" JSON_INTEGER_FORMAT,
			 json_integer_value(v));
	}
}

static const struct col *col_find(const struct table *t, const char *name,
				  size_t len)
{
	unsigned int i;

	for (i = 0; i < t->nr_cols; i++) {
		const struct col *c = &t->cols[i];

		if ((!strncasecmp(c->name, name, len) && !c->name[len]) ||
		    (!strncmp(c->key, name, len) && !c->key[len]))
			return c;
	}
	return NULL;
}

static int col_unknown(const struct table *t, const char *name, int len)
{
	unsigned int i;

	fprintf(stderr, "kvctl: no column \"%.*s\"; there are:", len, name);
	for (i = 0; i < t->nr_cols; i++)
		fprintf(stderr, " %s", t->cols[i].name);
	fputc('\n', stderr);
	return EX_KV_USAGE;
}

/* Which columns: -o, or those that are not hidden. */
static int pick_columns(const struct options *opt, const struct table *t,
			const struct col **cols, unsigned int *nr)
{
	const char *p = opt->columns;
	unsigned int i;
	bool all = p && !strcmp(p, "all");

	*nr = 0;
	if (!p || all) {
		for (i = 0; i < t->nr_cols && *nr < TAB_COLS_MAX; i++)
			if (all || !(t->cols[i].flags & COL_HIDDEN))
				cols[(*nr)++] = &t->cols[i];
		return EX_KV_OK;
	}
	while (*p && *nr < TAB_COLS_MAX) {
		size_t len = strcspn(p, ",");

		cols[*nr] = col_find(t, p, len);
		if (!cols[*nr])
			return col_unknown(t, p, (int)len);
		(*nr)++;
		p += len + (p[len] == ',');
	}
	return EX_KV_OK;
}

struct sort_by {
	const struct options *opt;
	const struct col *col;
};

static int row_compare(const void *a, const void *b, void *arg)
{
	const struct sort_by *by = arg;
	const json_t *ra = *(json_t *const *)a, *rb = *(json_t *const *)b;
	const json_t *va = member(ra, by->col->key);
	const json_t *vb = member(rb, by->col->key);

	if (json_is_integer(va) && json_is_integer(vb)) {
		json_int_t x = json_integer_value(va);
		json_int_t y = json_integer_value(vb);

		return x < y ? 1 : x > y ? -1 : 0;
	}
	if (json_is_integer(va) != json_is_integer(vb)) /* "max" is most */
		return json_is_integer(va) ? 1 : -1;
	return strcmp(member_str(ra, by->col->key),
		      member_str(rb, by->col->key));
}

/* Insertion sort: stable, and the tables are short. */
static void rows_sort(const json_t **rows, size_t nr, struct sort_by *by)
{
	size_t i, j;

	for (i = 1; i < nr; i++) {
		const json_t *x = rows[i];

		for (j = i; j && row_compare(&rows[j - 1], &x, by) > 0; j--)
			rows[j] = rows[j - 1];
		rows[j] = x;
	}
}

/* Characters, not bytes: names may be UTF-8. */
static int text_width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static bool is_left(const struct col *c)
{
	return c->kind == COL_STR || c->kind == COL_USER ||
	       c->kind == COL_SHORT;
}

static void put_cell(FILE *out, const char *s, int width, bool left, bool last)
{
	int pad = width - text_width(s);

	if (!left)
		fprintf(out, "%*s", pad > 0 ? pad : 0, "");
	fputs(s, out);
	if (left && !last)
		fprintf(out, "%*s", pad > 0 ? pad : 0, "");
	fputs(last ? "\n" : "  ", out);
}

static void print_aligned(FILE *out, const struct options *opt,
			  const struct table *t, const struct col **cols,
			  unsigned int nr, char (*cells)[TAB_CELL], size_t rows)
{
	int width[TAB_COLS_MAX];
	unsigned int c;
	size_t r;

	for (c = 0; c < nr; c++) {
		width[c] = text_width(cols[c]->name);
		for (r = 0; r < rows; r++)
			width[c] = max(width[c], text_width(cells[r * nr + c]));
	}
	fputs(tint(opt, "1"), out);
	fputs(t->indent ? t->indent : "", out);
	for (c = 0; c < nr; c++) {
		put_cell(out, cols[c]->name, width[c], is_left(cols[c]),
			 c + 1 == nr);
	}
	fputs(tint(opt, "0"), out);
	for (r = 0; r < rows; r++) {
		fputs(t->indent ? t->indent : "", out);
		for (c = 0; c < nr; c++)
			put_cell(out, cells[r * nr + c], width[c],
				 is_left(cols[c]), c + 1 == nr);
	}
}

int tab_print_to(FILE *out, const struct options *opt, const struct table *t,
		 const json_t *array, size_t max)
{
	const struct col *cols[TAB_COLS_MAX];
	const char *sort = opt->sort ? opt->sort : t->sort;
	struct sort_by by = { .opt = opt };
	size_t nr = json_array_size(array), i;
	unsigned int nr_cols, c;
	char(*cells)[TAB_CELL];
	const json_t **rows;
	int rc = pick_columns(opt, t, cols, &nr_cols);

	if (rc)
		return rc;
	if (sort) {
		by.col = col_find(t, sort, strlen(sort));
		if (!by.col)
			return col_unknown(t, sort, (int)strlen(sort));
	}
	rows = calloc(nr + 1, sizeof(*rows));
	cells = calloc(nr * nr_cols + 1, sizeof(*cells));
	if (!rows || !cells) {
		rc = EX_KV_FAILED;
		goto out_free;
	}
	for (i = 0; i < nr; i++)
		rows[i] = json_array_get(array, i);
	if (by.col)
		rows_sort(rows, nr, &by);
	if (max && nr > max)
		nr = max;
	for (i = 0; i < nr; i++)
		for (c = 0; c < nr_cols; c++)
			tab_cell(cells[i * nr_cols + c], TAB_CELL, opt, cols[c],
				 rows[i]);
	if (!opt->no_header) {
		print_aligned(out, opt, t, cols, nr_cols, cells, nr);
		goto out_free;
	}
	for (i = 0; i < nr * nr_cols; i++)
		fprintf(out, "%s%c", cells[i], (i + 1) % nr_cols ? '\t' : '\n');
out_free:
	free(rows);
	free(cells);
	return rc;
}

int tab_print(const struct options *opt, const struct table *t,
	      const json_t *rows)
{
	return tab_print_to(stdout, opt, t, rows, 0);
}
