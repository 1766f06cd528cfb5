//! Whether what was written says of the model what the source says.

use crate::checkpoint::{DeltaNets, ModelConfig, RopeConfig, RopeScaling};

/// The first thing that two configurations of a model say differently, of what it computes by.
pub(super) fn difference(a: &ModelConfig, b: &ModelConfig) -> Option<&'static str> {
    let caps = |c: &ModelConfig| [c.attention_softcap, c.logit_softcap].map(|cap| cap.unwrap_or(0.0));
    let scales = |c: &ModelConfig| [c.attention_scale, c.embedding_scale, c.residual_scale, c.logit_scale];
    let widths =
        |c: &ModelConfig| [c.hidden_size, c.intermediate_size, c.heads, c.kv_heads, c.head_dim, c.vocab_size];
    let biases = |c: &ModelConfig| [c.attention_bias, c.attention_output_bias, c.mlp_bias];
    let local = match (&a.local_rope, &b.local_rope) {
        (Some(a), Some(b)) => same_rotation(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let checks = [
        ("number of layers", a.layers == b.layers),
        ("widths", widths(a) == widths(b)),
        ("epsilon of norms", near(a.rms_eps.into(), b.rms_eps.into())),
        ("rotary embedding", same_rotation(&a.rope, &b.rope)),
        ("rotary embedding of layers with windows", local),
        ("layers that are rotated", a.rotated == b.rotated),
        ("tied embedding", a.tie_word_embeddings == b.tie_word_embeddings),
        ("biases", biases(a) == biases(b)),
        ("sliding windows", a.sliding_windows == b.sliding_windows),
        ("activation", a.hidden_act == b.hidden_act),
        ("experts", a.experts == b.experts),
        ("gated delta nets", same_nets(a.delta_nets.as_ref(), b.delta_nets.as_ref())),
        ("factors", scales(a).into_iter().zip(scales(b)).all(|(a, b)| near(a, b))),
        ("caps", caps(a).into_iter().zip(caps(b)).all(|(a, b)| near(a, b))),
    ];
    checks.into_iter().find(|(_, same)| !same).map(|(name, _)| name)
}

/// The order of value heads is one of the file's.
fn same_nets(a: Option<&DeltaNets>, b: Option<&DeltaNets>) -> bool {
    let numbers = |nets: &DeltaNets| DeltaNets { tiled: false, ..nets.clone() };
    a.map(numbers) == b.map(numbers)
}

/// Equal as far as single precision goes.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

fn same_rotation(a: &RopeConfig, b: &RopeConfig) -> bool {
    use RopeScaling::{Factors, Linear, Llama3, LongRope, None, Yarn};
    let scaling = match (&a.scaling, &b.scaling) {
        (None, None) => true,
        (Llama3 { .. }, Llama3 { .. }) => a.scaling == b.scaling,
        // The one is found from the other.
        (Llama3 { .. }, Factors) | (Factors, Llama3 { .. }) => true,
        (Linear { factor: a }, Linear { factor: b }) => near(*a, *b),
        (
            Yarn { factor: a, original, beta_fast: fast, beta_slow: slow, attention_factor: f, truncate },
            Yarn { factor: b, original: o, beta_fast, beta_slow, attention_factor, truncate: t },
        ) => {
            let numbers = [(a, b), (fast, beta_fast), (slow, beta_slow), (f, attention_factor)];
            original == o && truncate == t && numbers.iter().all(|(a, b)| near(**a, **b))
        }
        (
            LongRope { short: a, long: b, original, attention_factor: f },
            LongRope { short, long, original: o, attention_factor },
        ) => a == short && b == long && original == o && near(*f, *attention_factor),
        _ => false,
    };
    scaling && a.dims == b.dims && near(a.theta, b.theta)
}
