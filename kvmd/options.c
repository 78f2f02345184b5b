/* SPDX-License-Identifier: MIT */
/*
 * options.c - kvmd's command line
 */
#include "kvmd/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kvmd/mm/mm.h"
#include "kvmd/mm/policy.h"
#include "kvmd/ram.h"

#define SIZE_DEFAULT_MAX (8ull << 30)

static const char usage[] =
	"usage: kvmd [OPTIONS]\n"
	"  --socket PATH      where clients attach (KVMD_SOCKET,\n"
	"                     " KV_SOCKET_PATH ")\n"
	"  --device NAME      cpu; error:cpu and delay:cpu for tests\n"
	"  --size BYTES       memory to own, 4G (25 % of RAM or of the cgroup's\n"
	"                     limit, at most 8G)\n"
	"  --limit [TENANT=]BYTES  hard limit of a tenant, or of all others\n"
	"  --tenant-key KEY   who is one tenant: uid, cgroup or pid (uid)\n"
	"  --swap-ram BYTES   host memory for pages that leave the device (0)\n"
	"  --swap-lz4 BYTES   then so much for pages made smaller by LZ4 (0)\n"
	"  --swap-file PATH   then this file or partition\n"
	"  --swap-size BYTES  so much of it (4G; a partition: all of it)\n"
	"  --swap-deadline MSEC  give a page up that takes longer; 0: never\n"
	"                     (10000)\n"
	"  --swap-demote LOW,HIGH  with less than LOW percent of a tier free its\n"
	"                     coldest pages go to a later one, until HIGH are;\n"
	"                     0,0: never (10,20)\n"
	"  --swap-limit [TENANT=]TIER:BYTES  what a tenant, or all others, may\n"
	"                     have in a tier: ram, lz4, disk, or all\n"
	"  --watermarks MIN,LOW,HIGH  free memory below which it is reclaimed\n"
	"                     before anybody waits; 0,0,0: never (1/64,\n"
	"                     2/64, 3/64 of the device)\n"
	"  --cache-policy NAME  what the prefix cache gives up: lru, mglru,\n"
	"                     reuse (reuse)\n"
	"  --swap-discard     give room that is not used any more back\n"
	"  --swap-fault KIND:RATE[,...][:SEED]  for tests: flip, torn, short,\n"
	"                     misdirected, reordered, enospc, eio, stuck, all\n"
	"  --io NAME          uring, epoll or auto (auto)\n"
	"  --spin USEC        spin before sleeping, at most (20)\n"
	"  --turns WHEN       clients that share processors compute by turns: on,\n"
	"                     off (on)\n"
	"  --log-file PATH    append log lines here (standard error)\n"
	"  --log-level LEVEL  error, warn, info or debug (info)\n"
	"  --pid-file PATH    write the process id here\n"
	"  --drain MSEC       at the end wait so long for clients (500)\n"
	"  --revoke WHEN      take memory back from a client that lives: off,\n"
	"                     admin (asked to, limit lowered) or tickets (tickets)\n"
	"  --revoke-ask MSEC  it has so long to give it back (1000)\n"
	"  --revoke-fence MSEC then its steps so long to end, or it is killed\n"
	"                     (30000)\n"
	"  --stall MSEC       who fills weights that others wait for and gets\n"
	"                     nowhere so long is ended (30000)\n"
	"  --ready-fd N       write one byte there when clients may attach\n"
	"  --exit-with-parent end when the process that started kvmd ends\n"
	"  --keeper           when kvmd is killed, start it again: clients go on\n"
	"                     (SIGHUP: replace it by a new version)\n"
	"  --foreground       stay in the foreground (kvmd always does)\n"
	"  --check            check the options and the system, then end\n"
	"  --version, --help\n";

