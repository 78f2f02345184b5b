#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""columns.py - growing texts side by side

    columns.py TITLE OUT ERR PID [TITLE OUT ERR PID]...

OUT and ERR are the files that process PID writes its output and its errors
to. A stream has ended once ERR says "kvrun: holding" or the process is gone.
On a terminal the texts stand in columns that are painted again as they grow;
elsewhere each line is printed after the title it belongs to.
"""
import codecs
import shutil
import sys
import time
import unicodedata


def width(ch):
    if unicodedata.combining(ch):
        return 0
    return 2 if unicodedata.east_asian_width(ch) in "WF" else 1


class Stream:
    def __init__(self, title, out, err, pid):
        self.title, self.err, self.pid = title, err, pid
        self.file = open(out, "rb")
        self.decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.text = ""
        self.shown = 0          # without a terminal: characters printed

    def read(self):
        """Take what is there; false once the stream has ended."""
        ended = self.has_ended()  # before the read, so that nothing is lost
        self.text += "".join(c for c in self.decode(self.file.read())
                             if c in "\n\t" or c.isprintable())
        return not ended

    def has_ended(self):
        try:
            with open(self.err, "rb") as f:
                if b"kvrun: holding" in f.read():
                    return True
            with open(f"/proc/{self.pid}/stat", "rb") as f:
                return f.read().rpartition(b")")[2].split()[0] in b"ZX"
        except OSError:
            return True

    def lines(self, cols):
        """The text wrapped at cols columns, at spaces where it can."""
        out = []
        for line in self.text.expandtabs(4).split("\n"):
            row, used = "", 0
            for ch in line:
                if used + width(ch) > cols:
                    cut = row.rfind(" ") + 1 or len(row)
                    out.append(row[:cut])
                    row = row[cut:]
                    used = sum(map(width, row))
                row += ch
                used += width(ch)
            out.append(row)
        return out


def pad(row, cols):
    return row + " " * (cols - sum(map(width, row)))


def paint(streams, above):
    """Paint over the last `above` rows; return how many there are now."""
    size = shutil.get_terminal_size()
    cols = (size.columns - 1) // len(streams) - 2
    texts = [s.lines(cols) for s in streams]
    nr = max(map(len, texts))
    room = max(size.lines - 3, 4)
    first = max(0, nr - room)
    rows = ["\033[1m" + pad(s.title[:cols], cols) + "\033[0m" for s in streams]
    out = ["  ".join(rows)]
    for i in range(first, nr):
        out.append("  ".join(pad(t[i] if i < len(t) else "", cols)
                             for t in texts))
    sys.stdout.write((f"\033[{above}A" if above else "") +
                     "".join("\r" + r + "\033[K\n" for r in out))
    sys.stdout.flush()
    return len(out)


def tell(streams, last):
    """Print the whole lines that are new, each after its title."""
    pad_to = max(len(s.title) for s in streams)
    for s in streams:
        end = len(s.text) if last else s.text.rfind("\n") + 1
        for line in s.text[s.shown:end].splitlines():
            print(f"{s.title:{pad_to}}| {line}", flush=True)
        s.shown = max(s.shown, end)


def main(argv):
    streams = [Stream(*argv[i:i + 4]) for i in range(1, len(argv), 4)]
    tty = sys.stdout.isatty()
    above, live, before = 0, list(streams), None
    while live:
        time.sleep(0.05)
        live = [s for s in live if s.read()]
        now = [len(s.text) for s in streams]
        if tty and now != before:
            above = paint(streams, above)
        elif not tty:
            tell(streams, False)
        before = now
    if not tty:
        tell(streams, True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv))
    except KeyboardInterrupt:
        sys.exit(130)
