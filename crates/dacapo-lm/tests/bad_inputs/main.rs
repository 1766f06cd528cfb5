//! Files that are damaged or lie, and the one line that each is answered with.

#[path = "../../../../fuzz/src/files.rs"]
#[allow(dead_code, reason = "a test needs a part of the builders")]
mod files;
mod text;

use dacapo_lm::{ChatTemplate, Checkpoint, Tokenizer};
use files::{GgufFile, TINY_CONFIG, safetensors, safetensors_with_header, tiny_gguf, tiny_mlx};

/// Opens a GGUF file and reads everything that is in it; gives the error, with the file's folder left out.
fn gguf(bytes: Vec<u8>) -> String {
    let work = tempfile::tempdir().expect("temporary folder");
    let path = work.path().join("m.gguf");
    std::fs::write(&path, bytes).expect("write");
    answer(work.path(), &path)
}

/// Opens a folder with these files.
fn folder(files: &[(&str, &[u8])]) -> String {
    let work = tempfile::tempdir().expect("temporary folder");
    for (name, content) in files {
        std::fs::write(work.path().join(name), content).expect("write");
    }
    answer(work.path(), work.path())
}

fn answer(work: &std::path::Path, path: &std::path::Path) -> String {
    let result = (|| {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.model_config()?;
        checkpoint.embedding("model.embed_tokens", config.vocab_size, config.hidden_size)?;
        checkpoint.linear("lm_head", config.vocab_size, config.hidden_size)?;
        ChatTemplate::from_checkpoint(&checkpoint)?;
        Tokenizer::from_checkpoint(&checkpoint)
    })();
    let message = result.expect_err("the input is bad").to_string();
    assert!(!message.contains('\n'), "one line: {message}");
    message.replace(&format!("{}/", work.display()), "").replace(&work.display().to_string(), "DIR")
}

/// A folder whose only safetensors file is this one.
fn weights(bytes: Vec<u8>) -> String {
    folder(&[("config.json", TINY_CONFIG.as_bytes()), ("model.safetensors", &bytes)])
}

