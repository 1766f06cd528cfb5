//! BERT: an encoder.

use super::{Defaults, Family};
use crate::checkpoint::config::{Activation, LIMIT, ModelConfig};
use crate::checkpoint::config_hf::activation;
use crate::error::Error;

pub(super) const BERT: Family = Family {
    name: "bert",
    model_types: &["bert"],
    in_gguf: true,
    experts: Some(false),
    permuted: false,
    partial_rotation: false,
    defaults: Defaults {
        vocab_size: 30522,
        hidden_size: 768,
        intermediate_size: 3072,
        layers: 12,
        heads: 12,
        kv_heads: None,
        head_dim: None,
        context_length: 512,
        rms_eps: 1e-12,
        theta: 10000.0,
        tied: true,
        bos: None,
        eos: &[],
    },
    adapt_hf: |fields, config| {
        if fields.bool("is_decoder", false)? {
            return Err(fields.fail("is_decoder", "false"));
        }
        if !matches!(fields.str("position_embedding_type")?, None | Some("absolute")) {
            return Err(fields.fail("position_embedding_type", "absolute"));
        }
        if let Some(eps) = fields.positive("layer_norm_eps")? {
            config.rms_eps = eps as f32;
        }
        config.hidden_act = activation(fields, "hidden_act", Activation::Gelu)?;
        config.token_types = fields.count("type_vocab_size", 1..=LIMIT)?.unwrap_or(2);
        encoder(config);
        Ok::<_, Error>(())
    },
    adapt_gguf: |_, checkpoint, config| {
        config.hidden_act = Activation::Gelu;
        let types = checkpoint.tensor("embeddings.token_type_embeddings.weight");
        config.token_types = types.and_then(|tensor| tensor.shape.first().copied()).unwrap_or(0);
        encoder(config);
        Ok(())
    },
};

fn encoder(config: &mut ModelConfig) {
    config.causal = false;
    config.rotated = vec![false; config.layers];
    config.set_biases(true, true, true);
}
