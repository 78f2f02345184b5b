/* SPDX-License-Identifier: MIT */
/*
 * bench_swap.c - pages to host memory or a file and back
 *
 * A private kvmd whose device has room for one of two spaces. A step that
 * reads one of them brings its pages back and sends those of the other away,
 * turn by turn; what was moved says kvmd. That is the whole way: the copies,
 * the checksums, the tier, the core's bookkeeping, and the client that waits.
 *
 * ram	held against memcpy: as many threads as this process has CPUs copy
 *	pages of the same size out of a memfd, which is what the device is made
 *	of, and into it. All of it lies in huge pages, where the system has
 *	some. memcpy between two pieces of host memory is told too
 * file	held against fio with as large pieces and as much in flight, in a file
 *	beside the one that kvmd uses, half reads and half writes; with its
 *	memory in huge pages, as kvmd's is: of small ones it makes a third less
 *
 * Each turn is followed by its bound, so that whatever the machine does
 * meanwhile happens to both; medians of the turns are told. Everything is
 * larger than the caches, and the file is read and written past the page
 * cache.
 */
#include "tools/kvbench/bench.h"
#include "lib/huge.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SWAP_PAGE    (48u << 10)
#define SWAP_TURNS   24u
#define FILE_TURNS   9u
#define SWAP_THREADS 16u
#define FIO_BYTES    (21 * SWAP_PAGE) /* what kvmd makes of a MiB of pages */
#define FIO_DEPTH    8u

struct swap_size {
	u32 pages; /* of a space */
	const char *device, *tier;
};

static const struct swap_size sizes[] = {
	{ 4096, "224M", "512M" }, /* 192 MiB a space */
	{ 256, "24M", "32M" }, /* --tiny */
};

struct swap_result {
	double rate, bound; /* medians, bytes a second */
	double share; /* median of the turns' own */
	double plain; /* memcpy between two pieces of host memory */
	u64 bytes; /* a turn */
	u32 turns;
	char what[64];
};

/* ---- memcpy ---- */

struct copier {
	pthread_t thread;
	char *to, *from;
	size_t bytes;
};

static void *copy_pages(void *arg)
{
	const struct copier *c = arg;
	size_t at;

	for (at = 0; at < c->bytes; at += SWAP_PAGE)
		memcpy(c->to + at, c->from + at, SWAP_PAGE);
	return NULL;
}

/* Copy @bytes by @n threads. Return: bytes a second. */
static double copy_rate(char *to, char *from, size_t bytes, u32 n)
{
	struct copier c[SWAP_THREADS];
	size_t part = bytes / SWAP_PAGE / n * SWAP_PAGE;
	double start = clock_s();
	u32 i;

	for (i = 0; i < n; i++) {
		c[i] = (struct copier){ .to = to + i * part,
					.from = from + i * part,
					.bytes = part };
		if (i && pthread_create(&c[i].thread, NULL, copy_pages, &c[i]))
			return 0;
	}
	copy_pages(&c[0]);
	for (i = 1; i < n; i++)
		pthread_join(c[i].thread, NULL);
	return (double)(part * n) / (clock_s() - start);
}

/* ---- the client ---- */

struct swap_run {
	struct private_kvmd *d;
	struct bench_client c;
	const struct swap_size *size;
	u32 space[2];
	u64 moved; /* as kvmd has said */
};

static int moved_bytes(struct swap_run *s, u64 *out)
{
	char *json = NULL;
	json_t *v, *n;
	int rc = kv_ctl(private_kvmd_socket(s->d), 0, "vmstat", &json);

	if (rc)
		return rc;
	v = json_loads(json, 0, NULL);
	n = json_object_get(v, "counters");
	*out = (u64)json_integer_value(json_object_get(n, "swap_out_bytes")) +
	       (u64)json_integer_value(json_object_get(n, "swap_in_bytes"));
	if (json_integer_value(json_object_get(n, "swap_errors")))
		rc = -EIO;
	json_decref(v);
	free(json);
	return rc;
}

static int fill(struct swap_run *s, u32 space)
{
	u32 pos, tokens = s->size->pages * 16;
	int rc = 0;

	for (pos = 0; !rc && pos < tokens; pos += 512)
		rc = bench_client_step(&s->c, space, pos, 512, NULL);
	return rc;
}

