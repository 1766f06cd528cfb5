//! Quantization of activations to int8.

pub mod cpu;
pub(crate) mod gpu;

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::{
    Binding, Buffer, CommandEncoder, CpuTwin, DType, Device, Dispatch, Error, Kernel, OpKind, Result,
};

use crate::ops::matmul::codes::META;
use crate::quant::panel::BLOCK;
use crate::simd::Level;

/// See [`quantize_q8`].
pub static QUANTIZE_Q8: Kernel = Kernel {
    name: "quantize_q8",
    kind: OpKind::Quantize,
    bindings: &[Binding::read("x"), Binding::write("codes"), Binding::write("meta")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&gpu::TWIN),
};

/// Blocks of a tile.
fn blocks_of_tile(context: &PlanContext<'_>) -> usize {
    context.chunk(context.len(0) / BLOCK, 32, 2)
}

fn plan(context: &PlanContext<'_>) -> CpuPlan {
    let blocks = blocks_of_tile(context);
    CpuPlan::new((context.len(0) / BLOCK).div_ceil(blocks), 1)
        .split(1, Split::chunks(blocks * BLOCK))
        .split(2, Split::chunks(blocks * META))
}

fn run(tile: &Tile<'_>) {
    let (mut codes, mut meta) = (tile.write::<i8>(1), tile.write::<f32>(2));
    let (first, len) = (codes.first_col(), codes.cols());
    let x = &tile.read::<f32>(0)[first..first + len];
    cpu::quantize(Level::best(), x, codes.slice(), meta.slice());
}

/// Quantizes activations to int8, in blocks of 32 consecutive values.
///
/// For a block of `x` with largest magnitude `a`: scale = a / 127, code = round(x * (127 / a)) to nearest even, both
/// operations in f32. `codes` gets the codes, I8, as many as `x` has values; `meta`, F32, for each block four values:
/// scale, scale times the sum of all codes, of the first 16 and of the last 16. A block with a value that is infinite or
/// NaN gets NaN for its meta, so that every product with it is NaN; one with magnitudes below 1e-35 becomes zeros.
///
/// # Errors
/// [`Error::Argument`] if a type is wrong, `x`'s length is no multiple of 32, or a length does not fit.
pub fn quantize_q8(enc: &mut CommandEncoder, x: &Buffer, codes: &Buffer, meta: &Buffer) -> Result<()> {
    let check = |argument, buffer: &Buffer, dtype: DType, len: usize| {
        if buffer.dtype() == dtype && buffer.len() == len {
            return Ok(());
        }
        let found = format!("{} {}", buffer.len(), buffer.dtype());
        Err(Error::argument(QUANTIZE_Q8.name, argument, format!("{len} {dtype}"), found))
    };
    check("x", x, DType::F32, x.len().next_multiple_of(BLOCK))?;
    check("codes", codes, DType::I8, x.len())?;
    check("meta", meta, DType::F32, x.len() / BLOCK * META)?;
    if x.is_empty() {
        return Ok(());
    }
    let grid = [(x.len() / BLOCK) as u32, 1, 1];
    enc.dispatch(Dispatch::new(&QUANTIZE_Q8).buffer(x).buffer(codes).buffer(meta).grid(grid))
}

/// Buffers for quantized activations, reused by all products that are not in flight together.
#[derive(Debug, Clone)]
pub struct Int8Buffers {
    codes: Buffer,
    meta: Buffer,
}

impl Int8Buffers {
    /// Room for `len` activations (tokens times values of a row), a multiple of 32.
    ///
    /// # Errors
    /// If the memory cannot be had.
    pub fn new(device: &Device, len: usize) -> Result<Self> {
        let codes = device.alloc(DType::I8, &[len])?;
        Ok(Int8Buffers { codes, meta: device.alloc(DType::F32, &[len / BLOCK, META])? })
    }

    /// As [`new`](Self::new), as values inside a graph ([`Device::transient`]).
    ///
    /// # Errors
    /// As [`Device::transient`].
    pub fn transient(device: &Device, len: usize) -> Result<Self> {
        let codes = device.transient(DType::I8, &[len])?;
        Ok(Int8Buffers { codes, meta: device.transient(DType::F32, &[len / BLOCK, META])? })
    }
}

/// Activations as products take them: F32 `[.., K]`, and perhaps an int8 twin.
#[derive(Debug, Clone)]
pub struct Activation {
    exact: Buffer,
    int8: Option<(Buffer, Buffer)>,
}

impl Activation {
    /// Activations that are used as they are.
    pub fn exact(x: &Buffer) -> Self {
        Activation { exact: x.clone(), int8: None }
    }

    /// Quantizes activations once, for all products that read them. If `x`'s rows are no multiple of 32 values, or not
    /// F32, this is [`exact`](Self::exact).
    ///
    /// # Errors
    /// If `into` has too little room; whatever the dispatch finds.
    pub fn quantize(enc: &mut CommandEncoder, x: &Buffer, into: &Int8Buffers) -> Result<Self> {
        let rows_fit = x.shape().last().is_some_and(|k| k.is_multiple_of(BLOCK));
        if !rows_fit || x.dtype() != DType::F32 {
            return Ok(Activation::exact(x));
        }
        let codes = into.codes.slice_view(0, x.shape())?;
        let meta = into.meta.slice_view(0, &[x.len() / BLOCK, META])?;
        quantize_q8(enc, x, &codes, &meta)?;
        Ok(Activation { exact: x.clone(), int8: Some((codes, meta)) })
    }

    /// The F32 activations.
    pub fn exact_buffer(&self) -> &Buffer {
        &self.exact
    }

    /// Codes and meta of the int8 twin.
    pub fn int8_buffers(&self) -> Option<(&Buffer, &Buffer)> {
        self.int8.as_ref().map(|(codes, meta)| (codes, meta))
    }
}

#[cfg(test)]
mod tests;
