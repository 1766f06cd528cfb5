#!/usr/bin/env python3
"""Makes crates/dacapo-ops/tests/data/ops_basic.safetensors: inputs and expected results of the operations other than
matrix products.

    python tools/oracles/ops_basic.py [--seed 1] [--out FILE]

Needs numpy, mlx, torch and transformers. Expected values are computed in double precision with numpy; where MLX has the
operation, its result must lie within the tolerance too, or the script fails. Rotary frequencies come from transformers.

Tensors are named CASE/in.NAME, CASE/ref, CASE/tol (elementwise limit of |result - ref|). The file's metadata has, for each
CASE, a JSON object with `op` and its parameters.
"""
import argparse
import json
import math
import os
import struct

import mlx.core as mx
import mlx.nn as nn
import numpy as np

UNIT = 2.0**-24


class Fixture:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.tensors, self.meta = {}, {}

    def randn(self, *shape, scale=1.0):
        return (self.rng.standard_normal(shape) * scale).astype(np.float32)

    def case(self, name, op, params, inputs, ref, tol, mlx=None):
        ref = np.asarray(ref, np.float64)
        tol = np.broadcast_to(np.asarray(tol, np.float64), ref.shape) + UNIT * np.abs(ref) + 1e-37
        if mlx is not None:
            worst = (np.abs(np.asarray(mlx, np.float64) - ref) / tol).max()
            assert worst <= 1, f"{name}: MLX is off by {worst:.2f} of the tolerance"
        self.meta[name] = json.dumps({"op": op, **params}, sort_keys=True)
        for key, value in inputs.items():
            self.tensors[f"{name}/in.{key}"] = np.asarray(value)
        self.tensors[f"{name}/ref"] = ref.astype(np.float32)
        self.tensors[f"{name}/tol"] = tol.astype(np.float32)

    def save(self, path):
        kinds = {"float32": "F32", "uint32": "U32"}
        head, blobs, offset = {"__metadata__": self.meta}, [], 0
        for name, value in sorted(self.tensors.items()):
            raw = np.ascontiguousarray(value).tobytes()
            head[name] = {
                "dtype": kinds[value.dtype.name],
                "shape": list(value.shape),
                "data_offsets": [offset, offset + len(raw)],
            }
            blobs.append(raw)
            offset += len(raw)
        text = json.dumps(head, sort_keys=True).encode()
        text += b" " * (-len(text) % 8)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def norms(f):
    for dim, scale, weighted in ((64, 1.0, True), (96, 1.0, False), (129, 300.0, True), (40, 1e-4, True)):
        x, w = f.randn(3, dim, scale=scale), f.randn(dim)
        x64, w64 = x.astype(np.float64), w.astype(np.float64)
        eps = float(np.float32(1e-6))
        ref = x64 / np.sqrt((x64**2).mean(-1, keepdims=True) + eps) * (w64 if weighted else 1)
        y = mx.fast.rms_norm(mx.array(x), mx.array(w) if weighted else None, eps)
        inputs = {"x": x, **({"weight": w} if weighted else {})}
        f.case(f"rms_norm_{dim}", "rms_norm", {"eps": eps}, inputs, ref, 16 * UNIT * np.abs(ref), y)
    for dim, offset, biased in ((64, 0.0, True), (100, 3.0, False)):
        x, w, b = f.randn(3, dim) + np.float32(offset), f.randn(dim), f.randn(dim)
        x64 = x.astype(np.float64)
        eps = float(np.float32(1e-5))
        centred = x64 - x64.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
        ref = centred / deviation * w + (b if biased else 0)
        y = mx.fast.layer_norm(mx.array(x), mx.array(w), mx.array(b) if biased else None, eps)
        tol = 16 * UNIT * (np.abs(ref) + np.abs(w) * (1 + np.abs(x64).max() / deviation) + np.abs(b))
        inputs = {"x": x, "weight": w, **({"bias": b} if biased else {})}
        f.case(f"layer_norm_{dim}", "layer_norm", {"eps": eps}, inputs, ref, tol, y)


