//! Support for tests: random numbers, random weights, and a reader of small fixture files.

pub mod safetensors;

use dacapo::{Device, DeviceOptions};

use crate::quant::{FP8_BLOCK, Float, Format, Fp, Ggml, Source};
use crate::weight::WeightSource;

/// A small deterministic generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value in 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal, mean 0, variance 1.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }
}

/// `len` values, about normal.
pub fn normal(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng(seed);
    (0..len).map(|_| rng.normal()).collect()
}

/// The bytes of a random weight matrix.
#[derive(Debug, Clone)]
pub struct Sample {
    format: Format,
    n: usize,
    k: usize,
    codes: Vec<u8>,
    scales: Vec<u8>,
    biases: Vec<u8>,
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

impl Sample {
    /// Random codes with random scales of either sign.
    pub fn new(format: Format, n: usize, k: usize, seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut sample = Sample { format, n, k, codes: vec![], scales: vec![], biases: vec![] };
        let floats = |count: usize, size: f32, float: Float, rng: &mut Rng| {
            let mut bytes = vec![];
            (0..count).for_each(|_| float.push(rng.normal() * size, &mut bytes));
            bytes
        };
        if let Format::Dense(float) = format {
            sample.codes = floats(n * k, 1.0, float, &mut rng);
            return sample;
        }
        sample.codes = (0..n * format.row_bytes(k)).map(|_| rng.next_u64() as u8).collect();
        match format {
            Format::Affine { group, float, .. } => {
                sample.scales = floats(n * k / group as usize, 0.05, float, &mut rng);
                sample.biases = floats(n * k / group as usize, 0.4, float, &mut rng);
            }
            Format::Ggml(g) => {
                for block in sample.codes.chunks_exact_mut(g.block_bytes()) {
                    for &at in float_fields(g) {
                        block[at..at + 2].copy_from_slice(&floats(1, 0.05, Float::F16, &mut rng));
                    }
                    if g == Ggml::MXFP4 {
                        block[0] = 118 + block[0] % 8;
                    }
                }
            }
            // Powers of two about 2^-5; 8-bit floats about the same.
            Format::Fp(fp) => {
                let first = if fp == Fp::NvFp4 { 0x10 } else { 118 };
                let bytes = format.scale_bytes(n, k);
                sample.scales = (0..bytes).map(|_| first + rng.next_u64() as u8 % 8).collect();
            }
            Format::Fp8 { float } => {
                // Few bits, so that products with 8-bit floats are exact in BF16.
                for _ in 0..format.scale_bytes(n, k) / float.size() {
                    float.push((1 + rng.next_u64() % 15) as f32 / 1024.0, &mut sample.scales);
                }
            }
            Format::Dense(_) => {}
        }
        let is_nan = |byte: &u8| byte & 0x7f == 0x7f;
        if matches!(format, Format::Fp(Fp::MxFp8) | Format::Fp8 { .. }) {
            sample.codes.iter_mut().filter(|byte| is_nan(byte)).for_each(|byte| *byte = 0);
        }
        sample
    }

    /// The bytes as a source.
    pub fn source(&self) -> Source<'_> {
        Source {
            format: self.format,
            n: self.n,
            k: self.k,
            codes: &self.codes,
            scales: &self.scales,
            biases: &self.biases,
        }
    }

    /// All values, row by row, by the formats' definitions.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n * self.k];
        for (row, out) in values.chunks_exact_mut(self.k).enumerate() {
            self.source().dequantize_row(row, out);
        }
        values
    }

    /// Replaces the last scale of a row by `value`; returns its group.
    pub fn poison_scale(&mut self, row: usize, value: f32) -> usize {
        let mut bytes = vec![];
        let (group, float, at, into) = match self.format {
            Format::Dense(_) => return 0,
            Format::Affine { group, float, .. } => {
                let groups = self.k / group as usize;
                (groups - 1, float, ((row + 1) * groups - 1) * float.size(), &mut self.biases)
            }
            Format::Fp(fp) => {
                let groups = self.k / fp.group();
                self.scales[(row + 1) * groups - 1] = 0xff;
                return groups - 1;
            }
            Format::Fp8 { float } => {
                let groups = self.k.div_ceil(FP8_BLOCK);
                let at = ((row / FP8_BLOCK + 1) * groups - 1) * float.size();
                (groups - 1, float, at, &mut self.scales)
            }
            Format::Ggml(g @ Ggml::MXFP4) => {
                let blocks = self.k / g.block_len();
                self.codes[((row + 1) * blocks - 1) * g.block_bytes()] = 0xff;
                return blocks - 1;
            }
            Format::Ggml(g) => {
                let blocks = self.k / g.block_len();
                let field = *float_fields(g).last().expect("every format has a scale");
                let at = ((row + 1) * blocks - 1) * g.block_bytes() + field;
                (blocks - 1, Float::F16, at, &mut self.codes)
            }
        };
        float.push(value, &mut bytes);
        into[at..at + bytes.len()].copy_from_slice(&bytes);
        group
    }
}

/// A CPU device with this many threads.
pub fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() }).expect("opens")
}

/// A weight's bytes on a device, one byte off every alignment, as in a file.
pub fn upload(device: &Device, sample: &Sample) -> WeightSource {
    upload_source(device, &sample.source())
}

/// As [`upload`].
pub fn upload_source(device: &Device, source: &Source<'_>) -> WeightSource {
    let bytes = |bytes: &[u8]| {
        let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
        let buffer = device.upload(&shifted, &[shifted.len()]).expect("uploads");
        buffer.slice_view(1, &[bytes.len()]).expect("is inside")
    };
    let Source { format, n, k, codes, scales, biases } = *source;
    let apart = !scales.is_empty();
    let scales = apart.then(|| (bytes(scales), bytes(biases)));
    WeightSource { format, n, k, codes: bytes(codes), scales }
}
