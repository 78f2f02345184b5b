#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""client.py - the openai and prometheus_client packages against a server

    client.py URL CASE

Prints "ok SENTENCE" or "not ok SENTENCE: what came". Answers are read as
users of the package read them, and once more by its types, strictly: the
package itself passes over what is missing.
"""
import asyncio
import json
import subprocess
import sys
import time
import urllib.request

import openai
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from prometheus_client.parser import text_string_to_metric_families

URL = sys.argv[1]
client = openai.OpenAI(base_url=URL + "/v1", api_key="secret", max_retries=0,
                       timeout=30)
GREEDY = {"temperature": 0, "extra_body": {"ignore_eos": True}}
CHAT = [{"role": "user", "content": "hi"}]


def say(sentence, holds, got=""):
    print(f"ok {sentence}" if holds else f"not ok {sentence}: {got!r}"[:500],
          flush=True)


def until(fn):
    """Soon, but no test is of how soon: what has to be cut short is counted."""
    end = time.monotonic() + 20
    while time.monotonic() < end and not fn():
        time.sleep(0.02)
    return bool(fn())


def own_spaces():
    """With pages: an engine keeps an empty one to look for prefixes with."""
    out = subprocess.run(["kvctl", "--json", "space", "list"], check=True,
                         stdout=subprocess.PIPE).stdout
    return sum(s["pages"] + s["pages_swapped"] > 0
               for s in json.loads(out)["spaces"])


def metrics():
    """The families, by name, and the answer."""
    req = urllib.request.Request(URL + "/metrics", headers={
        "Authorization": "Bearer secret"})
    with urllib.request.urlopen(req) as r:
        return {f.name: f for f in
                text_string_to_metric_families(r.read().decode())}, r


def aborted():
    return sum(s.value for s in metrics()[0]["vllm:request_success"].samples
               if s.labels["finished_reason"] == "abort")


def strict(kind, raw):
    """Is it all that the type says it is?"""
    try:
        kind.model_validate(raw, strict=True)
        return ""
    except ValueError as e:
        return str(e)


def model():
    return client.models.list().data[0].id


def case_forms():
    models = client.models.list()
    say("models.list has the model", len(models.data) == 1 and
        models.data[0].object == "model", models)
    name = models.data[0].id
    say("models.retrieve too", client.models.retrieve(name).id == name)
    raw = client.models.with_raw_response.retrieve(name).text
    say("as its type says", not strict(Model, json.loads(raw)), raw)

    ask = dict(model=name, prompt="hello", max_tokens=16, **GREEDY)
    c = client.completions.create(**ask)
    text = c.choices[0].text
    say("a completion", len(text) > 0 and c.usage.prompt_tokens == 5 and
        c.usage.completion_tokens == 16 and
        c.choices[0].finish_reason == "length", c)
    raw = client.completions.with_raw_response.create(
        **ask, n=2, logprobs=2).text
    say("is what its type says, with samples and log-probabilities",
        not strict(Completion, json.loads(raw)), strict(
            Completion, json.loads(raw)))
    two = client.completions.create(**ask, n=2, logprobs=2)
    say("two samples, both greedy", [c.text for c in two.choices] ==
        [text, text], two)
    lp = two.choices[1].logprobs
    say("a log-probability for each token", len(lp.tokens) ==
        len(lp.token_logprobs) == len(lp.top_logprobs) == 16 and
        all(p <= 0 for p in lp.token_logprobs), lp)
    many = client.completions.create(**dict(ask, prompt=["hello", "hello"]))
    say("two prompts", [c.text for c in many.choices] == [text, text], many)
    stop = client.completions.create(**ask, stop=[text[5:8]])
    say("a stop string", stop.choices[0].finish_reason == "stop" and
        stop.choices[0].text == text[:text.index(text[5:8])], stop)
    echo = client.completions.create(**ask, echo=True)
    say("an echo", echo.choices[0].text == "hello" + text, echo)
    hot = dict(ask, temperature=1.3, seed=11, top_p=0.9,
               presence_penalty=0.1, frequency_penalty=0.1,
               logit_bias={"65": 1}, user="me")
    say("a seed says the same twice", client.completions.create(
        **hot).choices[0].text == client.completions.create(
            **hot).choices[0].text)
    parts = list(client.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}))
    say("a stream says what the whole says", "".join(
        c.choices[0].text for c in parts if c.choices) == text, parts[-1])
    say("and counts at its end", parts[-1].usage.total_tokens == 21 and
        not any(c.usage for c in parts[:-1]), parts[-1])


def case_chat():
    ask = dict(model=model(), messages=CHAT, max_completion_tokens=12,
               **GREEDY)
    c = client.chat.completions.create(**ask)
    m = c.choices[0].message
    say("a chat", m.role == "assistant" and m.content and
        c.usage.completion_tokens == 12, c)
    extras = dict(logprobs=True, top_logprobs=3, n=2)
    raw = client.chat.completions.with_raw_response.create(
        **ask, **extras).text
    say("is what its type says, with samples and log-probabilities",
        not strict(ChatCompletion, json.loads(raw)),
        strict(ChatCompletion, json.loads(raw)))
    two = client.chat.completions.create(**ask, **extras)
    say("two samples, both greedy",
        [x.message.content for x in two.choices] == [m.content] * 2, two)
    lp = two.choices[0].logprobs.content
    say("the three likeliest of each token, its bytes", len(lp) == 12 and
        all(len(t.top_logprobs) == 3 and
            bytes(t.bytes).decode(errors="replace") == t.token
            for t in lp), lp[:2])
    chunks = list(client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}))
    bad = [strict(ChatCompletionChunk, x.model_dump(exclude_unset=True))
           for x in chunks]
    say("each chunk is what its type says", not any(bad), max(bad))
    say("together they are the whole", "".join(
        x.choices[0].delta.content or "" for x in chunks if x.choices) ==
        m.content, chunks)
    say("with a reason and usage at the end",
        chunks[-2].choices[0].finish_reason == "length" and
        chunks[-1].usage.completion_tokens == 12, chunks[-2:])
    with client.chat.completions.stream(**ask) as s:
        kinds = {event.type for event in s}
        last = s.current_completion_snapshot
    say("the package's own reader of streams agrees",
        last.choices[0].message.content == m.content and
        {"chunk", "content.delta", "content.done"} <= kinds, (last, kinds))
    more = [{"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": "yes"},
            {"role": "developer", "content": "no"},
            {"role": "user", "content": "so?", "name": "ann"}]
    c = client.chat.completions.create(**dict(
        ask, messages=more), stop=None, tool_choice="none",
        response_format={"type": "text"}, store=False, metadata={"a": "b"},
        service_tier="auto", reasoning_effort="low")
    say("all roles, and keys that say nothing here",
        c.usage.completion_tokens == 12, c)


def refused(sentence, kind, fn, **want):
    try:
        fn()
        say(sentence, False, "nothing was raised")
    except openai.APIStatusError as e:
        got = {k: getattr(e, k) for k in want}
        say(sentence, type(e) is kind and got == want and e.message,
            (type(e), got, e.body))


def case_errors():
    name = model()
    complete, chat = client.completions.create, client.chat.completions.create
    refused("an unknown model: NotFoundError", openai.NotFoundError,
            lambda: complete(model="gpt-9", prompt="a"),
            code="model_not_found", param="model")
    refused("likewise when it is retrieved", openai.NotFoundError,
            lambda: client.models.retrieve("gpt-9"), code="model_not_found")
    refused("what is not there: NotFoundError", openai.NotFoundError,
            lambda: client.embeddings.create(model=name, input="a"))
    refused("a value that cannot be: BadRequestError",
            openai.BadRequestError,
            lambda: complete(model=name, prompt="a", temperature=-1),
            param="temperature", type="invalid_request_error")
    refused("a prompt that is too long: BadRequestError",
            openai.BadRequestError,
            lambda: chat(model=name, messages=[
                {"role": "user", "content": "a" * 5000}]),
            code="context_length_exceeded")
    refused("no message: BadRequestError", openai.BadRequestError,
            lambda: chat(model=name, messages=[]), param="messages")
    refused("a wrong key: AuthenticationError", openai.AuthenticationError,
            lambda: client.with_options(api_key="x").models.list(),
            code="invalid_api_key")


def case_busy():
    """The server has room for one sequence, and for one that waits."""
    name = model()
    long = dict(model=name, prompt="long", max_tokens=1500, stream=True,
                **GREEDY)
    first, second = (client.completions.create(**long) for _ in range(2))
    next(iter(first))
    refused("more than may wait: RateLimitError", openai.RateLimitError,
            lambda: client.completions.create(**long))
    say("two have pages or wait for them", own_spaces() == 1, own_spaces())
    second.close()
    first.close()
    say("streams that are closed hold nothing", until(
        lambda: own_spaces() == 0), own_spaces())
    try:
        client.with_options(timeout=0.5).completions.create(
            **dict(long, stream=False))
        say("a client that has waited enough: APITimeoutError", False)
    except openai.APITimeoutError:
        say("a client that has waited enough: APITimeoutError", True)
    say("and holds nothing either", until(lambda: own_spaces() == 0),
        own_spaces())
    with client.completions.create(**long) as stream:
        for _ in stream:
            break
    say("nor does one that leaves its loop", until(
        lambda: own_spaces() == 0), own_spaces())
    say("none of the four was computed to its end", until(
        lambda: aborted() == 4), aborted())


async def many():
    a = openai.AsyncOpenAI(base_url=URL + "/v1", api_key="secret",
                           max_retries=0, timeout=60)
    name = (await a.models.list()).data[0].id

    async def one(i):
        ask = dict(model=name, prompt=f"number {i}", max_tokens=20, **GREEDY)
        if i % 2:
            return (await a.completions.create(**ask)).choices[0].text
        s = await a.completions.create(**ask, stream=True)
        return "".join([c.choices[0].text async for c in s])
    alone = [await one(i) for i in range(8)]
    say("eight at a time, asynchronously, say what each says alone",
        await asyncio.gather(*map(one, range(8))) == alone)
    await a.close()


def case_async():
    asyncio.run(many())


def bad_histogram(f):
    """What is wrong with a histogram's series, or None."""
    buckets = [(float(s.labels["le"]), s.value) for s in f.samples
               if s.name.endswith("_bucket")]
    count = [s.value for s in f.samples if s.name.endswith("_count")]
    counts = [v for _, v in buckets]
    if buckets != sorted(buckets) or counts != sorted(counts):
        return f.name, buckets
    if buckets[-1] != (float("inf"), count[0]):
        return f.name, buckets[-1], count
    return None


