#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""serve_client.py - what serve.sh asks of a server

    serve_client.py PORT CASE [ARG]...

Prints "ok SENTENCE" or "not ok SENTENCE: what came" for each thing that has
to hold; serve.sh numbers them.
"""
import http.client
import json
import socket
import subprocess
import sys
import threading
import time

PORT = int(sys.argv[1])
ARGS = sys.argv[3:]


def say(sentence, holds, got=""):
    print(f"ok {sentence}" if holds else f"not ok {sentence}: {got!r}"[:400])


def ask(path, body=None, headers=None, port=PORT):
    """Status and JSON (or text) of an answer."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    raw = body if body is None or isinstance(body, bytes) \
        else json.dumps(body).encode()
    c.request("GET" if raw is None else "POST", path, raw, headers or {})
    r = c.getresponse()
    data = r.read()
    c.close()
    try:
        return r.status, json.loads(data), r
    except ValueError:
        return r.status, data.decode(errors="replace"), r


class Stream:
    """A stream of which one event after the other is read."""

    def __init__(self, body, path="/v1/completions", port=PORT, rcvbuf=0):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(30)
        self.sock.connect(("127.0.0.1", port))
        self.conn = http.client.HTTPConnection("127.0.0.1", port)
        self.conn.sock = self.sock
        self.conn.request("POST", path, json.dumps(dict(body, stream=True)))

    def open(self):
        self.answer = self.conn.getresponse()
        return self

    def event(self):
        """The next event's JSON, "[DONE]", or None at the end."""
        while True:
            line = self.answer.readline()
            if not line:
                return None
            if line.startswith(b"data: "):
                what = line[6:].strip()
                return "[DONE]" if what == b"[DONE]" else json.loads(what)

    def rest(self):
        events = []
        while True:
            e = self.event()
            if e is None:
                return events
            events.append(e)

    def hang_up(self):
        self.sock.close()
        self.conn.close()
        if hasattr(self, "answer"):
            self.answer.close()


def metric(name, label=""):
    text = ask("/metrics")[1]
    return sum(float(l.rsplit(" ", 1)[1]) for l in text.splitlines()
               if l.startswith(name + "{") and label in l)


def until(fn):
    """Soon, but no test is of how soon: what has to be cut short is counted."""
    end = time.time() + 20
    while time.time() < end:
        if fn():
            return True
        time.sleep(0.02)
    return bool(fn())


def aborted():
    return metric("vllm:request_success_total", 'finished_reason="abort"')


def kvctl(*args):
    return json.loads(subprocess.run(["kvctl", *args, "--json"],
                                     stdout=subprocess.PIPE,
                                     check=True).stdout)


def own_spaces():
    """With pages: an engine keeps an empty one to look for prefixes with."""
    return sum(s["pages"] + s["pages_swapped"] > 0
               for s in kvctl("space", "list")["spaces"])


def text_of(events):
    return "".join(c["text"] for e in events if isinstance(e, dict)
                   for c in e["choices"])


# ---- cases ----

