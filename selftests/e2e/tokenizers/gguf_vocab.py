# SPDX-License-Identifier: MIT
"""The vocabulary of a GGUF file, rebuilt for two other tokenizers.

A reader of its own, so that a mistake in ours cannot hide itself.
"""
import mmap
import struct

NORMAL, UNKNOWN, CONTROL, USER = range(1, 5)
MARK = "\u2581"

FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?",
         10: "Q", 11: "q", 12: "d"}


class Reader:
    def __init__(self, path):
        with open(path, "rb") as f:
            self.data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
        self.pos = 4

    def take(self, fmt):
        v = struct.unpack_from("<" + fmt, self.data, self.pos)
        self.pos += struct.calcsize("<" + fmt)
        return v

    def string(self):
        n, = self.take("Q")
        self.pos += n
        return self.data[self.pos - n:self.pos]

    def value(self, kind):
        if kind == 8:
            return self.string()
        if kind != 9:
            return self.take(FIXED[kind])[0]
        elem, n = self.take("IQ")
        if elem in FIXED:
            return self.take("%d%s" % (n, FIXED[elem]))
        return [self.value(elem) for _ in range(n)]


def metadata(path):
    r = Reader(path)
    _, _, nr = r.take("IQQ")
    kv = {}
    for _ in range(nr):
        key = r.string().decode()
        kv[key] = r.value(r.take("I")[0])
    return kv


class Vocab:
    def __init__(self, path):
        kv = metadata(path)
        get = lambda k, d=None: kv.get("tokenizer.ggml." + k, d)
        self.tokens = [t.decode("utf-8", "surrogateescape")
                       for t in get("tokens")]
        self.types = list(get("token_type"))
        self.scores = get("scores")
        self.merges = [tuple(m.decode().split(" "))
                       for m in get("merges", [])]
        self.bos = get("bos_token_id")
        self.add_bos = get("add_bos_token", False)

    def of(self, *types):
        return [t for t, c in zip(self.tokens, self.types) if c in types]


def field(number, wire, payload):
    return varint(number << 3 | wire) + payload


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def message(number, body):
    return field(number, 2, varint(len(body)) + body)


def sentencepiece_model(v, control_as_text):
    """A ModelProto. With control_as_text, control tokens are found in text:
    sentencepiece itself does that for user-defined pieces only. It wants one
    unknown piece, which is then one more."""
    out = []
    unk = len(v.tokens) if control_as_text else \
        v.types.index(UNKNOWN) if UNKNOWN in v.types else \
        v.tokens.index("<unk>")
    for i, (tok, kind, score) in enumerate(zip(v.tokens, v.types, v.scores)):
        if i == unk:
            kind = UNKNOWN
        elif kind == CONTROL and control_as_text:
            kind = USER
        if kind == USER:
            tok = tok.replace(" ", MARK)
        raw = tok.encode()
        out.append(message(1, message(1, raw) +
                           field(2, 5, struct.pack("<f", score)) +
                           field(3, 0, varint(kind))))
    if unk == len(v.tokens):
        out.append(message(1, message(1, b"\x01unknown") +
                           field(3, 0, varint(UNKNOWN))))
    trainer = field(3, 0, varint(2)) + field(35, 0, varint(1))  # BPE, bytes
    norm = (message(1, b"identity") + field(3, 0, varint(0)) +
            field(4, 0, varint(0)) + field(5, 0, varint(1)))
    return b"".join(out) + message(2, trainer) + message(3, norm)
