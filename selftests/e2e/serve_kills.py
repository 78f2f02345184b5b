#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""serve_kills.py - two servers under load, and what kills them

    serve_kills.py want WANT
    serve_kills.py kills WANT KEEPER KILLS SEED

The first asks each request once, of servers that have all the memory they
want and live on, and writes the texts and how many bytes of pages they need
to WANT. The second has each of its clients ask the same request again and
again while kvmd, which the process KEEPER starts, and the servers are killed
KILLS times at moments that SEED decides, and compares every text.

Prints "ok SENTENCE" or "not ok SENTENCE: what came" for each thing that has
to hold, and figures; serve_kills.sh numbers them.
"""
import atexit
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

# name: model, clients, words of a prompt, tokens of an answer, KiB of a page
# of 16 tokens, most tokens of a step
LOADS = {
    "gemma": ("KV_GEMMA", 12, 150, 64, 288, 128),
    "qwen": ("KV_QWEN", 3, 40, 16, 448, 32),
}
if os.environ.get("KV_LONG"):
    LOADS = {
        "gemma": ("KV_GEMMA", 32, 200, 100, 288, 128),
        "qwen": ("KV_QWEN", 8, 60, 24, 448, 32),
    }
PAGE_TOKENS = 16
# Bounds for a machine that does other things as well
CALM_S = 6  # before the first kill, at least
UP_S = 90  # a server that is started is up after so long
LAST_S = 180  # all clients are done so long after the last kill
WORDS = ("river paper engine silver window garden number letter market "
         "winter copper bridge answer ladder mirror ocean planet signal "
         "thread valley").split()


def say(sentence, holds, got=""):
    print(f"ok {sentence}" if holds else f"not ok {sentence}: {got!r}"[:600],
          flush=True)


def percentile(values, share):
    v = sorted(values)
    return v[min(len(v) - 1, int(share * len(v)))] if v else 0.0


class Server:
    """A kvrun serve, which may be killed and started again."""

    def __init__(self, name):
        self.name = name
        self.model, _, _, _, _, self.chunk = LOADS[name]
        self.proc = None
        self.lives = 0  # it is killed between two of them
        self.up = threading.Event()
        self.failed = []  # what it said when it did not come up

    def start(self):
        self.lives += 1
        self.log = f"{os.environ['KV_LOG_DIR']}/{self.name}.{self.lives}"
        out = tempfile.TemporaryFile("w+")
        with open(self.log, "w") as log:
            self.proc = subprocess.Popen(
                ["kvrun", "serve", "-m", os.environ[self.model], "--port",
                 "0", "--chunk", str(self.chunk)], stdout=out, stderr=log)
        atexit.register(self.proc.kill)
        threading.Thread(target=self.wait_up, args=(self.proc, out),
                         daemon=True).start()

    def wait_up(self, proc, out):
        end = time.monotonic() + UP_S
        while time.monotonic() < end and proc.poll() is None:
            if "ready" in self.said():
                out.seek(0)
                self.port = int(out.read().rsplit(":", 1)[1])
                if proc is self.proc:
                    self.up.set()
                return
            time.sleep(0.05)
        if proc is self.proc and proc.returncode != -signal.SIGKILL:
            self.failed.append((proc.returncode, self.said()[-300:]))
            self.up.set()  # nobody waits for ever

    def said(self):
        with open(self.log) as f:
            return f.read()

    def kill(self):
        self.up.clear()
        self.lives += 1
        self.proc.kill()
        self.proc.wait()

    def end(self):
        if self.proc.poll() is None:
            self.proc.terminate()
        return self.proc.wait()


class Answer:
    """One request: its text, when each piece of it came, how it ended."""

    def __init__(self, server, life, prompt, tokens):
        self.server = server
        self.text, self.times, self.why = "", [], "it did not begin"
        self.usage, self.begun = None, time.monotonic()
        try:
            self.ask(prompt, tokens)
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.why = repr(e)
        self.ended = time.monotonic()
        # its server was killed meanwhile: it may have been cut
        self.killed = server.lives != life

    def ask(self, prompt, tokens):
        conn = http.client.HTTPConnection("127.0.0.1", self.server.port,
                                          timeout=120)
        conn.request("POST", "/v1/completions", json.dumps({
            "prompt": prompt, "max_tokens": tokens, "temperature": 0,
            "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}))
        answer = conn.getresponse()
        self.why = f"status {answer.status}"
        if answer.status != 200:
            self.why += answer.read().decode()
            return
        for line in answer:
            if not line.startswith(b"data: "):
                continue
            if line[6:].strip() == b"[DONE]":
                self.why = self.why if self.why[:5] == "error" else None
                return
            self.piece(json.loads(line[6:]))
        self.why = "it ended without [DONE]"

    def piece(self, chunk):
        if "error" in chunk:
            self.why = f"error {chunk['error']}"
        self.usage = chunk.get("usage") or self.usage
        for c in chunk.get("choices", ()):
            self.text += c["text"]
            self.times.append(time.monotonic())


def prompts(name):
    rnd = random.Random(name)
    return [" ".join(rnd.choice(WORDS) for _ in range(LOADS[name][2]))
            for _ in range(LOADS[name][1])]


def gaps(answers, begin, end):
    """Seconds between two pieces of the same answer."""
    return [b - a for r in answers for a, b in zip(r.times, r.times[1:])
            if begin <= b < end]


def start_all():
    servers = {name: Server(name) for name in LOADS}
    for s in servers.values():
        s.start()
    for s in servers.values():
        s.up.wait()
        if s.failed:
            sys.exit(f"{s.name} does not come up: {s.failed}")
    return servers


# ---- what is wanted ----

def want(path):
    servers = start_all()
    out, need = {}, 0
    asked = [(name, i, p) for name in LOADS
             for i, p in enumerate(prompts(name))]
    for name in LOADS:
        out[name] = [None] * LOADS[name][1]

    def one(name, i, prompt):
        out[name][i] = Answer(servers[name], servers[name].lives, prompt,
                              LOADS[name][3])
    threads = [threading.Thread(target=one, args=a, daemon=True)
               for a in asked]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for name, answers in out.items():
        bad = [a.why for a in answers if a.why]
        if bad:
            sys.exit(f"{name}: {bad[0]}")
        pages = sum(-(-a.usage["total_tokens"] // PAGE_TOKENS)
                    for a in answers)
        need += pages * LOADS[name][4] << 10
        print(f"figure: {name}, alone with all memory: p99 "
              f"{percentile(gaps(answers, 0, 1e99), .99) * 1e3:.0f} ms "
              f"between tokens")
    status = [s.end() for s in servers.values()]
    say("servers that were not disturbed end well", status == [0, 0], status)
    with open(path, "w") as f:
        json.dump({"need": need, "texts": {
            name: [a.text for a in answers]
            for name, answers in out.items()}}, f)


# ---- kills ----

class Load:
    """Each client asks its request again and again."""

    def __init__(self, servers):
        self.servers = servers
        self.done = []
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.clients = [threading.Thread(target=self.client, daemon=True,
                                         args=(name, i, p))
                        for name in servers
                        for i, p in enumerate(prompts(name))]

    def client(self, name, i, prompt):
        server, tokens = self.servers[name], LOADS[name][3]
        while not self.stop.is_set() and not server.failed:
            life = server.lives
            if not server.up.wait(0.1) or server.lives != life:
                continue
            a = Answer(server, life, prompt, tokens)
            a.client = i
            with self.lock:
                self.done.append(a)
            if a.why:
                time.sleep(0.1)

    def of(self, name):
        with self.lock:
            return [a for a in self.done if a.server.name == name]

    def rounds(self, name, since):
        """How often its slowest client has been answered since then."""
        nr = [0] * LOADS[name][1]
        for a in self.of(name):
            nr[a.client] += not a.why and a.ended >= since
        return min(nr)


def until(fn, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = fn()
        if got:
            return got
        time.sleep(0.02)
    return fn()


def child_of(keeper):
    """The kvmd that a keeper has started; None: there is none now."""
    for d in os.listdir("/proc"):
        try:
            if not d.isdigit():
                continue
            with open(f"/proc/{d}/stat") as f:
                state, parent = f.read().rsplit(")", 1)[1].split()[:2]
            if parent == str(keeper) and state != "Z":
                return int(d)
        except OSError:
            pass
    return None


class Killer:
    def __init__(self, servers, keeper, seed):
        self.servers, self.keeper = servers, keeper
        self.rnd = random.Random(seed)
        self.nr = dict.fromkeys(["kvmd", *servers], 0)
        self.last = dict.fromkeys(servers, 0.0)

    def kvmd(self):
        """Now and then its successor too, while that takes over."""
        for _ in range(self.rnd.choice((1, 1, 2))):
            pid = until(lambda: child_of(self.keeper), 10)
            if not pid:
                return
            os.kill(pid, signal.SIGKILL)  # not reaped: the keeper's
            self.nr["kvmd"] += 1
            time.sleep(self.rnd.uniform(0, 0.08))

    def server(self, name):
        s = self.servers[name]
        s.kill()
        self.nr[name] += 1
        time.sleep(self.rnd.uniform(0, 1))
        s.start()

    def run(self, nr):
        """Of six kills four are kvmd's."""
        names = list(self.servers)
        bag = [self.kvmd] * (nr - nr // 3) + [
            lambda n=names[i % len(names)]: self.server(n)
            for i in range(nr // 3)]
        self.rnd.shuffle(bag)
        for kill in bag:
            time.sleep(self.rnd.uniform(0.1, 2.5))
            kill()
            self.last = dict.fromkeys(self.servers, time.monotonic())


def back_after(answers, last, p99):
    """Seconds after the last kill from which on p99 is twice that at most."""
    times = sorted((b - last, b - a) for r in answers
                   for a, b in zip(r.times, r.times[1:]) if b >= last)
    for i, (t, _) in enumerate(times):
        if percentile([g for _, g in times[i:]], .99) <= 2 * p99:
            return t
    return None


def judge(load, wanted, first, last, end):
    for name, texts in wanted.items():
        got = load.of(name)
        whole = [a for a in got if not a.why]
        cut = [a for a in got if a.why and a.killed]
        say(f"{name}: no request fails but those of a server that is killed",
            len(whole) + len(cut) == len(got),
            [a.why for a in got if a.why and not a.killed][:2])
        other = [(a.text, texts[a.client]) for a in whole
                 if a.text != texts[a.client]]
        say(f"{name}: each of {len(whole)} answers is the undisturbed one",
            whole and not other, other[:1])
        other = [(a.text, texts[a.client]) for a in cut
                 if not texts[a.client].startswith(a.text)]
        say(f"{name}: what {len(cut)} had said that were cut is its beginning",
            not other, other[:1])
        before = percentile(gaps(got, 0, first), .99)
        after = percentile(gaps(got, last, end), .99)
        back = back_after(got, last, before)
        print(f"figure: {name}: p99 {before * 1e3:.0f} ms between tokens "
              f"before the first kill, {after * 1e3:.0f} ms after the last "
              f"one, at most twice that before from "
              f"{'never' if back is None else f'{back:.1f} s'} on; "
              f"{len(whole)} answers, {len(cut)} cut")


def kills(path, keeper, nr, seed):
    with open(path) as f:
        wanted = json.load(f)["texts"]
    servers = start_all()
    load = Load(servers)
    for t in load.clients:
        t.start()
    begun = time.monotonic()
    say("both answer before the first kill", until(
        lambda: time.monotonic() > begun + CALM_S and
        all(load.of(n) for n in servers), LAST_S))
    first = time.monotonic()
    killer = Killer(servers, int(keeper), seed)
    killer.run(int(nr))
    last = time.monotonic()
    with open(path + ".killed", "w") as f:
        print(killer.nr["kvmd"], file=f)
    say("every client is answered after the last kill", until(
        lambda: any(s.failed for s in servers.values()) or
        all(load.rounds(n, last) for n in servers), LAST_S),
        {n: load.rounds(n, last) for n in servers})
    end = time.monotonic()
    load.stop.set()
    for t in load.clients:
        t.join(LAST_S)
    say("nobody waits for an answer that does not come",
        not any(t.is_alive() for t in load.clients))
    say("servers that are started again come up",
        not any(s.failed for s in servers.values()),
        [s.failed for s in servers.values()])
    judge(load, wanted, first, last, end)
    status = [s.end() for s in servers.values()]
    say("the servers end well", status == [0, 0], status)
    print(f"figure: {killer.nr} kills in {last - first:.0f} s, seed {seed}")


def ended(*_):
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, ended)
    {"want": want, "kills": kills}[sys.argv[1]](*sys.argv[2:])
