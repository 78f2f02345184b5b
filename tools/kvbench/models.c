/* SPDX-License-Identifier: MIT */
/*
 * models.c - where the two models are
 *
 * They lie where make fetch puts them, or where KV_GEMMA and KV_QWEN point.
 * Whoever has none is told so.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const struct {
	const char *env, *file;
} models[MODEL_NR] = {
	[MODEL_GEMMA] = { "KV_GEMMA", "gemma-3-270m-q4_k_m.gguf" },
	[MODEL_QWEN] = { "KV_QWEN", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf" },
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
