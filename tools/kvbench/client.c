/* SPDX-License-Identifier: MIT */
/*
 * client.c - attach, and steps that compute nothing
 */
#include "tools/kvbench/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/mmhost.h"

static int add_area(struct bench_client *c, u32 layers, u32 heads, u32 dim,
		    u32 window)
{
	struct kv_area_args *a = &c->args.area[c->args.nr_areas];
	struct kv_geometry g;
	int rc;

	bench_geometry(&g, 16, layers, heads, dim);
	rc = kv_geometry_add(c->kv, &g, &a->geom);
	if (rc) {
		snprintf(c->err, sizeof(c->err), "%s", kv_error(c->kv));
		return rc;
	}
	a->window = window;
	a->nr_heads = (u16)heads;
	c->args.nr_areas++;
	return 0;
}

int bench_client_open(struct bench_client *c, const char *socket, bool small)
{
	struct kv_attach_opts o = { .sz = sizeof(o),
				    .socket = socket,
				    .name = "kvbench" };
	int rc;

	memset(c, 0, sizeof(*c));
	rc = kv_attach(&o, &c->kv);
	if (rc) {
		snprintf(c->err, sizeof(c->err), "%s", kv_attach_error());
		return rc;
	}
	if (small)
		return add_area(c, 1, 1, 128, 0);
	rc = add_area(c, 3, 1, 256, 0);
	return rc ? rc : add_area(c, 15, 1, 256, 512);
}

void bench_client_close(struct bench_client *c)
{
	kv_detach(c->kv);
	c->kv = NULL;
}

int bench_client_step(struct bench_client *c, u32 space, u64 pos, u32 nr,
		      u64 *copied_tokens)
{
	struct kv_resv_item item = { .space = space,
				     .nr_tokens = nr,
				     .pos = pos };
	const struct kv_copy *copies;
	struct kv_step *st;
	unsigned int i, n;
	int rc = kv_step_prepare(c->kv, &item, 1, KV_STEP_WAIT, 10000, &st);

	if (rc) {
		snprintf(c->err, sizeof(c->err), "%s", kv_error(c->kv));
		return rc;
	}
	n = kv_step_copies(st, &copies);
	for (i = 0; copied_tokens && i < n; i++)
		*copied_tokens += copies[i].tokens;
	kv_step_run_copies(c->kv, st);
	kv_step_complete(c->kv, st);
	return kv_step_commit(c->kv, st);
}

u64 bench_ask_number(const char *socket, const char *what, const char *key)
{
	char *json = NULL, *at;
	u64 n = 0;

	if (!kv_ctl(socket, KV_HELLO_ADMIN, what, &json) && json) {
		at = strstr(json, key);
		n = at ? strtoull(at + strlen(key), NULL, 10) : 0;
	}
	free(json);
	return n;
}
