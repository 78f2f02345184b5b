#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""bad_gguf.py - a tiny qwen2 model, and many that are wrong

    bad_gguf.py FOLDER FLIPS SEED
    bad_gguf.py --large FILE
    bad_gguf.py --chat FILE

The first writes FOLDER/good.gguf (one layer, random F32 weights, a byte vocabulary),
one file per way of being wrong in FOLDER/bad, and FLIPS copies of the good
one with a few bits turned over in FOLDER/flip. The name of a bad file is
WORD__WHAT.gguf: WORD has to appear in the sentence that refuses it, "_" in it
being any character. The second writes a right one whose pages are large:
512 KiB for 16 tokens, so that 256 tokens fill an extent. The third one can be
talked to besides: it has a chat template.
"""
import os
import random
import struct
import sys

U32, I32, F32, BOOL, STR, ARR, U64 = 4, 5, 6, 7, 8, 9, 10
DIM, HEAD, FFN, ALIGN = 64, 64, 64, 32


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(s)) + s


def value(kind, v):
    if kind == STR:
        return text(v)
    if kind == ARR:
        inner, items = v
        return struct.pack("<IQ", inner, len(items)) + b"".join(
            value(inner, i) for i in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<B",
                        U64: "<Q"}[kind], v)


def byte_names():
    names = []
    n = 0
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255:
            names.append(chr(b))
        else:
            names.append(chr(256 + n))
            n += 1
    return names


def keys():
    tokens = byte_names() + ["<|endoftext|>"]
    return [
        ("general.architecture", STR, "qwen2"),
        ("qwen2.block_count", U32, 1),
        ("qwen2.context_length", U32, 512),
        ("qwen2.embedding_length", U32, DIM),
        ("qwen2.feed_forward_length", U32, FFN),
        ("qwen2.attention.head_count", U32, 1),
        ("qwen2.attention.head_count_kv", U32, 1),
        ("qwen2.attention.layer_norm_rms_epsilon", F32, 1e-6),
        ("qwen2.rope.freq_base", F32, 10000.0),
        ("tokenizer.ggml.model", STR, "gpt2"),
        ("tokenizer.ggml.pre", STR, "qwen2"),
        ("tokenizer.ggml.tokens", ARR, (STR, tokens)),
        ("tokenizer.ggml.token_type", ARR, (I32, [1] * 256 + [3])),
        ("tokenizer.ggml.merges", ARR, (STR, ["h e", "l l"][:0])),
        ("tokenizer.ggml.eos_token_id", U32, 256),
    ]


def tensors():
    rnd = random.Random(1)
    out = []

    def add(name, *dims):
        nr = 1
        for d in dims:
            nr *= d
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        out.append([name, list(dims), 0, struct.pack(
            f"<{nr}f", *[mean + rnd.gauss(0, 0.1) for _ in range(nr)])])

    add("token_embd.weight", DIM, 257)
    add("output_norm.weight", DIM)
    for t in ("attn_norm", "ffn_norm"):
        add(f"blk.0.{t}.weight", DIM)
    for t in "qkv":
        add(f"blk.0.attn_{t}.weight", DIM, HEAD)
        add(f"blk.0.attn_{t}.bias", HEAD)
    add("blk.0.attn_output.weight", HEAD, DIM)
    add("blk.0.ffn_gate.weight", DIM, FFN)
    add("blk.0.ffn_up.weight", DIM, FFN)
    add("blk.0.ffn_down.weight", FFN, DIM)
    return out


def build(ks, ts, magic=b"GGUF", version=3, nr_t=None, nr_k=None, shift=0):
    out = magic + struct.pack("<IQQ", version, len(ts) if nr_t is None else
                              nr_t, len(ks) if nr_k is None else nr_k)
    for name, kind, v in ks:
        out += text(name) + struct.pack("<I", kind)
        out += v if isinstance(v, bytes) and kind != STR else value(kind, v)
    data = b""
    for name, dims, kind, raw in ts:
        out += text(name) + struct.pack("<I", len(dims))
        out += b"".join(struct.pack("<Q", d & (2 ** 64 - 1)) for d in dims)
        out += struct.pack("<IQ", kind, (len(data) + shift) & (2 ** 64 - 1))
        data += raw + b"\0" * (-len(raw) % ALIGN)
    return out + b"\0" * (-len(out) % ALIGN) + data


def with_key(name, kind, v):
    return [k for k in keys() if k[0] != name] + [(name, kind, v)]


def without(name):
    return [k for k in keys() if k[0] != name]


def with_tensor(index, field, v):
    ts = tensors()
    ts[index][field] = v
    return ts


def bad_files(good):
    k, t = keys(), tensors()
    yield "mamba7__architecture", build(
        with_key("general.architecture", STR, "mamba7"), t)
    yield "general.architecture__none", build(
        without("general.architecture"), t)
    yield "wordpiece__tokenizer", build(
        with_key("tokenizer.ggml.model", STR, "wordpiece"), t)
    yield "klingon__pre_tokenizer", build(
        with_key("tokenizer.ggml.pre", STR, "klingon"), t)
    yield "token_embd.weight__type_of_tensor", build(
        k, with_tensor(0, 2, 77))
    yield "token_embd.weight__unsupported_type", build(
        k, with_tensor(0, 2, 16))
    yield "token_embd.weight__huge_shape", build(
        k, with_tensor(0, 1, [2 ** 63, 2]))
    yield "token_embd.weight__product_wraps", build(
        k, with_tensor(0, 1, [2 ** 32, 2 ** 32]))
    yield "__offset_past_the_end", build(k, t, shift=1 << 40)
    yield "__offset_wraps", build(k, t, shift=-32)
    yield "blk.0.ffn_down.weight__missing_tensor", build(k, t[:-1])
    yield "__no_tensor", build(k, [])
    yield "__more_tensors_than_there_are", build(k, t, nr_t=2 ** 62)
    yield "__more_keys_than_there_are", build(k, t, nr_k=2 ** 62)
    yield "__other_magic", build(k, t, magic=b"GGML")
    yield "version__99", build(k, t, version=99)
    yield "version__1", build(k, t, version=1)
    yield "tokenizer.ggml.tokens__length_of_an_array", build(with_key(
        "tokenizer.ggml.tokens", ARR,
        struct.pack("<IQ", STR, 2 ** 61)), t)
    yield "__length_of_a_string", build(
        with_key("x", STR, "")[:-1] + [("x", U32, 0)], t).replace(
            text("general.architecture"),
            struct.pack("<Q", 2 ** 63 - 8) + b"general.architecture", 1)
    yield "__array_of_arrays", build(k + [(
        "deep", ARR, b"".join(struct.pack("<IQ", ARR, 1)
                              for _ in range(20000)))], t)
    yield "block_count__million_layers", build(
        with_key("qwen2.block_count", U32, 2 ** 31), t)
    yield "head_count__no_heads", build(
        with_key("qwen2.attention.head_count", U32, 0), t)
    yield "head_count__many_heads", build(
        with_key("qwen2.attention.head_count", U32, 2 ** 31), t)
    yield "context_length__no_context", build(
        with_key("qwen2.context_length", U32, 0), t)
    yield "token__two_tokens_for_a_name", build(with_key(
        "tokenizer.ggml.tokens", ARR, (STR, ["a"] * 257)), t)
    yield "token__more_tokens_than_rows", build(with_key(
        "tokenizer.ggml.tokens", ARR,
        (STR, byte_names() + [f"t{i}" for i in range(9)])), t)
    yield "eos__id_out_of_range", build(
        with_key("tokenizer.ggml.eos_token_id", U32, 2 ** 31), t)
    yield "__empty", b""
    for part in (3, 30, 300, len(good) // 2, len(good) - 1):
        yield f"__first_{part}_bytes", good[:part]


def large(chat=False):
    """16 layers of 8 heads; the weights repeat, to be made in no time."""
    tokens = byte_names() + ["<|endoftext|>"]
    marks = ["<|im_start|>", "<|im_end|>"] if chat else []
    template = "{% for m in messages %}<|im_start|>...<|im_end|>{% endfor %}"
    own = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type")
    ks = [k for k in keys() if not k[0].startswith("qwen2.") and
          k[0] not in own] + [
        (own[0], ARR, (STR, tokens + marks)),
        (own[1], ARR, (I32, [1] * 256 + [3] * (1 + len(marks)))),
        *([("tokenizer.chat_template", STR, template)] if chat else []),
        ("qwen2.block_count", U32, 16),
        ("qwen2.context_length", U32, 2048),
        ("qwen2.embedding_length", U32, DIM),
        ("qwen2.attention.key_length", U32, HEAD),
        ("qwen2.attention.value_length", U32, HEAD),
        ("qwen2.feed_forward_length", U32, FFN),
        ("qwen2.attention.head_count", U32, 8),
        ("qwen2.attention.head_count_kv", U32, 8),
        ("qwen2.attention.layer_norm_rms_epsilon", F32, 1e-6),
        ("qwen2.rope.freq_base", F32, 10000.0)]
    rnd = random.Random(2)
    some = struct.pack("<4099f", *[rnd.gauss(0, 0.05) for _ in range(4099)])
    ts = []

    def add(name, *dims):
        nr = 4
        for d in dims:
            nr *= d
        ts.append([name, list(dims), 0,
                   struct.pack("<f", 1.0) * (nr // 4) if "norm" in name
                   else (some * (nr // len(some) + 1))[:nr]])

    add("token_embd.weight", DIM, 257 + len(marks))
    add("output_norm.weight", DIM)
    for i in range(16):
        for t in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{t}.weight", DIM)
        for t in "qkv":
            add(f"blk.{i}.attn_{t}.weight", DIM, 8 * HEAD)
            add(f"blk.{i}.attn_{t}.bias", 8 * HEAD)
        add(f"blk.{i}.attn_output.weight", 8 * HEAD, DIM)
        add(f"blk.{i}.ffn_gate.weight", DIM, FFN)
        add(f"blk.{i}.ffn_up.weight", DIM, FFN)
        add(f"blk.{i}.ffn_down.weight", FFN, DIM)
    return build(ks, ts)


def main(argv):
    if argv[1] in ("--large", "--chat"):
        with open(argv[2], "wb") as f:
            f.write(large(argv[1] == "--chat"))
        return
    top, flips, seed = argv[1], int(argv[2]), int(argv[3])
    good = build(keys(), tensors())
    for d in ("bad", "flip"):
        os.makedirs(f"{top}/{d}")
    with open(f"{top}/good.gguf", "wb") as f:
        f.write(good)
    for name, data in bad_files(good):
        with open(f"{top}/bad/{name}.gguf", "wb") as f:
            f.write(data)
    rnd = random.Random(seed)
    head = good.index(b"<|endoftext|>") + 2000
    for i in range(flips):
        data = bytearray(good)
        for _ in range(rnd.choice((1, 1, 2, 8))):
            # most of them where the structure is, not the weights
            at = rnd.randrange(head if rnd.random() < 0.9 else len(data))
            data[at] ^= 1 << rnd.randrange(8)
        with open(f"{top}/flip/{i:03}.gguf", "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main(sys.argv)
