//! Products of every kind of weight with few and with many tokens. Integer sums of a step are exact; what remains is the
//! order in which f32 sums are taken.

use dacapo::gpu::GpuCaps;
use dacapo_ops::quant::{Float, Format, Fp, Ggml};
use dacapo_ops::{Activation, Int8Buffers};

use super::weights::random_weight;
use super::{Bench, Rng, both, both_with};

/// One product.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub format: Format,
    pub n: usize,
    pub k: usize,
    pub tokens: usize,
    pub int8: bool,
    pub bias: bool,
}

/// The product, and how far from exact sums of the same operands it may be, in roots of the mean square.
pub fn product(bench: &Bench, case: &Case) -> (Vec<f32>, f64) {
    let &Case { format, n, k, tokens, int8, bias } = case;
    let weight = random_weight(bench, format, n, k, 5);
    let mut rng = Rng((n * 31 + k * 7 + tokens) as u64);
    let x = bench.upload(&rng.normals(tokens * k), &[tokens, k]);
    let bias = bias.then(|| bench.upload(&rng.normals(n), &[n]));
    let out = bench.f32s(&[tokens, n]);
    // Quantized by the CPU, so that both devices multiply the same.
    let activation = if int8 { quantized(bench, &x) } else { Activation::exact(&x) };
    bench.run(|enc| dacapo_ops::matmul(enc, &activation, &weight, bias.as_ref(), &out));
    // Cooperative matrices take their operands rounded to f16: up to 2^-11 of each, and the sums of few values are small.
    let matrices = bench.device.info().gpu.as_ref().map(|gpu| (gpu.matrix_side, gpu.workgroup_size));
    let fewest = match matrices {
        Some((8, 128..)) => 9,
        Some((16, 256..)) => 32,
        _ => usize::MAX,
    };
    let bound = if int8 && tokens >= fewest { 4e-3 } else { 1e-5 };
    (out.to_vec().unwrap(), bound)
}

fn quantized(bench: &Bench, x: &dacapo::Buffer) -> Activation {
    let into = Int8Buffers::new(&bench.device, x.len()).expect("memory");
    let mut activation = None;
    bench.run(|enc| {
        activation = Some(Activation::quantize(enc, x, &into)?);
        Ok(())
    });
    activation.expect("quantized")
}

/// Fails unless all elements are near, measured by the root of their mean square.
pub fn near(case: &Case, (want, _): &(Vec<f32>, f64), (got, bound): &(Vec<f32>, f64)) {
    let square: f64 = want.iter().map(|&v| f64::from(v).powi(2)).sum();
    let rms = (square / want.len() as f64).sqrt();
    for (i, (&want, &got)) in want.iter().zip(got).enumerate() {
        let error = f64::from(want - got).abs() / rms;
        assert!(error <= *bound, "{case:?}: element {i} is {got:e}, not {want:e}: {error:e} of {rms:e}");
    }
}

/// Every width of codes and every kind of scales.
fn quantized_formats() -> Vec<Format> {
    let affine = |bits, group, float| Format::Affine { bits, group, float };
    let mut formats = vec![
        affine(2, 32, Float::F16),
        affine(3, 64, Float::BF16),
        affine(4, 64, Float::F16),
        affine(4, 128, Float::F32),
        affine(5, 64, Float::F16),
        affine(6, 32, Float::BF16),
        affine(8, 64, Float::F16),
    ];
    formats.extend(Ggml::ALL.map(Format::Ggml));
    formats.extend([Fp::MxFp4, Fp::NvFp4].map(Format::Fp));
    formats
}

fn unit(format: Format) -> usize {
    format.block_len().max(32)
}

#[test]
fn int8_products_of_few_tokens_agree() {
    // Small weights have a text of their own for one token.
    let of = |tokens: usize, n: usize| {
        move |(i, format): (usize, Format)| {
            let k = unit(format) * if unit(format) == 256 { 3 } else { 11 };
            Case { format, n, k, tokens, int8: true, bias: i % 2 == 1 }
        }
    };
    let formats = || quantized_formats().into_iter().enumerate();
    let four_bits = Format::Affine { bits: 4, group: 64, float: Float::F16 };
    let several = [2, 3, 5, 7, 8].map(|tokens| of(tokens, 37)((tokens, four_bits)));
    let cases = formats().map(of(1, 21)).chain(formats().map(of(1, 53))).chain(several);
    both(cases, product, |case, want, got| near(case, &want, &got));
}

#[test]
fn int8_products_of_many_tokens_agree() {
    let of = |(i, format): (usize, Format)| {
        let k = unit(format) * if unit(format) == 256 { 1 } else { 5 };
        Case { format, n: 101, k, tokens: 70, int8: true, bias: i % 2 == 0 }
    };
    let formats = quantized_formats().into_iter().enumerate();
    both(formats.map(of), product, |case, want, got| near(case, &want, &got));
}

/// From few to many in tiles of 16, 32 and 64, that are full or not, and with one block in a row.
#[test]
fn int8_products_of_any_number_of_tokens_agree() {
    let four_bits = Format::Affine { bits: 4, group: 32, float: Float::F16 };
    let case = |(n, k, tokens)| Case { format: four_bits, n, k, tokens, int8: true, bias: n % 2 == 1 };
    let shapes = [(64, 32, 9), (63, 64, 32), (65, 96, 33), (129, 32, 64), (8, 160, 65), (385, 64, 97)];
    both(shapes.map(case), product, |case, want, got| near(case, &want, &got));
}

/// Where workgroups are too small for cooperative matrices.
#[test]
fn int8_products_in_small_workgroups_agree() {
    let case = |(i, format): (usize, Format)| Case {
        format,
        n: 67,
        k: unit(format),
        tokens: 18,
        int8: true,
        bias: i % 2 == 0,
    };
    let small = GpuCaps { workgroup_size: 64, ..GpuCaps::default() };
    let formats = quantized_formats().into_iter().step_by(3).enumerate();
    both_with(small, &[0, 3], formats.map(case), product, |case, want, got| near(case, &want, &got));
}

#[test]
fn exact_products_agree() {
    let of = |tokens: usize| {
        move |(i, format): (usize, Format)| {
            let k = unit(format) * if unit(format) == 256 { 2 } else { 5 };
            Case { format, n: 53, k, tokens, int8: false, bias: i % 3 == 0 }
        }
    };
    let formats = || quantized_formats().into_iter().enumerate();
    let cases = formats().map(of(1)).chain(formats().map(of(33)));
    both(cases, product, |case, want, got| near(case, &want, &got));
}

#[test]
fn products_of_dense_weights_agree() {
    let mut cases = vec![];
    for float in Float::ALL {
        for (tokens, n, k) in [(1, 37, 1), (1, 16, 517), (2, 40, 96), (8, 33, 71), (9, 65, 45), (66, 130, 64)]
        {
            let format = Format::Dense(float);
            cases.push(Case { format, n, k, tokens, int8: false, bias: n % 2 == 1 });
        }
    }
    both(cases, product, |case, want, got| near(case, &want, &got));
}

#[test]
fn large_shapes_agree() {
    let four_bits = Format::Affine { bits: 4, group: 64, float: Float::BF16 };
    let case = |n, k, tokens| Case { format: four_bits, n, k, tokens, int8: true, bias: false };
    let cases = [case(4099, 1024, 1), case(300, 4096, 1), case(48, 14_336, 2), case(520, 1024, 130)];
    both(cases, product, |case, want, got| near(case, &want, &got));
}
