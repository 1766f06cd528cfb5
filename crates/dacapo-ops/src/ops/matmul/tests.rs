//! Products of every format, mode and level against f64 on the weights as defined.

use proptest::prelude::*;

use super::codes::META;
use super::product::{Rows, product, scratch_len};
use crate::ops::quantize::cpu::quantize;
use crate::quant::panel::{PanelFormat, Panels, ROWS};
use crate::quant::repack::repack_panel;
use crate::quant::{Float, Format, Fp, Ggml};
use crate::simd::Level;
use crate::testing::{Sample, normal};

/// A random weight in panels.
struct Weights {
    sample: Sample,
    data: Vec<u8>,
}

impl Weights {
    fn new(format: Format, n: usize, k: usize, seed: u64) -> Self {
        let sample = Sample::new(format, n, k, seed);
        let panel_format = PanelFormat::of(format);
        let mut data = vec![0; panel_format.matrix_bytes(n, k)];
        for (panel, out) in data.chunks_exact_mut(panel_format.panel_bytes(k)).enumerate() {
            repack_panel(&sample.source(), panel, out).expect("finite");
        }
        Weights { sample, data }
    }

    fn panels(&self) -> Panels<'_> {
        let source = self.sample.source();
        Panels::new(PanelFormat::of(source.format), source.n, source.k, &self.data).expect("consistent")
    }

    /// `x W^T` as `[tokens, n]`, computed `per_pass` tokens at a time.
    fn product(&self, level: Level, x: &[f32], int8: bool, per_pass: usize) -> Vec<f32> {
        let panels = self.panels();
        let (n, k) = (panels.n(), panels.k());
        let tokens = x.len() / k;
        let mut y = vec![f32::NAN; tokens * n];
        let (mut codes, mut meta) = (vec![0; x.len()], vec![0.0; x.len() / 32 * META]);
        if int8 {
            quantize(level, x, &mut codes, &mut meta);
        }
        for first in (0..tokens).step_by(per_pass) {
            let count = per_pass.min(tokens - first);
            let mut scratch = vec![f32::NAN; scratch_len(panels.format(), int8, count, k)];
            let rows = if int8 {
                Rows::Int8 { codes: &codes[first * k..], meta: &meta[first * (k / 32) * META..] }
            } else {
                Rows::Exact(&x[first * k..])
            };
            let all = 0..n.div_ceil(ROWS);
            product(level, &panels, all, rows, count, &mut scratch, &mut |panel, sums| {
                let from = panel * ROWS;
                let to = (from + ROWS).min(n);
                for (token, sums) in (first..).zip(sums.chunks_exact(ROWS)) {
                    y[token * n + from..token * n + to].copy_from_slice(&sums[..to - from]);
                }
            });
        }
        y
    }

    /// The product in f64, and for each element the sum of the terms' magnitudes.
    fn reference(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let w = self.sample.dequantize();
        let k = self.sample.source().k;
        let mut sums = (vec![], vec![]);
        for x in x.chunks_exact(k) {
            for w in w.chunks_exact(k) {
                let terms = || x.iter().zip(w).map(|(&x, &w)| x as f64 * w as f64);
                sums.0.push(terms().sum());
                sums.1.push(terms().map(f64::abs).sum());
            }
        }
        sums
    }
}

/// The activations that int8 codes stand for.
fn rounded(x: &[f32]) -> Vec<f32> {
    let (mut codes, mut meta) = (vec![0; x.len()], vec![0.0; x.len() / 32 * META]);
    quantize(Level::Scalar, x, &mut codes, &mut meta);
    codes.iter().enumerate().map(|(i, &q)| q as f32 * meta[i / 32 * META]).collect()
}

fn assert_close(found: &[f32], (expected, magnitude): &(Vec<f64>, Vec<f64>), limit: f64, what: &str) {
    for (i, ((&found, expected), magnitude)) in found.iter().zip(expected).zip(magnitude).enumerate() {
        let error = (found as f64 - expected).abs();
        assert!(error <= limit * magnitude + 1e-30, "{what}, element {i}: {found}, not {expected}");
    }
}

