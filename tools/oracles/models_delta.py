"""What families with gated delta nets have of their own: configurations, tensors, and how GGUF and MLX arrange them.

Value heads are drawn in the order of Hugging Face's files, where neighbours share a key head. llama.cpp's files of Qwen3.5 have them
in another, in which they go around the key heads; those of Qwen3-Next keep the order, but not the interleaving of projections."""

import numpy as np

ROTATION = dict(rope_type="default", partial_rotary_factor=0.25, mrope_section=[2, 1, 1], mrope_interleaved=True)
COMMON = dict(head_dim=32, attention_bias=False, rms_norm_eps=1e-6, rope_theta=1e6, num_hidden_layers=2, full_attention_interval=2,
              layer_types=["linear_attention", "full_attention"], linear_conv_kernel_dim=4, linear_key_head_dim=16, linear_value_head_dim=16,
              linear_num_key_heads=2, linear_num_value_heads=4)
SPARSE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32)
FAMILIES = {
    "qwen3_5_moe_text": dict(COMMON, **SPARSE, architecture="Qwen3_5MoeForCausalLM", rope_scaling=ROTATION, attn_output_gate=True),
    "qwen3_5_text": dict(COMMON, architecture="Qwen3_5ForCausalLM", rope_scaling=ROTATION, attn_output_gate=True),
    "qwen3_next": dict(COMMON, architecture="Qwen3NextForCausalLM", partial_rotary_factor=0.25, num_experts=0, num_experts_per_tok=0,
                       decoder_sparse_step=1, mlp_only_layers=[], moe_intermediate_size=32, shared_expert_intermediate_size=32),
}
EXPERTS = dict(num_experts=5, num_experts_per_tok=2, norm_topk_prob=True)
"""Qwen3-Next as it is published."""
PARTS = {"linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_b": "ssm_beta",
         "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_ba": "ssm_ba", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
         "linear_attn.conv1d": "ssm_conv1d", "post_attention_layernorm": "post_attention_norm"}


def is_fused(c):
    """Whether a layer's experts are in two tensors, gate and up in one."""
    return c["model_type"] == "qwen3_5_moe_text"


def fused(parts):
    """Gate and up, and down, as a folder has them, from the values of all experts by the names of projections; names without the block."""
    return {"experts.gate_up_proj": np.concatenate([parts["gate_proj"], parts["up_proj"]], 1), "experts.down_proj": parts["down_proj"]}


def unfused(weights):
    """For GGUF files: the projections of all experts by the names that their part of the file has, with their names in the folder."""
    for name, value in weights.items():
        if ".experts." not in name:
            continue
        gate, up = np.split(value, 2, 1) if "gate_up" in name else (None, None)
        parts = dict(gate=gate, up=up) if "gate_up" in name else dict(down=value)
        for part, rows in parts.items():
            yield f"blk.{name.split('.')[2]}.ffn_{part}_exps.weight", name, np.ascontiguousarray(rows)


def has(c):
    return c["model_type"] in FAMILIES


