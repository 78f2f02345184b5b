# SPDX-License-Identifier: MIT
"""compare.py TYPE DUMP - random blocks of a type: DUMP's values and gguf's"""
import subprocess
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES
from gguf.quants import dequantize

# Where a block's half-precision scales lie.
SCALES = {"Q4_0": [0], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "F16": [0], "F32": [], "BF16": []}

name, dump = sys.argv[1:]
kind = GGMLQuantizationType[name]
size = GGML_QUANT_SIZES[kind][1]
rng = np.random.default_rng(20261123)
blocks = rng.integers(0, 256, (4000, size), dtype=np.uint8)
for at in SCALES[name]:
    half = rng.normal(0, 0.01, len(blocks)).astype(np.float16)
    blocks[:, at:at + 2] = half.view(np.uint8).reshape(-1, 2)
if name in ("F32", "BF16"):
    value = rng.normal(0, 1, len(blocks)).astype(np.float32)
    blocks = value.view(np.uint8).reshape(-1, 4)[:, 4 - size:].copy()
flat = blocks.reshape(1, -1)
if name == "F32":
    want = flat.view(np.float32).ravel()
elif name == "F16":
    want = flat.view(np.float16).astype(np.float32).ravel()
else:
    want = dequantize(flat, kind).ravel()
out = subprocess.run([dump, str(int(kind)), str(flat.size)], check=True,
                     input=flat.tobytes(), capture_output=True).stdout
got = np.frombuffer(out, np.float32)
wrong = np.count_nonzero(got != want)
print(f"{name}: {wrong} of {want.size} values differ")
sys.exit(wrong != 0)
