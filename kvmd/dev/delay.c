/* SPDX-License-Identifier: MIT */
/*
 * delay.c - a device whose operations take their time
 *
 * `--device delay:cpu` with KV_DELAY in the environment: a list of
 * OP:MICROSECONDS[/MIB]. A worker sleeps, then the operation goes on to the
 * device behind. With a MIB all of its kind pass one after the other, at so
 * many MiB a second, and each takes the microseconds besides. What clients,
 * limits and other operations do meanwhile is what the tests are after. Release
 * cannot be delayed: it counts from its submission.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/dev/wrap.h"
#include "lib/clock.h"

#define DELAY_MAX_US  10000000u
#define DELAY_MAX_MIB 1000000u

struct delay_dev {
	struct wrap wrap;
	u64 delay_us[DEV_OP_NR];
	u64 mib[DEV_OP_NR]; /* a second; 0: as fast as it goes */
	/* Workers add to it: when the last one of its kind has passed. */
	u64 busy_until_ns[DEV_OP_NR];
};

static int delay_rule(void *priv, enum dev_op op, u64 us, const char *rest,
		      size_t len)
{
	struct delay_dev *d = priv;
	u64 mib = 0;
	char *end;

	if (len) {
		errno = 0;
		mib = *rest == '/' ? strtoull(rest + 1, &end, 10) : 0;
		if (!mib || errno || end != rest + len || mib > DELAY_MAX_MIB)
			return -EINVAL;
	}
	if (us > DELAY_MAX_US || op == DEV_EXPORT || op == DEV_RELEASE)
		return -EINVAL;
	d->delay_us[op] = us;
	d->mib[op] = mib;
	return 0;
}

static int delay_open(struct dev *dev, const char *args, u64 bytes, char *err)
{
	struct delay_dev *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set(err, -ENOMEM, "device delay: no memory");
	dev->priv = d;
	rc = wrap_rules("KV_DELAY", delay_rule, d, err);
	if (!rc)
		rc = wrap_open(dev, args, bytes, err);
	if (rc)
		free(d);
	return rc;
}

/* When @bytes of its kind have passed behind those before them. */
static u64 take_turn(struct delay_dev *d, const struct dev_req *req)
{
	u64 *until = &d->busy_until_ns[req->op], now = clock_ns();
	u64 was = __atomic_load_n(until, __ATOMIC_RELAXED), to;

	do
		to = max(was, now) +
		     req->bytes * 1000000000u / (d->mib[req->op] << 20);
	while (!__atomic_compare_exchange_n(
		until, &was, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return to;
}

static void delay_run(struct work *w)
{
	struct dev_req *req = container_of(w, struct dev_req, work);
	struct delay_dev *d = req->dev->priv;
	u64 now, until = d->mib[req->op] ? take_turn(d, req) : 0;

	usleep((useconds_t)d->delay_us[req->op]);
	while (until && (now = clock_ns()) < until)
		usleep((useconds_t)((until - now) / 1000 + 1));
}

static void delay_done(struct work *w)
{
	struct dev_req *req = container_of(w, struct dev_req, work);

	wrap_submit(req->dev, req);
}

static void delay_submit(struct dev *dev, struct dev_req *req)
{
	struct delay_dev *d = dev->priv;

	if (!d->delay_us[req->op] && !d->mib[req->op]) {
		wrap_submit(dev, req);
		return;
	}
	req->dev = dev;
	req->work.run = delay_run;
	req->work.done = delay_done;
	work_submit(dev->pool, &req->work);
}

const struct dev_ops dev_delay_ops = {
	.name = "delay",
	.open = delay_open,
	.close = wrap_close,
	.submit = delay_submit,
	.export = wrap_export,
	.resident = wrap_resident,
	.extent_fd = wrap_extent_fd,
	.stream_gone = wrap_stream_gone,
	.fence = wrap_fence,
	.audit = wrap_audit,
	.client_gone = wrap_client_gone,
	.facts = wrap_facts,
	.adopt = wrap_adopt,
};