enum {
	OPT_SOCKET = 256,
	OPT_DEVICE,
	OPT_SIZE,
	OPT_LIMIT,
	OPT_TENANT_KEY,
	OPT_SWAP_RAM,
	OPT_SWAP_LZ4,
	OPT_SWAP_FILE,
	OPT_SWAP_SIZE,
	OPT_SWAP_DEADLINE,
	OPT_SWAP_DISCARD,
	OPT_SWAP_DEMOTE,
	OPT_SWAP_LIMIT,
	OPT_WATERMARKS,
	OPT_CACHE_POLICY,
	OPT_SWAP_FAULT,
	OPT_IO,
	OPT_SPIN,
	OPT_TURNS,
	OPT_LOG_FILE,
	OPT_LOG_LEVEL,
	OPT_PID_FILE,
	OPT_DRAIN,
	OPT_REVOKE,
	OPT_REVOKE_ASK,
	OPT_REVOKE_FENCE,
	OPT_STALL,
	OPT_READY_FD,
	OPT_EXIT_WITH_PARENT,
	OPT_KEEPER,
	OPT_KEPT,
	OPT_FOREGROUND,
	OPT_CHECK,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "device", required_argument, NULL, OPT_DEVICE },
	{ "size", required_argument, NULL, OPT_SIZE },
	{ "limit", required_argument, NULL, OPT_LIMIT },
	{ "tenant-key", required_argument, NULL, OPT_TENANT_KEY },
	{ "swap-ram", required_argument, NULL, OPT_SWAP_RAM },
	{ "swap-lz4", required_argument, NULL, OPT_SWAP_LZ4 },
	{ "swap-file", required_argument, NULL, OPT_SWAP_FILE },
	{ "swap-size", required_argument, NULL, OPT_SWAP_SIZE },
	{ "swap-deadline", required_argument, NULL, OPT_SWAP_DEADLINE },
	{ "swap-discard", no_argument, NULL, OPT_SWAP_DISCARD },
	{ "swap-demote", required_argument, NULL, OPT_SWAP_DEMOTE },
	{ "swap-limit", required_argument, NULL, OPT_SWAP_LIMIT },
	{ "watermarks", required_argument, NULL, OPT_WATERMARKS },
	{ "cache-policy", required_argument, NULL, OPT_CACHE_POLICY },
	{ "swap-fault", required_argument, NULL, OPT_SWAP_FAULT },
	{ "io", required_argument, NULL, OPT_IO },
	{ "spin", required_argument, NULL, OPT_SPIN },
	{ "turns", required_argument, NULL, OPT_TURNS },
	{ "log-file", required_argument, NULL, OPT_LOG_FILE },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "pid-file", required_argument, NULL, OPT_PID_FILE },
	{ "drain", required_argument, NULL, OPT_DRAIN },
	{ "revoke", required_argument, NULL, OPT_REVOKE },
	{ "revoke-ask", required_argument, NULL, OPT_REVOKE_ASK },
	{ "revoke-fence", required_argument, NULL, OPT_REVOKE_FENCE },
	{ "stall", required_argument, NULL, OPT_STALL },
	{ "ready-fd", required_argument, NULL, OPT_READY_FD },
	{ "exit-with-parent", no_argument, NULL, OPT_EXIT_WITH_PARENT },
	{ "keeper", no_argument, NULL, OPT_KEEPER },
	{ "kept", required_argument, NULL, OPT_KEPT }, /* the keeper's own */
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "check", no_argument, NULL, OPT_CHECK },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

static const char *const on_off[] = { "off", "on" };
static const char *const key_names[] = {
	[TENANT_KEY_UID] = "uid",
	[TENANT_KEY_CGROUP] = "cgroup",
	[TENANT_KEY_PID] = "pid",
};

static const char *const revoke_names[] = {
	[MM_REVOKE_OFF] = "off",
	[MM_REVOKE_ADMIN] = "admin",
	[MM_REVOKE_TICKETS] = "tickets",
};

const char *tenant_key_name(unsigned int key)
{
	return key_names[key];
}

const char *revoke_policy_name(unsigned int policy)
{
	return revoke_names[policy];
}

int options_bytes(const char *text, u64 *out)
{
	unsigned int shift = 0;
	char *end;
	u64 n;

	if (!strcmp(text, "max")) {
		*out = ~0ull;
		return 0;
	}
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 0);
	if (errno)
		return -EINVAL;
	switch (*end) {
	case 'k':
	case 'K':
		shift = 10;
		break;
	case 'm':
	case 'M':
		shift = 20;
		break;
	case 'g':
	case 'G':
		shift = 30;
		break;
	case 't':
	case 'T':
		shift = 40;
		break;
	}
	if (shift)
		end++;
	if (!strcmp(end, "iB") || !strcmp(end, "B"))
		end += strlen(end);
	if (*end || (shift && n >> (64 - shift)))
		return -EINVAL;
	*out = n << shift;
	return 0;
}

static int parse_number(const char *text, unsigned int most, unsigned int *out)
{
	u64 n;

	if (options_bytes(text, &n) || n > most)
		return -EINVAL;
	*out = (unsigned int)n;
	return 0;
}

/* Room in a swap tier: none, where that is an answer, or a page at least. */
static int parse_room(const char *text, bool none, u64 *out)
{
	u64 n;

	if (options_bytes(text, &n) || (n ? n < 4096 : !none))
		return -EINVAL;
	*out = n;
	return 0;
}

int options_watermarks(const char *text, u64 out[3])
{
	char part[64], *save, *word;
	u32 i;

	if (strlen(text) >= sizeof(part))
		return -EINVAL;
	snprintf(part, sizeof(part), "%s", text);
	word = strtok_r(part, ",", &save);
	for (i = 0; i < 3; i++, word = strtok_r(NULL, ",", &save))
		if (!word || options_bytes(word, &out[i]) ||
		    (i && out[i] < out[i - 1]))
			return -EINVAL;
	return word ? -EINVAL : 0;
}

