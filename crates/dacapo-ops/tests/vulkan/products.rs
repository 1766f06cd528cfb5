//! Products that begin with a norm or end in a sum, as the table of fusions has them: fused on a GPU against as
//! recorded on the CPU.

use dacapo::{CommandEncoder, DType};
use dacapo_ops::quant::{Float, Format, Ggml};
use dacapo_ops::{Activation, ActivationFn, Int8Buffers, Weight};

use super::fused::run;
use super::weights::random_weight;
use super::{Bench, Rng, both_at, device};

const FORMATS: [Format; 4] = [
    Format::Affine { bits: 4, group: 64, float: Float::F16 },
    Format::Ggml(Ggml::Q4_0),
    Format::Ggml(Ggml::Q6_K),
    Format::Affine { bits: 8, group: 32, float: Float::BF16 },
];

/// Rows and columns of weights.
const SHAPES: [(usize, usize); 7] =
    [(32, 256), (96, 256), (64, 1024), (160, 2048), (544, 4096), (96, 5120), (320, 1280)];

#[derive(Debug, Clone, Copy)]
struct Case {
    format: Format,
    n: usize,
    k: usize,
    seed: u64,
}

fn cases() -> impl Iterator<Item = Case> {
    let all = FORMATS.into_iter().flat_map(|format| SHAPES.map(|shape| (format, shape)));
    // Large enough for the text of large weights on devices with many processors.
    let all = all.chain(device::EVERY_TEXT.then_some((FORMATS[0], (2080, 2048))));
    all.enumerate().map(|(i, (format, (n, k)))| Case { format, n, k, seed: 7 * i as u64 })
}

fn weights<const N: usize>(bench: &Bench, case: &Case) -> [Weight; N] {
    std::array::from_fn(|i| random_weight(bench, case.format, case.n, case.k, case.seed + i as u64))
}

/// The norm of a random row of `k` values as a product takes it.
fn normed(bench: &Bench, enc: &mut CommandEncoder, case: &Case) -> dacapo::Result<Activation> {
    let mut rng = Rng(case.seed + 100);
    let x = bench.upload(&rng.normals(case.k), &[1, case.k]);
    let weight = bench.upload(&rng.normals(case.k), &[case.k]);
    let out = bench.device.transient(DType::F32, &[1, case.k])?;
    dacapo_ops::rms_norm(enc, &x, Some(&weight), &out, 1e-6)?;
    let int8 = Int8Buffers::transient(&bench.device, case.k)?;
    Activation::quantize(enc, &out, &int8)
}

/// Fails unless values agree to within a fiftieth of their root mean square: norms are summed in another order, so that now
/// and then a code falls on the other side of a half, which moves a sum by a 254th of the largest activation.
fn agree(case: &Case, want: &[f32], got: &[f32]) {
    let rms = (want.iter().map(|x| x * x).sum::<f32>() / want.len() as f32).sqrt();
    assert!(rms.is_finite() && rms > 0.0, "{case:?}");
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let off = (want - got).abs();
        assert!(off <= rms / 50.0, "{case:?}: element {i} is {got}, not {want}: the rms is {rms}");
    }
    let off = want.iter().zip(got).map(|(want, got)| (want - got).powi(2)).sum::<f32>() / want.len() as f32;
    assert!(off.sqrt() <= rms / 200.0, "{case:?}: off by {} on average", off.sqrt() / rms);
}

#[test]
fn norms_into_products() {
    let work = |bench: &Bench, case: &Case| {
        let [a, b] = weights::<2>(bench, case);
        let bias = bench.upload(&Rng(case.seed).normals(case.n), &[case.n]);
        let outs = [(); 2].map(|()| bench.f32s(&[1, case.n]));
        run(bench, &["rms_norm_q8", "rms_norm_matmul_int8", "rms_norm_matmul_int8_bias"], |enc| {
            let x = normed(bench, enc, case)?;
            dacapo_ops::matmul(enc, &x, &a, None, &outs[0])?;
            dacapo_ops::matmul(enc, &x, &b, Some(&bias), &outs[1])
        });
        outs.map(|out| out.to_vec::<f32>().expect("finished"))
    };
    both_at(&[0], cases(), work, |case, want, got| {
        want.iter().zip(&got).for_each(|(want, got)| agree(case, want, got));
    });
}

#[test]
fn products_and_sums() {
    let work = |bench: &Bench, case: &Case| {
        let [weight] = weights::<1>(bench, case);
        let mut rng = Rng(case.seed);
        let residual = bench.upload(&rng.normals(case.n), &[1, case.n]);
        let out = bench.f32s(&[1, case.n]);
        let x = bench.upload(&rng.normals(case.k), &[1, case.k]);
        run(bench, &["matmul_int8_bias"], |enc| {
            let int8 = Int8Buffers::new(&bench.device, case.k)?;
            let x = Activation::quantize(enc, &x, &int8)?;
            let y = bench.device.transient(DType::F32, &[1, case.n])?;
            dacapo_ops::matmul(enc, &x, &weight, None, &y)?;
            dacapo_ops::add(enc, &residual, &y, &out)
        });
        out.to_vec::<f32>().expect("finished")
    };
    both_at(&[0], cases(), work, |case, want, got| agree(case, &want, &got));
}

#[test]
fn gated_mlps_into_quantization() {
    let functions = [ActivationFn::Silu, ActivationFn::Gelu, ActivationFn::GeluTanh];
    let work = |bench: &Bench, (case, function): &(Case, ActivationFn)| {
        let [gate, up] = weights::<2>(bench, case);
        let words = bench.alloc::<u32>(&[case.n / 4]);
        let codes = words.reinterpret(0, DType::I8, &[case.n]).expect("as many bytes");
        let meta = bench.f32s(&[case.n / 32, 4]);
        run(bench, &["gated_q8", "rms_norm_q8", "rms_norm_gated_int8"], |enc| {
            let x = normed(bench, enc, case)?;
            let [g, u, out] = [(); 3].map(|()| bench.device.transient(DType::F32, &[1, case.n]));
            let (g, u, out) = (g?, u?, out?);
            dacapo_ops::matmul(enc, &x, &gate, None, &g)?;
            dacapo_ops::matmul(enc, &x, &up, None, &u)?;
            dacapo_ops::gated(enc, &g, &u, &out, *function)?;
            dacapo_ops::quantize_q8(enc, &out, &codes, &meta)
        });
        let words = words.to_vec::<u32>().expect("finished");
        (bytemuck::cast_slice::<_, i8>(&words).to_vec(), meta.to_vec::<f32>().expect("finished"))
    };
    let values = |found: &(Vec<i8>, Vec<f32>)| -> Vec<f32> {
        found.0.iter().enumerate().map(|(i, &code)| found.1[i / 32 * 4] * f32::from(code)).collect()
    };
    both_at(&[0], cases().zip(functions.into_iter().cycle()), work, |case, want, got| {
        agree(&case.0, &values(&want), &values(&got));
        for (codes, about) in got.0.chunks(32).zip(got.1.chunks(4)) {
            let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum::<i32>() as f32 * about[0];
            assert_eq!([sum(codes), sum(&codes[..16]), sum(&codes[16..])], about[1..], "{case:?}");
        }
    });
}
