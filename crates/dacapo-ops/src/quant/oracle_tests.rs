//! Formats, quantizers and products against MLX and gguf-py: `tools/oracles/ops_quant.py` made the fixture.

use std::collections::BTreeMap;

use dacapo::{DType, Device};

use super::*;
use crate::testing::safetensors::{Tensor, read};
use crate::testing::{device, upload_source};
use crate::{Activation, Int8Buffers, Weight, matmul};

const FIXTURE: &[u8] = include_bytes!("../../fixtures/quant.safetensors");
const N: usize = 4;
const K: usize = 256;
const TOKENS: usize = 3;

type Tensors = BTreeMap<String, Tensor>;

/// Activations, and the fixture's formats with the tensors of each.
fn cases() -> (Vec<f32>, Vec<(Format, Tensors)>) {
    let tensors = read(FIXTURE);
    let x = tensors["x"].to_f32();
    let mut cases = vec![];
    for format in Format::all() {
        let prefix = format!("{format}/");
        let of_format = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?.to_string(), tensor.clone())));
        let of_format: Tensors = of_format.collect();
        if !of_format.is_empty() {
            cases.push((format, of_format));
        }
    }
    // Of FP8, one type of scales.
    let expected = Ggml::ALL.len() + affine::BITS.len() * affine::GROUPS.len() + Fp::ALL.len() + 1;
    assert_eq!(cases.len(), expected);
    (x, cases)
}

fn source<'a>(format: Format, tensors: &'a Tensors) -> Source<'a> {
    let bytes = |name: &str| tensors.get(name).map_or(&[][..], |tensor| &tensor.bytes);
    Source { format, n: N, k: K, codes: bytes("codes"), scales: bytes("scales"), biases: bytes("biases") }
}

#[test]
fn values_are_bit_for_bit_those_of_the_oracles() {
    for (format, tensors) in cases().1 {
        let source = source(format, &tensors);
        assert!(source.is_consistent(), "{format}");
        let mut found = vec![0.0; N * K];
        for (row, out) in found.chunks_exact_mut(K).enumerate() {
            source.dequantize_row(row, out);
        }
        assert_eq!(found, tensors["deq"].to_f32(), "{format}");
    }
}

#[test]
fn quantizers_give_the_bytes_of_the_oracles() {
    let mut checked = 0;
    for (format, tensors) in cases().1 {
        let Some(w) = tensors.get("w").map(Tensor::to_f32) else { continue };
        let source = source(format, &tensors);
        match format {
            Format::Affine { bits, group, float } => {
                let found = affine::quantize(&w, bits, group, float);
                assert_eq!(found.scales, source.scales, "{format} scales");
                assert_eq!(found.biases, source.biases, "{format} biases");
                assert_eq!(found.codes, source.codes, "{format} codes");
            }
            Format::Ggml(g) => {
                let mut found = vec![];
                quantize_ggml(g, &w, &mut found);
                assert_eq!(found, source.codes, "{format}");
            }
            _ => panic!("no quantizer for {format}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 2 + affine::BITS.len() * affine::GROUPS.len());
}

/// `tools/oracles/ops_quantizers.py` made the fixture.
#[test]
fn quantizers_give_the_blocks_of_ggml() {
    let tensors = read(include_bytes!("../../fixtures/quantizers.safetensors"));
    let w = tensors["w"].to_f32();
    for format in Ggml::QUANTIZED {
        let mut found = vec![];
        quantize_ggml(format, &w, &mut found);
        let expected = &tensors[format.name()].bytes;
        assert_eq!(found.len(), expected.len());
        let blocks =
            found.chunks_exact(format.block_bytes()).zip(expected.chunks_exact(format.block_bytes()));
        for (i, (found, expected)) in blocks.enumerate() {
            assert_eq!(found, expected, "{} block {i}", format.name());
        }
    }
}

fn product(device: &Device, weight: &Weight, x: &[f32], int8: bool) -> Vec<f32> {
    let x = device.upload(x, &[TOKENS, K]).expect("uploads");
    let y = device.alloc(DType::F32, &[TOKENS, N]).expect("allocates");
    let room = Int8Buffers::new(device, TOKENS * K).expect("allocates");
    let mut enc = device.encoder("oracle").expect("opens");
    let activation = match int8 {
        true => Activation::quantize(&mut enc, &x, &room).expect("encodes"),
        false => Activation::exact(&x),
    };
    matmul(&mut enc, &activation, weight, None, &y).expect("encodes");
    enc.commit_and_wait().expect("runs");
    y.to_vec().expect("reads")
}

#[test]
fn products_are_those_of_the_oracles() {
    let device = device(2);
    let (x, cases) = cases();
    for (format, tensors) in cases {
        let weight =
            Weight::load(&device, &upload_source(&device, &source(format, &tensors))).expect("loads");
        let (deq, expected) = (tensors["deq"].to_f64(), tensors["y"].to_f64());
        // An int8 code is off by at most half of 1/127 of the block's largest activation.
        for (int8, limit) in [(false, 2e-6), (true, 1.5e-2)] {
            if int8 && !weight.takes_int8() {
                continue;
            }
            let found = product(&device, &weight, &x, int8);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let (x, w) = (&x[i / N * K..][..K], &deq[i % N * K..][..K]);
                let magnitude: f64 = x.iter().zip(w).map(|(&x, w)| (x as f64 * w).abs()).sum();
                let error = (*found as f64 - expected).abs();
                assert!(error <= limit * magnitude, "{format} int8={int8}: {found}, not {expected}");
            }
        }
    }
}
