//! Repacking of weights into panels, at load.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{Binding, CpuTwin, Kernel, OpKind};

use crate::quant::panel::{PanelFormat, ROWS};
use crate::quant::repack::{NonFinite, repack_panel};
use crate::quant::{Float, Format, Fp, Ggml, Source};

/// Weights whose scales lie among the codes, and dense ones.
pub static REPACK: Kernel = Kernel {
    name: "repack",
    kind: OpKind::Copy,
    bindings: &[Binding::read("codes"), Binding::write("panels"), Binding::write("status")],
    cpu: CpuTwin { plan: plan::<1>, run },
    gpu: None,
};

/// Weights with scales in an array of their own, and biases if they have any.
pub static REPACK_AFFINE: Kernel = Kernel {
    name: "repack_affine",
    kind: OpKind::Copy,
    bindings: &[
        Binding::read("codes"),
        Binding::read("scales"),
        Binding::read("biases"),
        Binding::write("panels"),
        Binding::write("status"),
    ],
    cpu: CpuTwin { plan: plan::<3>, run: run_affine },
    gpu: None,
};

/// Parameters of both kernels.
#[repr(C)]
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    /// [`encode`]d source format.
    pub format: u32,
    /// Rows.
    pub n: u32,
    /// Values in a row.
    pub k: u32,
}

/// A source format as a word; [`decode`] reverses it.
pub(crate) fn encode(format: Format) -> u32 {
    match format {
        Format::Dense(float) => (float as u32) << 24,
        Format::Affine { bits, group, float } => {
            1 | (bits as u32) << 8 | (group as u32) << 16 | (float as u32) << 24
        }
        Format::Ggml(g) => 2 | (g as u32) << 8,
        Format::Fp(fp) => 3 | (fp as u32) << 8,
        Format::Fp8 { float } => 4 | (float as u32) << 24,
    }
}

fn decode(word: u32) -> Option<Format> {
    let [kind, low, middle, high] = word.to_le_bytes();
    match kind {
        0 => Some(Format::Dense(*Float::ALL.get(high as usize)?)),
        1 => Some(Format::Affine { bits: low, group: middle, float: *Float::ALL.get(high as usize)? }),
        2 => Some(Format::Ggml(*Ggml::ALL.get(low as usize)?)),
        3 => Some(Format::Fp(*Fp::ALL.get(low as usize)?)),
        4 => Some(Format::Fp8 { float: *Float::ALL.get(high as usize)? }),
        _ => None,
    }
}

/// A panel's status word: 0 if all scales are finite.
fn status(result: Result<(), NonFinite>) -> u32 {
    result.map_or_else(|bad| 1 + ((bad.row % ROWS) + ROWS * bad.group) as u32, |()| 0)
}

/// The first bad scale, from all panels' status words.
pub(crate) fn first_non_finite(status: &[u32]) -> Option<NonFinite> {
    let (panel, word) = status.iter().enumerate().find(|(_, word)| **word != 0)?;
    let found = *word as usize - 1;
    Some(NonFinite { row: panel * ROWS + found % ROWS, group: found / ROWS })
}

/// `OUT` is the index of the first output binding.
fn plan<const OUT: usize>(context: &PlanContext<'_>) -> CpuPlan {
    let params: Params = context.params();
    let format = PanelFormat::of(decode(params.format).expect("the caller encodes a format"));
    let panels = context.len(OUT + 1);
    let per_tile = context.chunk(panels, 1, 8);
    CpuPlan::new(1, panels.div_ceil(per_tile))
        .split(OUT, Split::rows(format.panel_bytes(params.k as usize), per_tile))
        .split(OUT + 1, Split::rows(1, per_tile))
}

fn repack_tile(tile: &Tile<'_>, scales: [&[u8]; 2], out: usize) {
    let params: Params = tile.params();
    let format = decode(params.format).expect("the caller encodes a format");
    let source = Source {
        format,
        n: params.n as usize,
        k: params.k as usize,
        codes: tile.read_bytes(0),
        scales: scales[0],
        biases: scales[1],
    };
    let (mut panels, mut words) = (tile.write::<u8>(out), tile.write::<u32>(out + 1));
    let first = panels.first_row();
    for (i, word) in words.slice().iter_mut().enumerate() {
        *word = status(repack_panel(&source, first + i, panels.row(i)));
    }
}

fn run(tile: &Tile<'_>) {
    repack_tile(tile, [&[], &[]], 1);
}

fn run_affine(tile: &Tile<'_>) {
    repack_tile(tile, [tile.read_bytes(1), tile.read_bytes(2)], 3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_survive_encoding() {
        for format in Format::all() {
            assert_eq!(decode(encode(format)), Some(format));
        }
        assert_eq!(decode(5), None);
    }
}
