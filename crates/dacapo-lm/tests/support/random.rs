//! A checkpoint with the widths of a real model and random weights, written on the spot.

use std::path::Path;

use serde_json::{Map, Value, json};

// The widths of Qwen3 0.6B, with fewer layers and tokens.
const HIDDEN: usize = 1024;
const INNER: usize = 3072;
const HEADS: usize = 16;
const KV_HEADS: usize = 8;
const DIM: usize = 128;
const LAYERS: usize = 2;
/// Tokens that it knows.
pub const VOCABULARY: usize = 8192;
/// Values that share a scale.
const GROUP: usize = 64;

/// Tensors of a safetensors file on their way.
#[derive(Default)]
struct File {
    header: Map<String, Value>,
    bytes: Vec<u8>,
    state: u64,
}

impl File {
    /// The next number that looks random (SplitMix64, Steele, Lea and Flood 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value from -1 to 1.
    fn uniform(&mut self) -> f32 {
        (self.random() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        let offsets = [start, self.bytes.len()];
        self.header.insert(name.into(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
    }

    fn floats(&mut self, name: &str, shape: &[usize], value: impl Fn(f32) -> f32) {
        let count = shape.iter().product::<usize>();
        let bytes: Vec<u8> = (0..count).flat_map(|_| value(self.uniform()).to_le_bytes()).collect();
        self.tensor(name, "F32", shape, &bytes);
    }

    /// Codes of 4 bits with scales and biases, such that an output is about as large as the inputs are.
    fn linear(&mut self, path: &str, n: usize, k: usize) {
        let codes: Vec<u8> = (0..n * k / 8).flat_map(|_| (self.random() as u32).to_le_bytes()).collect();
        self.tensor(&format!("{path}.weight"), "U32", &[n, k / 8], &codes);
        let scale = 0.22 / (k as f32).sqrt();
        let state = self.state;
        self.floats(&format!("{path}.scales"), &[n, k / GROUP], |x| scale * (1.0 + 0.3 * x));
        // The same numbers again: the middle code stands for about zero.
        self.state = state;
        self.floats(&format!("{path}.biases"), &[n, k / GROUP], |x| -7.5 * scale * (1.0 + 0.3 * x));
    }

    fn norm(&mut self, path: &str, dim: usize) {
        self.floats(&format!("{path}.weight"), &[dim], |x| 1.0 + 0.5 * x);
    }
}

/// Writes the checkpoint into a folder.
pub fn write(folder: &Path) {
    let mut file = File { state: 7, ..File::default() };
    file.linear("model.embed_tokens", VOCABULARY, HIDDEN);
    for layer in 0..LAYERS {
        let path = |part: &str| format!("model.layers.{layer}.{part}");
        for (part, n, k) in [
            ("self_attn.q_proj", HEADS * DIM, HIDDEN),
            ("self_attn.k_proj", KV_HEADS * DIM, HIDDEN),
            ("self_attn.v_proj", KV_HEADS * DIM, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HEADS * DIM),
            ("mlp.gate_proj", INNER, HIDDEN),
            ("mlp.up_proj", INNER, HIDDEN),
            ("mlp.down_proj", HIDDEN, INNER),
        ] {
            file.linear(&path(part), n, k);
        }
        for (part, dim) in [
            ("input_layernorm", HIDDEN),
            ("post_attention_layernorm", HIDDEN),
            ("self_attn.q_norm", DIM),
            ("self_attn.k_norm", DIM),
        ] {
            file.norm(&path(part), dim);
        }
    }
    file.norm("model.norm", HIDDEN);
    let quantization = json!({"group_size": GROUP, "bits": 4});
    let config = json!({
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "head_dim": DIM, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "max_position_embeddings": 4096, "tie_word_embeddings": true, "hidden_act": "silu",
        "torch_dtype": "float32", "quantization": quantization, "quantization_config": quantization,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let header = Value::Object(file.header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(&file.bytes);
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}
