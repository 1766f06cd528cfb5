"""Makes the whole-model fixtures: tiny random checkpoints in every supported format, and what they must compute.

    python models.py --seed 1 --out ../../crates/dacapo-lm/tests/fixtures/models [--only NAME ...]

Each fixture is a folder: a checkpoint (config.json and safetensors files, or model.gguf) and reference.safetensors with
    prompt   I32 [28]        token ids
    logits   F32 [28, V]     logits at all positions: transformers, eager attention, f32, on the exactly dequantized weights
    greedy   I32 [20]        the greedy continuation
    margin   F32 [20]        distance of the two highest logits at each step, in standard deviations of the logits
and for some also a prompt that is longer than the steps in which a cache grows, or than the rings of layers with a window:
    long_prompt I32 [300] or [700], long_logits F32 [8, V] (the last 8 positions), for the latter long_greedy I32 [8]
index.json lists the fixtures. Weights are drawn again until f32 and f64 agree and no greedy step is a near tie. The table
that is printed compares other implementations with the reference: f64, mlx-lm in f32, and llama.cpp (int8 activations for
quantized weights) where llama-cpp-python is installed. The same seed gives the same bytes.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

import models_delta
import models_families
import models_gguf
import models_gpt_oss
import models_mlx
import models_tokenizer

POSITIONS, LONG, LONG_KEPT, STEPS = 28, 300, 8, 20
WRAPPING = 700
"""Tokens of a long prompt that come around in every ring of the cache."""
VOCABULARY = models_tokenizer.SIZE
SMALLEST_MARGIN = 0.01
LARGEST_F64_ERROR = 2e-5
SMALLEST_CHOICE = 0.03
"""Of a router, how far the logit of a token's last expert and of the first that it does not go to are apart at least, in standard
deviations of the logits: less is turned by the rounding of activations to int8."""

LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", factor=4.0)
LONG_HALF = dict(models_families.LONG_ROPE, **{f"{w}_factor": models_families.LONG_ROPE[f"{w}_factor"][::2] for w in ("short", "long")})
OLMO_YARN = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=128, beta_fast=32.0, beta_slow=1.0, attention_factor=1.2079441541679836)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4.0, beta_slow=1.0)


def config(kind, rope=None, nested=False, **changes):
    """A configuration as published checkpoints write it; `nested` in the way of transformers 5."""
    family = dict(models_families.FAMILIES[kind])
    c = dict(model_type=kind, architectures=[family.pop("architecture")],
             vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=512, rms_norm_eps=1e-5, hidden_act="silu", tie_word_embeddings=False,
             bos_token_id=models_tokenizer.BOS, eos_token_id=models_tokenizer.EOS)
    theta, rope = family.pop("rope_theta", 10000.0), rope or family.pop("rope_scaling", None)
    c.update(family)
    if nested:
        c["rope_parameters"] = dict(rope or dict(rope_type="default"), rope_theta=theta)
    else:
        c.update(rope_theta=theta, rope_scaling=rope)
    c.update(changes)
    return {k: v for k, v in c.items() if k != "hidden_act" or v}


def hf(kind, dtype, *args, long=False, **kw):
    return dict(kind="hf", config=config(kind, *args, **kw), dtype=dtype, quantized=False, long=long, images=False)


def mlx(kind, dtype, bits, group, *args, predicate=None, shards=1, long=False, images=False, **kw):
    return dict(kind="mlx", config=config(kind, *args, intermediate_size=128, **kw), dtype=dtype, bits=bits, group=group, predicate=predicate,
                shards=shards, quantized=True, long=long, images=images)


def mode(kind, name, *args, **kw):
    """One of MLX's modes of small floats."""
    group, bits = dict(mxfp4=(32, 4), mxfp8=(32, 8), nvfp4=(16, 4))[name]
    return dict(mlx(kind, "bfloat16", bits, group, *args, **kw), mode=name)


def mxfp4(kind, **kw):
    """gpt-oss as it is published: experts in 4-bit floats, the rest in bf16."""
    c = config("gpt_oss", quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router"]), **kw)
    if kind == "mlx":
        c["quantization"] = c["quantization_config"] = dict(group_size=32, bits=4, mode="mxfp4")
    return dict(kind="mxfp4", mlx=kind == "mlx", config=c, dtype="bfloat16", quantized=True, long=False, images=False)


def fp8(kind, *args, **kw):
    """8-bit floats with a scale for each square of 128."""
    c = config(kind, *args, quantization_config=dict(quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128]), **kw)
    return dict(kind="fp8", config=c, dtype="bfloat16", quantized=False, long=False, images=False)