/* A step that reads all of a space and writes its last token again. */
static int turn(struct swap_run *s, u32 i, double *rate, u64 *bytes)
{
	u32 last = s->size->pages * 16 - 1;
	double start, end;
	u64 now;
	int rc;

	start = clock_s();
	rc = kv_space_truncate(s->c.kv, s->space[i], last);
	if (!rc)
		rc = bench_client_step(&s->c, s->space[i], last, 1, NULL);
	end = clock_s();
	if (!rc)
		rc = moved_bytes(s, &now);
	if (rc)
		return rc;
	*bytes = now - s->moved;
	*rate = (double)*bytes / (end - start);
	s->moved = now;
	return 0;
}

static int open_run(struct swap_run *s, const char *const *args, char *err)
{
	int rc = private_kvmd_start_with(args, &s->d, err);
	u32 i;

	if (rc)
		return rc;
	err[0] = '\0';
	rc = bench_client_open(&s->c, private_kvmd_socket(s->d), false);
	s->c.args.nr_areas = 1; /* pages of SWAP_PAGE that all stay */
	for (i = 0; !rc && i < 2; i++) {
		rc = kv_space_create(s->c.kv, &s->c.args, &s->space[i]);
		if (!rc)
			rc = fill(s, s->space[i]);
	}
	if (!rc)
		rc = moved_bytes(s, &s->moved);
	if (rc)
		snprintf(err, KV_ERRLEN, "%s",
			 s->c.err[0] ? s->c.err
			 : s->c.kv   ? kv_error(s->c.kv)
				     : "no client");
	return rc;
}

static void close_run(struct swap_run *s)
{
	bench_client_close(&s->c);
	private_kvmd_stop(s->d);
}

/* What memcpy does: the device's kind of memory, host memory, and another. */
struct copy_mem {
	size_t bytes;
	char *device, *host, *other;
	u32 threads;
};

static void mem_close(struct copy_mem *m)
{
	if (m->device)
		munmap(m->device, m->bytes);
	free(m->host);
	free(m->other);
}

