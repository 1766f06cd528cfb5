#!/usr/bin/env python3
"""Checkpoints of well-known shapes with random weights, for measuring speed.

    python random_checkpoint.py --shape qwen3-0.6b --out DIR [--formats mlx4 q4_0 q4_k_m q8_0] [--layers N]

Writes DIR/<shape>-mlx4/ (MLX affine, 4 bits, group 64, bfloat16 scales) and DIR/<shape>-<type>.gguf. The codes are
uniformly random; scales are such that weights have the usual spread about zero, so that logits stay finite. q4_0 and
q8_0 have all matrices in that type; q4_k_m mixes Q4_K and Q6_K as llama.cpp does. Speed depends on none of the values,
but the text that comes out is noise. With --layers the model has fewer layers than the shape, and its name says so. Shapes with
delta nets are written as MLX folders alone; `dacapo quantize` makes GGUF files of them. Needs numpy, and gguf for GGUF files.
"""
import argparse
import json
import os

import numpy as np

SHAPES = {
    "qwen3-0.6b": dict(arch="qwen3", hidden=1024, inner=3072, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151936,
                       tied=True, theta=1e6, context=40960),
    "llama-3.2-1b": dict(arch="llama", hidden=2048, inner=8192, layers=16, heads=32, kv_heads=8, head_dim=64, vocab=128256,
                         tied=True, theta=5e5, context=131072),
    "llama-3.1-8b": dict(arch="llama", hidden=4096, inner=14336, layers=32, heads=32, kv_heads=8, head_dim=128, vocab=128256,
                         tied=False, theta=5e5, context=131072),
    # `inner` is an expert's, of which each token goes through `chosen`.
    "qwen3-30b-a3b": dict(arch="qwen3_moe", hidden=2048, inner=768, layers=48, heads=32, kv_heads=4, head_dim=128, vocab=151936,
                          tied=False, theta=1e6, context=40960, experts=128, chosen=8),
    # Three of four layers have a gated delta net: heads of keys and of values, and the size of each.
    "qwen3.5-9b": dict(arch="qwen3_5_text", hidden=4096, inner=12288, layers=32, heads=16, kv_heads=4, head_dim=256, vocab=248320,
                       tied=False, theta=1e7, context=262144, delta=(16, 32, 128)),
}
TAPS = 4  # of the convolution of a delta net
CLASSES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
           "qwen3_5_text": "Qwen3_5ForCausalLM"}
FORMATS = ["mlx4", "q4_0", "q4_k_m", "q8_0"]
SPREAD = 0.02  # standard deviation of weights


def is_delta(s, layer):
    return "delta" in s and (layer + 1) % 4 != 0


def mixer(s, layer):
    """The matrices of a layer's attention or delta net as (Hugging Face name, GGUF name, outputs, inputs)."""
    hidden, q, kv = s["hidden"], s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    if not is_delta(s, layer):
        # Where there are delta nets, attention has a gate beside its queries.
        yield "self_attn.q_proj", "attn_q", 2 * q if "delta" in s else q, hidden
        yield "self_attn.k_proj", "attn_k", kv, hidden
        yield "self_attn.v_proj", "attn_v", kv, hidden
        yield "self_attn.o_proj", "attn_output", hidden, q
        return
    keys, values, size = s["delta"]
    for part, outputs in [("qkv", (2 * keys + values) * size), ("z", values * size), ("b", values), ("a", values)]:
        yield f"linear_attn.in_proj_{part}", None, outputs, hidden
    yield "linear_attn.out_proj", None, hidden, values * size