def ggml(kind, types, *args, version=3, long=False, **kw):
    quantized = types not in ("F32", "F16", "BF16")
    return dict(kind="gguf", config=config(kind, *args, **kw), types=types, version=version, quantized=quantized, long=long)


def wide(types, layers=1, **kw):
    """A llama for blocks of 256 elements."""
    return ggml("llama", types, hidden_size=256, intermediate_size=256, num_hidden_layers=layers, num_attention_heads=8, num_key_value_heads=2,
                tie_word_embeddings=True, **kw)


FIXTURES = {
    "hf-llama-bf16": hf("llama", "bfloat16", LLAMA3, nested=True, long=True),
    "hf-llama-linear-bf16": hf("llama", "bfloat16", LINEAR, num_hidden_layers=1),
    "hf-llama-yarn-f16": hf("llama", "float16", YARN, nested=True, long=True, num_hidden_layers=1),
    "hf-qwen2-f32": hf("qwen2", "float32", num_hidden_layers=1),
    "hf-qwen3-f16": hf("qwen3", "float16", nested=True, tie_word_embeddings=True),
    "hf-mistral-bf16": hf("mistral", "bfloat16", long=True),
    "mlx-llama-q4-g64-bf16": mlx("llama", "bfloat16", 4, 64, LLAMA3, long=True),
    "mlx-qwen2-q8-g32-f16": mlx("qwen2", "float16", 8, 32),
    "mlx-qwen3-q3-g128-f32": mlx("qwen3", "float32", 3, 128, hidden_size=128),
    "mlx-qwen3-q6-g32-bf16": mlx("qwen3", "bfloat16", 6, 32, tie_word_embeddings=True),
    "mlx-mistral-mixed-sharded": mlx("mistral", "bfloat16", 4, 32, predicate=models_mlx.mixed, shards=2),
    "gguf-llama-f32-v2": ggml("llama", "F32", LLAMA3, version=2, num_hidden_layers=1),
    "gguf-llama-f16": ggml("llama", "F16", LLAMA3, num_hidden_layers=1),
    "gguf-llama-bf16": ggml("llama", "BF16", num_hidden_layers=1),
    "gguf-llama-q8_0": ggml("llama", "Q8_0", LLAMA3, long=True),
    "gguf-llama-q4_0": ggml("llama", "Q4_0"),
    "gguf-llama-q4_1": ggml("llama", "Q4_1", LINEAR),
    "gguf-llama-q5_0": ggml("llama", "Q5_0", YARN),
    "gguf-llama-q5_1": ggml("llama", "Q5_1"),
    "gguf-qwen2-f16": ggml("qwen2", "F16"),
    "gguf-qwen2-q5_1": ggml("qwen2", "Q5_1"),
    "gguf-qwen3-bf16": ggml("qwen3", "BF16", tie_word_embeddings=True),
    "gguf-qwen3-q4_0": ggml("qwen3", "Q4_0"),
    "gguf-qwen3-q8_0": ggml("qwen3", "Q8_0", tie_word_embeddings=True),
    "gguf-llama-q2_k": wide("Q2_K"),
    "gguf-llama-q3_k": wide("Q3_K"),
    "gguf-llama-q4_k": wide("Q4_K"),
    "gguf-llama-q5_k": wide("Q5_K"),
    "gguf-llama-q6_k": wide("Q6_K"),
    "gguf-llama-k-mixed": wide(models_gguf.MIXED_K, layers=2),
    "gguf-llama-iq-mixed": wide(models_gguf.MIXED_IQ),
    "gguf-llama-ternary-mxfp4": wide(models_gguf.MIXED_TERNARY),
    "mlx-llama-mxfp4": mode("llama", "mxfp4"),
    "mlx-qwen3-mxfp8": mode("qwen3", "mxfp8"),
    "mlx-qwen2-nvfp4": mode("qwen2", "nvfp4"),
    "hf-qwen3-fp8": fp8("qwen3", hidden_size=160, intermediate_size=224, num_hidden_layers=1),
    "hf-gemma2-bf16": hf("gemma2", "bfloat16", hidden_size=32, head_dim=256, num_attention_heads=2, num_key_value_heads=1,
                          max_position_embeddings=1024, long=WRAPPING),
    "mlx-gemma2-q4-g32-bf16": mlx("gemma2", "bfloat16", 4, 32),
    "gguf-gemma2-q8_0": ggml("gemma2", "Q8_0", query_pre_attn_scalar=32),
    "hf-gemma3-bf16": hf("gemma3_text", "bfloat16", LINEAR, num_hidden_layers=3, sliding_window_pattern=3, max_position_embeddings=1024, long=WRAPPING),
    "mlx-gemma3-images-q4-g64-bf16": mlx("gemma3_text", "bfloat16", 4, 64, predicate=models_mlx.mixed, images=True, sliding_window_pattern=2),
    "gguf-gemma3-q8_0": ggml("gemma3_text", "Q8_0", LINEAR, num_hidden_layers=6, intermediate_size=64, num_attention_heads=2, num_key_value_heads=1,
                          max_position_embeddings=1024, long=WRAPPING),
    "hf-phi3-bf16": hf("phi3", "bfloat16", max_position_embeddings=1024, long=WRAPPING),
    "hf-phi4-mini-f16": hf("phi3", "float16", LONG_HALF, partial_rotary_factor=0.5, tie_word_embeddings=True, sliding_window=600, num_hidden_layers=1),
    "mlx-phi3-q4-g32-bf16": mlx("phi3", "bfloat16", 4, 32, max_position_embeddings=256, predicate=models_mlx.mixed),
    "gguf-phi3-q8_0": ggml("phi3", "Q8_0", max_position_embeddings=256),
    "gguf-phi4-mini-q4_0": ggml("phi3", "Q4_0", LONG_HALF, partial_rotary_factor=0.5, tie_word_embeddings=True),
    "hf-olmo2-bf16": hf("olmo2", "bfloat16"),
    "mlx-olmo2-q4-g64-bf16": mlx("olmo2", "bfloat16", 4, 64),
    "gguf-olmo2-q8_0": ggml("olmo2", "Q8_0"),
    "hf-smollm3-f16": hf("smollm3", "float16"),
    "mlx-smollm3-q6-g32-bf16": mlx("smollm3", "bfloat16", 6, 32),
    "gguf-smollm3-q4_0": ggml("smollm3", "Q4_0", no_rope_layers=[1, 1, 1, 0], no_rope_layer_interval=4, num_hidden_layers=4),
    "hf-granite-bf16": hf("granite", "bfloat16"),
    "mlx-granite-q4-g32-bf16": mlx("granite", "bfloat16", 4, 32),
    "gguf-granite-q5_0": ggml("granite", "Q5_0"),
    "hf-ministral-bf16": hf("ministral", "bfloat16", max_position_embeddings=1024, long=WRAPPING),
    "hf-mistral-yarn-f16": hf("mistral", "float16", YARN, nested=True, max_position_embeddings=1024, long=WRAPPING, sliding_window=40),
    "hf-mixtral-bf16": hf("mixtral", "bfloat16", nested=True),
    "mlx-mixtral-q4-g32-bf16": mlx("mixtral", "bfloat16", 4, 32, num_hidden_layers=1),
    "gguf-mixtral-q5_0": ggml("mixtral", "Q5_0", num_hidden_layers=1),
    "hf-qwen2-moe-f16": hf("qwen2_moe", "float16", num_hidden_layers=1),
    "mlx-qwen2-moe-q6-g32-bf16": mlx("qwen2_moe", "bfloat16", 6, 32, num_hidden_layers=1),
    "gguf-qwen2-moe-q8_0": ggml("qwen2_moe", "Q8_0", num_hidden_layers=1),
    "hf-qwen3-moe-bf16": hf("qwen3_moe", "bfloat16", num_hidden_layers=3, decoder_sparse_step=1, mlp_only_layers=[1]),
    "mlx-qwen3-moe-q4-g64-bf16": mlx("qwen3_moe", "bfloat16", 4, 64, num_hidden_layers=1),
    "mlx-qwen3-moe-mxfp4": mode("qwen3_moe", "mxfp4", num_hidden_layers=1),
    "gguf-qwen3-moe-q4_0": ggml("qwen3_moe", "Q4_0", num_hidden_layers=2, decoder_sparse_step=2),
    "hf-gpt-oss-bf16": hf("gpt_oss", "bfloat16", nested=True, num_hidden_layers=2),
    "hf-gpt-oss-mxfp4": mxfp4("hf", num_hidden_layers=2),
    "mlx-gpt-oss-mxfp4": mxfp4("mlx", num_hidden_layers=2),
    "gguf-gpt-oss-mxfp4": ggml("gpt_oss", models_gguf.MIXED_OSS, num_hidden_layers=2),
}
FIXTURES |= models_delta.numbered({
    "hf-qwen3_5-bf16": hf("qwen3_5_text", "bfloat16", nested=True, num_hidden_layers=3, tie_word_embeddings=True, long=True,
                           layer_types=["linear_attention", "linear_attention", "full_attention"], full_attention_interval=3),
    "mlx-qwen3_5-images-q4-g32-bf16": mlx("qwen3_5_text", "bfloat16", 4, 32, nested=True, images=True, long=True),
    "gguf-qwen3_5-q8_0": ggml("qwen3_5_text", "Q8_0", nested=True, long=True),
    "hf-qwen3-next-f16": hf("qwen3_next", "float16", long=True, linear_num_value_heads=2),
    "gguf-qwen3-next-q4_0": ggml("qwen3_next", "Q4_0"),
    "hf-qwen3-next-moe-bf16": hf("qwen3_next", "bfloat16", **models_delta.EXPERTS),
    "mlx-qwen3-next-moe-q4-g32-bf16": mlx("qwen3_next", "bfloat16", 4, 32, **models_delta.EXPERTS),
    "gguf-qwen3-next-moe-f16": ggml("qwen3_next", "F16", **models_delta.EXPERTS),
    "hf-qwen3_5-moe-bf16": hf("qwen3_5_moe_text", "bfloat16", nested=True, tie_word_embeddings=True, hidden_size=32),
    "hf-olmo3-bf16": hf("olmo3", "bfloat16", OLMO_YARN, max_position_embeddings=1024, long=WRAPPING),
    "mlx-qwen3_5-moe-images-q4-g32-bf16": mlx("qwen3_5_moe_text", "bfloat16", 4, 32, nested=True, images=True, tie_word_embeddings=True),
    "gguf-qwen3_5-moe-q8_0": ggml("qwen3_5_moe_text", "Q8_0", nested=True, tie_word_embeddings=True),
})


