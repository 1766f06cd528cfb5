#!/usr/bin/env python3
"""The fixture of GGML's quantizers: values, and the blocks that ggml's reference makes of them.

    python tools/oracles/ops_quantizers.py LIBGGML crates/dacapo-ops/fixtures/quantizers.safetensors

LIBGGML is ggml's own library, `libggml-base.so`, which is part of llama-cpp-python. Needs gguf, numpy, safetensors.
Where gguf-py has a quantizer too, its blocks are taken: it rounds once where ggml may or may not, as it was compiled.

    w          F32 [12, 256]   the values: normal ones, and rows that are hard
    NAME       U8              the blocks of each format
"""
import ctypes
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

FORMATS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "MXFP4"]


def values():
    rng = np.random.default_rng(4)
    w = rng.standard_normal((12, 256))
    w[1] *= 0.02
    w[2, :64] = 0
    w[2, 96:112] = 0
    w[3] = 0
    w[4] = np.abs(w[4])
    w[5] = -np.abs(w[5]) * 0.1
    w[6] = rng.standard_t(2, 256)
    w[7] *= 10.0 ** rng.uniform(-6, 1, 256)
    w[8] = np.repeat(rng.standard_normal(16), 16)
    w[9] *= np.repeat(10.0 ** rng.uniform(-4, 0, 16), 16)
    w[10] = rng.integers(-3, 4, 256) * 0.25
    w[11] *= 1e-7
    return w.astype(np.float32)


def reference(library, kind, w):
    out = np.zeros(w.size * 4, np.uint8)
    pointer = lambda a: a.ctypes.data_as(ctypes.c_void_p)
    count = library.ggml_quantize_chunk(kind.value, pointer(w), pointer(out), ctypes.c_int64(0),
                                        ctypes.c_int64(len(w)), ctypes.c_int64(w.shape[1]), None)
    return out[:count].copy()


def main():
    library = ctypes.CDLL(sys.argv[1])
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    out = {"w": values()}
    for name in FORMATS:
        kind = Type[name]
        out[name] = reference(library, kind, out["w"])
        try:
            python = gguf.quants.quantize(out["w"], kind).reshape(-1)
        except NotImplementedError:
            continue
        differ = int((python != out[name]).sum())
        assert differ <= 4, (name, differ)
        out[name] = python
    save_file({name: np.ascontiguousarray(a) for name, a in out.items()}, sys.argv[2])


if __name__ == "__main__":
    main()
