"""What the model families of the whole-model fixtures have of their own: classes, configurations, tensors.

A configuration is that of `models.config`, changed as the family's published checkpoints have it."""

import models_delta
import models_gpt_oss

LONG_ROPE = dict(type="longrope", short_factor=[1.0, 1.1, 1.25, 1.4, 1.6, 1.8, 2.0, 2.5], long_factor=[1.0, 1.5, 2.5, 4.0, 6.0, 8.0, 10.0, 12.0])

FAMILIES = {
    "llama": dict(architecture="LlamaForCausalLM"),
    "mistral": dict(architecture="MistralForCausalLM", sliding_window=9, head_dim=16),
    "ministral": dict(architecture="MinistralForCausalLM", sliding_window=9, head_dim=16, layer_types=["sliding_attention", "full_attention"]),
    "qwen2": dict(architecture="Qwen2ForCausalLM", tie_word_embeddings=True, use_sliding_window=False, rms_norm_eps=1e-6),
    "qwen3": dict(architecture="Qwen3ForCausalLM", head_dim=32, attention_bias=False, use_sliding_window=False, rms_norm_eps=1e-6, rope_theta=1e6),
    "gemma2": dict(architecture="Gemma2ForCausalLM", head_dim=32, hidden_act=None, hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6,
                   sliding_window=11, query_pre_attn_scalar=24, attn_logit_softcapping=5.0, final_logit_softcapping=8.0, tie_word_embeddings=True),
    "gemma3_text": dict(architecture="Gemma3ForCausalLM", head_dim=32, hidden_act=None, hidden_activation="gelu_pytorch_tanh", rms_norm_eps=1e-6,
                        sliding_window=12, query_pre_attn_scalar=32, rope_theta=1e6, rope_local_base_freq=10000.0, tie_word_embeddings=True),
    "phi3": dict(architecture="Phi3ForCausalLM", original_max_position_embeddings=40, rope_scaling=LONG_ROPE, sliding_window=None, pad_token_id=0),
    "olmo3": dict(architecture="Olmo3ForCausalLM", attention_bias=False, rope_theta=500000.0, sliding_window=9,
                  layer_types=["sliding_attention", "full_attention"]),
    "olmo2": dict(architecture="Olmo2ForCausalLM", attention_bias=False, rope_theta=500000.0),
    "smollm3": dict(architecture="SmolLM3ForCausalLM", no_rope_layers=[1, 0], no_rope_layer_interval=2, use_sliding_window=False, sliding_window=None,
                    rope_theta=5e6, pad_token_id=0, tie_word_embeddings=True, mlp_bias=False, attention_bias=False),
    "granite": dict(architecture="GraniteForCausalLM", attention_bias=False, mlp_bias=False, attention_multiplier=0.2, embedding_multiplier=3.0,
                    residual_multiplier=0.6, logits_scaling=1.7, tie_word_embeddings=True),
    "mixtral": dict(architecture="MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2, sliding_window=None, rope_theta=1e6),
    "qwen2_moe": dict(architecture="Qwen2MoeForCausalLM", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=False,
                      shared_expert_intermediate_size=96, decoder_sparse_step=1, mlp_only_layers=[], use_sliding_window=False, rms_norm_eps=1e-6),
    "qwen3_moe": dict(architecture="Qwen3MoeForCausalLM", num_experts=6, num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=True,
                      decoder_sparse_step=1, mlp_only_layers=[], head_dim=32, attention_bias=False, use_sliding_window=False, sliding_window=None,
                      rms_norm_eps=1e-6, rope_theta=1e6),
} | models_delta.FAMILIES

FAMILIES["gpt_oss"] = dict(
    architecture="GptOssForCausalLM", num_local_experts=4, num_experts_per_tok=2, head_dim=32, sliding_window=9, attention_bias=True, intermediate_size=64,
    rope_theta=150000.0, rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4.0, beta_slow=1.0, truncate=False))

NORMED_AFTER = ("olmo2", "olmo3")
"""Families without norms before attention and MLP."""


def has_experts(c):
    return (c.get("num_experts") or c.get("num_local_experts") or 0) > 0


def is_gemma(c):
    return c["model_type"].startswith("gemma")


def router(c, layer):
    """The module that chooses the layer's experts; None if it has none."""
    if not has_experts(c) or layer in c.get("mlp_only_layers", ()) or (layer + 1) % c.get("decoder_sparse_step", 1):
        return None
    return f"model.layers.{layer}." + {"mixtral": "block_sparse_moe.gate", "gpt_oss": "mlp.router"}.get(c["model_type"], "mlp.gate")