static char *host_memory(size_t bytes)
{
	void *p;

	if (posix_memalign(&p, HUGE_PAGE, bytes))
		return NULL;
	madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

static int mem_open(struct copy_mem *m, const struct bench_opts *o,
		    size_t bytes)
{
	int fd;

	bytes = ALIGN_UP(bytes, HUGE_PAGE);
	fd = memfd_create("kvbench", MFD_CLOEXEC);
	m->bytes = bytes;
	m->threads = min(bench_threads(o), SWAP_THREADS);
	m->host = host_memory(bytes);
	m->other = host_memory(bytes);
	if (fd >= 0 && !ftruncate(fd, (off_t)bytes))
		m->device = huge_map(fd, bytes);
	if (fd >= 0)
		close(fd);
	if (m->device)
		(void)huge_make(m->device, bytes);
	if (!m->device || !m->host || !m->other) {
		mem_close(m);
		return -ENOMEM;
	}
	memset(m->device, 1, bytes);
	memset(m->host, 2, bytes);
	memset(m->other, 3, bytes);
	return 0;
}

/* Out and in, as a turn does; then between two pieces of host memory. */
static void mem_rates(const struct copy_mem *m, double *device, double *host)
{
	double out, in;

	out = copy_rate(m->host, m->device, m->bytes, m->threads);
	in = copy_rate(m->device, m->other, m->bytes, m->threads);
	*device = 2 / (1 / out + 1 / in);
	*host = copy_rate(m->other, m->host, m->bytes, m->threads);
}

static int turns_ram(const struct bench_opts *o, struct swap_run *s,
		     struct swap_result *r)
{
	double rate[SWAP_TURNS], bound[SWAP_TURNS], share[SWAP_TURNS];
	double plain[SWAP_TURNS];
	struct copy_mem m = { 0 };
	u64 moved;
	u32 i;
	int rc = mem_open(&m, o, (size_t)s->size->pages * SWAP_PAGE);

	if (rc)
		return rc;
	for (i = 0; !rc && i < 2; i++)
		rc = turn(s, i, &rate[0], &moved); /* memory is taken */
	for (i = 0; !rc && i < (o->tiny ? 4 : SWAP_TURNS); i++) {
		rc = turn(s, i % 2, &rate[i], &moved);
		mem_rates(&m, &bound[i], &plain[i]);
		share[i] = rate[i] / bound[i];
		r->bytes += moved;
		r->turns++;
	}
	mem_close(&m);
	if (rc)
		return rc;
	r->bytes /= r->turns;
	r->rate = bench_median(rate, r->turns);
	r->bound = bench_median(bound, r->turns);
	r->share = bench_median(share, r->turns);
	r->plain = bench_median(plain, r->turns);
	snprintf(r->what, sizeof(r->what),
		 "memcpy from and to a memfd, %u threads", m.threads);
	return 0;
}

static int run_ram(const struct bench_opts *o, struct swap_result *r, char *err)
{
	const struct swap_size *size = &sizes[o->tiny];
	const char *args[] = { "--size", size->device, "--swap-ram", size->tier,
			       NULL };
	struct swap_run s = { .size = size };
	int rc = open_run(&s, args, err);

	if (!rc)
		rc = turns_ram(o, &s, r);
	close_run(&s);
	return rc;
}

/* ---- fio ---- */

/* One pass of fio over @file. Return: bytes a second, 0 if there is no fio. */
static double fio_pass(const char *file, bool write, u64 bytes)
{
	char command[600];
	double rate = 0;
	json_t *v, *job;
	FILE *f;

	snprintf(command, sizeof(command),
		 "GLIBC_TUNABLES=glibc.malloc.hugetlb=1 "
		 "fio --name=kvbench --filename='%s' --rw=%s --bs=%u "
		 "--size=%llu --direct=1 --ioengine=io_uring --iodepth=%u "
		 "--output-format=json 2>/dev/null",
		 file, write ? "write" : "read", FIO_BYTES,
		 (unsigned long long)(bytes / FIO_BYTES * FIO_BYTES),
		 FIO_DEPTH);
	f = popen(command, "re");
	if (!f)
		return 0;
	v = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL);
	pclose(f);
	job = json_array_get(json_object_get(v, "jobs"), 0);
	if (!json_integer_value(json_object_get(job, "error")))
		rate = json_number_value(json_object_get(
			json_object_get(job, write ? "write" : "read"),
			"bw_bytes"));
	json_decref(v);
	return rate;
}

/* Out and in, as a turn does. */
static double fio_rate(const char *file, u64 bytes)
{
	double out = fio_pass(file, true, bytes);
	double in = out > 0 ? fio_pass(file, false, bytes) : 0;

	return in > 0 ? 2 / (1 / out + 1 / in) : 0;
}

static int turns_file(const struct bench_opts *o, struct swap_run *s,
		      const char *other, struct swap_result *r, char *err)
{
	double rate[SWAP_TURNS], bound[SWAP_TURNS], share[SWAP_TURNS];
	u64 moved, bytes = (u64)s->size->pages * SWAP_PAGE;
	u32 i;
	int rc = 0;

	if (fio_rate(other, bytes) <= 0) { /* it also makes the file */
		snprintf(err, KV_ERRLEN,
			 "no fio here, or none that knows io_uring (package "
			 "fio)");
		return -EOPNOTSUPP;
	}
	for (i = 0; !rc && i < 2; i++)
		rc = turn(s, i, &rate[0], &moved);
	for (i = 0; !rc && i < (o->tiny ? 2 : FILE_TURNS); i++) {
		rc = turn(s, i % 2, &rate[i], &moved);
		bound[i] = fio_rate(other, bytes);
		share[i] = bound[i] > 0 ? rate[i] / bound[i] : 0;
		r->bytes += moved;
		r->turns++;
	}
	if (rc)
		return rc;
	r->bytes /= r->turns;
	r->rate = bench_median(rate, r->turns);
	r->bound = bench_median(bound, r->turns);
	r->share = bench_median(share, r->turns);
	snprintf(r->what, sizeof(r->what),
		 "fio, io_uring, %u KiB, depth %u, O_DIRECT", FIO_BYTES >> 10,
		 FIO_DEPTH);
	return 0;
}

