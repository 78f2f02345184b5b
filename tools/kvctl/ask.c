/* SPDX-License-Identifier: MIT */
/*
 * ask.c - one request to kvmd, its answer as JSON, its failure as a sentence
 *	   and an exit status
 */
#include "tools/kvctl/kvctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kv.h>

#define SUCCESSOR_S 2.0 /* how long one may take to take over */
#define AGAIN_S	    0.02

static const char *socket_path(const struct options *opt)
{
	const char *env = getenv("KVMD_SOCKET");

	if (opt->socket)
		return opt->socket;
	return env && *env ? env : KV_SOCKET_PATH;
}

int ask_exit_status(const struct options *opt, int err)
{
	switch (-err) {
	case 0:
		return EX_KV_OK;
	case ENOENT: /* of the socket, or of what was asked for */
		if (access(socket_path(opt), F_OK))
			return EX_KV_NOT_RUNNING;
		return EX_KV_NO_OBJECT;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
	case ESHUTDOWN:
	case ENOTSOCK:
		return EX_KV_NOT_RUNNING;
	case EACCES:
	case EPERM:
		return EX_KV_PERMISSION;
	case ETIMEDOUT:
		return EX_KV_TIMEOUT;
	case EBUSY:
	case EDQUOT:
	case ENOSPC:
	case E2BIG:
		return EX_KV_LIMIT;
	case EAGAIN:
		return EX_KV_AGAIN;
	case EINVAL:
		return EX_KV_USAGE;
	}
	return EX_KV_FAILED;
}

/*
 * kvmd went while it was asked. Where a keeper has its socket the successor
 * answers, where there is none connecting fails, which is no reason to ask
 * again. What changes something may have been done: it is asked again only if
 * it had not been sent.
 */
static bool may_ask_again(unsigned int flags, const char *request, int rc)
{
	if (rc == -ECONNRESET)
		return true; /* it took the connection and nothing else */
	return rc == -ESHUTDOWN &&
	       (!(flags & KV_HELLO_ADMIN) || !strcmp(request, "check"));
}

static int ask_kvmd(const struct options *opt, unsigned int flags,
		    const char *request, char **text)
{
	double end = clock_s() + SUCCESSOR_S;
	int rc;

	for (;;) {
		rc = kv_ctl(opt->socket, flags, request, text);
		if (rc >= 0 || !may_ask_again(flags, request, rc) ||
		    clock_s() >= end)
			return rc;
		free(*text);
		*text = NULL;
		clock_sleep_s(AGAIN_S);
	}
}

/* Return: 0 and the object, or -errno and perhaps a sentence. */
static int ask_raw(const struct options *opt, unsigned int flags,
		   const char *request, json_t **out, char **sentence)
{
	json_error_t je;
	char *text = NULL;
	int rc;

	*out = NULL;
	*sentence = NULL;
	rc = ask_kvmd(opt, flags, request, &text);
	if (rc < 0) {
		*sentence = text;
		return rc;
	}
	*out = json_loads(text ? text : "", JSON_REJECT_DUPLICATES, &je);
	free(text);
	if (!json_is_object(*out)) {
		json_decref(*out);
		*out = NULL;
		if (asprintf(sentence, "kvmd's answer to \"%s\" is no JSON: %s",
			     request, je.text) < 0)
			*sentence = NULL;
		return -EPROTO;
	}
	return 0;
}

int ask_quiet(const struct options *opt, unsigned int flags,
	      const char *request, json_t **out)
{
	char *sentence;
	int rc = ask_raw(opt, flags, request, out, &sentence);

	free(sentence);
	return rc;
}

/* With --json the failure is an object on standard output as well. */
static void ask_json_error(const struct options *opt, int err, int status,
			   const char *sentence)
{
	json_t *v = json_pack("{s:s, s:{s:s, s:i, s:s}}", "schema", "kvctl/1",
			      "error", "code", strerrorname_np(-err), "exit",
			      status, "message", sentence);

	if (v)
		print_json(opt, v);
	json_decref(v);
}

int ask(const struct options *opt, unsigned int flags, const char *request,
	json_t **out)
{
	char *sentence, clean[512], why[640];
	int rc = ask_raw(opt, flags, request, out, &sentence);
	int status;

	if (!rc)
		return EX_KV_OK;
	status = ask_exit_status(opt, rc);
	fmt_clean(clean, sizeof(clean), sentence ? sentence : strerror(-rc));
	if (status == EX_KV_NOT_RUNNING)
		snprintf(why, sizeof(why), "no kvmd on %s (%s)",
			 socket_path(opt), strerror(-rc));
	else
		snprintf(why, sizeof(why), "%s", clean);
	fprintf(stderr, "kvctl: %s\n", why);
	if (opt->json)
		ask_json_error(opt, rc, status, why);
	free(sentence);
	return status;
}

int print_json(const struct options *opt, const json_t *v)
{
	json_dumpf(v, stdout, opt->pretty ? JSON_INDENT(2) : JSON_COMPACT);
	putchar('\n');
	return fflush(stdout) ? EX_KV_FAILED : EX_KV_OK;
}
