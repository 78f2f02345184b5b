#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""reference.py MODEL KEY NR - kvrun against the fp32 reference, NR tokens a text

Prints one line per check: "ok SENTENCE" or "no SENTENCE", and figures as
comments. selftests/data/reference.json holds, per model, texts with the
log-probability of each token and greedy continuations with the margin of
each choice, evaluated in fp32 from the same weights.
"""
import json
import os
import subprocess
import sys
import tempfile

MEAN_MAX = 0.02  # nat per token
MARGIN = 0.1  # below this the reference's choice is no promise


def kvrun(command, model, args):
    done = subprocess.run(
        ["kvrun", command, "-m", model] + args, stdout=subprocess.PIPE,
        check=True)
    return json.loads(done.stdout)


def score(model, ids):
    with tempfile.NamedTemporaryFile("w", dir=os.environ["T"]) as f:
        f.write(" ".join(map(str, ids)))
        f.flush()
        return kvrun("score", model,
                     ["--ids-file", f.name, "--json", "--best"])


def say(good, sentence):
    print("ok" if good else "no", sentence, flush=True)


def check_text(model, text, nr):
    want = text["lp"][:nr - 1]
    lp = score(model, text["ids"][:nr])["lp"]
    diff = [abs(a - b) for a, b in zip(lp, want)]
    mean = sum(diff) / len(diff)
    print("# %s: mean |difference| %.5f, largest %.3f nat over %d tokens"
          % (text["name"], mean, max(diff), len(diff)))
    say(len(lp) == len(want) and mean <= MEAN_MAX,
        "the text %s scores within %g nat per token" % (text["name"], MEAN_MAX))


def check_forced(model, greedy):
    wrong, nr, low = [], 0, 0.0
    for g in greedy:
        best = score(model, g["ids"] + g["out"])["best"]
        best = best[len(g["ids"]) - 1:]
        for i, want in enumerate(g["out"]):
            nr += 1
            if best[i] == want:
                continue
            low = max(low, g["margin"][i])
            if g["margin"][i] > MARGIN:
                wrong.append("%r token %d" % (g["prompt"][:20], i))
    print("# %d tokens fed, largest margin where the choice differs: %.4f nat"
          % (nr, low))
    say(not wrong, "fed with the reference's ids the best token is its own "
        "wherever the margin is over %g nat %s" % (MARGIN, wrong or ""))


def check_free(model, greedy):
    wrong, whole = [], 0
    for g in greedy:
        out = kvrun("generate", model,
                    ["--prompt-ids", ",".join(map(str, g["ids"])), "-n",
                     str(len(g["out"])), "--temp", "0", "--ignore-eos",
                     "--json"])["sequences"][0]["ids"]
        for i, want in enumerate(g["out"]):
            if g["margin"][i] <= MARGIN:
                # from here on both are right
                whole += out == g["out"]
                break
            if out[i] != want:
                wrong.append("%r token %d" % (g["prompt"][:20], i))
                break
        else:
            whole += 1
    print("# %d of %d free continuations are equal throughout"
          % (whole, len(greedy)))
    say(not wrong, "free greedy output is equal up to the first smaller "
        "margin %s" % (wrong or ""))


def main():
    model, key, nr = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open("selftests/data/reference.json", encoding="utf-8") as f:
        ref = json.load(f)[key]
    for text in ref["texts"]:
        check_text(model, text, nr)
    check_forced(model, ref["greedy"])
    check_free(model, ref["greedy"])


main()
