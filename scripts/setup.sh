#!/bin/bash
# SPDX-License-Identifier: MIT
#
# setup.sh - what a fresh Debian 12 machine lacks: packages, user, group
#
# Installs the packages of packages.txt that are not there, and makes the
# system user kvrun and the group kvmem that `make run` drops its runtimes
# to. Needs root or sudo only if something is missing; asks nothing.
set -u
cd "$(dirname "$0")/.." || exit 1
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l LC_ALL=C.UTF-8

die() {
	echo "setup: $*" >&2
	exit 1
}

missing_packages() {
	local have
	# shellcheck disable=SC2046 # dpkg's fields; words are meant
	have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' \
		$(cat scripts/packages.txt) 2>/dev/null | sed -n 's/^installed //p')
	grep -vxF -e "$have" scripts/packages.txt
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

# Get the right to act as root, or say what it is wanted for. On a terminal
# sudo may ask for the password here, once.
need_root() { # PURPOSE
	[ "$(id -u)" = 0 ] && return
	command -v sudo >/dev/null || die "$1 needs root, and there is no sudo"
	if [ -t 0 ] && [ -t 2 ]; then
		sudo -v || die "$1 needs root"
	else
		sudo -n true 2>/dev/null ||
			die "$1 needs root, and sudo asks for a password"
	fi
}

command -v dpkg-query >/dev/null ||
	die "this is no Debian; install by hand: $(paste -sd' ' scripts/packages.txt)"
mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} != 0 ]; then
	need_root "installing ${missing[*]}"
	echo "installing ${#missing[@]} Debian packages: ${missing[*]}"
	log=$(mktemp) || die "no room in the temporary folder"
	trap 'rm -f "$log"' EXIT
	apt=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get
		-o DPkg::Lock::Timeout=300 -qq)
	# An old list is good enough if the archive still has the files.
	as_root "${apt[@]}" update >"$log" 2>&1
	as_root "${apt[@]}" install -y --no-install-recommends \
		"${missing[@]}" >>"$log" 2>&1 </dev/null || {
		tail -15 "$log" >&2
		die "apt-get could not install: ${missing[*]}"
	}
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} = 0 ] || die "still missing: ${missing[*]}"
fi

# Without the right to make them `make run` works too, as one user.
if ! getent group kvmem >/dev/null || ! getent passwd kvrun >/dev/null; then
	if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
		getent group kvmem >/dev/null ||
			as_root groupadd --system kvmem ||
			die "cannot make the group kvmem"
		getent passwd kvrun >/dev/null ||
			as_root useradd --system --gid kvmem --no-create-home \
				--home-dir /nonexistent \
				--shell /usr/sbin/nologin kvrun ||
			die "cannot make the user kvrun"
	fi
fi