def experts(c, layer):
    """Names and shapes of the tensors of a layer's experts."""
    gate = router(c, layer)
    block, hidden = gate.removesuffix(".gate"), c["hidden_size"]
    inner = c.get("moe_intermediate_size", c["intermediate_size"])
    count = c.get("num_experts") or c["num_local_experts"]
    out = {f"{gate}.weight": (count, hidden)}
    if models_delta.is_fused(c):
        out |= {f"{block}.experts.gate_up_proj": (count, 2 * inner, hidden), f"{block}.experts.down_proj": (count, hidden, inner)}
        count = 0
    parts = ("w1", "w3", "w2") if c["model_type"] == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    for i in range(count):
        for part, shape in zip(parts, ((inner, hidden), (inner, hidden), (hidden, inner))):
            out[f"{block}.experts.{i}.{part}.weight"] = shape
    if width := c.get("shared_expert_intermediate_size"):
        for part, shape in zip(parts, ((width, hidden), (width, hidden), (hidden, width))):
            out[f"{block}.shared_expert.{part}.weight"] = shape
        out[f"{block}.shared_expert_gate.weight"] = (1, hidden)
    return out


def less_one(name, c):
    """Whether folders hold the weight of this norm less 1."""
    return is_gemma(c) and "norm" in name or models_delta.less_one(name, c)


def shapes(c):
    """Names and shapes of a checkpoint's tensors, in Hugging Face's scheme."""
    kind, hidden, inner, heads, kv = (c[k] for k in ("model_type", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    width = c.get("head_dim") or hidden // heads
    out = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], hidden)
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        if models_delta.is_delta(c, i):
            out |= models_delta.shapes(c, f"{at}linear_attn.")
        elif kind == "phi3":
            out[f"{at}self_attn.qkv_proj.weight"] = ((heads + 2 * kv) * width, hidden)
        else:
            for part, rows in (("q", heads), ("k", kv), ("v", kv)):
                # With a gate for each query.
                both = 2 if part == "q" and models_delta.has(c) else 1
                out[f"{at}self_attn.{part}_proj.weight"] = (both * rows * width, hidden)
                if kind in ("qwen2", "qwen2_moe", "gpt_oss"):
                    out[f"{at}self_attn.{part}_proj.bias"] = (rows * width,)
                if (kind in ("qwen3", "qwen3_moe", "gemma3_text") or models_delta.has(c)) and part != "v":
                    out[f"{at}self_attn.{part}_norm.weight"] = (width,)
                if kind in NORMED_AFTER and part != "v":
                    out[f"{at}self_attn.{part}_norm.weight"] = (rows * width,)
        if not models_delta.is_delta(c, i):
            out[f"{at}self_attn.o_proj.weight"] = (hidden, heads * width)
        if kind == "gpt_oss":
            out |= {f"{at}self_attn.o_proj.bias": (hidden,), f"{at}self_attn.sinks": (heads,)} | models_gpt_oss.shapes(c, at)
        elif router(c, i):
            out |= experts(c, i)
        elif kind == "phi3":
            out |= {f"{at}mlp.gate_up_proj.weight": (2 * inner, hidden), f"{at}mlp.down_proj.weight": (hidden, inner)}
        else:
            out[f"{at}mlp.gate_proj.weight"] = out[f"{at}mlp.up_proj.weight"] = (inner, hidden)
            out[f"{at}mlp.down_proj.weight"] = (hidden, inner)
        if kind not in NORMED_AFTER:
            out[f"{at}input_layernorm.weight"] = (hidden,)
        out[f"{at}post_attention_layernorm.weight"] = (hidden,)
        if is_gemma(c):
            out[f"{at}pre_feedforward_layernorm.weight"] = (hidden,)
        if is_gemma(c) or kind in NORMED_AFTER:
            out[f"{at}post_feedforward_layernorm.weight"] = (hidden,)
    return out


def with_images(c):
    """The configuration of a model that sees images, around that of its text part; no other part of it is written."""
    keys = ("dtype", "bos_token_id", "eos_token_id", "vocab_size")
    text = {k: v for k, v in c.items() if k not in ("architectures",)}
    kind, name = ("qwen3_5", "Qwen3_5") if models_delta.has(c) else ("gemma3", "Gemma3")
    if models_delta.is_fused(c):
        kind, name = kind + "_moe", name + "Moe"
    return dict(model_type=kind, architectures=[f"{name}ForConditionalGeneration"], text_config=text, vision_config={}) | {k: c[k] for k in keys if k in c}
