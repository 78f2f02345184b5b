#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""press.py - run a command on a terminal of its own and press keys

    press.py WHEN KEYS COMMAND...

WHEN is a number of seconds, or a text to wait for in what the command shows;
KEYS may hold \\x03 (Ctrl-C) and \\x04 (Ctrl-D). Ctrl-D follows every two
seconds until the command ends. What the command shows goes to standard
output; the exit status is the command's, 128 + n for signal n.
"""
import codecs
import os
import pty
import select
import sys
import time


def main(argv):
    when, keys = argv[1], codecs.decode(argv[2], "unicode_escape").encode()
    try:
        after, text = float(when), None
    except ValueError:
        after, text = None, when.encode()
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(argv[3], argv[3:])
    start, shown, pressed = time.monotonic(), b"", 0.0
    while True:
        if select.select([fd], [], [], 0.02)[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                break
            if not data:
                break
            shown += data
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        if not pressed and (text in shown if text is not None else
                            time.monotonic() - start >= after):
            time.sleep(0.2 if text else 0)
            os.write(fd, keys)
            pressed = time.monotonic()
        elif pressed and time.monotonic() - pressed > 2:
            os.write(fd, b"\x04")
            pressed = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv))