def deviation(name, shape, tied, fused=False):
    """Standard deviation of a matrix: attention that prefers some positions, and logits of a spread of about 2. In stacks that are not
    `fused` the inputs are the dimension in the middle."""
    if name.startswith("model.embed_tokens"):
        return 2 / shape[1] ** 0.5 if tied else 0.7
    gain = 2.0 if name.startswith("lm_head") or "gate_proj" in name else 1.5 if any(p in name for p in ("q_proj", "k_proj", "qkv_proj")) else 1.2
    return gain / shape[-1 if fused else 1] ** 0.5


def draw(c, rng):
    """Random weights in f32."""
    tied = c["tie_word_embeddings"]
    out = {}
    for name, shape in models_families.shapes(c).items():
        x = rng.standard_normal(shape)
        special = models_delta.draw(name, x)
        if special is not None:
            x = special
        elif tied and name == "model.norm.weight":
            pass  # Random signs: with a tied output layer the model would repeat its last token otherwise.
        elif "norm" in name:
            x = 1 + 0.2 * x
        elif name.endswith(".sinks"):
            pass
        elif name.endswith("bias"):
            x = 0.3 * x
        else:
            x = deviation(name, shape, tied, models_delta.is_fused(c)) * x
        if models_gpt_oss.is_stack(name) and not models_delta.is_fused(c):
            # Gates and their partners reach their bounds.
            x = x * (3 if "gate_up" in name else 0.5)
        if models_families.less_one(name, c):
            x = x - 1
        out[name] = torch.from_numpy(x.astype(np.float32))
    return out


