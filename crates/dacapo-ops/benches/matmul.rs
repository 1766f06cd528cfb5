//! Speed of the matrix products on one thread, beside what this machine can do at most, measured in the same run.
//!
//! `cargo bench -p dacapo-ops --bench matmul [-- FILTER]`: one token in GB of panels read per second, and many tokens in
//! Gop/s (two operations for each multiply-add), each also as a share of its limit.

use std::hint::black_box;
use std::time::{Duration, Instant};

use dacapo_ops::ops::matmul::codes::META;
use dacapo_ops::ops::matmul::product::{Rows, product, scratch_len};
use dacapo_ops::ops::quantize::cpu::quantize;
use dacapo_ops::quant::panel::{PanelFormat, Panels, ROWS};
use dacapo_ops::quant::repack::repack_panel;
use dacapo_ops::quant::{Float, Format, Ggml, Source};
use dacapo_ops::simd::Level;

/// Rows of a weight.
const N: usize = 4096;
/// Values in a row.
const K: usize = 4096;
/// Panels of a tile.
const PANELS: usize = 16;
/// Tokens of a prompt, as many as a tile takes.
const TOKENS: usize = 64;
/// Bytes to stream through, far beyond any cache that one core could use alone.
const FAR: usize = 1 << 30;

/// Seconds of the quickest of some runs.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let mut best = f64::INFINITY;
    let end = Instant::now() + Duration::from_millis(400);
    let mut runs = 0;
    while runs < 3 || Instant::now() < end {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// GB/s of reading memory in order.
fn read_limit(bytes: &[u8]) -> f64 {
    let (words, _) = bytes.as_chunks::<64>();
    let seconds = best(|| {
        let mut sums = [0u64; 8];
        for line in words {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_le_bytes(*word));
            }
        }
        black_box(sums);
    });
    bytes.len() as f64 / seconds / 1e9
}