def case_forms():
    s, models, _ = ask("/v1/models")
    m = models["data"][0]
    say("/v1/models has every key that clients index", s == 200 and set(m) == {
        "id", "object", "created", "owned_by", "root", "parent",
        "max_model_len"}, m)
    say("/health, /ping and /version answer",
        [ask(p)[0] for p in ("/health", "/ping", "/version")] == [200] * 3)
    s, t, _ = ask("/tokenize", {"prompt": "abc"})
    say("/tokenize in vLLM's dialect", t == {
        "tokens": [97, 98, 99], "count": 3, "max_model_len": 2048}, t)
    t = ask("/tokenize", {"content": "ab", "with_pieces": True})[1]
    say("and in llama's", t == {"tokens": [{"id": 97, "piece": "a"},
                                           {"id": 98, "piece": "b"}]}, t)
    t = ask("/detokenize", {"tokens": [97, 98]})[1]
    say("/detokenize answers in both", t == {"prompt": "ab", "content": "ab"}, t)

    body = {"prompt": "hello", "max_tokens": 24, "temperature": 0,
            "ignore_eos": True}
    s, whole, _ = ask("/v1/completions", body)
    c = whole["choices"][0]
    say("a completion has its form",
        whole["object"] == "text_completion" and whole["id"][:5] == "cmpl-"
        and c["finish_reason"] == "length" and c["index"] == 0
        and c["logprobs"] is None, whole)
    u = whole["usage"]
    say("usage counts tokens", (u["prompt_tokens"], u["completion_tokens"],
                                u["total_tokens"]) == (5, 24, 29), u)
    st = Stream(dict(body, stream_options={"include_usage": True})).open()
    say("a stream's type and cache rules", st.answer.getheader(
        "Content-Type").startswith("text/event-stream") and
        st.answer.getheader("Cache-Control") == "no-cache")
    ev = st.rest()
    say("a stream ends with [DONE]", ev[-1] == "[DONE]", ev[-1])
    say("the chunk before has usage and no choice",
        ev[-2]["choices"] == [] and ev[-2]["usage"]["completion_tokens"] == 24,
        ev[-2])
    say("a chunk per token", len(ev) == 26, len(ev))
    say("all of one id", len({e["id"] for e in ev[:-1]}) == 1)
    say("a stream says what the whole says", text_of(ev) == c["text"],
        (text_of(ev), c["text"]))
    say("usage is not sent unasked", all(e == "[DONE]" or e["choices"]
                                         for e in Stream(body).open().rest()))

    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5,
            "ignore_eos": True, "temperature": 0, "logprobs": True,
            "top_logprobs": 2}
    s, t, _ = ask("/v1/chat/completions", chat)
    m = t["choices"][0]["message"]
    say("a chat answer has its form", s == 200 and t["object"] ==
        "chat.completion" and m["role"] == "assistant" and "content" in m, t)
    lp = t["choices"][0]["logprobs"]["content"]
    say("with log-probabilities, the two likeliest of each",
        len(lp) == 5 and all(len(x["top_logprobs"]) == 2 and x["logprob"] <= 0
                             and x["top_logprobs"][0]["logprob"] ==
                             x["logprob"] for x in lp),
        [(x["logprob"], [y["logprob"] for y in x["top_logprobs"]]) for x in lp])
    ev = Stream(chat, "/v1/chat/completions").open().rest()
    say("the first chunk of a chat has the role, no other one does",
        ["role" in e["choices"][0]["delta"] for e in ev[:-1]] ==
        [True] + [False] * (len(ev) - 2))
    say("its chunks are the whole", "".join(
        e["choices"][0]["delta"]["content"] for e in ev[:-1]) == m["content"])
    parts = dict(chat, messages=[{"role": "user", "content": [
        {"type": "text", "text": "h"}, {"type": "text", "text": "i"}]}])
    say("parts of text are text", ask("/v1/chat/completions", parts)[1]
        ["choices"][0]["message"]["content"] == m["content"])

    s, t, _ = ask("/v1/completions", dict(body, logprobs=1, max_tokens=3))
    lp = t["choices"][0]["logprobs"]
    say("logprobs of a completion", [len(lp[k]) for k in (
        "tokens", "token_logprobs", "top_logprobs", "text_offset")] ==
        [3] * 4, lp)
    s, t, _ = ask("/v1/completions", dict(body, prompt=["hello", "you"], n=2))
    say("two prompts, two samples each: four choices in order",
        [c["index"] for c in t["choices"]] == [0, 1, 2, 3] and
        t["choices"][0]["text"] == t["choices"][1]["text"] == c["text"], t)
    ids = ask("/v1/completions", dict(body, prompt=[104, 101, 108, 108, 111]))[1]
    say("ids are a prompt like their text",
        ids["choices"][0]["text"] == c["text"])
    hot = dict(body, temperature=1.5, seed=7)
    one, two = (ask("/v1/completions", hot)[1]["choices"][0]["text"]
                for _ in range(2))
    say("a seed says the same twice", one == two, (one, two))
    other = ask("/v1/completions", dict(hot, seed=8))[1]["choices"][0]["text"]
    say("another seed something else", one != other)
    best = ask("/v1/completions", dict(hot, best_of=6, n=2, logprobs=0))[1]
    sums = [sum(c["logprobs"]["token_logprobs"]) for c in best["choices"]]
    say("of six the two likeliest, the likelier first", len(sums) == 2 and
        sums[0] >= sums[1] and best["usage"]["completion_tokens"] == 6 * 24,
        sums)
    stop_at = c["text"][6:9]
    t = ask("/v1/completions", dict(body, stop=["nope", stop_at]))[1]
    want = c["text"][:c["text"].index(stop_at)]
    say("a stop string ends the text before it",
        t["choices"][0]["text"] == want and
        t["choices"][0]["finish_reason"] == "stop", (t, want))
    say("in a stream too", text_of(Stream(dict(
        body, stop=[stop_at])).open().rest()) == want)
    banned = ask("/v1/completions", dict(body, logprobs=0, logit_bias={
        str(i): -100 for i in range(259) if i != 98}, max_tokens=4))[1]
    say("a bias leaves one token", banned["choices"][0]["text"] == "bbbb",
        banned)
    t = ask("/v1/completions", dict(body, stop_token_ids=list(range(64, 100)),
                                    logit_bias={"65": 100}))[1]
    say("a stop token ends it", (t["choices"][0]["finish_reason"],
                                 t["usage"]["completion_tokens"]) ==
        ("stop", 1), t)
    t = ask("/v1/completions", dict(body, stop_token_ids=[65], min_tokens=4,
                                    logit_bias={"65": 100}))[1]
    say("but not before min_tokens", t["usage"]["completion_tokens"] == 5, t)
    # so many that their last digits would differ if they were rounded
    # otherwise as an answer than as a prompt
    letters = ask("/v1/completions", dict(
        body, logprobs=2, max_tokens=120, logit_bias={
            str(i): -100 for i in range(259) if not 97 <= i < 123}))[1]
    c = letters["choices"][0]
    ids = [ord(x) for x in "hello" + c["text"]]
    echo = dict(body, prompt=ids, max_tokens=2, echo=True, logprobs=2)
    e = ask("/v1/completions", echo)[1]["choices"][0]
    lp = e["logprobs"]
    say("an echo with logprobs scores the prompt, but for its first token",
        len(lp["tokens"]) == 127 and
        lp["token_logprobs"][0] is lp["top_logprobs"][0] is None and
        lp["text_offset"][:126] == list(range(126)), lp)
    say("as the answer was scored that the prompt ends with", all(
        lp[k][5:125] == c["logprobs"][k] for k in
        ("tokens", "token_logprobs", "top_logprobs")), (lp, c))
    e2 = Stream(dict(echo, n=2)).open().rest()[:-1]
    first = [x["choices"][0] for x in e2]
    say("in each stream of samples too", all(
        next(x for x in first if x["index"] == i)["logprobs"]
        ["token_logprobs"][:126] == lp["token_logprobs"][:126]
        for i in range(2)), first)
    only = dict(echo, max_tokens=0)
    e = ask("/v1/completions", only)[1]
    say("an echo of no more tokens is the prompt and its scores",
        e["choices"][0]["text"] == "hello" + c["text"] and
        e["choices"][0]["finish_reason"] == "length" and
        e["usage"]["completion_tokens"] == 0 and
        all(e["choices"][0]["logprobs"][k] == lp[k][:125] for k in
            ("token_logprobs", "top_logprobs", "text_offset")), e)
    s = Stream(dict(only, stop=["x"])).open().rest()
    say("as a stream too", text_of(s) == "hello" + c["text"] and
        s[-1] == "[DONE]", s)
    text = "a\u00e4\u20ac\U0001f600b"
    e = ask("/v1/completions", dict(body, prompt=text, max_tokens=1,
                                    echo=True, logprobs=0))[1]["choices"][0]
    say("an offset counts characters of the text, also of an echo",
        e["text"][:5] == text and e["logprobs"]["text_offset"] ==
        [i for i, x in enumerate(text) for _ in x.encode()] + [5], e)
    cut = ask("/v1/completions", dict(body, logprobs=0, max_tokens=9,
                                      logit_bias={str(i): -100 for i in
                                                  range(259) if i != 0xc3}))
    e = cut[1]["choices"][0]
    say("also of characters that are cut off", e["text"] == "\ufffd" * 9 and
        e["logprobs"]["text_offset"] == list(range(9)), e)
    e = ask("/v1/completions", dict(body, prompt="a\0b", echo=True))[1]
    say("an echo goes on behind a NUL",
        e["choices"][0]["text"].startswith("a\0b"), e)
    long = dict(body, prompt="salted " * 40)
    cached = [ask("/v1/completions", dict(long, **s))[1]["usage"]
              ["prompt_tokens_details"]["cached_tokens"] for s in (
                  {}, {"cache_salt": "s"}, {"cache_salt": "s"},
                  {"cache_salt": "t"}, {})]
    say("a prefix is found with the same salt, and with no other",
        [c > 200 for c in cached] == [False, False, True, False, True], cached)
    r = ask("/ping", headers={"X-Request-Id": "q-1"})[2]
    say("a request's id comes back", r.getheader("X-Request-Id") == "q-1")
    text = ask("/metrics")[1]
    lines = [l for l in text.splitlines() if l and l[0] != "#"]
    say("every line of /metrics is a series and a number",
        len(lines) > 100 and all(float(l.rsplit(" ", 1)[1]) >= 0
                                 for l in lines))