def rope(f):
    cases = (
        ("neox", False, 32, 32, 0, 1e4, 5),
        ("interleaved", True, 32, 32, 0, 1e4, 5),
        ("neox_partial", False, 48, 32, 77, 1e4, 3),
        ("interleaved_partial", True, 48, 32, 77, 1e4, 3),
        ("neox_far", False, 64, 64, 100_000, 1e6, 2),
        ("interleaved_far", True, 64, 64, 30_000, 5e5, 2),
    )
    for name, interleaved, dim, dims, offset, base, tokens in cases:
        x = f.randn(tokens, 3, dim)
        half = dims // 2
        inv = (1.0 / base ** (np.arange(half) * 2 / dims)).astype(np.float32)
        position = (np.arange(tokens) + offset).astype(np.float32)
        # The angle as models have it: in single precision.
        angle = (position[:, None] * inv).astype(np.float64)[:, None, :]
        cos, sin = np.cos(angle), np.sin(angle)
        ref = x.astype(np.float64)
        first, second = (slice(0, dims, 2), slice(1, dims, 2)) if interleaved else (slice(0, half), slice(half, dims))
        a, b = ref[..., first].copy(), ref[..., second].copy()
        ref[..., first], ref[..., second] = a * cos - b * sin, a * sin + b * cos
        y = mx.fast.rope(
            mx.array(x.transpose(1, 0, 2)[None]), dims, traditional=interleaved, base=None, scale=1.0, offset=offset,
            freqs=mx.array(1.0 / inv.astype(np.float64)).astype(mx.float32),
        )
        # MLX has other roundings of the angle; its result bounds ours only where the angle is small.
        y = np.asarray(y[0]).transpose(1, 0, 2) if offset < 1000 else None
        tol = 8 * UNIT * np.abs(x).max() * (1 + (float(np.abs(angle).max()) if y is not None else 0))
        f.case(f"rope_{name}", "rope", {"interleaved": interleaved, "offset": offset}, {"x": x, "inv_freq": inv}, ref, tol, y)


def frequencies(f):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    llama3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    yarn = {"factor": 4.0, "original_max_position_embeddings": 4096}
    cases = (
        ("default", "default", 1e4, 64, {}),
        ("default_1e6", "default", 1e6, 128, {}),
        ("linear", "linear", 1e4, 64, {"factor": 2.5}),
        ("llama3", "llama3", 5e5, 128, llama3),
        ("llama3_factor32", "llama3", 5e5, 64, {**llama3, "factor": 32.0}),
        ("yarn", "yarn", 1e6, 128, yarn),
        ("yarn_betas", "yarn", 1.5e5, 64, {**yarn, "factor": 32.0, "beta_fast": 16.0, "beta_slow": 2.0, "truncate": False}),
        ("yarn_mscale", "yarn", 1e4, 64, {**yarn, "factor": 40.0, "mscale": 0.707, "mscale_all_dim": 1.0}),
        ("yarn_given", "yarn", 1e4, 64, {**yarn, "attention_factor": 1.25}),
    )
    for name, kind, theta, dims, scaling in cases:
        config = LlamaConfig(
            hidden_size=dims * 2, num_attention_heads=2, head_dim=dims, max_position_embeddings=131072,
            rope_parameters={"rope_type": kind, "rope_theta": theta, **scaling},
        )
        if kind == "default":
            inv, attention = 1.0 / theta ** (np.arange(0, dims, 2) / dims), 1.0
        else:
            inv, attention = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
            inv = inv.double().numpy()
        ref = np.append(inv, attention)
        f.case(f"frequencies_{name}", "frequencies", {"kind": kind, "theta": theta, "dims": dims, **scaling}, {}, ref, 6 * UNIT * ref)