/// Gop/s of `vpdpbusd` alone.
#[cfg(target_arch = "x86_64")]
fn int8_limit() -> Option<f64> {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn spin(rounds: usize) -> __m512i {
        let (a, b) = (black_box(_mm512_set1_epi8(3)), black_box(_mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); 16];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        sums.into_iter().fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi32(a, b))
    }
    const ROUNDS: usize = 1_000_000;
    Level::Avx512.is_available().then(|| {
        // SAFETY: the level is available.
        let seconds = best(|| _ = black_box(unsafe { spin(ROUNDS) }));
        (ROUNDS * 16 * 128) as f64 / seconds / 1e9
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn int8_limit() -> Option<f64> {
    None
}

/// Gop/s of f32 fused multiply-adds alone.
#[cfg(target_arch = "x86_64")]
fn f32_limit() -> Option<f64> {
    use std::arch::x86_64::*;
    #[target_feature(enable = "avx512f")]
    fn spin(rounds: usize) -> __m512 {
        let (a, b) = (black_box(_mm512_set1_ps(0.5)), black_box(_mm512_set1_ps(1.0)));
        let mut sums = [_mm512_setzero_ps(); 16];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        sums.into_iter().fold(_mm512_setzero_ps(), |a, b| _mm512_add_ps(a, b))
    }
    const ROUNDS: usize = 1_000_000;
    Level::Avx512.is_available().then(|| {
        // SAFETY: the level is available.
        let seconds = best(|| _ = black_box(unsafe { spin(ROUNDS) }));
        (ROUNDS * 16 * 32) as f64 / seconds / 1e9
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn f32_limit() -> Option<f64> {
    None
}

/// Panels of one weight, repeated until they fill far memory.
struct Weights {
    format: Format,
    panel_format: PanelFormat,
    data: Vec<u8>,
    copies: usize,
    repack_seconds: f64,
}

impl Weights {
    fn new(format: Format, far: bool) -> Self {
        let fill =
            |len: usize| (0..len).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect::<Vec<_>>();
        let half = |len: usize| std::iter::repeat_n([0x66u8, 0x2e], len / 2).flatten().collect::<Vec<_>>();
        let scale_bytes = N * format.row_scale_bytes(K);
        let source_codes = match format {
            Format::Affine { .. } => fill(N * format.row_bytes(K)),
            // Any f16 there is finite in these bytes.
            _ => half(N * format.row_bytes(K)),
        };
        let scales = half(scale_bytes);
        let source = Source { format, n: N, k: K, codes: &source_codes, scales: &scales, biases: &scales };
        let panel_format = PanelFormat::of(format);
        let bytes = panel_format.matrix_bytes(N, K);
        let copies = if far { FAR.div_ceil(bytes) } else { 1 };
        let mut data = vec![0; bytes * copies];
        let repack_seconds = best(|| {
            for (i, out) in data[..bytes].chunks_exact_mut(panel_format.panel_bytes(K)).enumerate() {
                let _ = repack_panel(&source, i, out);
            }
        });
        let (first, rest) = data.split_at_mut(bytes);
        rest.chunks_exact_mut(bytes).for_each(|copy| copy.copy_from_slice(first));
        Weights { format, panel_format, data, copies, repack_seconds }
    }

    /// Seconds for one product of the first `panels_in_all` panels of each copy with `tokens` tokens.
    fn seconds(&self, panels_in_all: usize, tokens: usize, int8: bool) -> f64 {
        let x: Vec<f32> = (0..tokens * K).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
        let (mut codes, mut meta) = (vec![0; x.len()], vec![0.0; x.len() / 32 * META]);
        quantize(Level::best(), &x, &mut codes, &mut meta);
        let rows = if int8 { Rows::Int8 { codes: &codes, meta: &meta } } else { Rows::Exact(&x) };
        let mut scratch = vec![0.0; scratch_len(self.panel_format, int8, tokens, K)];
        let mut y = vec![0.0; tokens * N];
        let bytes = self.panel_format.matrix_bytes(N, K);
        let seconds = best(|| {
            for data in self.data.chunks_exact(bytes) {
                let panels = Panels::new(self.panel_format, N, K, data).expect("consistent");
                for range in (0..panels_in_all).step_by(PANELS).map(|first| first..first + PANELS) {
                    product(Level::best(), &panels, range, rows, tokens, &mut scratch, &mut |p, sums| {
                        for (t, sums) in sums.chunks_exact(ROWS).enumerate() {
                            y[t * N + p * ROWS..t * N + (p + 1) * ROWS].copy_from_slice(sums);
                        }
                    });
                }
            }
            black_box(&y);
        });
        seconds / self.copies as f64
    }
}

fn formats() -> Vec<Format> {
    let affine = |bits, group, float| Format::Affine { bits, group, float };
    let mut formats = vec![
        affine(2, 64, Float::F16),
        affine(3, 64, Float::F16),
        affine(4, 32, Float::F16),
        affine(4, 64, Float::F16),
        affine(4, 64, Float::BF16),
        affine(4, 128, Float::F32),
        affine(5, 64, Float::F16),
        affine(6, 64, Float::F16),
        affine(8, 64, Float::F16),
    ];
    formats.extend(Ggml::ALL.into_iter().map(Format::Ggml));
    formats.extend(Float::ALL.into_iter().map(Format::Dense));
    formats
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let read = read_limit(&vec![1; FAR]);
    let (int8, exact) = (int8_limit().unwrap_or(f64::NAN), f32_limit().unwrap_or(f64::NAN));
    println!(
        "one thread, {}: read {read:.1} GB/s, int8 {int8:.0} Gop/s, f32 {exact:.0} Gop/s",
        Level::best().name()
    );
    println!(
        "{:<18} {:>20} {:>20} {:>20} {:>20} {:>12}",
        "",
        "1 token int8, GB/s",
        "1 token exact, GB/s",
        format!("{TOKENS} tokens int8"),
        format!("{TOKENS} tokens exact"),
        "repack GB/s"
    );
    for format in formats().into_iter().filter(|f| f.name().contains(&filter)) {
        let quantized = !matches!(format, Format::Dense(_));
        let far = Weights::new(format, true);
        let bytes = far.panel_format.matrix_bytes(N, K) as f64;
        let rate = |int8: bool| bytes / far.seconds(N / ROWS, 1, int8) / 1e9;
        let share = |value: f64, limit: f64| format!("{value:.1} ({:.0} %)", 100.0 * value / limit);
        let one = [quantized.then(|| rate(true)), Some(rate(false))];
        let near = Weights::new(format, false);
        // One tile: short enough to find a moment when nobody else wants the core.
        let ops = (2 * PANELS * ROWS * K * TOKENS) as f64;
        let many = [
            quantized.then(|| ops / near.seconds(PANELS, TOKENS, true) / 1e9),
            Some(ops / near.seconds(PANELS, TOKENS, false) / 1e9),
        ];
        println!(
            "{:<18} {:>20} {:>20} {:>20} {:>20} {:>12.2}",
            format.name(),
            one[0].map_or("-".into(), |v| share(v, read)),
            one[1].map_or("-".into(), |v| share(v, read)),
            many[0].map_or("-".into(), |v| share(v, int8)),
            many[1].map_or("-".into(), |v| share(v, exact)),
            far.format.matrix_bytes(N, K) as f64 / far.repack_seconds / 1e9,
        );
    }
}
