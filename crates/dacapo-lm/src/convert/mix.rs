//! Which type each tensor of a GGUF file gets.

use std::str::FromStr;

use dacapo_ops::quant::{Float, Ggml};

use super::encode::Form;
use crate::checkpoint::ModelConfig;

/// A type of GGML's that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GgufType {
    /// Plain values.
    Float(Float),
    /// Blocks.
    Blocks(Ggml),
}

impl GgufType {
    /// The id in a GGUF file.
    pub(super) fn id(self) -> u32 {
        use crate::checkpoint::ggml::GgmlType as Type;
        let found = match self {
            GgufType::Float(Float::F32) => Some(Type::F32),
            GgufType::Float(Float::F16) => Some(Type::F16),
            GgufType::Float(Float::BF16) => Some(Type::BF16),
            GgufType::Blocks(g) => Type::ALL.iter().copied().find(|t| t.name() == g.name()),
        };
        found.map_or(0, Type::id)
    }

    pub(super) fn form(self) -> Form {
        match self {
            GgufType::Float(float) => Form::Dense(float),
            GgufType::Blocks(g) => Form::Ggml(g),
        }
    }

    /// This type, or the next best one with rows of `width` values: those that llama.cpp takes.
    fn for_width(self, width: usize) -> GgufType {
        let GgufType::Blocks(g) = self else { return self };
        let smaller = match g {
            _ if width.is_multiple_of(g.block_len()) => g,
            Ggml::Q2_K | Ggml::Q3_K => Ggml::Q4_0,
            Ggml::Q4_K => Ggml::Q5_0,
            Ggml::Q5_K => Ggml::Q5_1,
            Ggml::Q6_K => Ggml::Q8_0,
            other => other,
        };
        match width.is_multiple_of(smaller.block_len()) {
            true => GgufType::Blocks(smaller),
            false => GgufType::Float(Float::F16),
        }
    }
}

/// How much better than the others a mix's important tensors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// All tensors alike.
    Plain,
    Small,
    Medium,
    Large,
    /// Experts in 4-bit floats.
    Experts,
}

/// What of a model decides which of its tensors are important.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// Number of layers.
    layers: usize,
    /// Whether the embedding is the output too.
    tied: bool,
    /// Whether it is like Mixtral 8x7B, whose attention is small beside its experts.
    eight_experts: bool,
}

impl Traits {
    pub(super) fn of(model: &ModelConfig) -> Self {
        let eight_experts = model.experts.as_ref().is_some_and(|experts| experts.count == 8);
        Traits { layers: model.layers, tied: model.tie_word_embeddings, eight_experts }
    }
}

/// A type for all tensors, or one of llama.cpp's mixes of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    name: &'static str,
    base: GgufType,
    kind: Kind,
    /// The number in `general.file_type`.
    file_type: u32,
}

const fn blocks(name: &'static str, g: Ggml, kind: Kind, file_type: u32) -> Mix {
    Mix { name, base: GgufType::Blocks(g), kind, file_type }
}

const fn float(name: &'static str, float: Float, file_type: u32) -> Mix {
    Mix { name, base: GgufType::Float(float), kind: Kind::Plain, file_type }
}

impl Mix {
    /// All that there are.
    pub const ALL: [Mix; 21] = [
        float("F32", Float::F32, 0),
        float("F16", Float::F16, 1),
        float("BF16", Float::BF16, 32),
        blocks("Q4_0", Ggml::Q4_0, Kind::Plain, 2),
        blocks("Q4_1", Ggml::Q4_1, Kind::Plain, 3),
        blocks("Q5_0", Ggml::Q5_0, Kind::Plain, 8),
        blocks("Q5_1", Ggml::Q5_1, Kind::Plain, 9),
        blocks("Q8_0", Ggml::Q8_0, Kind::Plain, 7),
        blocks("Q2_K", Ggml::Q2_K, Kind::Plain, 10),
        blocks("Q3_K", Ggml::Q3_K, Kind::Plain, 11),
        blocks("Q4_K", Ggml::Q4_K, Kind::Plain, 14),
        blocks("Q5_K", Ggml::Q5_K, Kind::Plain, 16),
        blocks("Q6_K", Ggml::Q6_K, Kind::Plain, 18),
        blocks("Q3_K_S", Ggml::Q3_K, Kind::Small, 11),
        blocks("Q3_K_M", Ggml::Q3_K, Kind::Medium, 12),
        blocks("Q3_K_L", Ggml::Q3_K, Kind::Large, 13),
        blocks("Q4_K_S", Ggml::Q4_K, Kind::Small, 14),
        blocks("Q4_K_M", Ggml::Q4_K, Kind::Medium, 15),
        blocks("Q5_K_S", Ggml::Q5_K, Kind::Small, 16),
        blocks("Q5_K_M", Ggml::Q5_K, Kind::Medium, 17),
        blocks("MXFP4_MOE", Ggml::Q8_0, Kind::Experts, 38),
    ];

