/* SPDX-License-Identifier: MIT */
/*
 * models.c - where the models and the reference's files are, how large
 *
 * The models lie where make fetch puts them, or where KV_GEMMA and KV_QWEN
 * point. The reference is an fp32 evaluation of the same two files; it lies
 * in the source tree, which is the working folder or one above this program,
 * or in the folder that --data names. Whoever has neither is told so.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "runtime/model/gguf.h"
#include "runtime/model/packing.h"
#include "tools/kvrun/session.h"

#define DATA_DIR "selftests/data"

static const struct {
	const char *env, *file;
	const char *key; /* in the reference's files */
} models[MODEL_NR] = {
	[MODEL_GEMMA] = { "KV_GEMMA", "gemma-3-270m-q4_k_m.gguf",
			  "gemma-3-270m" },
	[MODEL_QWEN] = { "KV_QWEN", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
			 "qwen2.5-coder-1.5b" },
};

int model_path(enum model_id id, const char *given, char *path, char *note)
{
	const char *env = getenv(models[id].env),
		   *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (given || env)
		snprintf(path, MODEL_PATH, "%s", given ? given : env);
	else if (cache && *cache)
		snprintf(path, MODEL_PATH, "%s/kvmd/models/%s", cache,
			 models[id].file);
	else
		snprintf(path, MODEL_PATH, "%s/.cache/kvmd/models/%s",
			 home ? home : "", models[id].file);
	if (!access(path, R_OK))
		return 0;
	snprintf(note, FIGURE_NOTE, "%.120s is not there: make fetch", path);
	return -EOPNOTSUPP;
}

int bench_session(struct session *s, const struct session_opts *o)
{
	return session_open(s, o) ? -EIO : 0;
}

int model_packed_bytes(const char *path, u64 *bytes, char *err)
{
	struct packing *p;
	struct gguf *g;
	int rc = gguf_open(path, &g, err);

	if (rc)
		return rc;
	rc = packing_plan(g, &p, err);
	if (!rc) {
		*bytes = packing_bytes(p);
		packing_free(p);
	}
	gguf_close(g);
	return rc;
}

/* In the folder of this program or in one above it. */
static bool find_above(const char *file, char *path)
{
	char dir[MODEL_PATH];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *slash;

	dir[max(n, (ssize_t)0)] = '\0';
	while ((slash = strrchr(dir, '/'))) {
		*slash = '\0';
		if (snprintf(path, MODEL_PATH, "%s/" DATA_DIR "/%s", dir,
			     file) < MODEL_PATH &&
		    !access(path, R_OK))
			return true;
	}
	return false;
}

static bool find_data(const struct bench_opts *o, const char *file, char *path)
{
	snprintf(path, MODEL_PATH, "%s/%s", o->data ? o->data : DATA_DIR, file);
	return !access(path, R_OK) || (!o->data && find_above(file, path));
}

int model_reference(const struct bench_opts *o, enum model_id id,
		    const char *file, json_t **out, char *note)
{
	char path[MODEL_PATH];
	json_error_t e;
	json_t *all;

	if (!find_data(o, file, path)) {
		snprintf(note, FIGURE_NOTE,
			 "the reference's %s is not in %.90s: --data", file,
			 o->data ? o->data : DATA_DIR);
		return -EOPNOTSUPP;
	}
	all = json_load_file(path, 0, &e);
	if (!all) {
		snprintf(note, FIGURE_NOTE, "%.60s:%d: %.80s", path, e.line,
			 e.text);
		return -EINVAL;
	}
	*out = json_incref(json_object_get(all, models[id].key));
	json_decref(all);
	if (*out)
		return 0;
	snprintf(note, FIGURE_NOTE, "%.100s has no %s", path, models[id].key);
	return -EINVAL;
}
