#!/usr/bin/env python3
"""Checkpoints of well-known shapes with random weights, for measuring speed.

    python random_checkpoint.py --shape qwen3-0.6b --out DIR [--formats mlx4 q4_0 q4_k_m q8_0]

Writes DIR/<shape>-mlx4/ (MLX affine, 4 bits, group 64, bfloat16 scales) and DIR/<shape>-<type>.gguf. The codes are
uniformly random; scales are such that weights have the usual spread about zero, so that logits stay finite. q4_0 and
q8_0 have all matrices in that type; q4_k_m mixes Q4_K and Q6_K as llama.cpp does. Speed depends on none of the values,
but the text that comes out is noise. Needs numpy and gguf.
"""
import argparse
import json
import os

import gguf
import numpy as np

SHAPES = {
    "qwen3-0.6b": dict(arch="qwen3", hidden=1024, inner=3072, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151936,
                       tied=True, theta=1e6, context=40960),
    "llama-3.2-1b": dict(arch="llama", hidden=2048, inner=8192, layers=16, heads=32, kv_heads=8, head_dim=64, vocab=128256,
                         tied=True, theta=5e5, context=131072),
    "llama-3.1-8b": dict(arch="llama", hidden=4096, inner=14336, layers=32, heads=32, kv_heads=8, head_dim=128, vocab=128256,
                         tied=False, theta=5e5, context=131072),
}
FORMATS = ["mlx4", "q4_0", "q4_k_m", "q8_0"]
SPREAD = 0.02  # standard deviation of weights


def matrices(s):
    """Every matrix as (Hugging Face name, GGUF name, outputs, inputs)."""
    q, kv = s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
    yield "model.embed_tokens", "token_embd", s["vocab"], s["hidden"]
    if not s["tied"]:
        yield "lm_head", "output", s["vocab"], s["hidden"]
    for i in range(s["layers"]):
        for hf, gg, n, k in [
            ("self_attn.q_proj", "attn_q", q, s["hidden"]), ("self_attn.k_proj", "attn_k", kv, s["hidden"]),
            ("self_attn.v_proj", "attn_v", kv, s["hidden"]), ("self_attn.o_proj", "attn_output", s["hidden"], q),
            ("mlp.gate_proj", "ffn_gate", s["inner"], s["hidden"]), ("mlp.up_proj", "ffn_up", s["inner"], s["hidden"]),
            ("mlp.down_proj", "ffn_down", s["hidden"], s["inner"]),
        ]:
            yield f"model.layers.{i}.{hf}", f"blk.{i}.{gg}", n, k


def norms(s):
    """Every norm weight as (Hugging Face name, GGUF name, size)."""
    yield "model.norm", "output_norm", s["hidden"]
    for i in range(s["layers"]):
        yield f"model.layers.{i}.input_layernorm", f"blk.{i}.attn_norm", s["hidden"]
        yield f"model.layers.{i}.post_attention_layernorm", f"blk.{i}.ffn_norm", s["hidden"]
        if s["arch"] == "qwen3":
            yield f"model.layers.{i}.self_attn.q_norm", f"blk.{i}.attn_q_norm", s["head_dim"]
            yield f"model.layers.{i}.self_attn.k_norm", f"blk.{i}.attn_k_norm", s["head_dim"]


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
    tensors = []  # (name, dtype, shape, array)
    for hf, _, n, k in matrices(s):
        scale = SPREAD / 4.6  # the spread of 16 uniform codes is 4.6
        tensors.append((f"{hf}.weight", "U32", [n, k // 8], rng.integers(0, 256, n * k // 2, dtype=np.uint8)))
        tensors.append((f"{hf}.scales", "BF16", [n, k // 64], np.broadcast_to(bf16(scale), (n * k // 64,))))
        tensors.append((f"{hf}.biases", "BF16", [n, k // 64], np.broadcast_to(bf16(-7.5 * scale), (n * k // 64,))))
    for hf, _, n in norms(s):
        tensors.append((f"{hf}.weight", "BF16", [n], np.broadcast_to(bf16(1.0), (n,))))
    header, offset = {"__metadata__": {"format": "mlx"}}, 0
    for name, dtype, shape, array in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    with open(os.path.join(path, "model.safetensors"), "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for *_, array in tensors:
            f.write(np.ascontiguousarray(array).tobytes())
    quantization = {"group_size": 64, "bits": 4, "mode": "affine"}
    config = {
        "model_type": s["arch"], "architectures": [s["arch"].capitalize() + "ForCausalLM"], "hidden_size": s["hidden"],
        "intermediate_size": s["inner"], "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"],
        "num_key_value_heads": s["kv_heads"], "head_dim": s["head_dim"], "vocab_size": s["vocab"], "rms_norm_eps": 1e-6,
        "rope_theta": s["theta"], "max_position_embeddings": s["context"], "tie_word_embeddings": s["tied"],
        "hidden_act": "silu", "torch_dtype": "bfloat16", "quantization": quantization, "quantization_config": quantization,
    }
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
    if parts[-1] not in ("attn_v", "ffn_down"):
        return "q4_k"
    eighth, layer = layers // 8, int(parts[1])
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "q6_k" if more else "q4_k"


def write_gguf(s, kind, path, rng):
    w = gguf.GGUFWriter(path, s["arch"])
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
    w.add_vocab_size(s["vocab"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    alphabet = byte_alphabet()
    # One merge: llama.cpp wants at least one.
    w.add_token_list([*alphabet, "ab"] + [f"<unused{i}>" for i in range(s["vocab"] - 257)])
    w.add_token_types([1] * 257 + [5] * (s["vocab"] - 257))
    w.add_token_merges(["a b"])
    w.add_eos_token_id(s["vocab"] - 1)
    for _, name, n in norms(s):
        w.add_tensor(f"{name}.weight", np.ones(n, np.float32))
    for _, name, n, k in matrices(s):
        blocks = block_kind(s, kind, name)
        dtype = gguf.GGMLQuantizationType[blocks.upper()]
        w.add_tensor(f"{name}.weight", gguf_blocks(blocks, n, k, rng), raw_dtype=dtype)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def path_of(shape, kind, out):
    return os.path.join(out, f"{shape}-mlx4" if kind == "mlx4" else f"{shape}-{kind}.gguf")


def write(shape, kind, out, seed=1):
    """Writes one checkpoint and returns its path."""
    os.makedirs(out, exist_ok=True)
    path = path_of(shape, kind, out)
    rng = np.random.default_rng(seed)
    if kind == "mlx4":
        write_mlx(SHAPES[shape], path, rng)
    else:
        write_gguf(SHAPES[shape], kind, path, rng)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=["mlx4", "q4_0"])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for kind in args.formats:
        print(write(args.shape, kind, args.out, args.seed))


if __name__ == "__main__":
    main()