    /// Its name, such as `Q4_K_M`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn file_type(&self) -> u32 {
        self.file_type
    }

    /// The type of a matrix with rows of `width` values, by its name in the file.
    pub(super) fn choose(&self, name: &str, width: usize, traits: Traits) -> GgufType {
        self.wanted(name, traits).for_width(width)
    }

    /// As [`choose`](Self::choose), for rows of any length. The rules are llama.cpp's.
    fn wanted(&self, name: &str, traits: Traits) -> GgufType {
        let GgufType::Blocks(base) = self.base else { return self.base };
        match self.kind {
            Kind::Plain => return self.base,
            Kind::Experts if name.contains("_exps.") => return GgufType::Blocks(Ggml::MXFP4),
            Kind::Experts => return self.base,
            Kind::Small | Kind::Medium | Kind::Large => {}
        }
        let (layer, part) = match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            // Experts are treated like other MLPs, and values in one matrix with queries and keys like values.
            Some((layer, part)) => {
                let part =
                    part.replace("_exps.", ".").replace("_shexp.", ".").replace("attn_qkv.", "attn_v.");
                (layer.parse().unwrap_or(0), part)
            }
            None => (0, name.to_string()),
        };
        let Traits { layers, tied, eight_experts } = traits;
        let first = layer < layers / 8;
        let more = first || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        let better = match (part.as_str(), base, self.kind) {
            ("output.weight", ..) => Ggml::Q6_K,
            ("token_embd.weight", ..) if tied => Ggml::Q6_K,
            ("attn_v.weight" | "attn_k.weight", ..) if eight_experts => Ggml::Q8_0,
            ("attn_output.weight", Ggml::Q4_K, _)
            | ("attn_output.weight", Ggml::Q3_K, Kind::Small | Kind::Medium)
                if eight_experts =>
            {
                Ggml::Q5_K
            }
            ("attn_output.weight", ..) if eight_experts => base,
            ("attn_v.weight" | "ffn_down.weight", Ggml::Q4_K | Ggml::Q5_K, Kind::Medium) if more => {
                Ggml::Q6_K
            }
            ("attn_v.weight", Ggml::Q4_K, Kind::Small) if layer < 4 => Ggml::Q5_K,
            ("ffn_down.weight", Ggml::Q4_K, Kind::Small) if first => Ggml::Q5_K,
            ("attn_v.weight", Ggml::Q3_K, Kind::Medium) if layer < 2 => Ggml::Q5_K,
            ("ffn_down.weight", Ggml::Q3_K, Kind::Medium) if layer < layers / 16 => Ggml::Q5_K,
            ("attn_v.weight" | "ffn_down.weight" | "attn_output.weight", Ggml::Q3_K, Kind::Medium) => {
                Ggml::Q4_K
            }
            ("attn_v.weight" | "ffn_down.weight" | "attn_output.weight", Ggml::Q3_K, Kind::Large) => {
                Ggml::Q5_K
            }
            _ => base,
        };
        GgufType::Blocks(better)
    }
}

impl FromStr for Mix {
    type Err = String;