def sizes(c):
    """Heads of keys and values, and their widths."""
    return tuple(c[f"linear_{k}"] for k in ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim"))


def is_delta(c, layer):
    return has(c) and c["layer_types"][layer] == "linear_attention"


def shapes(c, at):
    """Tensors of a gated delta net."""
    keys, values, key, value = sizes(c)
    hidden, channels = c["hidden_size"], 2 * keys * key + values * value
    out = {f"{at}conv1d.weight": (channels, 1, c["linear_conv_kernel_dim"]), f"{at}dt_bias": (values,), f"{at}A_log": (values,),
           f"{at}norm.weight": (value,), f"{at}out_proj.weight": (hidden, values * value)}
    if c["model_type"] == "qwen3_next":
        rows = dict(in_proj_qkvz=channels + values * value, in_proj_ba=2 * values)
    else:
        rows = dict(in_proj_qkv=channels, in_proj_z=values * value, in_proj_b=values, in_proj_a=values)
    return out | {f"{at}{part}.weight": (n, hidden) for part, n in rows.items()}


def draw(name, x):
    """A tensor of a gated delta net from normal numbers, or None if it is a matrix like others: heads that forget within a few tokens and
    within some hundreds."""
    if name.endswith("A_log"):
        return 1.5 * x - 2
    if name.endswith("dt_bias"):
        return x - 0.5
    if "conv1d" in name:
        return 0.6 * x
    return None


def less_one(name, c):
    """Whether the folder holds the weight of this norm less 1."""
    return has(c) and "norm" in name and "linear_attn" not in name


def from_mlx(name, value, c):
    """A tensor of a folder that mlx-lm converted, as Hugging Face's has it."""
    if "conv1d" in name:
        return value.movedim(2, 1).contiguous()
    return value - 1 if less_one(name, c) else value


def reorder(w, axis, heads, width, tiled):
    """Value heads between the order in which neighbours share a key head and that in which they go around the key heads."""
    keys, values = heads
    split = (keys, values // keys) if tiled else (values // keys, keys)
    w = np.moveaxis(w, axis, 0)
    moved = w.reshape(*split, width, *w.shape[1:]).swapaxes(0, 1).reshape(w.shape)
    return np.ascontiguousarray(np.moveaxis(moved, 0, axis))


def order(name, w, c, tiled):
    """A tensor of Qwen3.5 in the order of GGUF's value heads, or back."""
    keys, values, key, value = sizes(c)
    module = name.split("linear_attn.")[-1]
    if module.startswith(("in_proj_qkv.", "conv1d")):
        rest = reorder(w[2 * keys * key:], 0, (keys, values), value, tiled)
        return np.concatenate([w[:2 * keys * key], rest])
    if module.startswith("in_proj_z"):
        return reorder(w, 0, (keys, values), value, tiled)
    if module.startswith("out_proj"):
        return reorder(w, 1, (keys, values), value, tiled)
    if module.startswith(("in_proj_a", "in_proj_b", "A_log", "dt_bias")):
        return reorder(w, 0, (keys, values), 1, tiled)
    return w


def rows_of_parts(c):
    """For each row of queries, keys, values and gates, one part after the other, its row among Qwen3-Next's, which are ordered by key
    heads; and where the gates begin."""
    keys, values, key, value = sizes(c)
    share = values // keys * value
    rows = np.arange(keys * (2 * key + 2 * share)).reshape(keys, -1)
    parts = np.split(rows, [key, 2 * key, 2 * key + share], axis=1)
    return np.concatenate([p.ravel() for p in parts]), 2 * keys * key + values * value


def to_gguf(name, value, c):
    """The file's tensors of one of the folder's: names and values."""
    layer = name.split(".")[2]
    if name.endswith("A_log"):
        value, to = -np.exp(value), f"blk.{layer}.ssm_a"
    elif name.endswith("dt_bias"):
        to = f"blk.{layer}.ssm_dt.bias"
    elif "in_proj_qkvz" in name:
        rows, gates = rows_of_parts(c)
        return {f"blk.{layer}.attn_qkv.weight": value[rows[:gates]], f"blk.{layer}.attn_gate.weight": value[rows[gates:]]}
    else:
        part = name.split(".", 3)[3].rsplit(".", 1)[0]
        if part not in PARTS:
            return None
        to = f"blk.{layer}.{PARTS[part]}.weight"
    if "conv1d" in name:
        value = value.squeeze(1)
    if c["model_type"] != "qwen3_next" and "linear_attn" in name:
        value = order(name, value, c, tiled=True)
    return {to: value + 1 if less_one(name, c) else value}


def from_gguf(name, shape, take, c):
    """The folder's tensor from the file's, of which `take` gives one; None if others know better."""
    names = to_gguf(name, np.zeros(shape, np.float32), c)
    if names is None:
        return None
    found = [take(n) for n in names]
    if "in_proj_qkvz" in name:
        out = np.empty(shape, np.float32)
        out[rows_of_parts(c)[0]] = np.concatenate(found)
        return out
    value = found[0].reshape(shape)
    if c["model_type"] != "qwen3_next" and "linear_attn" in name:
        value = order(name, value, c, tiled=False)
    if name.endswith("A_log"):
        value = np.log(-value)
    return value - 1 if less_one(name, c) else value.copy()


def add_metadata(w, c):
    keys, values, key, value = sizes(c)
    w.add_ssm_conv_kernel(c["linear_conv_kernel_dim"])
    w.add_ssm_state_size(key)
    w.add_ssm_group_count(keys)
    w.add_ssm_time_step_rank(values)
    w.add_ssm_inner_size(value * values)
    w.add_full_attention_interval(c["full_attention_interval"])
    if c["model_type"].startswith("qwen3_5"):
        w.add_rope_dimension_sections(c["rope_parameters"]["mrope_section"] + [0])


def numbered(fixtures):
    """The fixtures with numbers of their own to draw by, so that it does not matter which others there are."""
    return {name: dict(spec, number=1000 + i) for i, (name, spec) in enumerate(fixtures.items())}