/// Formats that between them use every code width, every kind of scale and every float type.
fn formats() -> Vec<Format> {
    let mut formats: Vec<Format> = Float::ALL.into_iter().map(Format::Dense).collect();
    formats.extend(Ggml::ALL.into_iter().map(Format::Ggml));
    formats.extend([Fp::MxFp4, Fp::NvFp4].map(Format::Fp));
    for (i, bits) in crate::quant::affine::BITS.into_iter().enumerate() {
        for (j, group) in crate::quant::affine::GROUPS.into_iter().enumerate() {
            formats.push(Format::Affine { bits, group, float: Float::ALL[(i + j) % 3] });
        }
    }
    formats
}

#[test]
fn exact_products_agree_with_f64_at_every_level() {
    for format in formats() {
        let weights = Weights::new(format, 37, 512, 11);
        let x = normal(5, 5 * 512);
        let reference = weights.reference(&x);
        for level in Level::available() {
            let y = weights.product(level, &x, false, 5);
            // The zero point is taken off last: a few times the rounding of a plain sum.
            assert_close(&y, &reference, 2e-6, &format!("{format} {}", level.name()));
        }
    }
}

#[test]
fn int8_products_are_products_of_the_rounded_activations() {
    for format in formats().into_iter().filter(|f| !matches!(f, Format::Dense(_))) {
        let weights = Weights::new(format, 37, 512, 12);
        let x = normal(6, 5 * 512);
        let reference = weights.reference(&rounded(&x));
        for level in Level::available() {
            let y = weights.product(level, &x, true, 5);
            assert_close(&y, &reference, 2e-6, &format!("{format} {}", level.name()));
        }
    }
}

#[test]
fn levels_and_divisions_agree_bit_for_bit() {
    for format in formats() {
        // Longer than a chunk of k, and more tokens than any pass takes at once.
        let weights = Weights::new(format, 40, 2048 + 256, 13);
        let x = normal(7, 15 * weights.panels().k());
        for int8 in [false, true] {
            if int8 && matches!(format, Format::Dense(_)) {
                continue;
            }
            let expected = weights.product(Level::Scalar, &x, int8, 15);
            for level in Level::available() {
                for per_pass in [15, 4, 1] {
                    let y = weights.product(level, &x, int8, per_pass);
                    let same = y.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{format} int8={int8} {} by {per_pass}", level.name());
                }
            }
        }
    }
}

#[test]
fn extreme_codes_and_activations_do_not_overflow() {
    // All codes and activations at their largest magnitude: the sums that saturate a narrow accumulator.
    for format in formats().into_iter().filter(|f| !matches!(f, Format::Dense(_))) {
        let mut weights = Weights::new(format, 16, 256, 14);
        let panel_format = PanelFormat::of(format);
        let code_bytes = panel_format.code_bytes(256);
        weights.data[..code_bytes].fill(0xff);
        let mut w = vec![0.0; 256];
        for sign in [1.0, -1.0] {
            let x = vec![sign * 3.0; 256];
            for level in Level::available() {
                let y = weights.product(level, &x, true, 1);
                for (row, y) in y.iter().enumerate() {
                    weights.panels().dequantize_row(row, &mut w);
                    let expected: f64 = w.iter().map(|&w| w as f64 * sign as f64 * 3.0).sum();
                    let magnitude: f64 = w.iter().map(|&w| 3.0 * w.abs() as f64).sum();
                    let error = (*y as f64 - expected).abs();
                    assert!(
                        error <= 4e-6 * magnitude + 1e-30,
                        "{format} {}: {y}, not {expected}",
                        level.name()
                    );
                }
            }
        }
    }
}

