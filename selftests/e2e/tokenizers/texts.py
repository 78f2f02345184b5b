# SPDX-License-Identifier: MIT
"""Random texts that are hard on tokenizers, from a seed."""
import random

SCRIPTS = [(0x21, 0x7e), (0x21, 0x7e), (0x61, 0x7a), (0xa1, 0x17f),
           (0x370, 0x3ff), (0x400, 0x4ff), (0x530, 0x58f), (0x590, 0x5ff),
           (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff),
           (0x1e00, 0x1eff), (0x3040, 0x30ff), (0x4e00, 0x9fff),
           (0xac00, 0xd7a3), (0xff00, 0xffef), (0x10400, 0x1044f),
           (0x1d400, 0x1d7ff), (0x20000, 0x2a6df)]
SPACES = list(" " * 12 + "\t\t\n\n\n\r") + \
    ["\r\n", "\u00a0", "\u1680", "\u2003", "\u200a", "\u2028", "\u2029",
     "\u202f", "\u205f", "\u3000", "\x0b", "\x0c", "\x85", "\u180e",
     "\u200b", "\u2060", "\ufeff"]
EMOJI = ["\U0001f642", "\U0001f44d\U0001f3fd", "\u2764\ufe0f",
         "\U0001f469\u200d\U0001f4bb", "\U0001f1e9\U0001f1ea",
         "\U0001f468\u200d\U0001f469\u200d\U0001f467", "1\ufe0f\u20e3",
         "\U0001f3f4\U000e0067\U000e0062\U000e007f"]
MARKS = ["\u0301", "\u0308", "\u0327", "\u20d7", "\u0e34", "\u093f",
         "\u064b", "\u200d", "\ufe0f", "\u0345"]
WORDS = """the of and to in is that for was on are with as his they at be this
    from have or by one had not but what all were when we there can an your
    which their said if do will each about how up out them then she many
    some so these would other into has more her two like him see time could
    Internationalization antidisestablishmentarianism getElementById
    self.assertEqual snake_case_name CamelCaseName __init__ printf("%d\\n")
    don't can't it's we're I'll you've he'd THEY'RE I'M DON'T o'clock 'tis
    rock'n'roll l'amour naïve café Straße ſtraße Ǆ ﬃ ½ ™ Ⅷ ²³ ①
    3.14159 1,000,000 0x1F600 12:30 2024-05-01 1e-9 +49-30-123456
    https://example.org/a?b=c&d=e#f user@example.com C:\\path\\to
    <div> </div> <b> </b> <h1> <table> </table> <code> && || != === ->
    Привет мир Γειά σου κόσμε مرحبا بالعالم שלום नमस्ते สวัสดี 你好世界
    こんにちは 안녕하세요 xin chào Việt""".split()
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>",
           "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>",
           "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<0x0A>",
           "<unused7>", "[multimodal]", "<|im_", "<start_of", "<<bos>",
           "<bos>>", "<|im_start|", "[PAD151665]", "<mask>",
           "<start_of_image>"]


def char(rng):
    while True:
        lo, hi = rng.choice(SCRIPTS) if rng.random() < .97 else (0, 0x10ffff)
        cp = rng.randint(lo, hi)
        if not 0xd800 <= cp < 0xe000:
            return chr(cp)


def piece(rng):
    kind = rng.random()
    if kind < .30:
        return rng.choice(WORDS)
    if kind < .52:
        return rng.choice(SPACES) * (1 if rng.random() < .7 else
                                     rng.randint(1, 40))
    if kind < .66:
        lo, hi = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(lo, hi))
                       for _ in range(rng.randint(1, 8)))
    if kind < .72:
        return "".join(char(rng) for _ in range(rng.randint(1, 6)))
    if kind < .77:
        return rng.choice(EMOJI)
    if kind < .81:
        return rng.choice("aeiouAn.ñ한ก") + rng.choice(MARKS) * \
            rng.randint(1, 3)
    if kind < .84:
        return chr(rng.choice([rng.randint(0, 0x1f), rng.randint(0x7f, 0x9f)]))
    if kind < .88:
        return rng.choice(SPECIAL)
    if kind < .92:
        return str(rng.randint(0, 10 ** rng.randint(1, 12)))
    if kind < .95:
        return rng.choice("aA0.-=_*#<>'\"!\u2581\u4e00\u0301") * \
            rng.randint(1, 70)
    if kind < .97:
        return "'" + rng.choice(["s", "T", "re", "VE", "m", "ll", "D", "Re",
                                 "\u017f", "lL", "r", "x", "\u212a"])
    return rng.choice(["\u2581", "\u2581 ", " \u2581", "\n \n", " \n", "\t ",
                       "\r\n\r\n", "\n\n "])


def texts(seed, nr):
    rng = random.Random(seed)
    out = [""]
    while len(out) < nr:
        glue = rng.choice(["", "", " "])
        out.append(glue.join(piece(rng)
                             for _ in range(rng.randint(1, 14))))
    return out