def plain(c):
    return {k: v for k, v in c.items() if not k.startswith("quantization")}


def load(c, weights, dtype=torch.float32):
    """The model in transformers, by its ordinary loader."""
    with tempfile.TemporaryDirectory() as folder:
        write_json(os.path.join(folder, "config.json"), plain(c))
        save_file({k: v.contiguous() for k, v in weights.items()}, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager",
                                                                              output_loading_info=True)
    missing = set(info["missing_keys"]) - ({"lm_head.weight"} if c["tie_word_embeddings"] else set())
    assert not missing and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].numpy()


@torch.no_grad()
def greedy(model, prompt, steps=STEPS):
    """The greedy continuation and its margins; without a cache, so that nothing but the model itself is in it."""
    ids, margins = list(prompt), []
    for _ in range(steps):
        last = model(torch.tensor([ids]), use_cache=False).logits[0, -1].double().numpy()
        top = np.sort(last)[-2:]
        margins.append((top[1] - top[0]) / last.std())
        ids.append(int(last.argmax()))
    return ids[len(prompt):], margins


@torch.no_grad()
def closest_choice(model, c, ids):
    """How close the closest choice between experts is: see `SMALLEST_CHOICE`."""
    apart, hooks = [float("inf")], []

    def look(module, inputs):
        x = inputs[0].reshape(-1, c["hidden_size"]) @ module.weight.T
        top = x.sort(-1, descending=True).values
        k = c["num_experts_per_tok"]
        apart.append(float(((top[:, k - 1] - top[:, k]) / x.std(-1)).min()))

    for name, module in model.named_modules():
        # transformers names the modules of all families alike.
        if name.endswith((".mlp.gate", ".block_sparse_moe.gate", ".mlp.router")) and hasattr(module, "weight"):
            hooks.append(module.register_forward_pre_hook(look))
    model(torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    assert len(apart) > 1
    return min(apart)


def error(a, b):
    """Largest difference of centred logits, in standard deviations of the reference `b`."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    return np.abs(a - b).max() / np.sqrt((b * b).mean())


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, indent=1)
        f.write("\n")


def write_hf(folder, spec, weights):
    """A folder as transformers writes it; returns its values in f32."""
    stored = {k: v.to(getattr(torch, spec["dtype"])) for k, v in weights.items()}
    c = dict(spec["config"], dtype=spec["dtype"])
    write_json(folder / "config.json", models_families.with_images(c) if spec["images"] else c)
    prefix = "language_model." if spec["images"] else ""
    save_file({prefix + k: v for k, v in stored.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    models_tokenizer.write(folder)
    return {k: v.float() for k, v in stored.items()}


def write_fp8(folder, spec, weights):
    """A folder with matrices in 8-bit floats, but for the first and the last; returns its values, which are those of BF16."""
    stored, exact = {}, {}
    for name, w in weights.items():
        if w.ndim != 2 or not name.startswith("model.layers."):
            stored[name] = w.bfloat16()
            exact[name] = stored[name].float()
            continue
        rows, columns = (-(-n // 128) for n in w.shape)
        padded = torch.zeros(rows * 128, columns * 128)
        padded[:w.shape[0], :w.shape[1]] = w
        squares = padded.reshape(rows, 128, columns, 128)
        scales = squares.abs().amax((1, 3)) / 448
        codes = (squares / scales[:, None, :, None]).to(torch.float8_e4m3fn)
        values = (codes.float() * scales[:, None, :, None]).reshape(rows * 128, columns * 128)
        cut = lambda x: x.reshape(rows * 128, columns * 128)[:w.shape[0], :w.shape[1]].contiguous()
        stored[name], stored[name + "_scale_inv"] = cut(codes), scales
        exact[name] = cut(values).bfloat16().float()
    write_json(folder / "config.json", dict(spec["config"], dtype=spec["dtype"]))
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    models_tokenizer.write(folder)
    return exact


def write_mxfp4(folder, spec, weights):
    """gpt-oss's folders with 4-bit floats."""
    write_json(folder / "config.json", dict(spec["config"], dtype=spec["dtype"]))
    models_tokenizer.write(folder)
    return (models_gpt_oss.write_mlx if spec["mlx"] else models_gpt_oss.write_hf)(folder, weights)


def write(folder, spec, weights, rng):
    """Writes a checkpoint and returns the weights that it holds, in f32 and Hugging Face's scheme."""
    if spec["kind"] == "hf":
        return write_hf(folder, spec, weights)
    if spec["kind"] == "mxfp4":
        return write_mxfp4(folder, spec, weights)
    if spec["kind"] == "fp8":
        return write_fp8(folder, spec, weights)
    if spec["kind"] == "mlx":
        with tempfile.TemporaryDirectory() as source:
            write_hf(Path(source), spec, weights)
            models_mlx.convert(source, folder, spec)
        models_tokenizer.write(folder)
        return {k: models_delta.from_mlx(k, v, spec["config"]) for k, v in models_mlx.dequantize(folder).items()}
    scale = lambda name: deviation(name, weights[name].shape, spec["config"]["tie_word_embeddings"])
    models_gguf.write(folder / "model.gguf", spec, {k: v.numpy() for k, v in weights.items()}, scale, rng)
    return {k: torch.from_numpy(v) for k, v in models_gguf.dequantize(folder / "model.gguf", spec["config"]).items()}


def others(folder, spec, prompt, reference):
    """How far other implementations are from the reference."""
    c = spec["config"]
    if spec["kind"] == "gguf":
        found = models_gguf.llama_cpp_logits(folder / "model.gguf", prompt)
        return {} if found is None else {"llama.cpp": error(found, reference)}
    # mlx-lm reads gpt-oss's experts as 4-bit floats only.
    unread = spec["kind"] == "fp8" or c["model_type"] == "gpt_oss" and spec["kind"] == "hf"
    if unread or c["model_type"] not in models_mlx.KNOWN or c["model_type"] == "qwen3_next" and not models_families.has_experts(c):
        return {}
    # mlx-lm sees the whole context where a sliding window is configured: compared is what lies within the window.
    seen = min(c.get("sliding_window") or len(prompt), len(prompt))
    return {"mlx-lm": error(models_mlx.logits(folder, prompt)[:seen], reference[:seen])}


def attempt(folder, spec, rng):
    """Makes a fixture; None if its weights make a poor one."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prompt = rng.integers(0, models_tokenizer.TEXT, POSITIONS).tolist()
    exact = write(folder, spec, draw(spec["config"], rng), rng)
    model = load(spec["config"], exact)
    if models_families.has_experts(spec["config"]) and closest_choice(model, spec["config"], prompt) < SMALLEST_CHOICE:
        return None
    ids, margins = greedy(model, prompt)
    if min(margins) < SMALLEST_MARGIN:
        return None
    reference = logits(model, prompt)
    out = {"prompt": torch.tensor(prompt, dtype=torch.int32), "logits": torch.from_numpy(reference.copy()),
           "greedy": torch.tensor(ids, dtype=torch.int32), "margin": torch.tensor(margins, dtype=torch.float32)}
    double = load(spec["config"], exact, torch.float64)
    figures = {"f64": error(logits(double, prompt), reference)}
    if spec["long"]:
        long = rng.integers(0, models_tokenizer.TEXT, WRAPPING if spec["long"] == WRAPPING else LONG).tolist()
        last = logits(model, long)[-LONG_KEPT:]
        figures["f64"] = max(figures["f64"], error(logits(double, long)[-LONG_KEPT:], last))
        out |= {"long_prompt": torch.tensor(long, dtype=torch.int32), "long_logits": torch.from_numpy(last.copy())}
        if spec["long"] == WRAPPING:
            ids, margins = greedy(model, long, LONG_KEPT)
            if min(margins) < SMALLEST_MARGIN:
                return None
            out |= {"long_greedy": torch.tensor(ids, dtype=torch.int32)}
    if figures["f64"] > LARGEST_F64_ERROR:
        return None
    save_file(out, folder / "reference.safetensors")
    figures["margin"], figures["std"] = min(margins), float(reference.std())
    return figures | others(folder, spec, prompt, reference)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--out", required=True, type=Path)
    p.add_argument("--only", nargs="*", choices=list(FIXTURES), default=list(FIXTURES))
    a = p.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    a.out.mkdir(parents=True, exist_ok=True)
    for number, (name, spec) in enumerate(FIXTURES.items()):
        if name not in a.only:
            continue
        for tries in range(400):
            rng = np.random.default_rng([a.seed, spec.get("number", number), tries])
            with contextlib.redirect_stdout(io.StringIO()):
                figures = attempt(a.out / name, spec, rng)
            if figures is not None:
                break
        else:
            raise SystemExit(f"{name}: no draw is good enough")
        size = sum(f.stat().st_size for f in (a.out / name).iterdir())
        print(f"{name:28s} {size / 1e3:6.0f} kB  draw {tries:2d}  " + "  ".join(f"{k} {v:.2g}" for k, v in figures.items()), flush=True)
    index = [{"name": n, "file": "model.gguf" if s["kind"] == "gguf" else "", "quantized": s["quantized"]} for n, s in FIXTURES.items()]
    write_json(a.out / "index.json", index)
    print(f"{sum(f.stat().st_size for f in a.out.rglob('*') if f.is_file()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
