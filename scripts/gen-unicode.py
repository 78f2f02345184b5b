#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write runtime/model/unicode_tab.h from the Unicode character database.

Run by hand when the pre-tokenizer's reference moves to another version:
    pip install unicodedata2==16.0.0
    scripts/gen-unicode.py > runtime/model/unicode_tab.h
The end-to-end test compares every code point with the reference.
"""
import unicodedata2 as ucd

WHITE_SPACE = [(0x9, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0),
               (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
               (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)]


def ranges(first):
    out = []
    for cp in range(0x110000):
        if ucd.category(chr(cp))[0] != first:
            continue
        if out and out[-1][1] == cp - 1:
            out[-1][1] = cp
        else:
            out.append([cp, cp])
    return out


def table(name, rows):
    print("\nstatic const struct unicode_range %s[] = {" % name)
    for i in range(0, len(rows), 3):
        print("\t" + " ".join("{ 0x%04x, 0x%04x }," % tuple(r)
                              for r in rows[i:i + 3]))
    print("};")


print("""/* SPDX-License-Identifier: MIT */
/*
 * unicode_tab.h - code points by class, Unicode %s
 *
 * Written by scripts/gen-unicode.py: letters (category L), numbers (N) and
 * the property White_Space, as sorted ranges.
 */
#ifndef RUNTIME_MODEL_UNICODE_TAB_H
#define RUNTIME_MODEL_UNICODE_TAB_H

#include "kv/types.h"

struct unicode_range {
	u32 lo, hi;
};

/* clang-format off */""" % ucd.unidata_version)
table("unicode_letters", ranges("L"))
table("unicode_numbers", ranges("N"))
table("unicode_spaces", WHITE_SPACE)
print("\n/* clang-format on */\n\n#endif")