#[test]
fn dense_rows_of_any_length() {
    for k in [1, 2, 31, 32, 33, 100] {
        for float in Float::ALL {
            let weights = Weights::new(Format::Dense(float), 19, k, k as u64);
            let x = normal(8, 3 * k);
            let reference = weights.reference(&x);
            for level in Level::available() {
                let y = weights.product(level, &x, false, 3);
                assert_close(&y, &reference, 1e-6, &format!("{float:?} k={k} {}", level.name()));
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_stay_visible() {
    let weights = Weights::new(Format::Ggml(Ggml::Q4_K), 16, 256, 15);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut x = normal(9, 512);
        x[300] = bad;
        for level in Level::available() {
            let y = weights.product(level, &x, true, 2);
            assert!(y[..16].iter().all(|y| y.is_finite()) && y[16..].iter().all(|y| y.is_nan()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_shapes(index in 0..31usize, n in 1..50usize, units in 1..5usize, tokens in 1..12usize, seed: u64) {
        let all = formats();
        let format = all[index % all.len()];
        let weights = Weights::new(format, n, units * format.block_len(), seed);
        let x = normal(seed ^ 1, tokens * weights.panels().k());
        let y = weights.product(Level::best(), &x, false, tokens);
        assert_close(&y, &weights.reference(&x), 3e-6, &format.name());
    }
}

mod through_a_device {
    use dacapo::{Buffer, DType, Device};

    use super::*;
    use crate::ops::matmul::matmul;
    use crate::ops::quantize::{Activation, Int8Buffers};
    use crate::testing::{device, upload};
    use crate::weight::Weight;

    fn run(device: &Device, weight: &Weight, x: &[f32], bias: Option<&[f32]>, int8: bool) -> Vec<f32> {
        let (n, k) = (weight.n(), weight.k());
        let tokens = x.len() / k;
        let x = device.upload(x, &[tokens, k]).expect("uploads");
        let bias: Option<Buffer> = bias.map(|bias| device.upload(bias, &[n]).expect("uploads"));
        let y = device.alloc(DType::F32, &[tokens, n]).expect("allocates");
        let room = Int8Buffers::new(device, x.len().next_multiple_of(32)).expect("allocates");
        let mut enc = device.encoder("test").expect("opens");
        let activation = if int8 {
            Activation::quantize(&mut enc, &x, &room).expect("encodes")
        } else {
            Activation::exact(&x)
        };
        matmul(&mut enc, &activation, weight, bias.as_ref(), &y).expect("encodes");
        enc.commit_and_wait().expect("runs");
        y.to_vec().expect("reads")
    }

    #[test]
    fn equals_the_plain_product_whatever_the_threads() {
        for format in formats() {
            let weights = Weights::new(format, 555, 256, 41);
            let x = normal(42, 70 * 256);
            let bias = normal(43, 555);
            for threads in [1, 2, 5] {
                let device = device(threads);
                let weight = Weight::load(&device, &upload(&device, &weights.sample)).expect("loads");
                for int8 in [false, true] {
                    let int8_used = int8 && !matches!(format, Format::Dense(_));
                    let plain = weights.product(Level::best(), &x, int8_used, 70);
                    assert_eq!(run(&device, &weight, &x, None, int8), plain, "{format} int8={int8}");
                    let with_bias: Vec<f32> =
                        plain.iter().zip(bias.iter().cycle()).map(|(y, b)| y + b).collect();
                    assert_eq!(
                        run(&device, &weight, &x, Some(&bias), int8),
                        with_bias,
                        "{format} int8={int8}"
                    );
                    assert_eq!(
                        run(&device, &weight, &x[..256], None, int8),
                        plain[..555],
                        "{format} one token"
                    );
                }
            }
        }
    }

    #[test]
    fn wrong_arguments_are_refused() {
        let device = device(1);
        let weights = Weights::new(Format::Ggml(Ggml::Q4_0), 20, 64, 1);
        let weight = Weight::load(&device, &upload(&device, &weights.sample)).expect("loads");
        let buffer = |dtype, shape: &[usize]| device.alloc(dtype, shape).expect("allocates");
        let mut enc = device.encoder("test").expect("opens");
        let (x, y) = (buffer(DType::F32, &[2, 64]), buffer(DType::F32, &[2, 20]));
        let x_exact = Activation::exact(&x);
        let bad_x = Activation::exact(&buffer(DType::F32, &[4, 32]));
        assert!(matmul(&mut enc, &bad_x, &weight, None, &y).is_err());
        assert!(matmul(&mut enc, &x_exact, &weight, None, &buffer(DType::F32, &[2, 19])).is_err());
        assert!(matmul(&mut enc, &x_exact, &weight, None, &buffer(DType::I32, &[2, 20])).is_err());
        assert!(matmul(&mut enc, &x_exact, &weight, Some(&buffer(DType::F32, &[19])), &y).is_err());
        let half_x = Activation::exact(&buffer(DType::F16, &[2, 64]));
        assert!(matmul(&mut enc, &half_x, &weight, None, &y).is_err());
        matmul(&mut enc, &x_exact, &weight, None, &y).expect("fits");
        enc.commit_and_wait().expect("runs");
    }
}