/// A folder with whole weights and this configuration.
fn config(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> String {
    let mut config: serde_json::Value = serde_json::from_str(TINY_CONFIG).expect("JSON");
    change(config.as_object_mut().expect("object"));
    folder(&[("config.json", config.to_string().as_bytes()), ("model.safetensors", &tiny_mlx())])
}

/// The message for an architecture that is not known.
fn unknown(file: &str, name: &str) -> String {
    let known = dacapo_lm::checkpoint::ARCHITECTURES.join(", ");
    format!(
        "{file}: unknown architecture \"{name}\": expected one of {known}; docs/architectures.md says how to add one"
    )
}

fn check(cases: &[(&str, String, &str)]) {
    for (name, found, expected) in cases {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn safetensors_files() {
    let header = |text: &str, data| weights(safetensors_with_header(text, data));
    let entry = |dtype: &str, shape: &str, begin: u64, end: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |dtype: &str, shape: &str, begin, end| {
        header(&format!(r#"{{"a":{}}}"#, entry(dtype, shape, begin, end)), 8)
    };
    let two = |b: String| header(&format!(r#"{{"a":{},"b":{b}}}"#, entry("U8", "[4]", 0, 4)), 8);
    let mut truncated = tiny_mlx();
    truncated.truncate(truncated.len() - 10);
    check(&[
        (
            "empty",
            weights(Vec::new()),
            "model.safetensors: invalid safetensors: header: expected a length of 8 bytes, found a file of 0 bytes",
        ),
        (
            "absurd header",
            weights(u64::MAX.to_le_bytes().to_vec()),
            "model.safetensors: invalid safetensors: header: expected at most 0 bytes, found a header of 18446744073709551615 bytes",
        ),
        (
            "no JSON",
            header("{\"a\":", 0),
            "model.safetensors: invalid safetensors: header: expected a JSON object of tensors, found EOF while parsing a value at line 1 column 5",
        ),
        (
            "truncated data",
            weights(truncated),
            "model.safetensors: invalid safetensors: tensor \"lm_head.scales\": expected data_offsets within 422 bytes of data, found [416, 424]",
        ),
        (
            "unknown dtype",
            one("Q7", "[8]", 0, 8),
            "model.safetensors: invalid safetensors: tensor \"a\": expected a known dtype, found \"Q7\"",
        ),
        (
            "size",
            one("F32", "[3]", 0, 8),
            "model.safetensors: invalid safetensors: tensor \"a\": expected 12 bytes for F32 [3], found 8 bytes",
        ),
        (
            "offsets past the end",
            one("U8", "[9]", 0, 9),
            "model.safetensors: invalid safetensors: tensor \"a\": expected data_offsets within 8 bytes of data, found [0, 9]",
        ),
        (
            "offsets reversed",
            one("U8", "[0]", 4, 0),
            "model.safetensors: invalid safetensors: tensor \"a\": expected data_offsets within 8 bytes of data, found [4, 0]",
        ),
        (
            "overflow",
            one("F32", "[4294967296,4294967296]", 0, 8),
            "model.safetensors: invalid safetensors: tensor \"a\": expected a size in whole bytes that can be addressed, found F32 [4294967296, 4294967296]",
        ),
        (
            "negative",
            one("F32", "[-1]", 0, 8),
            "model.safetensors: invalid safetensors: header: expected a JSON object of tensors, found invalid value: integer `-1`, expected u64 at line 1 column 31",
        ),
        (
            "overlap",
            two(entry("U8", "[5]", 3, 8)),
            "model.safetensors: invalid safetensors: tensor \"b\": expected data at byte 4, found byte 3, which overlaps the tensor before it",
        ),
        (
            "gap",
            two(entry("U8", "[3]", 5, 8)),
            "model.safetensors: invalid safetensors: tensor \"b\": expected data at byte 4, found byte 5, which leaves a gap after the tensor before it",
        ),
        (
            "data left over",
            one("U8", "[7]", 0, 7),
            "model.safetensors: invalid safetensors: data: expected 7 bytes, as the tensors cover, found 8 bytes",
        ),
        (
            "duplicate",
            header(&format!(r#"{{"a":{0},"a":{0}}}"#, entry("U8", "[0]", 0, 0)), 0),
            "model.safetensors: invalid safetensors: tensor \"a\": expected one entry, found two",
        ),
    ]);
}

#[test]
fn gguf_files() {
    let tiny = tiny_gguf("llama");
    let tensor = |t: GgufFile| gguf(t.build());
    let mut truncated = tiny.build();
    truncated.truncate(100);
    check(&[
        (
            "empty",
            gguf(Vec::new()),
            "m.gguf: invalid GGUF: header: expected 4 bytes at byte 0, found 0 before the file ends",
        ),
        (
            "magic",
            gguf(tiny.build_as(*b"GGML", 3, 0, 0)),
            "m.gguf: invalid GGUF: header: expected the magic \"GGUF\", found \"GGML\"",
        ),
        (
            "version",
            gguf(tiny.build_as(*b"GGUF", 1, 0, 0)),
            "m.gguf: invalid GGUF: header: expected version 2 or 3, found version 1",
        ),
        (
            "big-endian",
            gguf(tiny.build_as(*b"GGUF", 3u32.swap_bytes(), 0, 0)),
            "m.gguf: invalid GGUF: header: expected a little-endian file, found a big-endian one",
        ),
        (
            "absurd count of tensors",
            gguf(GgufFile::default().build_as(*b"GGUF", 3, u64::MAX, 0)),
            "m.gguf: invalid GGUF: header: expected at most 0 tensors in 0 bytes, found 18446744073709551615",
        ),
        (
            "absurd count of keys",
            gguf(GgufFile::default().build_as(*b"GGUF", 3, 0, 1 << 60)),
            "m.gguf: invalid GGUF: header: expected at most 0 keys in 0 bytes, found 1152921504606846976",
        ),
        (
            "truncated",
            gguf(truncated),
            "m.gguf: invalid GGUF: header: expected at most 5 keys in 76 bytes, found 10",
        ),
        (
            "absurd array",
            tensor(GgufFile::default().raw(
                "k",
                9,
                &[[4, 0, 0, 0].as_slice(), &u64::MAX.to_le_bytes()].concat(),
            )),
            "m.gguf: invalid GGUF: key \"k\": expected at most 0 elements in 0 bytes, found 18446744073709551615",
        ),
        (
            "absurd string",
            tensor(GgufFile::default().raw("k", 8, &u64::MAX.to_le_bytes())),
            "m.gguf: invalid GGUF: key \"k\": expected 18446744073709551615 bytes at byte 45, found 0 before the file ends",
        ),
        (
            "deep arrays",
            tensor(GgufFile::default().raw("k", 9, &[9u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0].repeat(9))),
            "m.gguf: invalid GGUF: key \"k\": expected arrays nested at most 4 deep, found deeper ones",
        ),
        (
            "unknown value type",
            tensor(GgufFile::default().raw("k", 13, &[0; 8])),
            "m.gguf: invalid GGUF: key \"k\": expected a value type from 0 to 12, found 13",
        ),
        (
            "no truth value",
            tensor(GgufFile::default().raw("k", 7, &[2])),
            "m.gguf: invalid GGUF: key \"k\": expected 0 or 1, found 2",
        ),
        (
            "duplicate key",
            tensor(GgufFile::default().u32("k", 1).u32("k", 1)),
            "m.gguf: invalid GGUF: key \"k\": expected one entry, found two",
        ),
        (
            "alignment",
            tensor(tiny.clone().u32("general.alignment", 24)),
            "m.gguf: invalid GGUF: key \"general.alignment\": expected a power of two up to 1048576, found 24",
        ),
        (
            "unknown tensor type",
            tensor(tiny.clone().tensor("t", &[32], 4, 18)),
            "m.gguf: invalid GGUF: tensor \"t\": expected a known GGML type, found type id 4",
        ),
        (
            "rank",
            tensor(tiny.clone().tensor("t", &[1; 5], 0, 4)),
            "m.gguf: invalid GGUF: tensor \"t\": expected at most 4 dimensions, found 5",
        ),
        (
            "rows that are no blocks",
            tensor(tiny.clone().tensor("t", &[48, 2], 2, 54)),
            "m.gguf: invalid GGUF: tensor \"t\": expected rows in blocks of 32 and a size that can be addressed, found Q4_0 [2, 48]",
        ),
        (
            "overflow",
            tensor(tiny.clone().tensor("t", &[1 << 40, 1 << 40], 0, 4)),
            "m.gguf: invalid GGUF: tensor \"t\": expected rows in blocks of 1 and a size that can be addressed, found F32 [1099511627776, 1099511627776]",
        ),
        (
            "misaligned",
            tensor(tiny.clone().tensor_at("t", &[1], 0, 4).data(64)),
            "m.gguf: invalid GGUF: tensor \"t\": expected an offset that is a multiple of 32, found 4",
        ),
        (
            "past the end",
            tensor(tiny.clone().tensor_at("t", &[32], 0, 32).data(64)),
            "m.gguf: invalid GGUF: tensor \"t\": expected data within 64 bytes, found 128 bytes at offset 32",
        ),
        (
            "offset that wraps",
            tensor(tiny.clone().tensor_at("t", &[32], 0, u64::MAX - 31).data(64)),
            "m.gguf: invalid GGUF: tensor \"t\": expected data within 64 bytes, found 128 bytes at offset 18446744073709551584",
        ),
        (
            "overlap",
            tensor(tiny.clone().tensor_at("t", &[16], 0, 0).tensor_at("u", &[8], 0, 32).data(64)),
            "m.gguf: invalid GGUF: tensor \"u\": expected data from byte 640 of the file, found byte 608, which overlaps tensor \"t\"",
        ),
        (
            "duplicate tensor",
            tensor(tiny.clone().tensor("t", &[8], 0, 32).tensor("t", &[8], 0, 32)),
            "m.gguf: invalid GGUF: tensor \"t\": expected one entry, found two",
        ),
    ]);
}

#[test]
fn configurations() {
    let set = |key: &'static str, value: serde_json::Value| config(move |c| _ = c.insert(key.into(), value));
    let text = |content: &[u8]| folder(&[("config.json", content), ("model.safetensors", &tiny_mlx())]);
    check(&[
        (
            "no JSON",
            text(b"{"),
            "config.json: content: expected JSON, found EOF while parsing an object at line 1 column 1",
        ),
        ("no object", text(b"[]"), "config.json: config: expected a JSON object, found an array"),
        (
            "no architecture",
            text(b"{}"),
            "config.json: model_type: expected an architecture's name, found nothing",
        ),
        ("unknown architecture", set("model_type", "rwkv".into()), &unknown("config.json", "rwkv")),
        (
            "no heads",
            set("num_attention_heads", 0.into()),
            "config.json: num_attention_heads: expected an integer from 1 to 268435456, found 0",
        ),
        (
            "negative",
            set("hidden_size", (-64).into()),
            "config.json: hidden_size: expected an integer from 1 to 268435456, found -64",
        ),
        (
            "gigantic",
            set("num_hidden_layers", 1e12.into()),
            "config.json: num_hidden_layers: expected an integer from 1 to 4096, found 1000000000000",
        ),
        (
            "text for a number",
            set("vocab_size", "4".into()),
            "config.json: vocab_size: expected an integer from 1 to 268435456, found \"4\"",
        ),
        (
            "heads",
            set("num_key_value_heads", 3.into()),
            "config.json: num_key_value_heads: expected a divisor of the 2 heads, found 3",
        ),
        ("odd head", set("head_dim", 33.into()), "config.json: head_dim: expected an even number, found 33"),
        (
            "head width",
            set("hidden_size", 63.into()),
            "config.json: num_attention_heads: expected a divisor of hidden_size, found 2",
        ),
        (
            "epsilon",
            set("rms_norm_eps", 0.0.into()),
            "config.json: rms_norm_eps: expected a positive number, found 0",
        ),
        (
            "start token",
            set("bos_token_id", 4.into()),
            "config.json: bos_token_id: expected a token below 4, found 4",
        ),
        (
            "end token",
            set("eos_token_id", "x".into()),
            "config.json: eos_token_id: expected a token id or a list of them, found \"x\"",
        ),
        (
            "activation",
            set("hidden_act", "tan".into()),
            "config.json: hidden_act: expected silu, gelu or gelu_pytorch_tanh, found \"tan\"",
        ),
        (
            "rope type",
            set("rope_parameters", serde_json::json!({"rope_type": "dynamic"})),
            "config.json: rope_parameters.rope_type: expected default, linear, llama3, yarn or longrope, found \"dynamic\"",
        ),
        (
            "rope factor",
            set("rope_scaling", serde_json::json!({"type": "linear"})),
            "config.json: rope_scaling.factor: expected a positive number, found nothing",
        ),
        (
            "partial rope",
            set("partial_rotary_factor", 0.5.into()),
            "config.json: partial_rotary_factor: expected 1, found 0.5",
        ),
        (
            "GGUF without a key",
            gguf(GgufFile::default().string("general.architecture", "llama").build()),
            "m.gguf: llama.embedding_length: expected an integer, found nothing",
        ),
        (
            "GGUF of another architecture",
            gguf(GgufFile::default().string("general.architecture", "mamba").build()),
            &unknown("m.gguf", "mamba"),
        ),
        (
            "GGUF of experts",
            gguf(
                GgufFile::default()
                    .string("general.architecture", "qwen2")
                    .u32("qwen2.expert_count", 8)
                    .build(),
            ),
            &unknown("m.gguf", "qwen2 with 8 experts"),
        ),
        (
            "GGUF that does not say how many experts a token has",
            gguf(tiny_gguf("llama").u32("llama.expert_count", 8).build()),
            "m.gguf: llama.expert_used_count: expected an integer, found nothing",
        ),
        (
            "GGUF of fewer experts than a token has",
            gguf(tiny_gguf("llama").u32("llama.expert_count", 2).u32("llama.expert_used_count", 3).build()),
            "m.gguf: llama.expert_used_count: expected at most the 2 experts that there are, found 3",
        ),
        (
            "GGUF with a key of another type",
            gguf(GgufFile::default().u32("general.architecture", 7).build()),
            "m.gguf: general.architecture: expected a UTF-8 string, found 7",
        ),
    ]);
}

#[test]
fn weights_and_quantization() {
    let quantization = |value: serde_json::Value| config(move |c| _ = c.insert("quantization".into(), value));
    let embedding = |kind, words: usize, bytes, groups: usize, scales| {
        weights(safetensors(&[
            ("model.embed_tokens.weight", kind, &[4, words], bytes),
            (
                "model.embed_tokens.scales",
                scales,
                &[4, groups],
                4 * groups * if scales == "U8" { 1 } else { 2 },
            ),
        ]))
    };
    check(&[
        ("missing tensor", weights(safetensors(&[])), "DIR: missing tensor \"model.embed_tokens.weight\""),
        (
            "wrong shape",
            weights(safetensors(&[("model.embed_tokens.weight", "F16", &[4, 32], 256)])),
            "model.safetensors: tensor \"model.embed_tokens.weight\": expected shape [4, 64], found [4, 32]",
        ),
        (
            "wrong type",
            weights(safetensors(&[("model.embed_tokens.weight", "I32", &[4, 64], 1024)])),
            "model.safetensors: tensor \"model.embed_tokens.weight\": expected type F32, F16 or BF16, found I32",
        ),
        (
            "codes without scales",
            weights(safetensors(&[("model.embed_tokens.weight", "U32", &[4, 8], 128)])),
            "DIR: missing tensor \"model.embed_tokens.scales\"",
        ),
        (
            "scales without biases",
            embedding("U32", 8, 128, 2, "F16"),
            "DIR: missing tensor \"model.embed_tokens.biases\"",
        ),
        (
            "codes that are no codes",
            embedding("F16", 64, 512, 2, "F16"),
            "model.safetensors: tensor \"model.embed_tokens.weight\": expected type U32, since the module has scales, found F16",
        ),
        (
            "7 bits",
            embedding("U32", 14, 224, 2, "F16"),
            "model.safetensors: tensor \"model.embed_tokens.weight\": unsupported quantization: expected affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, found 7 bits for 64 inputs",
        ),
        (
            "groups of 16",
            embedding("U32", 8, 128, 4, "F16"),
            "model.safetensors: tensor \"model.embed_tokens.weight\": unsupported quantization: expected affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, found groups of 16 for 64 inputs",
        ),
        (
            "shapes that do not fit together",
            embedding("U32", 7, 112, 3, "F16"),
            "model.safetensors: tensor \"model.embed_tokens.weight\": unsupported quantization: expected affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, found 7 words and 3 scales for 64 inputs",
        ),
        (
            "floating-point codes",
            embedding("U32", 8, 128, 3, "U8"),
            "model.safetensors: tensor \"model.embed_tokens.weight\": unsupported quantization: expected the shapes of mxfp4, mxfp8 or nvfp4, found shape [4, 8] with 8-bit scales [4, 3] in mode \"affine\"",
        ),
        (
            "listed mode",
            quantization(serde_json::json!({"lm_head": {"group_size": 32, "bits": 4, "mode": "mxfp4"}})),
            "model.safetensors: tensor \"lm_head.weight\": unsupported quantization: expected affine codes of 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128, found mode \"mxfp4\" with scales in F16",
        ),
        (
            "listed bits that are not those of the shapes",
            quantization(serde_json::json!({"lm_head": {"group_size": 64, "bits": 4}})),
            "model.safetensors: tensor \"lm_head.weight\": expected shape [4, 8], found [4, 16]",
        ),
        (
            "listed as not quantized",
            quantization(serde_json::json!({"lm_head": false})),
            "config.json: quantization.lm_head: expected a quantized module, since it has scales, found false",
        ),
        (
            "listed without bits",
            quantization(serde_json::json!({"lm_head": {"group_size": 64}})),
            "config.json: quantization.lm_head.bits: expected a positive integer, found nothing",
        ),
        (
            "listed as text",
            quantization(serde_json::json!({"lm_head": "yes"})),
            "config.json: quantization.lm_head: expected an object or false, found a string",
        ),
        (
            "two GGUF tensors of one meaning",
            gguf(
                tiny_gguf("llama")
                    .tensor("output_norm.weight", &[8], 0, 32)
                    .tensor("model.norm.weight", &[8], 0, 32)
                    .build(),
            ),
            "m.gguf: tensor \"model.norm.weight\": expected one tensor of this name, found another, \"output_norm.weight\" in m.gguf",
        ),
    ]);
}

#[test]
fn folders_and_paths() {
    let index = |map: &str, files: &[(&str, &[u8])]| {
        let text = format!(r#"{{"weight_map":{map}}}"#);
        let mut all =
            vec![("config.json", TINY_CONFIG.as_bytes()), ("model.safetensors.index.json", text.as_bytes())];
        all.extend(files);
        folder(&all)
    };
    let shard = safetensors(&[("a", "U8", &[1], 1)]);
    let other = tempfile::NamedTempFile::new().expect("file");
    let not = |path: &std::path::Path| Checkpoint::open(path).expect_err("no checkpoint").to_string();
    // The reason is the system's own.
    assert!(not(std::path::Path::new("no/such/path")).starts_with("no/such/path: "));
    check(&[
        (
            "another file",
            not(other.path()).replace(&other.path().display().to_string(), "FILE"),
            "FILE: not a checkpoint: expected a .gguf file, a .safetensors file or a folder with config.json, found a file of another kind",
        ),
        (
            "empty folder",
            folder(&[]),
            "DIR: not a checkpoint: expected a .gguf file, a .safetensors file or a folder with config.json, found no config.json",
        ),
        (
            "no weights",
            folder(&[("config.json", TINY_CONFIG.as_bytes())]),
            "model.safetensors: missing file, needed by config.json",
        ),
        (
            "missing shard",
            index(r#"{"a":"model-1.safetensors"}"#, &[]),
            "model-1.safetensors: missing file, needed by model.safetensors.index.json",
        ),
        (
            "shard outside the folder",
            index(r#"{"a":"../model.safetensors"}"#, &[]),
            "model.safetensors.index.json: weight_map.a: expected a file name without folders, found \"../model.safetensors\"",
        ),
        (
            "shard by an absolute path",
            index(r#"{"a":"/etc/passwd"}"#, &[]),
            "model.safetensors.index.json: weight_map.a: expected a file name without folders, found \"/etc/passwd\"",
        ),
        (
            "shard that is the folder",
            index(r#"{"a":".."}"#, &[]),
            "model.safetensors.index.json: weight_map.a: expected a file name without folders, found \"..\"",
        ),
        (
            "index without a map",
            index("7", &[]),
            "model.safetensors.index.json: weight_map: expected an object of file names, found a number",
        ),
        (
            "tensor in no shard",
            index(r#"{"b":"one.safetensors"}"#, &[("one.safetensors", &shard)]),
            "model.safetensors.index.json: weight_map.b: expected a tensor of one.safetensors, found no such tensor",
        ),
        (
            "tensor in two shards",
            index(
                r#"{"a":"one.safetensors","b":"two.safetensors"}"#,
                &[("one.safetensors", &shard), ("two.safetensors", &shard)],
            ),
            "two.safetensors: tensor \"a\": expected one tensor of this name, found another, \"a\" in one.safetensors",
        ),
    ]);
}
