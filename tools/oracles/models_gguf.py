"""GGUF files for the whole-model fixtures, written and dequantized with the gguf package.

The package does not quantize to the 256-element blocks: for those, random blocks stand for the weights."""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Ggml
from gguf import quants

import models_delta
import models_families
import models_gpt_oss
import models_tokenizer

MIXED_K = {"token_embd": "Q4_K", "attn_q": "Q3_K", "attn_k": "Q2_K", "attn_v": "Q6_K", "attn_output": "Q5_K", "ffn_gate": "Q2_K", "ffn_up": "Q3_K",
           "ffn_down": "Q6_K"}
MIXED_IQ = {"token_embd": "IQ4_XS", "attn_q": "IQ3_S", "attn_k": "IQ2_XS", "attn_v": "IQ4_NL", "attn_output": "IQ3_XXS", "ffn_gate": "IQ2_XXS",
            "ffn_up": "IQ4_XS", "ffn_down": "IQ2_S"}
MIXED_TERNARY = {"token_embd": "MXFP4", "attn_q": "TQ2_0", "attn_k": "MXFP4", "attn_v": "TQ1_0", "attn_output": "MXFP4", "ffn_gate": "TQ1_0",
                 "ffn_up": "TQ2_0", "ffn_down": "MXFP4"}