static int parse_watermarks(const char *text, struct options *o)
{
	o->watermarks_set = true;
	return options_watermarks(text, o->watermark);
}

/* [TENANT=]TIER:BYTES */
static int parse_swap_limit(struct options *o, const char *text)
{
	struct swap_limit_option *l = &o->swap_limits[o->nr_swap_limits];
	const char *eq = strrchr(text, '='), *tier = eq ? eq + 1 : text;
	const char *colon = strchr(tier, ':');

	if (!colon || o->nr_swap_limits == OPTIONS_LIMITS_MAX ||
	    (eq && (eq == text || eq - text >= KV_NAME_LEN)) || colon == tier ||
	    colon - tier >= (ptrdiff_t)sizeof(l->tier) ||
	    options_bytes(colon + 1, &l->max_bytes))
		return -EINVAL;
	snprintf(l->tenant, sizeof(l->tenant), "%.*s",
		 (int)(eq ? eq - text : 0), text);
	snprintf(l->tier, sizeof(l->tier), "%.*s", (int)(colon - tier), tier);
	if (strcmp(l->tier, "ram") && strcmp(l->tier, "lz4") &&
	    strcmp(l->tier, "disk") && strcmp(l->tier, "all"))
		return -EINVAL;
	o->nr_swap_limits++;
	return 0;
}

static int parse_limit(struct options *o, const char *text)
{
	const char *eq = strrchr(text, '=');
	struct tenant_option *t = &o->limits[o->nr_limits];
	u64 bytes;

	if (options_bytes(eq ? eq + 1 : text, &bytes))
		return -EINVAL;
	if (!eq) {
		o->default_limit_bytes = bytes;
		return 0;
	}
	if (eq == text || eq - text >= KV_NAME_LEN ||
	    o->nr_limits == OPTIONS_LIMITS_MAX)
		return -EINVAL;
	memcpy(t->tenant, text, (size_t)(eq - text));
	t->tenant[eq - text] = '\0';
	t->max_bytes = bytes;
	o->nr_limits++;
	return 0;
}

/* One of some words, by its index. */
static int parse_word(const char *text, const char *const *words,
		      unsigned int nr, unsigned int *out)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (!strcmp(text, words[i])) {
			*out = i;
			return 0;
		}
	}
	return -EINVAL;
}

int options_deadline(const char *text, struct mm_swap_set *out)
{
	return parse_number(text, OPTIONS_DEADLINE_MAX, &out->deadline_ms);
}

int options_demote(const char *text, struct mm_swap_set *out)
{
	struct mm_swap_set set = *out;
	int end = 0;

	if (sscanf(text, "%3u,%3u%n", &set.demote_low, &set.demote_high,
		   &end) != 2 ||
	    text[end] || !mm_swap_set_is_valid(&set))
		return -EINVAL;
	*out = set;
	return 0;
}

int options_discard(const char *text, struct mm_swap_set *out)
{
	unsigned int on;

	if (parse_word(text, on_off, ARRAY_SIZE(on_off), &on))
		return -EINVAL;
	out->discard = on;
	return 0;
}

static int parse_io(const char *text, const char **out)
{
	if (strcmp(text, "uring") && strcmp(text, "epoll") &&
	    strcmp(text, "auto"))
		return -EINVAL;
	*out = text;
	return 0;
}

