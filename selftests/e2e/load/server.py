#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""server.py - a server of the OpenAI kind whose pace is known

Usage: server.py PORT-FILE [OPTION=VALUE]...

It has no model: a token comes each `pace` seconds, the first one after
`first`, at most `slots` requests at a time, the others wait. What a prompt
begins with is looked for in what was asked before, so that cached tokens are
known too. With `mute` an answer is one token without text. `tail` is how
long the stream stays open behind the last token. Cached tokens are said with
`details` 2, where there are any with 1, and never with 0. It misbehaves on demand: `bad=KIND:EVERY` lets each EVERY-th
streamed request end in KIND. `GET /count` says what it saw, `GET
/set/OPTION=VALUE` sets an option and counts from zero.
"""
import asyncio
import json
import sys

opt = {"pace": 0.01, "first": 0.02, "slots": 64, "ids": 1, "usage": 1,
       "say_ids": 1, "bad": "", "per_word": 1.25, "added": 3, "split": 0,
       "mute": 0, "tail": 0.0, "details": 2}


def set_option(a):
    k, v = a.split("=", 1)
    opt[k] = v if k == "bad" else type(opt[k])(float(v))


for arg in sys.argv[2:]:
    set_option(arg)
seen = {"requests": 0, "streamed": 0, "connections": 0, "now": 0, "most": 0,
        "prompt_tokens": [], "output": [], "at": [], "headers": [],
        "prompts": []}
known = set()


def tokens_of(q):
    """The prompt as a list of comparable tokens."""
    if "messages" in q:
        text = "".join(f"<{m['role']}>{m['content']}" for m in q["messages"])
    else:
        text = q["prompt"]
    if isinstance(text, list):
        return text, len(text)
    words = text.split()
    return words, round(len(words) * opt["per_word"]) + opt["added"]


def cached(words, total):
    """How much of it was asked before, in blocks of 16."""
    hit = 0
    for end in range(16, len(words), 16):
        key = hash(tuple(words[:end]))
        if key in known:
            hit = end
        known.add(key)
    return min(total - 1, hit)


class Conn:
    def __init__(self, r, w):
        self.r, self.w = r, w
        self.chunked = True

    async def head(self, status, kind, length=None):
        h = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n"
        h += "Transfer-Encoding: chunked\r\n" if length is None else \
            f"Content-Length: {length}\r\n"
        self.w.write((h + "\r\n").encode())
        await self.w.drain()

    async def whole(self, status, v):
        body = json.dumps(v).encode()
        await self.head(status, "application/json", len(body))
        self.w.write(body)
        await self.w.drain()

    async def put(self, data):
        data = data.encode()
        frame = b"%x;ext=1\r\n%s\r\n" % (len(data), data)
        if opt["split"]:  # a byte a write
            for i in range(len(frame)):
                self.w.write(frame[i:i + 1])
                await self.w.drain()
        else:
            self.w.write(frame)
            await self.w.drain()

    async def event(self, v):
        await self.put("data: " + json.dumps(v) + "\n\n")

    async def end(self):
        self.w.write(b"0\r\n\r\n")
        await self.w.drain()


def choice(q, text, reason=None, ids=None):
    c = {"index": 0, "finish_reason": reason}
    if "messages" in q:
        c["delta"] = {"content": text}
    else:
        c["text"] = text
    if ids and q.get("return_token_ids") and opt["say_ids"]:
        c["token_ids"] = ids
    return {"id": "x", "choices": [c]}


async def bad_answer(c, q, kind):
    """Return True if the connection is done for."""
    if kind.isdigit():
        await c.whole(int(kind), {"error": {"message": f"told to say {kind}",
                                            "type": "t", "code": 1}})
        return False
    if kind == "reset":
        c.w.transport.abort()
        return True
    if kind == "garbage":
        c.w.write(b"SSH-2.0-nothing\r\n")
        await c.w.drain()
        return True
    if kind == "nostream":
        await c.whole(200, {"choices": []})
        return False
    await c.head(200, "text/event-stream; charset=utf-8")
    await c.event(choice(q, " one"))
    if kind == "cut":
        return True
    if kind == "json":
        await c.put("data: {\"choices\": [}\n\n")
    elif kind == "error":
        await c.event({"error": {"message": "out of\x07 pages"}})
    elif kind == "hang":
        await asyncio.sleep(30)
    await c.end()  # "short": it ends without a reason
    return False


async def stream(c, q, slots):
    words, total = tokens_of(q)
    seen["streamed"] += 1
    seen["at"].append(asyncio.get_running_loop().time())
    seen["prompt_tokens"].append(total)
    seen["output"].append(q["max_tokens"])
    if len(seen["prompts"]) < 1000:
        seen["prompts"].append(words)
    kind, _, every = opt["bad"].partition(":")
    if kind and seen["streamed"] % int(every) == 0:
        return await bad_answer(c, q, kind)
    seen["now"] += 1
    seen["most"] = max(seen["most"], seen["now"])
    async with slots:
        await c.head(200, "text/event-stream")
        await c.put(": waiting\n\n")
        await asyncio.sleep(opt["first"])
        if "messages" in q:
            await c.event({"choices": [{"index": 0, "delta": {
                "role": "assistant", "content": ""}}]})
        hit = cached(words, total)
        n = q["max_tokens"] if q.get("ignore_eos") else \
            min(q["max_tokens"], 5)
        if opt["mute"]:
            n = 1
            await c.event(choice(q, "", "stop"))
        for i in range(0 if opt["mute"] else n):
            if i:
                await asyncio.sleep(opt["pace"])
            # as many SSE line ends as there are
            await c.event(choice(q, f" w{i}", "length" if i == n - 1 else None,
                                 [40000 + i]))
        if opt["usage"]:
            u = {"prompt_tokens": total, "completion_tokens": n}
            if opt["details"] == 2 or opt["details"] and hit:
                u["prompt_tokens_details"] = {"cached_tokens": hit}
            await c.event({"choices": [], "usage": u})
        await asyncio.sleep(opt["tail"])
        await c.put("data: [DONE]\r\n\r\n")
        await c.end()
    seen["now"] -= 1
    return False


async def answer(c, method, path, body, slots):
    seen["requests"] += 1
    if path == "/v1/models":
        await c.whole(200, {"data": [{"id": "fake \"model\""}]})
    elif path == "/count":
        await c.whole(200, seen)
    elif path.startswith("/set/"):
        set_option(path[5:])
        seen["streamed"] = 0
        await c.whole(200, {})
    elif path == "/tokenize":
        words = json.loads(body)["content"].split()
        await c.whole(200, {"tokens": [1] * round(len(words) *
                                                  opt["per_word"])})
    elif path in ("/v1/completions", "/v1/chat/completions"):
        q = json.loads(body)
        if isinstance(q.get("prompt"), list) and not opt["ids"]:
            await c.whole(400, {"error": {"message": "a string, please"}})
        elif q.get("stream"):
            return await stream(c, q, slots)
        else:
            usage = {"usage": {"prompt_tokens": tokens_of(q)[1]}}
            one = choice(q, " w", "length", [40000])
            await c.whole(200, {**one, **(usage if opt["usage"] else {})})
    else:
        await c.whole(404, {"detail": "no " + path})
    return False


async def serve(r, w, slots):
    seen["connections"] += 1
    c = Conn(r, w)
    try:
        while True:
            head = await r.readuntil(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            method, path, _ = lines[0].split(" ")
            h = dict(x.split(": ", 1) for x in lines[1:] if x)
            if path != "/count":
                seen["headers"] = [f"{k}: {v}" for k, v in h.items()]
            body = await r.readexactly(int(h.get("Content-Length", 0)))
            if await answer(c, method, path, body, slots) or \
                    h.get("Connection") == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    w.close()


async def main():
    slots = asyncio.Semaphore(int(opt["slots"]))
    srv = await asyncio.start_server(lambda r, w: serve(r, w, slots),
                                     "127.0.0.1", 0, backlog=1024)
    port = srv.sockets[0].getsockname()[1]
    with open(sys.argv[1] + ".new", "w") as f:
        f.write(str(port))
    import os
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    await srv.serve_forever()

asyncio.run(main())
