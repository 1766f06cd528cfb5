//! Every source format through its panels.

use proptest::prelude::*;

use super::panel::{PanelFormat, Panels, ROWS};
use super::repack::{NonFinite, repack_panel};
use super::*;
use crate::testing::Sample;

/// A whole matrix in panels.
fn repack(source: &Source<'_>) -> Vec<u8> {
    let format = PanelFormat::of(source.format);
    let mut data = vec![0xaa; format.matrix_bytes(source.n, source.k)];
    for (panel, out) in data.chunks_exact_mut(format.panel_bytes(source.k)).enumerate() {
        repack_panel(source, panel, out).expect("all scales are finite");
    }
    data
}

fn assert_panels_equal_source(sample: &Sample) {
    let source = sample.source();
    let data = repack(&source);
    let panels = Panels::new(PanelFormat::of(source.format), source.n, source.k, &data).expect("consistent");
    let (mut expected, mut found) = (vec![0.0; source.k], vec![0.0; source.k]);
    for row in 0..source.n {
        source.dequantize_row(row, &mut expected);
        panels.dequantize_row(row, &mut found);
        assert_eq!(found, expected, "{} row {row}", source.format);
    }
}

#[test]
fn panels_hold_exactly_the_values_of_every_format() {
    for format in Format::all() {
        assert_panels_equal_source(&Sample::new(format, 21, 512, 7));
    }
}

#[test]
fn panels_take_at_most_a_tenth_more_than_the_source() {
    for format in Format::all() {
        for k in [1024, 4096, 14336] {
            let source = format.matrix_bytes(1024, k);
            let panels = PanelFormat::of(format).matrix_bytes(1024, k);
            // Codes of codebooks and tables become the values that they stand for.
            let allowed = match format {
                Format::Ggml(Ggml::IQ2_XXS | Ggml::IQ2_XS | Ggml::IQ2_S) => 42,
                Format::Ggml(Ggml::IQ3_XXS) => 29,
                Format::Ggml(Ggml::IQ4_XS | Ggml::IQ4_NL) => 21,
                Format::Ggml(Ggml::TQ1_0 | Ggml::IQ3_S | Ggml::MXFP4) | Format::Fp(Fp::MxFp4) => 14,
                Format::Fp(Fp::NvFp4) => 14,
                Format::Fp(Fp::MxFp8) | Format::Fp8 { .. } => 21,
                _ => 11,
            };
            assert!(panels * 10 <= source * allowed, "{format} k={k}: {panels} for {source}");
        }
    }
}

#[test]
fn panel_formats_survive_encoding() {
    for format in Format::all() {
        let panel = PanelFormat::of(format);
        assert_eq!(PanelFormat::decode(panel.encode()), Some(panel), "{format}");
    }
    assert_eq!(PanelFormat::decode([8, 0]), None);
}

#[test]
fn a_scale_that_is_not_finite_is_found() {
    // FP8 has a test of its own: its scales are those of many rows.
    let apart = |f: &Format| matches!(f, Format::Dense(_) | Format::Fp8 { .. });
    for format in Format::all().into_iter().filter(|f| !apart(f)) {
        let mut sample = Sample::new(format, 21, 512, 3);
        let group = sample.poison_scale(17, f32::INFINITY);
        let mut out = vec![0; PanelFormat::of(format).panel_bytes(512)];
        assert_eq!(repack_panel(&sample.source(), 0, &mut out), Ok(()), "{format}");
        let found = repack_panel(&sample.source(), 1, &mut out);
        assert_eq!(found, Err(NonFinite { row: 17, group }), "{format}");
    }
}

#[test]
fn squares_of_fp8_share_scales_and_are_rounded_to_bf16() {
    let format = Format::Fp8 { float: Float::F32 };
    // Codes 0x38 and 0x3f: 1 and 1.875.
    let codes: Vec<u8> = (0..130 * 200).map(|i| if i % 2 == 0 { 0x38 } else { 0x3f }).collect();
    let numbers = [0.1f32, 3.0, -1.0, f32::NAN];
    let scales: Vec<u8> = numbers.iter().flat_map(|s| s.to_le_bytes()).collect();
    let source = Source { format, n: 130, k: 200, codes: &codes, scales: &scales, biases: &[] };
    assert!(source.is_consistent());
    let mut values = vec![0.0; 200];
    source.dequantize_row(127, &mut values);
    assert_eq!((values[0], values[127], values[128], values[199]), (0.1, 1.875 * 0.1, 3.0, 5.625));
    source.dequantize_row(128, &mut values);
    assert_eq!(values[126], -1.0);

    let panel_format = PanelFormat::of(format);
    let mut data = vec![0; panel_format.matrix_bytes(130, 200)];
    let panels = data.chunks_exact_mut(panel_format.panel_bytes(200)).enumerate();
    let found: Vec<_> = panels.map(|(panel, out)| repack_panel(&source, panel, out)).collect();
    assert!(found[..8].iter().all(Result::is_ok));
    assert_eq!(found[8], Err(NonFinite { row: 128, group: 1 }));
    Panels::new(panel_format, 130, 200, &data).expect("consistent").dequantize_row(3, &mut values);
    assert_eq!((values[0], values[199]), (half::bf16::from_f32(0.1).to_f32(), 5.625));
}

#[test]
fn the_last_panel_is_filled_up_with_zeros() {
    let sample = Sample::new(Format::Ggml(Ggml::Q6_K), 1, 256, 5);
    let data = repack(&sample.source());
    let panels = Panels::new(PanelFormat::of(sample.source().format), ROWS, 256, &data).expect("same bytes");
    let mut values = vec![1.0; 256];
    panels.dequantize_row(15, &mut values);
    assert!(values.iter().all(|&v| v == 0.0));
}

#[test]
fn wrong_byte_counts_are_refused() {
    let format = PanelFormat::of(Format::Ggml(Ggml::Q4_0));
    let data = vec![0; format.matrix_bytes(16, 64)];
    assert!(Panels::new(format, 16, 64, &data).is_some());
    assert!(Panels::new(format, 17, 64, &data).is_none());
    assert!(Panels::new(format, 16, 48, &data).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn panels_equal_their_source(index in 0..1000usize, n in 1..40usize, units in 1..5usize, seed: u64) {
        let all = Format::all();
        let format = all[index % all.len()];
        assert_panels_equal_source(&Sample::new(format, n, units * format.block_len(), seed));
    }

    #[test]
    fn affine_codes_are_within_half_a_step(bits in 0..6usize, group in 0..3usize, seed: u64) {
        let (bits, group) = (affine::BITS[bits], affine::GROUPS[group]);
        let w = crate::testing::normal(seed, 2 * group as usize);
        let arrays = affine::quantize(&w, bits, group, Float::F32);
        let mut out = vec![0.0; w.len()];
        affine::dequantize_row(&arrays.codes, &arrays.scales, &arrays.biases, bits, group, Float::F32, &mut out);
        for (i, (w, out)) in w.iter().zip(&out).enumerate() {
            let scale = Float::F32.read(&arrays.scales, i / group as usize).abs();
            // The zero point is moved by up to half a step so that zero is exact; the far end then saturates.
            prop_assert!((w - out).abs() <= scale * 1.01, "{w} became {out}, scale {scale}");
        }
    }
}
