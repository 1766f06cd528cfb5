//! GGUF's tensor names in Hugging Face's scheme, so that an architecture asks one name for both formats.

/// Parts outside the layers: GGUF, Hugging Face.
const GLOBAL: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Parts of a layer: GGUF, Hugging Face.
const LAYER: [(&str, &str); 19] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_gate_inp", "mlp.gate"),
    ("ffn_gate_exps", "mlp.switch_mlp.gate_proj"),
    ("ffn_up_exps", "mlp.switch_mlp.up_proj"),
    ("ffn_down_exps", "mlp.switch_mlp.down_proj"),
    ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
    ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
    ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
    ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
];

/// gpt-oss's experts, and its other names.
const GPT_OSS: [(&str, &str); 6] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("attn_sinks", "self_attn.sinks"),
    ("ffn_gate_inp", "mlp.router"),
    ("ffn_gate_exps", "mlp.experts.gate_proj"),
    ("ffn_up_exps", "mlp.experts.up_proj"),
    ("ffn_down_exps", "mlp.experts.down_proj"),
];

/// Mixtral's experts.
const SPARSE: [(&str, &str); 4] = [
    ("ffn_gate_inp", "block_sparse_moe.gate"),
    ("ffn_gate_exps", "block_sparse_moe.switch_mlp.gate_proj"),
    ("ffn_up_exps", "block_sparse_moe.switch_mlp.up_proj"),
    ("ffn_down_exps", "block_sparse_moe.switch_mlp.down_proj"),
];

/// Parts of layers that also normalize what attention and MLP give; the norm before the MLP has another name then.
const NORMED_AFTER: [(&str, &str); 3] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Parts of layers whose file has several projections in one tensor.
const FUSED: [(&str, &str); 2] = [("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")];

/// Parts of layers that may be gated delta nets.
const DELTA: [(&str, &str); 10] = [
    ("post_attention_norm", "post_attention_layernorm"),
    ("attn_qkv", "linear_attn.in_proj_qkv"),
    ("attn_gate", "linear_attn.in_proj_z"),
    ("ssm_in", "linear_attn.in_proj_qkvz"),
    ("ssm_ba", "linear_attn.in_proj_ba"),
    ("ssm_beta", "linear_attn.in_proj_b"),
    ("ssm_alpha", "linear_attn.in_proj_a"),
    ("ssm_conv1d", "linear_attn.conv1d"),
    ("ssm_norm", "linear_attn.norm"),
    ("ssm_out", "linear_attn.out_proj"),
];

/// Tensors of gated delta nets that are no weight or bias of a part. The first is not the logarithm that Hugging Face's files
/// have, but what it stands for.
const DELTA_WHOLE: [(&str, &str); 2] = [("ssm_a", "linear_attn.A"), ("ssm_dt.bias", "linear_attn.dt_bias")];

/// Parts of an encoder outside the layers.
const ENCODER: [(&str, &str); 4] = [
    ("token_embd", "embeddings.word_embeddings"),
    ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "embeddings.LayerNorm"),
];

/// Parts of an encoder's layer.
const ENCODER_LAYER: [(&str, &str); 8] = [
    ("attn_q", "attention.self.query"),
    ("attn_k", "attention.self.key"),
    ("attn_v", "attention.self.value"),
    ("attn_output", "attention.output.dense"),
    ("attn_output_norm", "attention.output.LayerNorm"),
    ("ffn_up", "intermediate.dense"),
    ("ffn_down", "output.dense"),
    ("layer_output_norm", "output.LayerNorm"),
];

/// Parts of a layer that an architecture names differently, before [`LAYER`].
fn special(architecture: &str) -> &'static [(&'static str, &'static str)] {
    match architecture {
        "gemma2" | "gemma3" | "olmo2" => &NORMED_AFTER,
        "phi3" => &FUSED,
        "llama" => &SPARSE,
        "gpt-oss" => &GPT_OSS,
        "qwen35" | "qwen35moe" | "qwen3next" => &DELTA,
        _ => &[],
    }
}

/// What stands before the names of the text part in folders of models that see images.
const TEXT_PARTS: [(&str, &str); 3] = [
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head.", "lm_head."),
];

/// Where the names of models without a head begin, which are saved without the name of the model around it.
const BARE: [&str; 3] = ["layers.", "embed_tokens.", "norm."];