def attention(f):
    cases = (
        ("full", 4, 2, 5, 9, 32, 32, {"causal": False}),
        ("causal", 6, 2, 7, 7, 32, 32, {}),
        ("decode", 8, 2, 1, 77, 32, 32, {}),
        ("chunk", 4, 4, 7, 30, 40, 40, {}),
        ("window_sinks", 4, 2, 14, 14, 32, 32, {"window": 6, "sinks": True}),
        ("decode_window", 4, 2, 1, 90, 16, 16, {"window": 70}),
        ("decode_sinks", 4, 2, 1, 33, 32, 32, {"sinks": True}),
        ("value_dim", 3, 3, 5, 5, 48, 32, {}),
        ("softcap", 4, 2, 6, 70, 16, 16, {"softcap": 5.0}),
        ("decode_softcap", 2, 1, 1, 70, 16, 16, {"softcap": 5.0}),
    )
    for name, heads, kv_heads, tokens, length, dim, value_dim, options in cases:
        q, k, v = f.randn(tokens, heads, dim), f.randn(kv_heads, length, dim), f.randn(kv_heads, length, value_dim)
        # What a half can hold, so that caches of both types hold the same.
        k, v = (a.astype(np.float16).astype(np.float32) for a in (k, v))
        scale = float(np.float32(dim**-0.5))
        causal, window, softcap = options.get("causal", True), options.get("window"), options.get("softcap")
        sinks = f.randn(heads) if options.get("sinks") else None
        group = heads // kv_heads
        q64, k64, v64 = q.transpose(1, 0, 2).astype(np.float64), *(a.astype(np.float64).repeat(group, 0) for a in (k, v))
        scores = q64 @ k64.transpose(0, 2, 1) * scale
        if softcap:
            scores = softcap * np.tanh(scores / softcap)
        own, at = np.arange(tokens)[:, None] + length - tokens, np.arange(length)[None]
        mask = np.ones((tokens, length), bool)
        if causal:
            mask &= at <= own
        if window:
            mask &= own - at < window
        scores = np.where(mask, scores, -np.inf)
        extra = np.full((heads, tokens, 1), -np.inf) if sinks is None else np.broadcast_to(sinks[:, None, None], (heads, tokens, 1))
        top = np.maximum(scores.max(-1, keepdims=True), extra)
        weights = np.exp(scores - top)
        weights /= weights.sum(-1, keepdims=True) + np.exp(extra - top)
        ref = (weights @ v64).transpose(1, 0, 2)
        tol = (weights @ np.abs(v64)).transpose(1, 0, 2) * (32 + 4 * math.sqrt(dim) * np.abs(scores[np.isfinite(scores)]).max()) * UNIT
        y = None
        if not softcap:
            y = mx.fast.scaled_dot_product_attention(
                mx.array(q.transpose(1, 0, 2)[None]), mx.array(k[None]), mx.array(v[None]), scale=scale,
                mask=mx.array(mask), sinks=None if sinks is None else mx.array(sinks),
            )
            y = np.asarray(y[0]).transpose(1, 0, 2)
        inputs = {"q": q, "k": k, "v": v, **({"sinks": sinks} if sinks is not None else {})}
        params = {"scale": scale, "causal": causal, "window": window, "softcap": softcap}
        f.case(f"attention_{name}", "attention", params, inputs, ref, tol, y)


def elementwise(f):
    x = np.concatenate([f.randn(120, scale=3), np.array([0, -0.0, 1e-6, -1e-6, 20, -20, 60, -60, 8, -8, 3.5], np.float32)])
    up = f.randn(*x.shape, scale=2)
    x64 = x.astype(np.float64)
    erf = np.array([math.erf(v / math.sqrt(2)) for v in x64])
    tanh = np.tanh(math.sqrt(2 / math.pi) * (x64 + 0.044715 * x64**3))
    functions = {
        "silu": (x64 / (1 + np.exp(-x64)), nn.silu),
        "gelu": (x64 * (1 + erf) / 2, nn.gelu),
        "gelu_tanh": (x64 * (1 + tanh) / 2, nn.gelu_approx),
    }
    for name, (ref, mlx) in functions.items():
        y = np.asarray(mlx(mx.array(x)))
        f.case(f"activate_{name}", "activate", {"function": name}, {"x": x}, ref, 8 * UNIT * np.abs(x64), y)
        tol = 8 * UNIT * np.abs(x64 * up)
        f.case(f"gated_{name}", "gated", {"function": name}, {"x": x, "up": up}, ref * up, tol, y * up)
    for cap in (30.0, 50.0):
        y = mx.tanh(mx.array(x) / cap) * cap
        f.case(f"softcap_{cap:g}", "softcap", {"cap": cap}, {"x": x}, cap * np.tanh(x64 / cap), 8 * UNIT * np.abs(x64), y)
    for scale in (1.0, 0.3):
        z = f.randn(3, 85, scale=6)
        e = z.astype(np.float64) * float(np.float32(scale))
        e = np.exp(e - e.max(-1, keepdims=True))
        ref = e / e.sum(-1, keepdims=True)
        y = mx.softmax(mx.array(z) * scale, -1, precise=True)
        f.case(f"softmax_{scale:g}", "softmax", {"scale": scale}, {"x": z}, ref, 40 * UNIT * ref + 1e-12, y)
    z = f.randn(5, 40)
    z[0, 7] = z[0, 31] = 9.0
    z[1] = 0
    z[2, 39] = 50
    f.case("argmax", "argmax", {}, {"x": z}, z.argmax(-1), 0, mx.argmax(mx.array(z), -1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default=os.path.join(root, "crates/dacapo-ops/tests/data/ops_basic.safetensors"))
    options = parser.parse_args()
    fixture = Fixture(options.seed)
    for part in (norms, rope, frequencies, attention, elementwise):
        part(fixture)
    fixture.save(options.out)


if __name__ == "__main__":
    main()