def matrices(s):
    """Every quantized matrix as (Hugging Face name, GGUF name, outputs, inputs, experts or 0)."""
    hidden, inner, experts = s["hidden"], s["inner"], s.get("experts", 0)
    yield "model.embed_tokens", "token_embd", s["vocab"], hidden, 0
    if not s["tied"]:
        yield "lm_head", "output", s["vocab"], hidden, 0
    hf, gg = ("mlp.switch_mlp.", "_exps") if experts else ("mlp.", "")
    for i in range(s["layers"]):
        for name, gguf_name, n, k in mixer(s, i):
            yield f"model.layers.{i}.{name}", f"blk.{i}.{gguf_name}", n, k, 0
        for part, n, k in [("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)]:
            yield f"model.layers.{i}.{hf}{part}_proj", f"blk.{i}.ffn_{part}{gg}", n, k, experts


def plain(s):
    """Every tensor that is not quantized as (Hugging Face name, GGUF name, shape, value)."""
    yield "model.norm.weight", "output_norm.weight", [s["hidden"]], 1.0
    for i in range(s["layers"]):
        hf, gg = f"model.layers.{i}.", f"blk.{i}."
        yield f"{hf}input_layernorm.weight", f"{gg}attn_norm.weight", [s["hidden"]], 1.0
        yield f"{hf}post_attention_layernorm.weight", f"{gg}ffn_norm.weight", [s["hidden"]], 1.0
        if s["arch"] != "llama" and not is_delta(s, i):
            yield f"{hf}self_attn.q_norm.weight", f"{gg}attn_q_norm.weight", [s["head_dim"]], 1.0
            yield f"{hf}self_attn.k_norm.weight", f"{gg}attn_k_norm.weight", [s["head_dim"]], 1.0
        if is_delta(s, i):
            keys, values, size = s["delta"]
            yield f"{hf}linear_attn.conv1d.weight", None, [(2 * keys + values) * size, TAPS, 1], 0.5
            yield f"{hf}linear_attn.A_log", None, [values], 1.0
            yield f"{hf}linear_attn.dt_bias", None, [values], 0.0
            yield f"{hf}linear_attn.norm.weight", None, [size], 1.0
        if "experts" in s:
            # Random, or every token would go through the same experts.
            yield f"{hf}mlp.gate.weight", f"{gg}ffn_gate_inp.weight", [s["experts"], s["hidden"]], None


def values_of(shape, value, rng):
    if value is None:
        return rng.normal(0.0, SPREAD, shape).astype(np.float32)
    return np.full(shape, value, np.float32)


def byte_alphabet():
    """The printable stand-ins of the 256 bytes in byte-level BPE (Radford et al., 2019)."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    table = {b: chr(b) for b in kept} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return [table[b] for b in range(256)]


def bf16(x):
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_mlx(s, path, rng):
    os.makedirs(path, exist_ok=True)
    tensors = []  # (name, dtype, shape, bytes, what makes them)
    for hf, _, n, k, experts in matrices(s):
        scale = SPREAD / 4.6  # the spread of 16 uniform codes is 4.6
        stack, count = ([experts] if experts else []), max(experts, 1) * n * k
        tensors.append((f"{hf}.weight", "U32", [*stack, n, k // 8], count // 2, lambda c=count // 2: rng.integers(0, 256, c, np.uint8)))
        for part, value in [("scales", scale), ("biases", -7.5 * scale)]:
            repeated = lambda c=count // 64, v=value: np.broadcast_to(bf16(v), (c,))
            tensors.append((f"{hf}.{part}", "BF16", [*stack, n, k // 64], count // 64 * 2, repeated))
    for hf, _, shape, value in plain(s):
        made = lambda shape=shape, value=value: bf16(values_of(shape, value, rng))
        tensors.append((hf, "BF16", shape, int(np.prod(shape)) * 2, made))
    header, offset = {"__metadata__": {"format": "mlx"}}, 0
    for name, dtype, shape, size, _ in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for *_, make in tensors:
            f.write(np.ascontiguousarray(make()).tobytes())
    quantization = {"group_size": 64, "bits": 4, "mode": "affine"}
    config = {
        "model_type": s["arch"], "architectures": [CLASSES[s["arch"]]], "hidden_size": s["hidden"],
        "intermediate_size": s["inner"], "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"],
        "num_key_value_heads": s["kv_heads"], "head_dim": s["head_dim"], "vocab_size": s["vocab"], "rms_norm_eps": 1e-6,
        "rope_theta": s["theta"], "max_position_embeddings": s["context"], "tie_word_embeddings": s["tied"],
        "hidden_act": "silu", "torch_dtype": "bfloat16", "quantization": quantization, "quantization_config": quantization,
    }
    if "experts" in s:
        config |= {"num_experts": s["experts"], "num_experts_per_tok": s["chosen"], "moe_intermediate_size": s["inner"],
                   "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
    if "delta" in s:
        keys, values, size = s["delta"]
        config |= {"full_attention_interval": 4, "attn_output_gate": True, "linear_conv_kernel_dim": TAPS,
                   "linear_num_key_heads": keys, "linear_num_value_heads": values, "linear_key_head_dim": size,
                   "linear_value_head_dim": size, "partial_rotary_factor": 0.25}
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    alphabet = byte_alphabet()
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": {c: i for i, c in enumerate(alphabet)}, "merges": []},
    }
    with open(os.path.join(path, "tokenizer.json"), "w") as f:
        json.dump(tokenizer, f)
    with open(os.path.join(path, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast"}, f)


def halves(value, shape):
    """A half-precision number, repeated, as bytes [*shape, 2]."""
    return np.broadcast_to(np.frombuffer(np.float16(value).tobytes(), np.uint8), (*shape, 2))


def packed_scales(scales):
    """Scales and minima of Q4_K, the same 6-bit numbers [..., 8] for both, as bytes [..., 12]."""
    low, high = scales[..., :4], scales[..., 4:]
    top = (high >> 4) << 6
    return np.concatenate([low | top, low | top, (high & 15) | ((high & 15) << 4)], axis=-1)


def gguf_blocks(kind, n, k, rng):
    """Random blocks of a GGML format, as bytes [n, bytes of a row]."""
    def codes(size, per_block):
        return rng.integers(0, 256, (n, k // per_block, size), dtype=np.uint8)

    blocks = (n, k // (256 if kind.endswith("_k") else 32))
    if kind == "q4_0":
        parts = [halves(SPREAD / 4.6, blocks), codes(16, 32)]
    elif kind == "q8_0":
        quants = codes(32, 32)
        quants[quants == 128] = 127
        parts = [halves(SPREAD / 73.6, blocks), quants]
    elif kind == "q4_k":
        # A weight is d * scale * code - dmin * minimum: with equal scales and minima the mean code gives zero.
        scales = rng.integers(32, 64, (*blocks, 8), dtype=np.uint8)
        d = np.float16(SPREAD / 4.6 / 47.5)
        parts = [halves(d, blocks), halves(7.5 * d, blocks), packed_scales(scales), codes(128, 256)]
    else:
        # Codes of six bits spread by 18.5; scales of either sign, as in files of real models.
        scales = rng.integers(64, 128, (*blocks, 16), dtype=np.int8) * rng.choice(np.int8([-1, 1]), (*blocks, 16))
        parts = [codes(128, 256), codes(64, 256), scales.view(np.uint8), halves(SPREAD / 18.5 / 97, blocks)]
    return np.concatenate(parts, axis=2).reshape(n, -1)


def block_kind(s, kind, name):
    """The blocks of a matrix in a file of type `kind`. In Q4_K_M llama.cpp's quantizer gives Q6_K to the projection to
    logits (with tied embeddings to the table itself) and, in some layers, to attn_v and ffn_down."""
    if kind != "q4_k_m":
        return kind
    if name == ("token_embd" if s["tied"] else "output"):
        return "q6_k"
    parts, layers = name.split("."), s["layers"]
    if parts[-1] not in ("attn_v", "ffn_down", "ffn_down_exps"):
        return "q4_k"
    eighth, layer = layers // 8, int(parts[1])
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "q6_k" if more else "q4_k"


def write_gguf(s, kind, path, rng):
    import gguf

    if "delta" in s:
        raise SystemExit("delta nets are written as MLX folders alone: `dacapo quantize` makes GGUF files of them")
    w = gguf.GGUFWriter(path, s["arch"].replace("_", ""))
    w.add_context_length(s["context"])
    w.add_embedding_length(s["hidden"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["inner"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv_heads"])
    w.add_key_length(s["head_dim"])
    w.add_value_length(s["head_dim"])
    w.add_rope_dimension_count(s["head_dim"])
    w.add_rope_freq_base(s["theta"])
    w.add_layer_norm_rms_eps(1e-6)
    if "experts" in s:
        w.add_expert_count(s["experts"])
        w.add_expert_used_count(s["chosen"])
        w.add_expert_feed_forward_length(s["inner"])
    w.add_vocab_size(s["vocab"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    alphabet = byte_alphabet()
    # One merge: llama.cpp wants at least one.
    w.add_token_list([*alphabet, "ab"] + [f"<unused{i}>" for i in range(s["vocab"] - 257)])
    w.add_token_types([1] * 257 + [5] * (s["vocab"] - 257))
    w.add_token_merges(["a b"])
    w.add_eos_token_id(s["vocab"] - 1)
    for _, name, shape, value in plain(s):
        w.add_tensor(name, values_of(shape, value, rng))
    for _, name, n, k, experts in matrices(s):
        blocks = block_kind(s, kind, name)
        dtype = gguf.GGMLQuantizationType[blocks.upper()]
        rows = gguf_blocks(blocks, max(experts, 1) * n, k, rng)
        w.add_tensor(f"{name}.weight", rows.reshape(experts, n, -1) if experts else rows, raw_dtype=dtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def path_of(shape, kind, out, layers=None):
    name = shape if layers is None else f"{shape}-{layers}-layers"
    return os.path.join(out, f"{name}-mlx4" if kind == "mlx4" else f"{name}-{kind}.gguf")


def write(shape, kind, out, seed=1, layers=None):
    """Writes one checkpoint, all layers of the shape or so many, and returns its path."""
    os.makedirs(out, exist_ok=True)
    path = path_of(shape, kind, out, layers)
    rng = np.random.default_rng(seed)
    s = SHAPES[shape] | ({} if layers is None else {"layers": layers})
    if kind == "mlx4":
        write_mlx(s, path, rng)
    else:
        write_gguf(s, kind, path, rng)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["mlx4", "q4_0"])
    parser.add_argument("--layers", type=int, help="instead of the shape's")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for kind in args.formats:
        print(write(args.shape, kind, args.out, args.seed, args.layers))


if __name__ == "__main__":
    main()