/// The name of a folder's tensor or module as that of a model of text alone.
pub(super) fn from_folder(name: &str) -> String {
    if BARE.iter().any(|start| name.starts_with(start)) {
        return format!("model.{name}");
    }
    // BERT's oldest files have TensorFlow's names of a norm's weight and bias.
    let rest = name.strip_prefix("bert.").unwrap_or(name);
    for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
        if let Some(module) = rest.strip_suffix(old).filter(|module| module.ends_with("LayerNorm.")) {
            return format!("{module}{new}");
        }
    }
    if rest.len() < name.len() {
        return rest.to_string();
    }
    let part = TEXT_PARTS.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    part.unwrap_or_else(|| name.to_string())
}

/// The names that a module of text may have in a folder: its own, and those in models that see images.
pub(super) fn in_folder(path: &str) -> impl Iterator<Item = String> {
    let with_part = |(from, to): &(&str, &str)| {
        let module = to.trim_end_matches('.');
        let rest = path.strip_prefix(module)?;
        (rest.is_empty() || rest.starts_with('.')).then(|| format!("{}{rest}", from.trim_end_matches('.')))
    };
    std::iter::once(path.to_string()).chain(TEXT_PARTS.iter().filter_map(with_part).collect::<Vec<_>>())
}

/// The Hugging Face name of a tensor in a GGUF file of this architecture; names without a counterpart, such as
/// `rope_freqs.weight`, stay.
pub(super) fn from_gguf(name: &str, architecture: &str) -> String {
    translate(name, architecture).unwrap_or_else(|| name.to_string())
}

