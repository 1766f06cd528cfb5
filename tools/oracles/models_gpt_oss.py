"""gpt-oss's experts in the whole-model fixtures: their tensors, and the folders whose experts are 4-bit floats with scales (MXFP4)."""

import mlx.core as mx
import numpy as np
import torch
from safetensors.torch import save_file

PARTS = (("gate_proj", "gate_up_proj", slice(0, None, 2)), ("up_proj", "gate_up_proj", slice(1, None, 2)), ("down_proj", "down_proj", slice(None)))
"""A projection, the tensor that transformers has it in, and its columns there, outputs being columns."""


def shapes(c, at):
    """Names and shapes of the tensors of the layer's experts, as transformers has them."""
    count, hidden, inner = c["num_local_experts"], c["hidden_size"], c["intermediate_size"]
    at = at + "mlp."
    return {f"{at}router.weight": (count, hidden), f"{at}router.bias": (count,),
            f"{at}experts.gate_up_proj": (count, hidden, 2 * inner), f"{at}experts.gate_up_proj_bias": (count, 2 * inner),
            f"{at}experts.down_proj": (count, inner, hidden), f"{at}experts.down_proj_bias": (count, hidden)}


def is_stack(name):
    return name.endswith(("experts.gate_up_proj", "experts.down_proj"))


def quantized(rows):
    """Rows of values as bytes of two 4-bit floats each, the first in the low bits, and a byte of scale for each 32."""
    codes, scales = mx.quantize(mx.array(rows.numpy().reshape(-1, rows.shape[-1])), group_size=32, bits=4, mode="mxfp4")
    shape = rows.shape[:-1]
    return torch.from_numpy(np.array(codes).view(np.uint8).reshape(*shape, -1)), torch.from_numpy(np.array(scales).reshape(*shape, -1))


def values(codes, scales):
    words = mx.array(codes.numpy().reshape(-1, codes.shape[-1]).view(np.uint32))
    w = mx.dequantize(words, mx.array(scales.numpy().reshape(-1, scales.shape[-1])), group_size=32, bits=4, mode="mxfp4")
    return torch.from_numpy(np.array(w.astype(mx.float32)).reshape(*scales.shape[:-1], -1))


def write_hf(folder, weights):
    """The weights file that OpenAI publishes; returns its values in f32."""
    stored, exact = {}, {}
    for name, value in weights.items():
        if not is_stack(name):
            stored[name] = value.bfloat16()
            exact[name] = stored[name].float()
            continue
        codes, scales = quantized(value.transpose(1, 2).contiguous())
        stored[name + "_blocks"], stored[name + "_scales"] = codes.reshape(*scales.shape, 16), scales
        exact[name] = values(codes, scales).transpose(1, 2).contiguous()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return exact


def write_mlx(folder, weights):
    """The weights file that mlx-lm makes of it: a tensor for each projection; returns its values in f32."""
    stored, exact = {}, {}
    for name, value in weights.items():
        if ".experts." not in name:
            stored[name] = value.bfloat16()
            exact[name] = stored[name].float()
    for name, value in weights.items():
        if not is_stack(name):
            continue
        block = name.rsplit(".", 1)[0]
        exact[name], exact[name + "_bias"] = value.clone(), weights[name + "_bias"].bfloat16().float()
        for part, fused, columns in PARTS:
            if name.endswith("." + fused):
                codes, scales = quantized(value[..., columns].transpose(1, 2).contiguous())
                stored |= {f"{block}.{part}.weight": codes.view(torch.uint32), f"{block}.{part}.scales": scales,
                           f"{block}.{part}.bias": weights[name + "_bias"][..., columns].bfloat16().contiguous()}
                exact[name][..., columns] = values(codes, scales).transpose(1, 2)
    save_file(stored, folder / "model.safetensors", metadata={"format": "mlx"})
    return exact


def apart(weights):
    """For GGUF files: each projection's matrices and biases by the names that their part of the file has, outputs being rows."""
    for name, value in weights.items():
        if ".experts." not in name:
            continue
        layer = name.split(".")[2]
        for part, fused, columns in PARTS:
            of = f"blk.{layer}.ffn_{part.removesuffix('_proj')}_exps"
            if name.endswith("." + fused):
                yield f"{of}.weight", name, np.ascontiguousarray(value[..., columns].swapaxes(1, 2))
            elif name.endswith(f".{fused}_bias"):
                yield f"{of}.bias", name, np.ascontiguousarray(value[..., columns])


def together(name, shape, read):
    """The tensor of transformers from what `read` finds by the names of `apart`."""
    out = np.empty(shape, np.float32)
    layer, bias = name.split(".")[2], name.endswith("_bias")
    for part, fused, columns in PARTS:
        if name.endswith(f".{fused}_bias" if bias else f".{fused}"):
            found = read(f"blk.{layer}.ffn_{part.removesuffix('_proj')}_exps.{'bias' if bias else 'weight'}")
            out[..., columns] = found if bias else found.swapaxes(1, 2)
    return out
