//! Builders of small checkpoint files, valid ones and such as no other program would write.

/// A safetensors file with zeros for data. Each tensor: name, dtype, shape, bytes.
pub fn safetensors(tensors: &[(&str, &str, &[usize], usize)]) -> Vec<u8> {
    let mut offset = 0;
    let entries: Vec<String> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            let begin = offset;
            offset += bytes;
            format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{offset}]}}"#)
        })
        .collect();
    safetensors_with_header(&format!("{{{}}}", entries.join(",")), offset)
}

/// A safetensors file with this header and `data` zeros.
pub fn safetensors_with_header(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

/// A GGUF file in the making.
#[derive(Debug, Clone, Default)]
pub struct GgufFile {
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(text);
    out
}

impl GgufFile {
    /// Adds a key with the bytes of a value of the type with this id.
    pub fn raw(mut self, key: &str, type_id: u32, value: &[u8]) -> Self {
        let mut entry = string(key.as_bytes());
        entry.extend_from_slice(&type_id.to_le_bytes());
        entry.extend_from_slice(value);
        self.keys.push(entry);
        self
    }

    /// Adds an unsigned 32-bit integer.
    pub fn u32(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    /// Adds a 32-bit float.
    pub fn f32(self, key: &str, value: f32) -> Self {
        self.raw(key, 6, &value.to_le_bytes())
    }

    /// Adds a string.
    pub fn string(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &string(value.as_bytes()))
    }

    /// Adds an array of strings.
    pub fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut array = 8u32.to_le_bytes().to_vec();
        array.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| array.extend(string(v.as_bytes())));
        self.raw(key, 9, &array)
    }

    /// Adds an array of signed 32-bit integers.
    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let mut array = 5u32.to_le_bytes().to_vec();
        array.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|v| array.extend(v.to_le_bytes()));
        self.raw(key, 9, &array)
    }

    /// Adds a tensor: extents innermost first, type id, and where its bytes lie in the data.
    pub fn tensor_at(mut self, name: &str, extents: &[u64], type_id: u32, offset: u64) -> Self {
        let mut entry = string(name.as_bytes());
        entry.extend_from_slice(&(extents.len() as u32).to_le_bytes());
        extents.iter().for_each(|e| entry.extend(e.to_le_bytes()));
        entry.extend_from_slice(&type_id.to_le_bytes());
        entry.extend_from_slice(&offset.to_le_bytes());
        self.tensors.push(entry);
        self
    }

    /// Adds a tensor of `bytes` zeros behind those before it.
    pub fn tensor(mut self, name: &str, extents: &[u64], type_id: u32, bytes: usize) -> Self {
        let offset = self.data.next_multiple_of(32);
        self.data = offset + bytes;
        self.tensor_at(name, extents, type_id, offset as u64)
    }

    /// Says that the data has this many bytes.
    pub fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    /// The file, with its data aligned to 32 bytes.
    pub fn build(&self) -> Vec<u8> {
        self.build_as(*b"GGUF", 3, self.tensors.len() as u64, self.keys.len() as u64)
    }

    /// The file with this magic, version and counts.
    pub fn build_as(&self, magic: [u8; 4], version: u32, tensors: u64, keys: u64) -> Vec<u8> {
        let mut file = magic.to_vec();
        file.extend_from_slice(&version.to_le_bytes());
        file.extend_from_slice(&tensors.to_le_bytes());
        file.extend_from_slice(&keys.to_le_bytes());
        self.keys.iter().chain(&self.tensors).for_each(|entry| file.extend_from_slice(entry));
        if self.data > 0 {
            file.resize(file.len().next_multiple_of(32) + self.data, 0);
        }
        file
    }
}

/// The metadata of a tiny llama: one layer, hidden size 32, one head, a vocabulary of four; `model` is the kind
/// of its tokenizer.
pub fn tiny_gguf(model: &str) -> GgufFile {
    GgufFile::default()
        .string("general.architecture", "llama")
        .u32("llama.embedding_length", 32)
        .u32("llama.block_count", 1)
        .u32("llama.feed_forward_length", 64)
        .u32("llama.attention.head_count", 1)
        .u32("llama.context_length", 16)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .string("tokenizer.ggml.model", model)
        .strings("tokenizer.ggml.tokens", &["<unk>", "a", "b", "ab"])
        .i32s("tokenizer.ggml.token_type", &[2, 1, 1, 1])
}

/// The configuration of a tiny llama in MLX's form; goes with [`tiny_mlx`].
pub const TINY_CONFIG: &str = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":64,"num_hidden_layers":1,
"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":4,"max_position_embeddings":16,"rms_norm_eps":1e-5,
"rope_theta":10000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
"original_max_position_embeddings":8},"eos_token_id":[2,3],"bos_token_id":1,
"quantization":{"group_size":32,"bits":4,"mode":"affine","lm_head":{"group_size":64,"bits":8}}}"#;

/// Two modules of that model: `model.embed_tokens` in 4 bits, groups of 32; `lm_head` in 8 bits, groups of 64.
pub fn tiny_mlx() -> Vec<u8> {
    safetensors(&[
        ("model.embed_tokens.weight", "U32", &[4, 8], 128),
        ("model.embed_tokens.scales", "BF16", &[4, 2], 16),
        ("model.embed_tokens.biases", "BF16", &[4, 2], 16),
        ("lm_head.weight", "U32", &[4, 16], 256),
        ("lm_head.scales", "F16", &[4, 1], 8),
        ("lm_head.biases", "F16", &[4, 1], 8),
    ])
}
