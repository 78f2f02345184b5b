/* SPDX-License-Identifier: MIT */
/*
 * drop.c - kvrun --user
 *
 * Groups first, then the group ids, then the user ids: the other way round
 * the right to change groups would be gone. All three ids are set, so
 * nothing is left to go back to, and that is checked.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "tools/kvrun/drop.h"

#define ACCESS_GROUP "kvmem"

int drop_privileges(const char *user, char *err)
{
	const struct passwd *pw;
	const struct group *gr;
	gid_t group, extra;
	uid_t uid;

	errno = 0;
	gr = getgrnam(ACCESS_GROUP);
	if (!gr)
		return err_set(err, errno ? -errno : -ENOENT,
			       "--user: there is no group " ACCESS_GROUP);
	extra = gr->gr_gid;
	errno = 0;
	pw = getpwnam(user);
	if (!pw)
		return err_set(err, errno ? -errno : -ENOENT,
			       "--user: there is no user '%s'", user);
	group = pw->pw_gid;
	uid = pw->pw_uid;
	if (setgroups(1, &extra) || setresgid(group, group, group) ||
	    setresuid(uid, uid, uid))
		return err_set(err, -errno, "--user %s: %s", user,
			       strerror(errno));
	if (uid && (setresuid(0, 0, 0) == 0 || getuid() != uid))
		return err_set(err, -EPERM,
			       "--user %s: privileges could not be dropped",
			       user);
	return 0;
}
