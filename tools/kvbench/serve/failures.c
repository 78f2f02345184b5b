/* SPDX-License-Identifier: MIT */
/*
 * failures.c - what went wrong, counted per kind, the first of each in words
 */
#include "tools/kvbench/serve/failures.h"

#include <stdarg.h>
#include <string.h>

void failure_set(struct failure *f, const char *kind, const char *fmt, ...)
{
	va_list ap;
	char *p;

	if (f->kind[0])
		return;
	snprintf(f->kind, sizeof(f->kind), "%s", kind);
	va_start(ap, fmt);
	vsnprintf(f->what, sizeof(f->what), fmt, ap);
	va_end(ap);
	/* What a server sent goes to a terminal, and into JSON. */
	for (p = f->what; *p; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p > '~')
			*p = (unsigned char)*p < 0x80 ? ' ' : '?';
}

void failures_add(struct failures *all, const struct failure *f)
{
	u32 i;

	all->nr++;
	for (i = 0; i < all->nr_kinds; i++)
		if (!strcmp(all->first[i].kind, f->kind))
			break;
	if (i == FAILURE_KINDS - 1 && i == all->nr_kinds) {
		snprintf(all->first[i].kind, FAILURE_KIND, "other");
		snprintf(all->first[i].what, FAILURE_WHAT, "%s", f->what);
		all->nr_kinds++;
	} else if (i == FAILURE_KINDS) {
		i--;
	} else if (i == all->nr_kinds) {
		all->first[i] = *f;
		all->nr_kinds++;
	}
	all->count[i]++;
}

json_t *failures_json(const struct failures *all)
{
	json_t *v = json_object();
	u32 i;

	for (i = 0; i < all->nr_kinds; i++)
		json_object_set_new(v, all->first[i].kind,
				    json_pack("{s:i, s:s}", "count",
					      (int)all->count[i], "first",
					      all->first[i].what));
	return v;
}

void failures_print(FILE *out, const struct failures *all)
{
	u32 i;

	for (i = 0; i < all->nr_kinds; i++)
		fprintf(out, "  %6u %-14s first: %s\n", all->count[i],
			all->first[i].kind, all->first[i].what);
}
