# SPDX-License-Identifier: MIT
"""compare.py CHECK KVRUN MODEL - one differential check, silent if it holds.

    classes    unicode_tab.h against the classes of `tokenizers`
    reference  the ids of selftests/data/tokenize.json
    qwen       random texts against `tokenizers`
    gemma      random texts against `sentencepiece` and `tokenizers`
    roundtrip  detokenize(tokenize(text)) is text

SEED and NR in the environment replay or extend the random ones.
"""
import json
import os
import re
import subprocess
import sys
import time

from gguf_vocab import (CONTROL, MARK, NORMAL, USER, Vocab,
                        sentencepiece_model)
from texts import texts

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = int(os.environ.get("SEED") or time.time() * 1000)
NR = int(os.environ.get("NR") or 5000)
PRE_QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
             r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def kvrun(cmd, model, lines, *options):
    r = subprocess.run([KVRUN, cmd, "-m", model, "--batch", *options],
                       input="".join(s + "\n" for s in lines).encode(),
                       stdout=subprocess.PIPE, check=True)
    return [json.loads(s) for s in r.stdout.decode().split("\n")[:-1]]


def ours(model, cases, *options):
    got = kvrun("tokenize", model, [json.dumps(t) for t in cases], *options)
    assert len(got) == len(cases)
    return [g["ids"] for g in got]


def report(name, cases, got, want):
    """Both lists agree, or the shortest texts where they do not."""
    bad = [(t, g, w) for t, g, w in zip(cases, got, want) if g != w]
    print("%s: %d of %d texts agree, SEED=%d NR=%d" %
          (name, len(cases) - len(bad), len(cases), SEED, NR))
    for t, g, w in sorted(bad, key=lambda b: len(b[0]))[:5]:
        print("  text %s\n  ours %s\n  want %s" % (ascii(t), g, w))
    return not bad


def check_classes():
    from tokenizers import Regex, pre_tokenizers
    with open(os.path.join(HERE, "../../../runtime/model/unicode_tab.h")) as f:
        tab = f.read()
    good = True
    every = "".join(chr(c) for c in range(0x110000)
                    if not 0xd800 <= c < 0xe000)
    for name, rx in (("letters", r"\p{L}"), ("numbers", r"\p{N}"),
                     ("spaces", r"\s")):
        body = tab.split("unicode_%s[]" % name)[1].split("};")[0]
        have = set()
        for lo, hi in re.findall(r"(0x[0-9a-f]+), (0x[0-9a-f]+)", body):
            have.update(range(int(lo, 16), int(hi, 16) + 1))
        split = pre_tokenizers.Split(Regex(rx), "removed")
        rest = {ord(c) for s, _ in split.pre_tokenize_str(every) for c in s}
        want = {ord(c) for c in every} - rest
        if have != want:
            good = False
            print("%s: differ at %s" %
                  (name, [hex(c) for c in sorted(have ^ want)[:10]]))
    return good


def check_reference():
    with open(os.path.join(HERE, "../../data/tokenize.json")) as f:
        cases = json.load(f)[os.environ["REFERENCE"]]
    texts_ = [c["text"] for c in cases]
    return all([
        report("special", texts_, ours(MODEL, texts_),
               [c["special"] for c in cases]),
        report("plain", texts_, ours(MODEL, texts_, "--no-special"),
               [c["plain"] for c in cases])])


def build_hf(v, bpe, special):
    from tokenizers import AddedToken, Tokenizer
    t = Tokenizer(bpe)
    kinds = (USER, CONTROL) if special else (USER,)
    add = [AddedToken(s, normalized=False) for s in v.of(*kinds)]
    t.add_tokens(add)
    return t


def encode_hf(t, cases):
    return [e.ids for e in t.encode_batch(cases, add_special_tokens=False)]


def check_qwen():
    from tokenizers import Regex, models, pre_tokenizers
    v = Vocab(MODEL)
    vocab = {t: i for i, t in enumerate(v.tokens)}
    cases = texts(SEED, NR)
    good = True
    for special in (True, False):
        t = build_hf(v, models.BPE(vocab=vocab, merges=v.merges), special)
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(PRE_QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False,
                                     use_regex=False)])
        good &= report("tokenizers, special %d" % special, cases,
                       ours(MODEL, cases,
                            *([] if special else ["--no-special"])),
                       encode_hf(t, cases))
    return good


def scored_merges(v):
    """Every split of a token into two tokens, best score first; what
    SentencePiece does without a list, as the list that `tokenizers` wants."""
    known = {t: i for i, (t, c) in enumerate(zip(v.tokens, v.types))
             if c == NORMAL}
    out = []
    for tok, i in known.items():
        for cut in range(1, len(tok)):
            left, right = known.get(tok[:cut]), known.get(tok[cut:])
            if left is not None and right is not None:
                out.append((-v.scores[i], left, right, tok[:cut], tok[cut:]))
    out.sort()
    return [(l, r) for _, _, _, l, r in out]


def check_gemma():
    import sentencepiece
    from tokenizers import models, normalizers
    v = Vocab(MODEL)
    cases = texts(SEED, NR)
    good = True
    vocab = {t: i for i, t in enumerate(v.tokens)}
    bpe = dict(vocab=vocab, merges=scored_merges(v), byte_fallback=True,
               fuse_unk=True, unk_token="<unk>")
    for special in (True, False):
        got = ours(MODEL, cases, *([] if special else ["--no-special"]))
        assert all(g[0] == v.bos for g in got)
        got = [g[1:] for g in got]
        sp = sentencepiece.SentencePieceProcessor(
            model_proto=sentencepiece_model(v, special))
        want = sp.encode(cases)
        good &= report("sentencepiece, special %d" % special, cases, got, want)

        # `tokenizers` looks for user tokens before spaces become marks, so
        # a mark in the text is not a space to it as it is to the other.
        t = build_hf(v, models.BPE(**bpe), special)
        t.normalizer = normalizers.Replace(" ", MARK)
        judged = [i for i in range(len(cases)) if MARK not in cases[i]]
        part = [cases[i] for i in judged]
        good &= report("tokenizers, special %d" % special, part,
                       [got[i] for i in judged], encode_hf(t, part))
    return good


def check_roundtrip():
    # A literal U+2581 is a space for SentencePiece.
    cases = [t.replace(MARK, "_") for t in texts(SEED + 1, NR)]
    good = True
    for options in ([], ["--no-special"]):
        ids = ours(MODEL, cases, *options)
        back = kvrun("detokenize", MODEL,
                     [" ".join(map(str, i)) for i in ids])
        good &= report("round trip %s" % options, cases,
                       [b["text"] for b in back], cases)
    return good


if __name__ == "__main__":
    check, KVRUN, MODEL = sys.argv[1:]
    sys.exit(not globals()["check_" + check]())
