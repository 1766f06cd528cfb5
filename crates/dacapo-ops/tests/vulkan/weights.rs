//! Weights in panels, and int8 activations: exact.

use dacapo_ops::quant::{Float, Format, Fp, Ggml};
use dacapo_ops::{Weight, WeightSource};

use super::{Bench, Rng, both, same, same_words};

/// A random weight of any format, repacked by the CPU, on the bench's device.
pub fn random_weight(bench: &Bench, format: Format, n: usize, k: usize, seed: u64) -> Weight {
    let cpu = dacapo::Device::open(dacapo::DeviceOptions::default()).expect("the CPU is always there");
    let mut rng = Rng(seed);
    let floats = |count: usize, size: f32, float: Float, rng: &mut Rng| {
        let mut bytes = vec![];
        (0..count).for_each(|_| float.push(rng.normal() * size, &mut bytes));
        bytes
    };
    let upload = |bytes: Vec<u8>| cpu.upload(&bytes, &[bytes.len()]).expect("memory");
    let mut codes: Vec<u8> = (0..n * format.row_bytes(k)).map(|_| rng.next_u64() as u8).collect();
    let mut scales = None;
    match format {
        Format::Dense(float) => codes = floats(n * k, 1.0, float, &mut rng),
        Format::Affine { group, float, .. } => {
            let count = n * k / group as usize;
            let (scale, bias) = (floats(count, 0.05, float, &mut rng), floats(count, 0.4, float, &mut rng));
            scales = Some((upload(scale), upload(bias)));
        }
        Format::Ggml(ggml) => {
            for (i, block) in codes.chunks_exact_mut(ggml.block_bytes()).enumerate() {
                for &at in float_fields(ggml) {
                    // Denormal now and then.
                    let size = if i % 5 == 0 { 1e-6 } else { 0.05 };
                    block[at..at + 2].copy_from_slice(&floats(1, size, Float::F16, &mut rng));
                }
                if ggml == Ggml::MXFP4 {
                    block[0] = power(i, &mut rng);
                }
            }
        }
        Format::Fp(fp) => {
            let bytes = format.scale_bytes(n, k);
            let scale = |i: usize| match fp {
                Fp::NvFp4 => 0x10 + rng.next_u64() as u8 % 8,
                _ => power(i, &mut rng),
            };
            scales = Some((upload((0..bytes).map(scale).collect()), upload(vec![])));
        }
        Format::Fp8 { float } => {
            let count = format.scale_bytes(n, k) / float.size();
            scales = Some((upload(floats(count, 0.05, float, &mut rng)), upload(vec![])));
        }
    }
    let source = WeightSource { format, n, k, codes: upload(codes), scales };
    let weight = Weight::load(&cpu, &source).expect("loads");
    weight.to_device(&bench.device).expect("memory")
}

/// A power of two as a byte: about 2^-5, now and then one so small that f16 does not have it.
fn power(i: usize, rng: &mut Rng) -> u8 {
    if i.is_multiple_of(5) { 10 + (rng.next_u64() % 2) as u8 } else { 118 + rng.next_u64() as u8 % 8 }
}

/// Where a GGML block's f16 fields lie.
fn float_fields(format: Ggml) -> &'static [usize] {
    match format {
        Ggml::Q4_0 | Ggml::Q5_0 | Ggml::Q8_0 => &[0],
        Ggml::Q4_1 | Ggml::Q5_1 | Ggml::Q4_K | Ggml::Q5_K => &[0, 2],
        Ggml::Q2_K => &[80, 82],
        Ggml::Q3_K => &[108],
        Ggml::Q6_K => &[208],
        Ggml::TQ1_0 => &[52],
        Ggml::TQ2_0 => &[64],
        Ggml::MXFP4 => &[],
        _ => &[0],
    }
}

#[test]
fn rows_of_every_format_are_gathered() {
    let work = |bench: &Bench, &format: &Format| {
        let (n, k) = (50, if matches!(format, Format::Dense(_)) { 271 } else { 512 });
        let weight = random_weight(bench, format, n, k, 31);
        let ids = [49u32, 0, 17, 50, u32::MAX, 17, 15, 16];
        let ids = bench.upload(&ids, &[ids.len()]);
        let out = bench.f32s(&[8, k]);
        bench.run(|enc| dacapo_ops::embed(enc, &ids, &weight, &out, 0.5));
        out.to_vec::<f32>().unwrap()
    };
    // Devices may take what is below the smallest normal number for zero.
    both(Format::all(), work, |case, mut want, got| {
        for (want, got) in want.iter_mut().zip(&got) {
            if want.is_subnormal() && *got == 0.0 {
                *want = 0.0;
            }
        }
        same(case, &want, &got);
    });
}

#[test]
fn many_rows_are_gathered() {
    let work = |bench: &Bench, &tokens: &usize| {
        let format = Format::Affine { bits: 4, group: 64, float: Float::BF16 };
        let weight = random_weight(bench, format, 300, 1024, 7);
        let mut rng = Rng(tokens as u64);
        let ids: Vec<u32> = (0..tokens).map(|_| rng.below(301) as u32).collect();
        let (ids, out) = (bench.upload(&ids, &[tokens]), bench.f32s(&[tokens, 1024]));
        bench.run(|enc| dacapo_ops::embed(enc, &ids, &weight, &out, 2.25));
        out.to_vec::<f32>().unwrap()
    };
    both([1, 2, 7, 33, 513], work, |case, want, got| same(case, &want, &got));
}

#[test]
fn activations_become_int8() {
    let work = |bench: &Bench, &(rows, k): &(usize, usize)| {
        let mut values = Rng(k as u64).normals(rows * k);
        for (i, block) in values.chunks_exact_mut(32).enumerate() {
            // All sizes, and now and then a block with its own case.
            let size = 10f32.powi(i as i32 % 60 - 34);
            block.iter_mut().for_each(|x| *x *= size);
            match i % 97 {
                5 => block.fill(0.0),
                6 => block[3] = f32::NAN,
                7 => block[31] = f32::NEG_INFINITY,
                8 => block.fill(-f32::MAX),
                9 => block.fill(1e-40),
                // Ties: multiples of a half, the largest being 127.
                10 => block.iter_mut().enumerate().for_each(|(j, x)| *x = 127.0 - j as f32 * 4.5),
                _ => {}
            }
        }
        let x = bench.upload(&values, &[rows, k]);
        let (codes, about) =
            (bench.device.alloc(dacapo::DType::I8, &[rows, k]), bench.f32s(&[rows * k / 32, 4]));
        let codes = codes.expect("memory");
        bench.run(|enc| dacapo_ops::quantize_q8(enc, &x, &codes, &about));
        (codes.to_vec::<i8>().unwrap(), about.to_vec::<f32>().unwrap())
    };
    let shapes = [(1, 32), (2, 96), (7, 1024), (33, 256), (1, 4096), (3, 14_336)];
    both(shapes.into_iter().chain(shapes), work, |case, want, got| {
        same_words(case, &want.0, &got.0);
        same(case, &want.1, &got.1);
    });
}