/* Apply one option. Return: 0 or -EINVAL. */
static int apply(struct options *o, int opt, const char *arg)
{
	unsigned int n = 0;
	int rc;

	switch (opt) {
	case OPT_SOCKET:
		o->socket = arg;
		return *arg ? 0 : -EINVAL;
	case OPT_DEVICE:
		o->device = arg;
		return 0;
	case OPT_SIZE:
		return options_bytes(arg, &o->size_bytes);
	case OPT_LIMIT:
		return parse_limit(o, arg);
	case OPT_TENANT_KEY:
		return parse_word(arg, key_names, ARRAY_SIZE(key_names),
				  &o->tenant_key);
	case OPT_SWAP_RAM:
		return parse_room(arg, true, &o->swap_ram_bytes);
	case OPT_SWAP_LZ4:
		return parse_room(arg, true, &o->swap_lz4_bytes);
	case OPT_SWAP_FILE:
		o->swap_file = arg;
		return *arg ? 0 : -EINVAL;
	case OPT_SWAP_SIZE:
		return parse_room(arg, false, &o->swap_size_bytes);
	case OPT_SWAP_DEADLINE:
		return options_deadline(arg, &o->swap);
	case OPT_SWAP_DISCARD:
		return options_discard("on", &o->swap);
	case OPT_SWAP_DEMOTE:
		return options_demote(arg, &o->swap);
	case OPT_SWAP_LIMIT:
		return parse_swap_limit(o, arg);
	case OPT_SWAP_FAULT:
		o->swap_fault = arg;
		return *arg ? 0 : -EINVAL;
	case OPT_IO:
		return parse_io(arg, &o->io);
	case OPT_SPIN:
		return parse_number(arg, 1000, &o->spin_us);
	case OPT_TURNS:
		return parse_word(arg, on_off, ARRAY_SIZE(on_off), &o->turns);
	case OPT_WATERMARKS:
		return parse_watermarks(arg, o);
	case OPT_CACHE_POLICY:
		o->cache_policy = arg;
		return policy_kind_parse(arg) < 0 ? -EINVAL : 0;
	case OPT_LOG_FILE:
		o->log_file = arg;
		return 0;
	case OPT_LOG_LEVEL:
		return log_level_parse(arg, &o->log_level);
	case OPT_PID_FILE:
		o->pid_file = arg;
		return 0;
	case OPT_DRAIN:
		return parse_number(arg, 600000, &o->drain_ms);
	case OPT_REVOKE:
		return parse_word(arg, revoke_names, ARRAY_SIZE(revoke_names),
				  &o->revoke);
	case OPT_REVOKE_ASK:
		return parse_number(arg, 3600000, &o->revoke_ask_ms);
	case OPT_REVOKE_FENCE:
		return parse_number(arg, 3600000, &o->revoke_fence_ms);
	case OPT_STALL:
		return parse_number(arg, 3600000, &o->stall_ms);
	case OPT_READY_FD:
		rc = parse_number(arg, 65535, &n);
		o->ready_fd = (int)n;
		return rc;
	case OPT_EXIT_WITH_PARENT:
		o->exit_with_parent = true;
		return 0;
	case OPT_KEEPER:
		o->keeper = true;
		return 0;
	case OPT_KEPT:
		return sscanf(arg, "%d:%u", &o->kept_fd, &o->life) == 2
			       ? 0
			       : -EINVAL;
	case OPT_CHECK:
		o->check = true;
		return 0;
	}
	return 0;
}

/* Once the size is known. */
static void default_watermarks(struct options *o)
{
	u64 part = o->size_bytes / 64;
	u32 i;

	for (i = 0; i < 3 && !o->watermarks_set; i++)
		o->watermark[i] = (i + 1) * part;
}

static void options_defaults(struct options *o)
{
	const char *env = getenv("KVMD_SOCKET");
	u64 ram = (u64)sysconf(_SC_PHYS_PAGES) * (u64)sysconf(_SC_PAGE_SIZE);

	ram = min(ram, ram_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
	memset(o, 0, sizeof(*o));
	o->socket = env && *env ? env : KV_SOCKET_PATH;
	o->device = "cpu";
	o->size_bytes = min(ram / 4, SIZE_DEFAULT_MAX);
	o->log_level = LOG_LEVEL_INFO;
	o->default_limit_bytes = ~0ull;
	o->io = "auto";
	o->cache_policy = policy_kind_name(POLICY_REUSE);
	o->drain_ms = 500;
	o->swap.deadline_ms = 10000;
	o->swap.demote_low = 10;
	o->swap.demote_high = 20;
	o->stall_ms = 30000;
	o->revoke = MM_REVOKE_TICKETS;
	o->revoke_ask_ms = 1000;
	o->revoke_fence_ms = 30000;
	o->spin_us = 20;
	o->turns = true;
	o->ready_fd = -1;
	o->kept_fd = -1;
}

enum options_verdict options_parse(struct options *o, int argc, char **argv)
{
	int opt, at = 0;

	options_defaults(o);
	while ((opt = getopt_long(argc, argv, "", long_options, &at)) != -1) {
		if (opt == OPT_VERSION) {
			printf("kvmd %s (abi %u.%u)\n", KV_VERSION,
			       KV_ABI_MAJOR, KV_ABI_MINOR);
			return OPTIONS_DONE;
		}
		if (opt == OPT_HELP) {
			fputs(usage, stdout);
			return OPTIONS_DONE;
		}
		if (opt == '?') {
			fputs(usage, stderr);
			return OPTIONS_WRONG;
		}
		if (apply(o, opt, optarg)) {
			fprintf(stderr,
				"kvmd: --%s: \"%s\" is not possible here\n",
				long_options[at].name, optarg ? optarg : "");
			return OPTIONS_WRONG;
		}
	}
	if (optind != argc) {
		fprintf(stderr, "kvmd: \"%s\": kvmd takes options only\n",
			argv[optind]);
		return OPTIONS_WRONG;
	}
	default_watermarks(o);
	if (o->kept_fd >= 0)
		o->ready_fd = -1; /* the keeper has it */
	return OPTIONS_RUN;
}