MIXED_OSS = {part: "MXFP4" for part in ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")}
MIXED_OSS |= {part: "Q8_0" for part in ("token_embd", "output", "attn_q", "attn_k", "attn_v", "attn_output")}
PARTS = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
NORMED_AFTER = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
PARTS |= {"mlp.gate": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp"}
PARTS |= {f"mlp.shared_expert.{part}_proj": f"ffn_{part}_shexp" for part in ("gate", "up", "down")}
SPARSE = {"block_sparse_moe.gate": "ffn_gate_inp"}
GPT_OSS = {"mlp.router": "ffn_gate_inp", "post_attention_layernorm": "post_attention_norm"}
FUSED = {"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"}
# Families with other names of parts, and those whose converter is llama's, which reorders rows.
SPECIAL = {"gemma2": NORMED_AFTER, "gemma3_text": NORMED_AFTER, "olmo2": NORMED_AFTER, "phi3": FUSED, "mixtral": SPARSE, "gpt_oss": GPT_OSS}
REORDERED = ("llama", "granite", "smollm3", "mixtral")
GLOBAL = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
# Where the f16 factors of a block lie: of the scales, and of the minima where there are any (with half the largest code).
FACTORS = {Ggml.Q2_K: (80, 82, 1.5), Ggml.Q3_K: (108, None, 0), Ggml.Q4_K: (0, 2, 7.5), Ggml.Q5_K: (0, 2, 15.5), Ggml.Q6_K: (208, None, 0),
           Ggml.TQ1_0: (52, None, 0), Ggml.TQ2_0: (64, None, 0)}
FACTORS |= {kind: (0, None, 0) for kind in (Ggml.IQ2_XXS, Ggml.IQ2_XS, Ggml.IQ2_S, Ggml.IQ3_XXS, Ggml.IQ3_S, Ggml.IQ4_NL, Ggml.IQ4_XS)}


def architecture(c):
    names = {"qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe", "qwen3_next": "qwen3next", "mixtral": "llama", "qwen2_moe": "qwen2moe", "qwen3_moe": "qwen3moe", "gpt_oss": "gpt-oss"}
    return names.get(c["model_type"], c["model_type"].removesuffix("_text"))


def expert_of(name):
    """The stack that a tensor of one expert is part of, and its number there; None for other tensors."""
    if ".experts." not in name or "gate_up_proj" in name or name.endswith(("experts.down_proj", "_bias")):
        return None
    block, rest = name.split(".experts.")
    number, part, _ = rest.split(".")
    layer = block.split(".")[2]
    part = {"w1": "gate", "w3": "up", "w2": "down"}.get(part, part.removesuffix("_proj"))
    return f"blk.{layer}.ffn_{part}_exps.weight", int(number)


def stacked(weights, c):
    """The file's tensors by name, with the name of one that each is made of: experts of a layer lie together."""
    weights, out = dict(weights), {}
    for name, value in weights.items():
        if name.startswith("blk."):
            out[name] = (name, value)
        elif at := expert_of(name):
            first, values = out.setdefault(at[0], (name, []))
            values.append(value)
        elif ".experts." in name:
            continue
        elif name.endswith("shared_expert_gate.weight"):
            out[gguf_name(name, c)] = (name, value[0])
        else:
            out[gguf_name(name, c)] = (name, value)
    apart = models_gpt_oss.apart if c["model_type"] == "gpt_oss" else models_delta.unfused if models_delta.is_fused(c) else lambda _: ()
    out |= {to: (name, value) for to, name, value in apart(weights)}
    return {to: (name, np.stack(value) if isinstance(value, list) else value) for to, (name, value) in out.items()}


def gguf_name(name, c):
    if name.endswith(".sinks"):
        return f"blk.{name.split('.')[2]}.attn_sinks.weight"
    module, leaf = name.rsplit(".", 1)
    if module in GLOBAL:
        return f"{GLOBAL[module]}.{leaf}"
    _, _, layer, part = module.split(".", 3)
    return f"blk.{layer}.{(PARTS | SPECIAL.get(c['model_type'], {}))[part]}.{leaf}"


def heads_of(name, c):
    """The heads whose rows are reordered in llama's files; None elsewhere."""
    if c["model_type"] in REORDERED and ("q_proj" in name or "k_proj" in name):
        return c["num_attention_heads"] if "q_proj" in name else c["num_key_value_heads"]
    return None


def reorder(w, heads, to_pairs):
    """Between rotary pairs that are halves of a head and pairs that are neighbours, as llama's files have them."""
    half = w.shape[0] // heads // 2
    split = (heads, 2, half) if to_pairs else (heads, half, 2)
    return np.ascontiguousarray(w.reshape(*split, -1).swapaxes(1, 2).reshape(w.shape))


def random_blocks(shape, kind, deviation, rng):
    """Blocks of random codes and scales, with factors that give the values about this standard deviation."""
    at, at_min, middle = FACTORS[kind]
    length, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (shape[0] * shape[1] // length, size), dtype=np.uint8)

    def set_factors(values):
        blocks[:, at:at + 2] = values.astype(np.float16).view(np.uint8)
        if at_min is not None:
            blocks[:, at_min:at_min + 2] = (values * middle).astype(np.float16).view(np.uint8)

    # The deviation at a factor that is a power of two, so that nothing is rounded, tells the factor to take.
    set_factors(np.full((len(blocks), 1), 2.0**-8))
    unit = quants.dequantize(blocks, kind).std() * 2**8
    set_factors(deviation / unit * rng.uniform(0.7, 1.3, (len(blocks), 1)))
    return blocks.reshape(shape[0], -1)


def rope_factors(c):
    """Llama 3.1's divisors of the rotary frequencies, which GGUF files carry as a tensor."""
    s = c.get("rope_scaling")
    if not s or s.get("rope_type") != "llama3":
        return None
    width = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    wavelength = 2 * np.pi * c["rope_theta"] ** (np.arange(0, width, 2) / width)
    low, high = s["low_freq_factor"], s["high_freq_factor"]
    blend = np.clip((s["original_max_position_embeddings"] / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - blend) / s["factor"] + blend)).astype(np.float32)


def add_metadata(w, c):
    width = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    rope = c.get("rope_parameters") or c
    if c["model_type"] != "gemma2":
        w.add_rope_freq_base(rope["rope_theta"])
    if not models_families.is_gemma(c):
        w.add_rope_dimension_count(int(rope.get("partial_rotary_factor", 1) * width))
    if width * c["num_attention_heads"] != c["hidden_size"] or models_families.is_gemma(c):
        w.add_key_length(width)
        w.add_value_length(width)
    add_special(w, c)
    s = c.get("rope_scaling")
    if s and s.get("rope_type", "llama3") != "llama3":
        w.add_rope_scaling_type(gguf.RopeScalingType(s["rope_type"]))
        w.add_rope_scaling_factor(s["factor"])
    if s and s.get("rope_type") == "yarn":
        w.add_rope_scaling_orig_ctx_len(s["original_max_position_embeddings"])
        w.add_rope_scaling_yarn_beta_fast(s["beta_fast"])
        w.add_rope_scaling_yarn_beta_slow(s["beta_slow"])
    if models_families.has_experts(c):
        w.add_expert_count(c.get("num_experts") or c["num_local_experts"])
        w.add_expert_used_count(c["num_experts_per_tok"])
        if "moe_intermediate_size" in c:
            w.add_expert_feed_forward_length(c["moe_intermediate_size"])
        if "shared_expert_intermediate_size" in c:
            w.add_expert_shared_feed_forward_length(c["shared_expert_intermediate_size"])
    if c["model_type"] == "gpt_oss":
        w.add_sliding_window(c["sliding_window"])
        w.add_expert_feed_forward_length(c["intermediate_size"])
    add_tokenizer(w)


def add_special(w, c):
    """The metadata that only some families have, as llama.cpp's converter writes them."""
    kind = c["model_type"]
    if kind == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if models_families.is_gemma(c):
        w.add_sliding_window(c["sliding_window"])
    if models_delta.has(c):
        models_delta.add_metadata(w, c)
    if kind == "phi3":
        w.add_sliding_window(c["sliding_window"] or 0)
        w.add_rope_scaling_orig_ctx_len(c["original_max_position_embeddings"])
        w.add_rope_scaling_attn_factors(long_rope_factor(c))
    if kind == "granite":
        w.add_attention_scale(c["attention_multiplier"])
        w.add_embedding_scale(c["embedding_multiplier"])
        w.add_residual_scale(c["residual_multiplier"])
        w.add_logit_scale(c["logits_scaling"])


def long_rope_factor(c):
    original = c["original_max_position_embeddings"]
    return math.sqrt(1 + math.log(c["max_position_embeddings"] / original) / math.log(original))


def add_tokenizer(w):
    kinds = [gguf.TokenType.NORMAL] * models_tokenizer.TEXT + [gguf.TokenType.CONTROL] * len(models_tokenizer.SPECIAL)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(models_tokenizer.tokens())
    w.add_token_types(kinds)
    w.add_token_merges([" ".join(m) for m in models_tokenizer.MERGES])
    w.add_bos_token_id(models_tokenizer.BOS)
    w.add_eos_token_id(models_tokenizer.EOS)
    w.add_add_bos_token(False)


def write(path, spec, weights, deviation, rng):
    """Writes a file; `deviation` tells the standard deviation of a tensor of random blocks."""
    c, types = spec["config"], spec["types"]
    w = gguf.GGUFWriter(path, architecture(c))
    add_metadata(w, c)
    if (factors := rope_factors(c)) is not None:
        w.add_tensor("rope_freqs.weight", factors)
    if c["model_type"] == "phi3":
        for which in ("long", "short"):
            w.add_tensor(f"rope_factors_{which}.weight", np.array(c["rope_scaling"][f"{which}_factor"], np.float32))
    for to, (name, value) in stacked(arranged(weights, c), c).items():
        if heads := heads_of(name, c):
            value = reorder(value, heads, to_pairs=True)
        # llama.cpp keeps routers in F32.
        plain = value.ndim < 2 or "ffn_gate_inp" in to or to.endswith(".bias") or "conv1d" in to
        kind = Ggml.F32 if plain else Ggml[types[to.split(".")[-2]] if isinstance(types, dict) else types]
        if kind in FACTORS:
            w.add_tensor(to, random_blocks(value.shape, kind, deviation(name), rng), raw_dtype=kind)
        elif kind == Ggml.F32:
            w.add_tensor(to, value)
        elif kind == Ggml.F16:
            w.add_tensor(to, value.astype(np.float16))
        else:
            w.add_tensor(to, quants.quantize(value, kind), raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    if spec["version"] == 2:
        # Version 3 added big-endian files; little-endian ones are the same but for the number.
        with open(path, "r+b") as f:
            f.seek(4)
            f.write((2).to_bytes(4, "little"))


def arranged(weights, c):
    """Names and values; those of gated delta nets by GGUF's names and in its arrangement."""
    for name, value in weights.items():
        special = models_delta.to_gguf(name, value, c) if models_delta.has(c) and ".layers." in name else None
        if special is not None:
            yield from special.items()
        else:
            yield name, value + 1 if models_families.less_one(name, c) else value


def dequantize(path, c):
    """The file's weights as f32, by their Hugging Face names and in their order of rows."""
    found = {t.name: t for t in gguf.GGUFReader(path).tensors}
    out = {}

    def take(name):
        t = found.pop(name)
        return quants.dequantize(t.data, t.tensor_type).astype(np.float32)

    for name, shape in models_families.shapes(c).items():
        if at := expert_of(name):
            t = found[at[0]]
            value = quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(-1, *shape)
            out[name] = value[at[1]].copy()
            continue
        if ".experts." in name:
            inner = lambda t: quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(t.shape[::-1])
            if models_delta.is_fused(c):
                at = f"blk.{name.split('.')[2]}.ffn_"
                parts = {f"{part}_proj": inner(found[f"{at}{part}_exps.weight"]) for part in ("gate", "up", "down")}
                out[name] = models_delta.fused(parts)[name.split(".mlp.")[1]]
                continue
            out[name] = models_gpt_oss.together(name, shape, lambda of: inner(found[of]))
            continue
        if models_delta.has(c) and ".layers." in name and (value := models_delta.from_gguf(name, shape, take, c)) is not None:
            out[name] = value
            continue
        value = take(gguf_name(name, c)).reshape(shape)
        heads = heads_of(name, c)
        out[name] = reorder(value, heads, to_pairs=False) if heads else value.copy()
        if models_families.less_one(name, c):
            out[name] -= 1
    found = {name: t for name, t in found.items() if "_exps." not in name}
    assert set(found) <= {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}, found.keys()
    return out


def llama_cpp_logits(path, prompt):
    """llama.cpp's logits with an f32 cache; None if it is not installed, or fails: some builds crash on some types."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "logits.npy"
        done = subprocess.run([sys.executable, __file__, str(path), json.dumps(prompt), str(out)], capture_output=True)
        return np.load(out) if done.returncode == 0 else None


def run_llama_cpp(path, prompt, out):
    import llama_cpp

    model = llama_cpp.Llama(model_path=path, n_ctx=len(json.loads(prompt)), n_batch=128, logits_all=True, n_threads=2, verbose=False, type_k=0, type_v=0)
    model.eval(json.loads(prompt))
    np.save(out, np.array(model.scores[:model.n_tokens], np.float32))


if __name__ == "__main__":
    run_llama_cpp(*sys.argv[1:])
