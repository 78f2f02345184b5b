/* SPDX-License-Identifier: MIT */
/*
 * admin.c - requests that look into everything or end somebody
 */
#include <errno.h>
#include <string.h>
#include "kvmd/ctl/audit.h"
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

static void fault_add(void *ctx, const char *sentence)
{
	json_array_append_new(ctx, json_string(sentence));
}

/*
 * What the kernel holds for each extent against what the core says of it: a
 * populated one is whole and a bare one has nothing. Holes in a granted one
 * are its client's doing, who may punch what it may write: they are counted,
 * and no fault of the books.
 */
static u64 check_extents(struct kvmd *d, json_t *faults, u64 *resident,
			 u64 *holes)
{
	json_t *text;
	bool granted;
	u64 nr = 0;
	s64 bytes;
	u32 i;

	for (i = 0; i < d->dev->nr_extents; i++) {
		bytes = d->dev->ops->resident(d->dev, i);
		if (bytes > 0) {
			nr++;
			*resident += (u64)bytes;
		}
		granted = mm_extent_owner(d->mm, i) != MM_NONE;
		if (granted && bytes < (s64)KV_EXTENT_SIZE)
			*holes += KV_EXTENT_SIZE - (u64)max(bytes, (s64)0);
		if (granted && d->dev->ops->extent_fd(d->dev, i) < 0) {
			text = json_sprintf("extent %u: granted to client %u, "
					    "and nothing is behind it",
					    i, mm_extent_owner(d->mm, i));
			json_array_append_new(faults, text);
		}
		if (bytes > (s64)KV_EXTENT_SIZE) {
			text = json_sprintf("extent %u: %lld bytes are behind "
					    "it",
					    i, (long long)bytes);
			json_array_append_new(faults, text);
		}
	}
	return nr;
}

static int check_run(struct ctl *q, json_t *out)
{
	json_t *faults = json_array();
	u64 resident = 0, holes = 0, nr;

	mm_check(q->d->mm, fault_add, faults);
	nr = check_extents(q->d, faults, &resident, &holes);
	json_object_set_new(out, "ok", json_boolean(!json_array_size(faults)));
	json_object_set_new(out, "faults", faults);
	ctl_set(out, "extents", nr);
	ctl_set(out, "extent_resident_bytes", resident);
	ctl_set(out, "hole_bytes", holes);
	return 0;
}

static int kill_run(struct ctl *q, json_t *out)
{
	struct kvmd *d = q->d;
	struct session *s;
	int rc;

	rc = ctl_session(q, ctl_arg(q, 0), &s);
	if (rc)
		return rc;
	rc = peer_kill(&s->peer);
	if (rc)
		return err_set(q->err, rc, "client %u (pid %d): %s", s->id,
			       (int)s->peer.pid,
			       rc == -EINVAL ? "kvmd's pid namespace does not "
					       "reach the process"
			       : rc == -EPERM
				       ? "its user namespace does not let kvmd "
					 "kill it"
				       : strerror(-rc));
	d->n.kills++;
	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "client_kill", s->id,
		  s->tenant_name, "%s (pid %d): killed by pid %d", s->name,
		  (int)s->peer.pid, (int)q->c->peer.pid);
	ctl_set(out, "client", s->id);
	ctl_set(out, "pid", (u64)s->peer.pid);
	return 0;
}

static int client_revoke(struct ctl *q, json_t *out)
{
	struct session *s;
	u64 bytes, asked;
	int rc;

	rc = ctl_session(q, ctl_arg(q, 0), &s);
	if (rc)
		return rc;
	if (options_bytes(ctl_arg(q, 1), &bytes))
		return err_set(q->err, -EINVAL, "revoke: \"%s\" is no size",
			       ctl_arg(q, 1));
	rc = mm_revoke(q->d->mm, s->id, bytes, &asked);
	if (rc)
		return err_set(q->err, rc, "client %u (pid %d): %s", s->id,
			       (int)s->peer.pid,
			       rc == -EPERM ? "there is nothing that it may "
					      "not keep"
			       : rc == -EOPNOTSUPP
				       ? "kvmd takes nothing back: --revoke off"
				       : strerror(-rc));
	kvmd_pump(q->d);
	ctl_set(out, "client", s->id);
	ctl_set(out, "pid", (u64)s->peer.pid);
	ctl_set(out, "asked_bytes", asked);
	return 0;
}

const struct ctl_def ctl_admin_defs[] = {
	{ .object = "client",
	  .verb = "revoke",
	  .args_min = 2,
	  .args_max = 2,
	  .admin = true,
	  .handle = client_revoke },
	{ .object = "check", .admin = true, .handle = check_run },
	{ .object = "kill",
	  .args_min = 1,
	  .args_max = 1,
	  .admin = true,
	  .handle = kill_run },
	{ .object = "audit",
	  .verb = "freeze",
	  .admin = true,
	  .handle = audit_freeze },
	{ .object = "audit",
	  .verb = "thaw",
	  .admin = true,
	  .handle = audit_thaw },
	{ .object = NULL },
};
