//! From a checkpoint's bytes to panels.

use super::panel::{BLOCK, PanelFormat, ROWS, Scales, planes};
use super::unpack::{self, Codes, float_fields, small_scales, with_codes};
use super::{FP8_BLOCK, Float, Format, Fp, Ggml, Source, ggml_iq};

/// A scale (or bias, or dense value) that is infinite or NaN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonFinite {
    /// Row of the matrix.
    pub row: usize,
    /// Group or block along the row; for dense values the position.
    pub group: usize,
}

/// Fills one panel (`out`, [`PanelFormat::panel_bytes`] long) with rows `16 * panel ..` of a source. Panics if the
/// source is inconsistent or the panel lies outside.
///
/// # Errors
/// The first scale that is not finite, in the order of rows. The panel is filled all the same.
pub fn repack_panel(source: &Source<'_>, panel: usize, out: &mut [u8]) -> Result<(), NonFinite> {
    let format = PanelFormat::of(source.format);
    let rows = (source.n - panel * ROWS).min(ROWS);
    let (codes, rest) = out.split_at_mut(format.code_bytes(source.k));
    if rows < ROWS {
        codes.fill(0);
    }
    rest.fill(0);
    match format {
        PanelFormat::Dense(float) => {
            let stored = matches!(source.format, Format::Dense(_));
            let mut values = vec![0.0; if stored { 0 } else { source.k }];
            for lane in 0..rows {
                let row = panel * ROWS + lane;
                if stored {
                    interleave_dense(source.row(row), float, lane, codes);
                } else {
                    source.dequantize_row(row, &mut values);
                    let mut bytes = Vec::with_capacity(source.k * float.size());
                    values.iter().for_each(|&v| float.push(v, &mut bytes));
                    interleave_dense(&bytes, float, lane, codes);
                }
            }
        }
        PanelFormat::Quantized { bits, scales } => {
            let all: [&[u8]; ROWS] =
                std::array::from_fn(|lane| source.row(panel * ROWS + lane.min(rows - 1)));
            with_codes!(source.format, interleave_codes(&all[..rows], bits, codes));
            for lane in 0..rows {
                interleave_scales(source, panel * ROWS + lane, scales, lane, rest);
            }
        }
    }
    (0..rows).try_for_each(|lane| check_row(source, panel * ROWS + lane))
}

/// Spreads the values of one row over a dense panel.
fn interleave_dense(row: &[u8], float: Float, lane: usize, out: &mut [u8]) {
    fn spread<const SIZE: usize>(row: &[u8], lane: usize, out: &mut [u8]) {
        for (value, line) in row.chunks_exact(SIZE).zip(out.chunks_exact_mut(ROWS * SIZE)) {
            line[lane * SIZE..(lane + 1) * SIZE].copy_from_slice(value);
        }
    }
    match float.size() {
        4 => spread::<4>(row, lane, out),
        _ => spread::<2>(row, lane, out),
    }
}

/// Spreads the codes of some rows over a panel: a piece of each row after the other, as what they fill stays in the first-level
/// cache meanwhile.
fn interleave_codes<C: Codes>(rows: &[&[u8]], bits: u8, out: &mut [u8]) {
    assert_eq!(C::BITS, usize::from(bits), "the codes do not have the bits of the panels");
    let block_bytes = ROWS * BLOCK / 8 * C::BITS;
    for (i, piece) in out.chunks_exact_mut(C::LEN / BLOCK * block_bytes).enumerate() {
        for (lane, row) in rows.iter().enumerate() {
            let bytes = &row[i * C::BYTES..][..C::BYTES];
            for (j, block) in piece.chunks_exact_mut(block_bytes).enumerate() {
                write_planes(C::words(bytes, j), C::BITS as u8, lane, block);
            }
        }
    }
}