static int run_file(const struct bench_opts *o, struct swap_result *r,
		    char *err)
{
	const struct swap_size *size = &sizes[o->tiny];
	const char *dir = getenv("TMPDIR");
	char file[300], other[310];
	const char *args[] = { "--size",      size->device, "--swap-file", file,
			       "--swap-size", size->tier,   NULL };
	struct swap_run s = { .size = size };
	int rc;

	snprintf(file, sizeof(file), "%.250s/kvbench-%d.swap",
		 dir && *dir == '/' ? dir : "/var/tmp", (int)getpid());
	snprintf(other, sizeof(other), "%s.fio", file);
	rc = open_run(&s, args, err);
	if (!rc)
		rc = turns_file(o, &s, other, r, err);
	close_run(&s);
	unlink(other);
	return rc;
}

/* ---- figures ---- */

static int figure_ram(const struct bench_opts *o, struct figure_result *f)
{
	struct swap_result r = { 0 };
	char err[KV_ERRLEN] = "";
	int rc = run_ram(o, &r, err);

	if (rc) {
		snprintf(f->note, sizeof(f->note), "%.150s", err);
		return rc;
	}
	f->measured = r.share;
	f->bound = 1;
	snprintf(f->bound_what, sizeof(f->bound_what), "%s", r.what);
	snprintf(f->note, sizeof(f->note),
		 "%.2f GB/s beside %.2f, out and in, checksums on; memcpy "
		 "in host memory %.2f",
		 r.rate / 1e9, r.bound / 1e9, r.plain / 1e9);
	return 0;
}

FIGURE(swap_ram, .name = "swap.ram",
       .what = "pages to host memory and back, over memcpy", .unit = "x",
       .cmp = CMP_AT_LEAST, .target = 0.8, .run = figure_ram);

static int figure_disk(const struct bench_opts *o, struct figure_result *f)
{
	struct swap_result r = { 0 };
	char err[KV_ERRLEN] = "";
	int rc = run_file(o, &r, err);

	if (rc) {
		snprintf(f->note, sizeof(f->note), "%.150s", err);
		return rc;
	}
	f->measured = r.share;
	f->bound = 1;
	snprintf(f->bound_what, sizeof(f->bound_what), "%s", r.what);
	snprintf(f->note, sizeof(f->note),
		 "%.2f GB/s beside %.2f, out and in, checksums on, %u turns",
		 r.rate / 1e9, r.bound / 1e9, r.turns);
	return 0;
}

FIGURE(swap_disk, .name = "swap.disk",
       .what = "pages to a file and back, over fio with the same sizes and "
	       "depth",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = figure_disk);

/* ---- kvbench swap ---- */

static const struct report_col swap_cols[] = {
	{ "where", "where", 0 },    { "gbs", "GB/s", 2 },
	{ "bound", "bound", 2 },    { "share", "share", 2 },
	{ "mib", "MiB a turn", 0 }, { "turns", "turns", 0 },
	{ "what", "bound of", 0 },
};

static void swap_row(struct report *rep, const char *where,
		     const struct swap_result *r)
{
	report_row(rep, json_pack("{s:s, s:f, s:f, s:f, s:I, s:i, s:s}",
				  "where", where, "gbs", r->rate / 1e9, "bound",
				  r->bound / 1e9, "share", r->share, "mib",
				  (json_int_t)(r->bytes >> 20), "turns",
				  (int)r->turns, "what", r->what));
}

static int run_swap(const struct bench_opts *o, struct report *rep)
{
	struct swap_result ram = { 0 }, file = { 0 };
	char err[KV_ERRLEN] = "";
	int rc;

	rep->cols = swap_cols;
	rep->nr_cols = ARRAY_SIZE(swap_cols);
	rc = run_ram(o, &ram, err);
	if (!rc) {
		swap_row(rep, "memory", &ram);
		rc = run_file(o, &file, err);
	}
	if (!rc)
		swap_row(rep, "file", &file);
	snprintf(rep->note, sizeof(rep->note), "%.200s", err);
	return rc == -EOPNOTSUPP ? 0 : rc;
}

SUBJECT(swap, .name = "swap",
	.what = "pages to host memory or a file and back, through kvmd",
	.run = run_swap);