def refused(sentence, status, body, path="/v1/completions", **kw):
    s, t, r = ask(path, body, **kw)
    say(sentence, s == status and isinstance(t, dict) and
        set(t["error"]) == {"message", "type", "param", "code"}, (s, t))
    return r


MAX_BODY = 100000  # serve.sh's


def by_hand(head, body):
    c = socket.create_connection(("127.0.0.1", PORT))
    c.settimeout(60)
    c.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\n{head}\r\n"
              .encode() + body)
    return c


def read_to_end(c):
    """All that comes until the end of the connection."""
    got = b""
    try:
        while data := c.recv(4096):
            got += data
    except OSError as e:
        got += repr(e).encode()
    c.close()
    return got


def sent_by_hand(head, body):
    return read_to_end(by_hand(head, body))


def case_bad():
    ok = {"prompt": "a", "max_tokens": 1}
    refused("no JSON: 400", 400, b"{\"prompt\":")
    refused("no object: 400", 400, b"[1]")
    refused("no UTF-8: 400", 400, b"{\"prompt\":\"\xff\"}")
    refused("deep JSON: 400", 400, b"[" * 100000)
    refused("no prompt: 400", 400, {"max_tokens": 1})
    refused("a prompt of mixed kinds: 400", 400, {"prompt": ["a", 3]})
    refused("an id that is none: 400", 400, {"prompt": [1, 99999]})
    refused("an empty prompt: 400", 400, {"prompt": ""})
    r = ask("/v1/completions", {"prompt": "a" * 3000})
    say("a prompt longer than the context: 400, with both numbers",
        r[0] == 400 and "3000" in r[1]["error"]["message"] and
        "2048" in r[1]["error"]["message"], r[1])
    for key, v in (("temperature", -1), ("temperature", "hot"), ("top_p", 0),
                   ("n", 0), ("n", 1000), ("max_tokens", 0), ("stop", 3),
                   ("stop", [""]), ("logprobs", 99), ("seed", "x"),
                   ("logit_bias", {"x": 1}), ("stream", 1)):
        s, t, _ = ask("/v1/completions", dict(ok, **{key: v}))
        say(f"{key} {v!r}: 400, which names it",
            s == 400 and t["error"]["param"] == key, t)
    refused("an unknown model: 404", 404, dict(ok, model="gpt-9"))
    refused("an unknown path: 404", 404, ok, path="/v2/x")
    refused("another method: 405", 405, None, path="/v1/completions")
    s, t, _ = ask("/v1/completions", dict(ok, frobnicate={"a": [1]}, user="u"))
    say("an unknown key is no error", s == 200, t)
    refused("a chat without messages: 400", 400, {}, "/v1/chat/completions")
    refused("a role that is none: 400", 400, {"messages": [
        {"role": "witch", "content": "a"}]}, "/v1/chat/completions")
    refused("a body over the limit: 413", 413,
            {"prompt": "a" * 200000, "max_tokens": 1})
    refused("likewise when it waits for our leave", 413,
            json.dumps({"prompt": "a" * 200000}).encode(),
            headers={"Expect": "100-continue"})
    raw = json.dumps(ok).encode()
    for sentence, head, status in (
            ("two lengths", "Content-Length: 3\r\nContent-Length: "
             f"{len(raw)}\r\n", 400),
            ("two lengths, the first of them 0", "Content-Length: 0\r\n"
             f"Content-Length: {len(raw)}\r\n", 400),
            ("a length and chunks", "Transfer-Encoding: chunked\r\n"
             f"Content-Length: {len(raw)}\r\n", 400),
            ("an unknown coding", "Transfer-Encoding: gzip\r\n", 501)):
        got = sent_by_hand(head, raw)
        say(f"{sentence}: {status}, and the end of the connection",
            got.startswith(f"HTTP/1.1 {status} ".encode()) and
            got.count(b"HTTP/1.1") == 1 and got.endswith(b'"code":null}}'), got)
    for length, status in (("abc", 400), ("-5", 400), ("", 400), ("0x10", 400),
                           ("5, 5", 400), ("9" * 30, 413)):
        got = sent_by_hand(f"Content-Length: {length}\r\n", raw)
        head, _, rest = got.partition(b"\r\n\r\n")
        say(f"a Content-Length of {length!r}: {status}, said once, and the end "
            "of the connection", head.startswith(f"HTTP/1.1 {status} ".encode())
            and b"application/json" in head and got.count(b"HTTP/1.1") == 1 and
            f"Content-Length: {len(rest)}".encode() in head and
            "Content-Length" in json.loads(rest)["error"]["message"], got)
    crowd = [by_hand("Content-Length: x\r\n", b"") for _ in range(30)]
    got = [read_to_end(c) for c in crowd]
    say("thirty of them at a time are refused once each", all(
        g.startswith(b"HTTP/1.1 400 ") and g.count(b"HTTP/1.1") == 1
        for g in got), got[0])
    half = socket.create_connection(("127.0.0.1", PORT))
    half.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n")
    got = sent_by_hand("Content-Length: 0\r\n\r\nPOST /ping HTTP/1.1\r\n"
                       "Content-Length: 1e3\r\n", raw)
    say("of two requests at once the one with a bad length is refused for it",
        got.count(b"HTTP/1.1 400") == 2 and got.count(b"is no number") == 1,
        got)
    half.sendall(f"Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    half.settimeout(60)
    got = half.recv(4096)
    say("one that has come half is asked for the rest of what it says",
        b"more than one header" in got, got)
    half.close()
    slow = [by_hand(f"Content-Length: {MAX_BODY}\r\n", b" " * (MAX_BODY - 1))
            for _ in range(34)]
    say("more bodies at a time than are taken: 503", until(
        lambda: ask("/v1/completions", dict(ok, user="u" * 999))[0] == 503))
    for c in slow:
        c.close()
    say("they are gone: 200", until(
        lambda: ask("/v1/completions", ok)[0] == 200))
    for junk in (b"\0\1\2\r\n\r\n", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n"
                 b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nx"):
        c = socket.create_connection(("127.0.0.1", PORT))
        c.sendall(junk)
        c.shutdown(socket.SHUT_WR)
        c.settimeout(5)
        try:
            c.recv(4096)
        except OSError:
            pass
        c.close()
    say("the server goes on after bytes that are no HTTP",
        ask("/health")[0] == 200)


def case_key():
    ok = {"prompt": "a", "max_tokens": 1}
    for path in ("/v1/models", "/metrics", "/version", "/nothing"):
        refused(f"{path} without a key: 401", 401, None, path=path)
    refused("a wrong key: 401", 401, ok,
            headers={"Authorization": "Bearer secre"})
    s, _, _ = ask("/v1/completions", ok,
                  {"Authorization": "Bearer secret"})
    say("the right key is let in", s == 200, s)
    say("/health and /ping are open",
        (ask("/health")[0], ask("/ping")[0]) == (200, 200))


def case_crowd():
    """More clients that say nothing, or not all, than there is room for."""
    key = {"Authorization": "Bearer secret"}
    half = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
    crowd = []
    for i in range(150):
        c = socket.create_connection(("127.0.0.1", PORT))
        c.sendall((b"", half, half + b"\r\n{")[i % 3])
        crowd.append(c)
        if i % 50 == 49:
            say(f"beside {i + 1} of them a request is answered", ask(
                "/v1/completions", {"prompt": "a", "max_tokens": 1}, key)[0]
                == 200)
    crowd[0].settimeout(60)
    say("the one that was waited for longest made room",
        crowd[0].recv(1) == b"")
    for c in crowd:
        c.close()


def case_many():
    """16 at a time say what one says."""
    def body(i):
        return {"prompt": f"request {i}", "max_tokens": 40, "temperature": 0.8,
                "seed": i, "ignore_eos": True}
    alone = [ask("/v1/completions", body(i))[1]["choices"][0]["text"]
             for i in range(16)]
    got = [None] * 16

    def run(i):
        if i % 2:
            got[i] = text_of(Stream(body(i)).open().rest())
        else:
            got[i] = ask("/v1/completions", body(i))[1]["choices"][0]["text"]
    ts = [threading.Thread(target=run, args=(i,)) for i in range(16)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    say("16 at once, half of them streams, say what each says alone",
        got == alone, [(a, b) for a, b in zip(got, alone) if a != b][:1])
    say("no page is left", until(lambda: own_spaces() == 0), own_spaces())


def case_gone():
    """Clients leave their streams while an older connection is idle."""
    before, ends = metric("kv_server_connections"), aborted()
    idle = socket.create_connection(("127.0.0.1", PORT))
    say("a connection that asks nothing is open", until(
        lambda: metric("kv_server_connections") == before + 1))
    for i in range(6):
        st = Stream({"prompt": "gone", "max_tokens": 1900,
                     "ignore_eos": True}).open()
        st.event()
        st.hang_up()
    say("of streams whose clients left no connection stays open behind it",
        until(lambda: metric("kv_server_connections") <= before + 1),
        (metric("kv_server_connections"), before))
    say("none was computed to its end", until(lambda: aborted() == ends + 6),
        (aborted(), ends))
    for _ in range(20):
        by_hand("Content-Length: 100\r\n", b'{"pro').close()
    say("nor of those who left half a body", until(
        lambda: metric("kv_server_connections") <= before + 1),
        (metric("kv_server_connections"), before))
    say("and the older one is", ask("/health")[0] == 200 and
        idle.send(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n") > 0 and
        idle.recv(4096).startswith(b"HTTP/1.1 200"))
    idle.close()


def case_slow():
    """A client that reads nothing is ended, others are not held up."""
    long = {"prompt": "slow", "max_tokens": 1900, "temperature": 0,
            "ignore_eos": True, "logprobs": 5, "n": 2}
    st = Stream(long, rcvbuf=4096)
    say("a slow reader's stream is ended", until(
        lambda: metric("kv_server_slow_readers_total") == 1))
    say("and its pages are freed", until(lambda: own_spaces() == 0),
        own_spaces())
    say("it was not computed to its end", until(lambda: aborted() == 1),
        aborted())
    st.hang_up()
    say("the server goes on", ask("/v1/completions", {
        "prompt": "a", "max_tokens": 2})[0] == 200)


def case_queued():
    """With room for one sequence: the second waits, and its client goes."""
    long = {"prompt": "first", "max_tokens": 1900, "temperature": 0,
            "ignore_eos": True}
    a = Stream(long).open()
    a.event()
    b = Stream(dict(long, prompt="second"))
    say("the second waits", until(
        lambda: metric("vllm:num_requests_waiting") == 1))
    line = b.open().answer.readline()
    say("and is told now and then that it is not forgotten",
        line == b": ping\n", line)
    s, t, r = ask("/v1/completions", dict(long, n=1, prompt=["a", "b"]))
    say("more than the queue takes: 429 and Retry-After",
        s == 429 and r.getheader("Retry-After"), (s, t))
    b.hang_up()
    say("its client goes: nobody waits", until(
        lambda: metric("vllm:num_requests_waiting") == 0),
        metric("vllm:num_requests_waiting"))
    say("the first one goes on", metric("vllm:num_requests_running") == 1)
    a.hang_up()
    say("its client goes while it decodes: no page is left",
        until(lambda: own_spaces() == 0), own_spaces())
    say("nothing runs", until(
        lambda: metric("vllm:num_requests_running") == 0))
    a = Stream(long).open()
    a.event()
    order = []
    ts = [threading.Thread(target=lambda p=p: (ask("/v1/completions", dict(
        long, max_tokens=3, priority=p)), order.append(p))) for p in (5, -5)]
    for i, t in enumerate(ts):
        t.start()
        until(lambda: metric("vllm:num_requests_waiting") == i + 1)
    a.hang_up()
    for t in ts:
        t.join()
    say("of two that wait the one of lower priority comes first",
        order == [-5, 5], order)
    how = [metric("vllm:request_success_total", f'finished_reason="{r}"')
           for r in ("abort", "length", "stop")]
    say("those whose clients went are counted as aborted, the two others not",
        how == [3, 2, 0], how)
    say("and only the two have a latency",
        metric("vllm:e2e_request_latency_seconds_count") == 2)


def case_prefill():
    """In small chunks a long prompt takes a while."""
    before = metric("vllm:generation_tokens_total")
    a = Stream({"prompt": "x y " * 480, "max_tokens": 5})
    say("a prompt is being computed", until(lambda: own_spaces() == 1))
    a.hang_up()
    say("its client goes: no page is left", until(
        lambda: own_spaces() == 0), own_spaces())
    say("no token was made of it",
        metric("vllm:generation_tokens_total") == before)


def case_swapped():
    """Three sequences, memory for one: two of them are in swap."""
    long = {"max_tokens": 700, "temperature": 0, "ignore_eos": True}
    st = [Stream(dict(long, prompt=f"number {i}")) for i in range(3)]
    say("a request is paused, its pages in swap", until(
        lambda: metric("kv_engine_paused_total") >= 1 and
        metric("vllm:num_requests_waiting") >= 1))
    whole = metric("vllm:request_success_total", 'finished_reason="length"')
    for s in st:
        s.hang_up()
    say("all clients go: no page is left, on the device or in swap",
        until(lambda: own_spaces() == 0), own_spaces())
    say("nothing waits", until(
        lambda: metric("vllm:num_requests_waiting") == 0))
    say("none was computed to its end", until(lambda: aborted() == 3 - whole),
        (aborted(), whole))


def case_starved():
    """Somebody else sits on the memory: the request waits for it."""
    a = Stream({"prompt": "starved", "max_tokens": 250, "temperature": 0,
                "ignore_eos": True})
    say("a request waits for memory with a ticket", until(
        lambda: kvctl("status")["tickets"] == 1), kvctl("status"))
    b = Stream({"prompt": "queued"}).open()
    say("another one fills the queue",
        ask("/v1/completions", {"prompt": "c"})[0] == 429)
    b.hang_up()
    c = []
    say("its client goes: there is room before the wait ends", until(
        lambda: c.append(Stream({"prompt": "d"}).open()) or
        c[-1].answer.status == 200) and kvctl("status")["tickets"] == 1,
        [s.answer.status for s in c])
    for s in c:
        s.hang_up()
    say("those who came and went are counted, the wait goes on", until(
        lambda: aborted() == 2) and kvctl("status")["tickets"] == 1,
        aborted())
    a.hang_up()
    say("its client goes: the ticket is gone", until(
        lambda: kvctl("status")["tickets"] == 0), kvctl("status"))
    say("nothing waits", until(
        lambda: metric("vllm:num_requests_waiting") +
        metric("vllm:num_requests_running") == 0))
    say("they count as aborted", until(lambda: aborted() == 3), aborted())


def case_drain():
    """ARGS: the server's pid. What runs may end, what comes is refused."""
    import os
    import signal
    body = {"prompt": "drain", "max_tokens": 1000, "temperature": 0,
            "ignore_eos": True}
    st = Stream(body).open()
    st.event()
    os.kill(int(ARGS[0]), signal.SIGTERM)
    say("/health is 503 while it drains", until(
        lambda: ask("/health")[0] == 503))
    s, t, r = ask("/v1/completions", body)
    say("a request that comes then: 503", s == 503 and
        r.getheader("Retry-After"), (s, t))
    ev = st.rest()
    say("the one that runs ends well", len(ev) == 1000 and
        ev[-1] == "[DONE]" and
        ev[-2]["choices"][0]["finish_reason"] == "length", len(ev))


def case_text():
    """ARGS: prompt, tokens: the greedy text, for a comparison."""
    t = ask("/v1/completions", {"prompt": ARGS[0], "max_tokens": int(ARGS[1]),
                                "temperature": 0, "ignore_eos": True})[1]
    print(json.dumps({"text": t["choices"][0]["text"],
                      "cached": t["usage"]["prompt_tokens_details"]
                      ["cached_tokens"]}))


def case_lasting():
    """ARGS: tokens: a stream's text, to its end, whatever happens."""
    ev = Stream({"prompt": "hello", "max_tokens": int(ARGS[0]),
                 "temperature": 0, "ignore_eos": True}).open().rest()
    print(json.dumps({"text": text_of(ev), "end": ev[-1]}))


if __name__ == "__main__":
    globals()["case_" + sys.argv[2]]()
