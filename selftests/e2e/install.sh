#!/bin/bash
# SPDX-License-Identifier: MIT
#
# install.sh - what `make install` lays down can be used from there
#
# alone: no
. selftests/tap.sh

unset MAKEFLAGS MAKELEVEL
dir=$T/root
lib=$dir/usr/lib/x
check "make install works into a folder" make -s O="$BUILD" install \
	DESTDIR="$dir" PREFIX=/usr LIBDIR=/usr/lib/x
for bin in kvmd kvctl kvrun kvbench; do
	check "$bin runs from there" "$dir/usr/bin/$bin" --help
done
[ ! -x "$BUILD/bin/kvtrace" ] ||
	check "kvtrace runs from there" "$dir/usr/bin/kvtrace" --help
expect "the library has the name that programs ask for" libkv.so.1 \
	"$(objdump -p "$lib/libkv.so" | awk '/SONAME/ { print $2 }')"
export PKG_CONFIG_SYSROOT_DIR=$dir PKG_CONFIG_PATH=$lib/pkgconfig
build_example() {
	# shellcheck disable=SC2046 # words are meant
	gcc -std=gnu11 -o "$T/fork" libkv/examples/fork.c \
		$(pkg-config --cflags --libs libkv)
}
check "pkg-config is enough to build an example" build_example
expect "which needs nothing else of ours" libkv.so.1 \
	"$(objdump -p "$T/fork" | awk '/NEEDED.*kv/ { print $2 }')"
check "there is a man page" man -M "$dir/usr/share/man" kv_attach
tap_done