fn translate(name: &str, architecture: &str) -> Option<String> {
    if let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'))
        && let Some((_, whole)) = DELTA_WHOLE.iter().find(|row| row.0 == rest)
        && layer.parse::<u32>().is_ok()
    {
        return Some(format!("model.layers.{layer}.{whole}"));
    }
    let (module, parameter) = name.rsplit_once('.')?;
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    let find =
        |table: &[(&str, &'static str)], key: &str| table.iter().find(|row| row.0 == key).map(|row| row.1);
    let encoder = architecture == "bert";
    if let Some(rest) = module.strip_prefix("blk.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        if encoder {
            return Some(format!("encoder.layer.{layer}.{}.{parameter}", find(&ENCODER_LAYER, part)?));
        }
        let part = find(special(architecture), part).or_else(|| find(&LAYER, part))?;
        return Some(format!("model.layers.{layer}.{part}.{parameter}"));
    }
    let table: &[(&str, &str)] = if encoder { &ENCODER } else { &GLOBAL };
    Some(format!("{}.{parameter}", find(table, module)?))
}

/// The GGUF name of a decoder's Hugging Face tensor, if it has one.
pub(crate) fn to_gguf(name: &str, architecture: &str) -> Option<String> {
    if let Some((layer, rest)) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'))
        && let Some((whole, _)) = DELTA_WHOLE.iter().find(|row| row.1 == rest)
        && layer.parse::<u32>().is_ok()
    {
        return Some(format!("blk.{layer}.{whole}"));
    }
    let (module, parameter) = match name.strip_suffix(".sinks") {
        // No module's weight but in GGUF files.
        Some(_) => (name, "weight"),
        None => name.rsplit_once('.')?,
    };
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    let find =
        |table: &[(&'static str, &str)], key: &str| table.iter().find(|row| row.1 == key).map(|row| row.0);
    if let Some(rest) = module.strip_prefix("model.layers.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let part = find(special(architecture), part).or_else(|| find(&LAYER, part))?;
        return Some(format!("blk.{layer}.{part}.{parameter}"));
    }
    Some(format!("{}.{parameter}", find(&GLOBAL, module)?))
}

#[cfg(test)]
mod tests {
    use super::{from_folder, from_gguf, in_folder, to_gguf};

    #[test]
    fn names_go_both_ways() {
        for gguf in ["blk.3.attn_output.weight", "blk.0.attn_k.bias", "output.weight", "token_embd.weight"] {
            assert_eq!(to_gguf(&from_gguf(gguf, "llama"), "llama").as_deref(), Some(gguf));
        }
        for gguf in ["blk.0.ssm_a", "blk.7.ssm_dt.bias", "blk.1.ssm_out.weight", "blk.1.attn_qkv.weight"] {
            assert_eq!(to_gguf(&from_gguf(gguf, "qwen35"), "qwen35").as_deref(), Some(gguf));
        }
        let sinks = to_gguf("model.layers.2.self_attn.sinks", "gpt-oss");
        assert_eq!(sinks.as_deref(), Some("blk.2.attn_sinks.weight"));
        assert_eq!(to_gguf("model.layers.0.unheard_of.weight", "llama"), None);
        assert_eq!(to_gguf("model.layers.0.self_attn.q_proj.scales", "llama"), None);
    }

    #[test]
    fn an_architecture_may_have_names_of_its_own() {
        for (architecture, gguf, expected) in [
            ("llama", "ffn_norm", "post_attention_layernorm"),
            ("gemma2", "ffn_norm", "pre_feedforward_layernorm"),
            ("gemma3", "post_attention_norm", "post_attention_layernorm"),
            ("gemma3", "attn_norm", "input_layernorm"),
            ("olmo2", "post_ffw_norm", "post_feedforward_layernorm"),
            ("phi3", "ffn_up", "mlp.gate_up_proj"),
            ("phi3", "attn_qkv", "self_attn.qkv_proj"),
            ("llama", "ffn_gate_inp", "block_sparse_moe.gate"),
            ("llama", "ffn_up", "mlp.up_proj"),
            ("gpt-oss", "attn_sinks", "self_attn.sinks"),
            ("gpt-oss", "ffn_up_exps", "mlp.experts.up_proj"),
            ("qwen2moe", "ffn_down_exps", "mlp.switch_mlp.down_proj"),
            ("qwen2moe", "ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
            ("qwen35", "attn_qkv", "linear_attn.in_proj_qkv"),
            ("qwen35", "post_attention_norm", "post_attention_layernorm"),
            ("qwen3next", "ssm_ba", "linear_attn.in_proj_ba"),
        ] {
            let found = from_gguf(&format!("blk.3.{gguf}.weight"), architecture);
            assert_eq!(found, format!("model.layers.3.{expected}.weight"), "{architecture}");
            assert_eq!(to_gguf(&found, architecture).unwrap(), format!("blk.3.{gguf}.weight"));
        }
    }

    #[test]
    fn the_text_part_has_the_names_of_a_model_of_text() {
        for (folder, expected) in [
            ("language_model.model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
            ("model.language_model.embed_tokens", "model.embed_tokens"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("model.norm.weight", "model.norm.weight"),
            ("layers.3.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"),
            ("bert.embeddings.LayerNorm.gamma", "embeddings.LayerNorm.weight"),
            ("bert.encoder.layer.0.output.dense.bias", "encoder.layer.0.output.dense.bias"),
            ("vision_tower.x", "vision_tower.x"),
        ] {
            assert_eq!(from_folder(folder), expected);
        }
        let names: Vec<_> = in_folder("model.norm").collect();
        assert_eq!(names, ["model.norm", "language_model.model.norm", "model.language_model.norm"]);
        assert_eq!(in_folder("lm_head").collect::<Vec<_>>(), ["lm_head", "language_model.lm_head"]);
    }

    #[test]
    fn names_follow_hugging_face() {
        for (gguf, expected) in [
            ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
            ("blk.31.attn_k.bias", "model.layers.31.self_attn.k_proj.bias"),
            ("blk.7.ffn_norm.weight", "model.layers.7.post_attention_layernorm.weight"),
            ("token_embd.weight", "model.embed_tokens.weight"),
            ("output_norm.weight", "model.norm.weight"),
            ("output.weight", "lm_head.weight"),
            ("rope_freqs.weight", "rope_freqs.weight"),
            ("blk.2.ssm_a", "model.layers.2.linear_attn.A"),
            ("blk.2.ssm_dt.bias", "model.layers.2.linear_attn.dt_bias"),
            ("blk.x.attn_q.weight", "blk.x.attn_q.weight"),
            ("blk.0.unheard_of.weight", "blk.0.unheard_of.weight"),
            ("plain", "plain"),
        ] {
            assert_eq!(from_gguf(gguf, "llama"), expected);
        }
    }
}
