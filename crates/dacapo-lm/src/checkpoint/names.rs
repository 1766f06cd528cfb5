//! GGUF's tensor names in Hugging Face's scheme, so that an architecture asks one name for both formats.

/// Parts outside the layers: GGUF, Hugging Face.
const GLOBAL: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// Parts of a layer: GGUF, Hugging Face.
const LAYER: [(&str, &str); 11] = [
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
];

/// The Hugging Face name of a GGUF tensor; names without a counterpart, such as `rope_freqs.weight`, stay.
pub(super) fn from_gguf(name: &str) -> String {
    translate(name).unwrap_or_else(|| name.to_string())
}

fn translate(name: &str) -> Option<String> {
    let (module, parameter) = name.rsplit_once('.')?;
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    let find =
        |table: &[(&str, &'static str)], key: &str| table.iter().find(|row| row.0 == key).map(|row| row.1);
    if let Some(rest) = module.strip_prefix("blk.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        return Some(format!("model.layers.{layer}.{}.{parameter}", find(&LAYER, part)?));
    }
    Some(format!("{}.{parameter}", find(&GLOBAL, module)?))
}

/// The GGUF name of a Hugging Face tensor, if it has one.
pub(crate) fn to_gguf(name: &str) -> Option<String> {
    let (module, parameter) = name.rsplit_once('.')?;
    if !matches!(parameter, "weight" | "bias") {
        return None;
    }
    let find =
        |table: &[(&'static str, &str)], key: &str| table.iter().find(|row| row.1 == key).map(|row| row.0);
    if let Some(rest) = module.strip_prefix("model.layers.") {
        let (layer, part) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        return Some(format!("blk.{layer}.{}.{parameter}", find(&LAYER, part)?));
    }
    Some(format!("{}.{parameter}", find(&GLOBAL, module)?))
}

#[cfg(test)]
mod tests {
    use super::{from_gguf, to_gguf};

    #[test]
    fn names_go_both_ways() {
        for gguf in ["blk.3.attn_output.weight", "blk.0.attn_k.bias", "output.weight", "token_embd.weight"] {
            assert_eq!(to_gguf(&from_gguf(gguf)).as_deref(), Some(gguf));
        }
        assert_eq!(to_gguf("model.layers.0.unheard_of.weight"), None);
        assert_eq!(to_gguf("model.layers.0.self_attn.q_proj.scales"), None);
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
            ("blk.x.attn_q.weight", "blk.x.attn_q.weight"),
            ("blk.0.unheard_of.weight", "blk.0.unheard_of.weight"),
            ("plain", "plain"),
        ] {
            assert_eq!(from_gguf(gguf), expected);
        }
    }
}