def case_metrics():
    before, r = metrics()
    say("its type is the text format's", r.headers["Content-Type"] ==
        "text/plain; version=0.0.4; charset=utf-8", r.headers)
    kinds = {f.type for f in before.values()}
    say("each family has a type and a help", kinds == {
        "counter", "gauge", "histogram"} and
        all(f.documentation for f in before.values()), kinds)
    bad = [b for b in (bad_histogram(f) for f in before.values()
                       if f.type == "histogram") if b]
    say("buckets rise to the count", not bad, bad)
    series = [(s.name, tuple(sorted(s.labels.items())))
              for f in before.values() for s in f.samples]
    say("no series is there twice", len(series) == len(set(series)) and
        len(series) > 200, len(series))
    client.completions.create(model=model(), prompt="count", max_tokens=7,
                              **GREEDY)
    after = metrics()[0]

    def grown(family, name=None):
        return sum(s.value * (1 if f is after else -1)
                   for f in (after, before) for s in f[family].samples
                   if s.name == (name or s.name))
    say("a request adds its tokens", (
        grown("vllm:prompt_tokens"), grown("vllm:generation_tokens")) ==
        (5, 7), after["vllm:generation_tokens"])
    say("and one to each histogram of requests", grown(
        "vllm:e2e_request_latency_seconds",
        "vllm:e2e_request_latency_seconds_count") == 1)
    say("of its answers it counts this one", any(
        s.labels.get("handler") == "/v1/completions" and
        s.labels["status"] == "2xx" for s in
        after["http_requests"].samples), after["http_requests"])


if __name__ == "__main__":
    globals()["case_" + sys.argv[2]]()
