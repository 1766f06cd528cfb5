"""Turns the trained weights into what is shipped: an MLX folder (4 bits, groups of 64) and a GGUF file (Q4_0, embedding Q8_0).

    python export.py --build build --out ../../models/demo
"""

import argparse
import json
import os
import shutil
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gguf
import mlx.core as mx
import mlx_lm
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import load_file, save_file

import quant

TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
GGUF_NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    """transformers' parameter name -> GGUF's tensor name."""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"


def load(build):
    return load_file(os.path.join(build, "weights-1.safetensors")) | load_file(os.path.join(build, "weights-2.safetensors"))


def export_mlx(build, state, out):
    """mlx-lm's own conversion of the bfloat16 checkpoint, with the trained tokenizer's files as they were written."""
    with tempfile.TemporaryDirectory() as folder:
        plain = os.path.join(folder, "plain")
        os.makedirs(plain)
        for name in TOKENIZER_FILES + ["config.json"]:
            shutil.copy(os.path.join(build, name), plain)
        save_file({n: t.to(torch.bfloat16) for n, t in state.items()}, os.path.join(plain, "model.safetensors"), metadata={"format": "pt"})
        made = os.path.join(folder, "mlx")
        mlx_lm.convert(plain, made, quantize=True, q_group_size=quant.GROUP, q_bits=4, q_mode="affine", dtype="bfloat16")
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(out)
        for name in ["config.json", "model.safetensors", "model.safetensors.index.json"]:
            shutil.copyfile(os.path.join(made, name), os.path.join(out, name))
    for name in TOKENIZER_FILES:
        shutil.copyfile(os.path.join(build, name), os.path.join(out, name))
    for name, w in mx.load(os.path.join(out, "model.safetensors")).items():
        if name.endswith(".scales"):
            scales = quant.mlx_affine(state[name.removesuffix(".scales") + ".weight"])[1]
            assert np.array_equal(np.array(w.astype(mx.float32)), scales.float().numpy()), f"{name}: not what training simulated"


def export_gguf(build, state, path):
    with open(os.path.join(build, "config.json")) as f:
        c = json.load(f)
    with open(os.path.join(build, "tokenizer.json")) as f:
        tokenizer = json.load(f)
    with open(os.path.join(build, "tokenizer_config.json")) as f:
        settings = json.load(f)
    w = gguf.GGUFWriter(path, "qwen3")
    w.add_name("Dacapo demo model")
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c["rope_theta"])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_vocab_size(c["vocab_size"])
    w.add_file_type(2)
    w.add_quantization_version(2)
    added = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    ids = {**tokenizer["model"]["vocab"], **added}
    tokens = sorted(ids, key=ids.get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([int(gguf.TokenType.CONTROL if t in added else gguf.TokenType.NORMAL) for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]])
    w.add_eos_token_id(ids["<|im_end|>"])
    w.add_eot_token_id(ids["<|im_end|>"])
    w.add_pad_token_id(ids["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(settings["chat_template"])
    for name, t in state.items():
        a = t.float().numpy()
        if a.ndim == 1:
            w.add_tensor(gguf_name(name), a)
        else:
            form = Type.Q8_0 if "embed_tokens" in name else Type.Q4_0
            w.add_tensor(gguf_name(name), gguf.quants.quantize(np.ascontiguousarray(a), form), raw_dtype=form)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    for t in gguf.GGUFReader(path).tensors:
        name = next(n for n in state if gguf_name(n) == t.name)
        expected = quant.through(name, state[name], "gguf").numpy()
        found = gguf.quants.dequantize(t.data, t.tensor_type).reshape(expected.shape)
        different = int((found != expected).sum())
        assert different == 0, f"{name}: {different} of {found.size} weights are not what training simulated"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    state = load(a.build)
    os.makedirs(a.out, exist_ok=True)
    export_mlx(a.build, state, os.path.join(a.out, "mlx"))
    export_gguf(a.build, state, os.path.join(a.out, "demo-q4_0.gguf"))
    shutil.copyfile(os.path.join(a.build, "training.json"), os.path.join(a.out, "training.json"))
    for folder, _, names in os.walk(a.out):
        for name in sorted(names):
            print(f"{os.path.getsize(os.path.join(folder, name)):9}  {os.path.join(folder, name)}")


if __name__ == "__main__":
    main()
