#!/usr/bin/env python3
"""Fixtures of the quantized formats: bytes made by MLX and gguf-py, and what they mean.

    python tools/oracles/ops_quant.py crates/dacapo-ops/fixtures/quant.safetensors

Needs mlx, gguf, numpy, safetensors. Tensors, for each format F (named as `Format::name` does):

    x          F32 [3, 256]   activations, the same for all formats
    F/codes    U8             GGML blocks, or MLX codes, 4 rows of 256 values
    F/scales   U8             MLX: raw bytes of the scales; likewise F/biases
    F/deq      F32 [4, 256]   values of the weights
    F/y        F64 [3, 4]     x W^T in f64
    F/w        F32 [4, 256]   only where our quantizer must give exactly F/codes: the values it starts from
"""
import sys

import gguf
import mlx.core as mx
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import save_file

N, K, T = 4, 256, 3
F16_AT = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0],
          "IQ4_NL": [0], "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": []}
FLOATS = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


def raw(array):
    """The bytes of an MLX array, whatever its type."""
    return np.frombuffer(bytes(memoryview(array.view(mx.uint8))), np.uint8).copy()


def add(out, name, codes, deq, x):
    out[f"{name}/codes"] = codes
    out[f"{name}/deq"] = deq.astype(np.float32)
    out[f"{name}/y"] = x.astype(np.float64) @ deq.astype(np.float64).T


def ggml(out, rng, x):
    for name, offsets in F16_AT.items():
        kind = Type[name]
        length, size = gguf.GGML_QUANT_SIZES[kind]
        if name in ("Q4_0", "Q8_0"):
            w = (rng.standard_normal((N, K)) * 0.7).astype(np.float32)
            w[0, :32] = 0
            w[1, 32:64] *= 1e-6
            out[f"{name}/w"] = w
            codes = gguf.quants.quantize(w, kind)
        else:
            codes = rng.integers(0, 256, (N * K // length, size), dtype=np.uint8)
            for at in offsets:
                d = rng.uniform(0.002, 0.08, len(codes)) * rng.choice([-1, 1], len(codes))
                d[0] = 3e-6  # subnormal
                codes[:, at:at + 2] = d.astype(np.float16).reshape(-1, 1).view(np.uint8)
            if name == "MXFP4":
                codes[:, 0] = rng.integers(100, 125, len(codes))
                codes[:2, 0] = 0, 1  # subnormal
            codes = codes.reshape(N, -1)
        add(out, name, codes, gguf.quants.dequantize(codes, kind), x)


def affine(out, rng, x):
    for i, bits in enumerate([2, 3, 4, 5, 6, 8]):
        for j, group in enumerate([32, 64, 128]):
            float_name = list(FLOATS)[(i + j) % 3]
            name = f"affine{bits}-g{group}-{float_name}"
            w = (rng.standard_normal((N, K)) * 0.7).astype(np.float32)
            w[0, :group] = 0
            w[1, :group] = np.abs(w[1, :group])
            w[2, :group] = -np.abs(w[2, :group])
            values = mx.array(w).astype(FLOATS[float_name])
            out[f"{name}/w"] = w = np.array(values.astype(mx.float32))
            packed, scales, biases = mx.quantize(values, group_size=group, bits=bits)
            out[f"{name}/scales"], out[f"{name}/biases"] = raw(scales), raw(biases)
            # The definition: one rounding for the product, one for the sum.
            s, b = (np.repeat(np.array(a.astype(mx.float32)), group, 1) for a in (scales, biases))
            stream = np.unpackbits(raw(packed).reshape(N, -1), axis=1, bitorder="little").reshape(N, K, bits)
            q = (stream << np.arange(bits)).sum(-1).astype(np.float32)
            deq = (s * q).astype(np.float32) + b
            theirs = mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32),
                                   group_size=group, bits=bits)
            assert np.abs(np.array(theirs) - deq).max() <= 1e-6 * np.abs(deq).max(), name
            add(out, name, raw(packed), deq, x)


def fp(out, rng, x):
    """MLX's small floats; its quantizer gives the bytes, the definition the values."""
    for mode in ["mxfp4", "mxfp8", "nvfp4"]:
        w = (rng.standard_normal((N, K)) * 0.7).astype(np.float32)
        w[0, :32] = 0
        w[1, 32:64] *= 1e-4
        packed, scales = mx.quantize(mx.array(w), mode=mode)
        deq = mx.dequantize(packed, scales, mode=mode).astype(mx.float32)
        out[f"{mode}/scales"] = raw(scales)
        add(out, mode, raw(packed), np.array(deq), x)


def fp8(out, rng, x):
    """8-bit floats as Hugging Face's files have them, with one scale for each square of 128, here of few bits."""
    codes = rng.integers(0, 256, (N, K), dtype=np.uint8)
    codes[codes & 0x7f == 0x7f] = 0
    scales = (rng.integers(1, 16, (1, K // 128)) / 64).astype(np.float32)
    values = np.array(mx.from_fp8(mx.array(codes), dtype=mx.float32))
    out["fp8-f32/scales"] = scales.view(np.uint8).reshape(-1)
    add(out, "fp8-f32", codes.reshape(-1), values * np.repeat(scales, 128, 1), x)


def main():
    rng = np.random.default_rng(1)
    out = {"x": rng.standard_normal((T, K)).astype(np.float32)}
    ggml(out, rng, out["x"])
    affine(out, rng, out["x"])
    fp(out, rng, out["x"])
    fp8(out, rng, out["x"])
    save_file({name: np.ascontiguousarray(a) for name, a in out.items()}, sys.argv[1])


if __name__ == "__main__":
    main()