    /// By its name, in letters of either case.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mix| mix.name.eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("expected one of {}", Self::ALL.map(|mix| mix.name).join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(mix: &str, name: &str, width: usize, layers: usize) -> GgufType {
        let traits = Traits { layers, tied: true, eight_experts: false };
        mix.parse::<Mix>().unwrap().choose(name, width, traits)
    }

    #[test]
    fn attention_beside_eight_experts_gets_more_bits() {
        use Ggml::*;
        let traits = Traits { layers: 32, tied: false, eight_experts: true };
        for (mix, name, expected) in [
            ("Q4_K_M", "blk.4.attn_v.weight", Q8_0),
            ("Q3_K_S", "blk.4.attn_k.weight", Q8_0),
            ("Q4_K_S", "blk.4.attn_output.weight", Q5_K),
            ("Q3_K_L", "blk.4.attn_output.weight", Q3_K),
            ("Q4_K_M", "blk.4.ffn_down_exps.weight", Q4_K),
            ("Q4_K", "blk.4.attn_v.weight", Q4_K),
        ] {
            let found = mix.parse::<Mix>().unwrap().choose(name, 256, traits);
            assert_eq!(found, GgufType::Blocks(expected), "{mix} {name}");
        }
    }

    #[test]
    fn important_tensors_of_a_mix_get_more_bits() {
        use Ggml::*;
        for (mix, name, expected) in [
            ("Q4_K_M", "blk.0.attn_v.weight", Q6_K),
            ("Q4_K_M", "blk.4.attn_v.weight", Q4_K),
            ("Q4_K_M", "blk.6.attn_qkv.weight", Q6_K),
            ("Q4_K_M", "blk.6.ffn_down.weight", Q6_K),
            ("Q4_K_M", "blk.31.ffn_down.weight", Q6_K),
            ("Q4_K_M", "blk.0.attn_q.weight", Q4_K),
            ("Q4_K_M", "blk.6.ffn_down_exps.weight", Q6_K),
            ("Q4_K_M", "blk.4.ffn_down_exps.weight", Q4_K),
            ("Q3_K_L", "blk.9.ffn_down_shexp.weight", Q5_K),
            ("Q4_K_M", "output.weight", Q6_K),
            ("Q4_K_M", "token_embd.weight", Q6_K),
            ("q4_k_s", "blk.3.attn_v.weight", Q5_K),
            ("Q4_K_S", "blk.5.ffn_down.weight", Q4_K),
            ("Q5_K_M", "blk.30.attn_v.weight", Q6_K),
            ("Q3_K_M", "blk.1.attn_v.weight", Q5_K),
            ("Q3_K_M", "blk.9.attn_output.weight", Q4_K),
            ("Q3_K_L", "blk.9.ffn_down.weight", Q5_K),
            ("Q4_K", "output.weight", Q4_K),
            ("MXFP4_MOE", "blk.2.ffn_up_exps.weight", MXFP4),
            ("MXFP4_MOE", "blk.2.ffn_up_shexp.weight", Q8_0),
            ("MXFP4_MOE", "token_embd.weight", Q8_0),
        ] {
            assert_eq!(chosen(mix, name, 256, 32), GgufType::Blocks(expected), "{mix} {name}");
        }
    }

    #[test]
    fn short_rows_take_smaller_blocks() {
        assert_eq!(chosen("Q4_K", "blk.0.attn_q.weight", 96, 2), GgufType::Blocks(Ggml::Q5_0));
        assert_eq!(chosen("Q6_K", "blk.0.attn_q.weight", 96, 2), GgufType::Blocks(Ggml::Q8_0));
        assert_eq!(chosen("Q8_0", "blk.0.attn_q.weight", 40, 2), GgufType::Float(Float::F16));
        assert_eq!(chosen("BF16", "blk.0.attn_q.weight", 40, 2), GgufType::Float(Float::BF16));
    }

    #[test]
    fn every_type_has_its_id() {
        let ids: Vec<u32> = Mix::ALL[..13].iter().map(|mix| mix.base.id()).collect();
        assert_eq!(ids, [0, 1, 30, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14]);
        assert!("Q9_K".parse::<Mix>().unwrap_err().contains("Q4_K_M"));
    }
}
