"""MLX folders for the whole-model fixtures: conversion and logits by mlx-lm, and an exact dequantization of our own."""

import json
import shutil
from pathlib import Path
from unittest import mock

import mlx.core as mx
import mlx_lm
import mlx_lm.utils
import numpy as np
import torch
from mlx_lm.models.cache import make_prompt_cache

import models_delta

KNOWN = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "smollm3", "granite", "qwen3_5_text", "qwen3_5_moe_text", "olmo3",
         "mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "qwen3_next")
"""The families that mlx-lm runs; Qwen3-Next only with experts."""
OVERRIDES = {"embed_tokens": (6, 64), "lm_head": (8, 32), "q_proj": (5, 64), "k_proj": (2, 32), "v_proj": (6, 64), "o_proj": (3, 32),
             "down_proj": (2, 64)}


def mixed(path, _module):
    """Bits and group by the kind of a layer; the first output projection is not quantized."""
    last = path.split(".")[-1]
    if path.endswith("layers.0.self_attn.o_proj"):
        return False
    if last not in OVERRIDES:
        return True
    bits, group = OVERRIDES[last]
    return {"bits": bits, "group_size": group, "mode": "affine"}


def split(count):
    """A replacement for mlx-lm's sharding, which cuts at gigabytes only."""
    def shards(weights, *_):
        names = list(weights)
        size = -(-len(names) // count)
        return [{n: weights[n] for n in names[i:i + size]} for i in range(0, len(names), size)]
    return shards


def convert(source, folder, spec):
    """Quantizes the folder `source` into `folder` with mlx-lm's converter."""
    target = Path(folder) / "converted"
    with mock.patch.object(mlx_lm.utils, "make_shards", split(spec["shards"])):
        mlx_lm.convert(source, str(target), quantize=True, q_bits=spec["bits"], q_group_size=spec["group"], dtype=spec["dtype"],
                       quant_predicate=spec["predicate"], q_mode=spec.get("mode", "affine"))
    for file in sorted(target.iterdir()):
        keep = file.suffix == ".safetensors" or file.name in ("config.json", "model.safetensors.index.json")
        if keep:
            shutil.move(file, Path(folder) / file.name)
    shutil.rmtree(target)


def unpack(words, bits):
    """Codes of rows that are one little-endian bit stream each."""
    stream = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little").reshape(*words.shape[:-1], -1, bits)
    return stream @ (1 << np.arange(bits))


def dequantize(folder):
    """The folder's weights as f32: scale * code + bias, rounded once."""
    with open(Path(folder) / "config.json") as f:
        config = json.load(f)
    tensors = {}
    for file in sorted(Path(folder).glob("model*.safetensors")):
        tensors |= mx.load(str(file))
    wide = lambda name: np.array(tensors[name].astype(mx.float32)).astype(np.float64)
    out = {}
    for name, tensor in tensors.items():
        path, leaf = name.rsplit(".", 1)
        if leaf in ("scales", "biases"):
            continue
        if leaf != "weight" or path + ".scales" not in tensors:
            out[name] = torch.from_numpy(wide(name).astype(np.float32))
            continue
        if path + ".biases" not in tensors:
            # What 4- and 8-bit floats stand for has few bits: exact in bf16.
            w = mx.dequantize(tensor, tensors[path + ".scales"], mode=config["quantization"]["mode"])
            out[name] = torch.from_numpy(np.array(w.astype(mx.float32)))
            continue
        entry = config["quantization"].get(path)
        numbers = entry if isinstance(entry, dict) else config["quantization"]
        scales, biases = wide(path + ".scales"), wide(path + ".biases")
        codes = unpack(np.array(tensor), numbers["bits"]).reshape(*scales.shape, numbers["group_size"])
        w = codes * scales[..., None] + biases[..., None]
        out[name] = torch.from_numpy(w.reshape(*scales.shape[:-1], -1).astype(np.float32))
    out = {name.removeprefix("language_model."): value for name, value in out.items()}
    return apart(out, config["model_type"].startswith("qwen3_5_moe"))


def apart(weights, fused):
    """The same with experts as Hugging Face's folders have them: a tensor for each, or those of a layer in two."""
    out, stacks = {}, {}
    for name, value in weights.items():
        if fused and ".switch_mlp." in name:
            block, part = name.removesuffix(".weight").split("switch_mlp.")
            stacks.setdefault(block, {})[part] = value.numpy()
    for block, parts in stacks.items():
        out |= {block + name: torch.from_numpy(value) for name, value in models_delta.fused(parts).items()}
    for name, value in weights.items():
        if fused and ".switch_mlp." in name:
            continue
        if ".switch_mlp." not in name:
            out[name] = value
            continue
        block, part = name.removesuffix(".weight").split(".switch_mlp.")
        if "block_sparse_moe" in block:
            part = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}[part]
        out |= {f"{block}.experts.{i}.{part}.weight": expert.contiguous() for i, expert in enumerate(value)}
    return out


def logits(folder, prompt):
    """mlx-lm's logits on the folder, with every float widened to f32."""
    with open(Path(folder) / "config.json") as f:
        config = json.load(f)
    # mlx-lm's llama does not read the nested form.
    rope = config.get("rope_parameters") or {}
    flat = {"rope_theta": rope["rope_theta"], "rope_scaling": rope if rope["rope_type"] != "default" else None} if rope else {}
    if config["model_type"].startswith("qwen3_5"):
        flat["model_type"] = config["model_type"].removesuffix("_text")
    model, _ = mlx_lm.utils.load_model(Path(folder), model_config=flat)
    model.set_dtype(mx.float32)
    return np.array(model(mx.array([prompt]), cache=make_prompt_cache(model))[0])