/// Writes the planes of 32 codes of one row; word `j` holds codes `4 j .. 4 j + 3`. `bits` is a constant where this is called.
#[inline(always)]
fn write_planes(words: [u32; 8], bits: u8, lane: usize, block: &mut [u8]) {
    let mut lines = block.chunks_exact_mut(64);
    for &(width, position) in planes(bits) {
        let mask = 0x0101_0101 * ((1u32 << width) - 1);
        for group in words.chunks_exact(8 / width as usize) {
            let mut word = 0;
            for (t, codes) in group.iter().enumerate() {
                word |= ((codes >> position) & mask) << (width as usize * t);
            }
            if let Some(line) = lines.next() {
                line[4 * lane..4 * lane + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// Spreads the scales of one row over a panel's scale bytes.
fn interleave_scales(source: &Source<'_>, row: usize, scales: Scales, lane: usize, out: &mut [u8]) {
    let units = out.chunks_exact_mut(scales.unit_bytes());
    match source.format {
        Format::Dense(_) | Format::Fp8 { .. } => {}
        Format::Fp(fp) => {
            let s = source.row_scales(row)[0];
            for (unit, s) in units.zip(s.chunks_exact(32 / fp.group())) {
                for (i, &byte) in s.iter().enumerate() {
                    // Codes are twice the values.
                    put_scale(fp.scale(byte) * 0.5, fp == Fp::NvFp4, 2 * (i * ROWS + lane), unit);
                }
            }
        }
        Format::Ggml(g @ Ggml::MXFP4) => {
            for (unit, block) in units.zip(source.row(row).chunks_exact(g.block_bytes())) {
                put_scale(ggml_iq::scale(g, block), false, 2 * lane, unit);
            }
        }
        Format::Ggml(g @ (Ggml::TQ1_0 | Ggml::TQ2_0)) => {
            for (unit, block) in units.zip(source.row(row).chunks_exact(g.block_bytes())) {
                let d = ggml_iq::scale(g, block);
                put_scale(d, true, 2 * lane, unit);
                put_scale(-d, true, 2 * (ROWS + lane), unit);
            }
        }
        Format::Ggml(g) if matches!(scales, Scales::WidePer16 { .. }) => {
            // The codes of IQ3_S are half of what they stand for.
            let factor = if g == Ggml::IQ3_S { 2.0 } else { 1.0 };
            for (unit, block) in units.zip(source.row(row).chunks_exact(g.block_bytes())) {
                let d = factor * ggml_iq::scale(g, block);
                unit[4 * lane..4 * lane + 4].copy_from_slice(&d.to_le_bytes());
                interleave_small_scales(g, scales, block, lane, unit);
            }
        }
        Format::Affine { float, .. } => {
            let size = float.size();
            let [s, b] = source.row_scales(row);
            for ((unit, s), b) in units.zip(s.chunks_exact(size)).zip(b.chunks_exact(size)) {
                unit[lane * size..(lane + 1) * size].copy_from_slice(s);
                unit[(ROWS + lane) * size..(ROWS + lane + 1) * size].copy_from_slice(b);
            }
        }
        Format::Ggml(g) => {
            let (scale, min) = float_fields(g);
            for (unit, block) in units.zip(source.row(row).chunks_exact(g.block_bytes())) {
                unit[2 * lane..2 * lane + 2].copy_from_slice(&block[scale..scale + 2]);
                if let Some(min) = min {
                    let at = 2 * (ROWS + lane);
                    unit[at..at + 2].copy_from_slice(&block[min..min + 2]);
                }
                interleave_small_scales(g, scales, block, lane, unit);
            }
        }
    }
}

/// Writes a scale that F16, or else BF16, holds exactly.
fn put_scale(scale: f32, f16: bool, at: usize, unit: &mut [u8]) {
    let mut bytes = Vec::with_capacity(2);
    if f16 { Float::F16 } else { Float::BF16 }.push(scale, &mut bytes);
    unit[at..at + 2].copy_from_slice(&bytes);
}

/// Writes the integer scales of one super-block.
fn interleave_small_scales(format: Ggml, scales: Scales, block: &[u8], lane: usize, unit: &mut [u8]) {
    let first = match scales {
        Scales::Affine { .. } | Scales::Symmetric { .. } | Scales::SymmetricPer16 { .. } => return,
        Scales::MinPer32 | Scales::MinPer16 | Scales::WidePer16 { .. } => 4,
        Scales::SignedPer16 { .. } => 2,
    };
    let steps = scales.unit() / scales.step();
    for i in 0..steps {
        let (scale, min) = small_scales(format, block, i);
        unit[(first + i) * ROWS + lane] = scale;
        if scales == Scales::MinPer32 {
            unit[(first + steps + i) * ROWS + lane] = min;
        }
    }
}

/// Looks for a scale that is not finite. Dense values are the model's own affair.
fn check_row(source: &Source<'_>, row: usize) -> Result<(), NonFinite> {
    let fail = |group| Err(NonFinite { row, group });
    match source.format {
        Format::Dense(_) => {}
        Format::Fp(fp) => {
            let bytes = source.row_scales(row)[0];
            if let Some(group) = bytes.iter().position(|&byte| fp.scale(byte).is_nan()) {
                return fail(group);
            }
        }
        Format::Fp8 { float } => {
            let s = source.row_scales(row)[0];
            if let Some(group) = (0..source.k.div_ceil(FP8_BLOCK)).find(|&g| !float.is_finite(s, g)) {
                return fail(group);
            }
        }
        Format::Ggml(g @ Ggml::MXFP4) => {
            let mut blocks = source.row(row).chunks_exact(g.block_bytes());
            if let Some(group) = blocks.position(|block| ggml_iq::scale(g, block).is_nan()) {
                return fail(group);
            }
        }
        Format::Affine { group, float, .. } => {
            let [s, b] = source.row_scales(row);
            for g in 0..source.k / group as usize {
                if !(float.is_finite(s, g) && float.is_finite(b, g)) {
                    return fail(g);
                }
            }
        }
        Format::Ggml(g) => {
            let (scale, min) = float_fields(g);
            for (i, block) in source.row(row).chunks_exact(g.block_bytes()).enumerate() {
                let finite = |at: usize| Float::F16.is_finite(&block[at..at + 2], 0);
                if !(finite(scale) && min.is_none_or(finite)) {
                    return fail(i);
                }
            }
        }
    }
    Ok(())
}
