/* SPDX-License-Identifier: MIT */
/*
 * slo.c - bounds on figures, by their names
 */
#include "tools/kvbench/serve/slo.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_term(struct slo *slo, const char *s, size_t key_len,
		      const char *value, const char *stop)
{
	struct slo_term *t = &slo->term[slo->nr];
	char *end;

	if (slo->nr == SLO_MAX || !key_len || key_len >= sizeof(t->key))
		return false;
	memcpy(t->key, s, key_len);
	t->key[key_len] = '\0';
	t->limit = strtod(value, &end);
	if (end == value || !isfinite(t->limit) ||
	    (*end && !strchr(stop, *end)))
		return false;
	slo->nr++;
	return true;
}

bool slo_parse(const char *s, struct slo *slo)
{
	const char *op;
	size_t n;

	for (;;) {
		s += strspn(s, " ");
		n = strcspn(s, " <>,");
		op = s + n + strspn(s + n, " ");
		if ((*op != '<' && *op != '>') || op[1] != '=' ||
		    slo->nr == SLO_MAX)
			return false;
		slo->term[slo->nr].at_least = *op == '>';
		if (!take_term(slo, s, n, op + 2, ","))
			return false;
		s += strcspn(s, ",");
		if (!*s)
			return true;
		s++;
	}
}

bool slo_parse_goodput(const char *s, struct slo *slo)
{
	static const char *const keys[] = { "ttft", "tpot", "e2el", "norm" };
	size_t n = strcspn(s, ":"), i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (strlen(keys[i]) == n && !strncmp(s, keys[i], n))
			return s[n] && take_term(slo, s, n, s + n + 1, "") &&
			       slo->term[slo->nr - 1].limit >= 0;
	return false;
}

const char *slo_unknown(const struct slo *slo, const json_t *figures)
{
	const json_t *v;
	u32 i;

	for (i = 0; i < slo->nr; i++) {
		v = json_object_get(figures, slo->term[i].key);
		if (!json_is_number(v) && !json_is_null(v))
			return slo->term[i].key;
	}
	return NULL;
}

bool slo_holds(const struct slo *slo, const json_t *figures, char *why)
{
	const struct slo_term *t;
	const json_t *v;
	double x;
	u32 i;

	why[0] = '\0';
	for (i = 0; i < slo->nr; i++) {
		t = &slo->term[i];
		v = json_object_get(figures, t->key);
		x = json_number_value(v);
		if (!json_is_number(v)) {
			snprintf(why, 128, "%s: nothing was measured", t->key);
			return false;
		}
		if (t->at_least ? x < t->limit : x > t->limit) {
			snprintf(why, 128, "%s is %.4g, %s %g", t->key, x,
				 t->at_least ? "<" : ">", t->limit);
			return false;
		}
	}
	return true;
}
