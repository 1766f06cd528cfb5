//! From values to the bytes of a tensor, by all processors.

use std::ops::ControlFlow;

use dacapo_ops::quant::affine::{self, AffineArrays};
use dacapo_ops::quant::{Float, Ggml, quantize_ggml};

use super::Progress;
use super::input::Input;
use super::partial::Output;
use crate::error::Result;

/// Values that are held at once.
const AT_ONCE: usize = 4 << 20;

/// How a tensor is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The source's own bytes.
    Same,
    /// Plain values.
    Dense(Float),
    /// Blocks of GGML.
    Ggml(Ggml),
    /// Codes, then scales, then biases, one after the other.
    Affine {
        /// Bits of a code.
        bits: u8,
        /// Values that share a scale.
        group: u8,
        /// Type of scales and biases.
        float: Float,
    },
}

impl Form {
    /// Bytes of a tensor of `rows` rows with `width` values.
    pub(super) fn bytes(self, input: &Input) -> u64 {
        let (rows, width) = (input.rows(), input.width());
        match self {
            Form::Same => input.bytes(),
            Form::Dense(float) => super::dense_bytes(float, rows * width),
            Form::Ggml(g) => (rows * (width / g.block_len()) * g.block_bytes()) as u64,
            Form::Affine { bits, group, float } => {
                let groups = rows * (width / group as usize);
                (rows * width * bits as usize / 8 + 2 * groups * float.size()) as u64
            }
        }
    }

    /// The bytes of some rows: codes or all, then scales and biases.
    fn encode(self, values: &[f32]) -> AffineArrays {
        let mut arrays = AffineArrays::default();
        match self {
            Form::Same => {}
            Form::Dense(float) => values.iter().for_each(|&v| float.push(v, &mut arrays.codes)),
            Form::Ggml(g) => quantize_ggml(g, values, &mut arrays.codes),
            Form::Affine { bits, group, float } => arrays = affine::quantize(values, bits, group, float),
        }
        arrays
    }
}

/// How far a conversion is.
pub(super) struct Counter<'a, 'b> {
    pub done: u64,
    pub total: u64,
    pub progress: &'a mut Progress<'b>,
}

impl Counter<'_, '_> {
    fn add(&mut self, bytes: u64) -> ControlFlow<()> {
        self.done = (self.done + bytes).min(self.total);
        (self.progress)(self.done, self.total)
    }
}

/// Writes a tensor. Breaks if the progress does.
///
/// # Errors
/// What [`Input::read`] and writing find.
pub(super) fn write(
    input: &Input,
    form: Form,
    out: &mut Output,
    counter: &mut Counter<'_, '_>,
) -> Result<ControlFlow<()>> {
    if form == Form::Same {
        for part in input.parts() {
            out.write(part.bytes())?;
        }
        input.release();
        return Ok(counter.add(input.bytes()));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (rows, width) = (input.rows(), input.width().max(1));
    let share = (AT_ONCE / width / threads).max(1);
    let (mut scales, mut biases) = (vec![], vec![]);
    for first in (0..rows).step_by(share * threads) {
        let last = (first + share * threads).min(rows);
        let starts: Vec<usize> = (first..last).step_by(share).collect();
        let parts: Vec<Result<AffineArrays>> = std::thread::scope(|scope| {
            let run = |start: usize| {
                let mut values = vec![0.0; (start + share).min(last).saturating_sub(start) * width];
                input.read(start, &mut values)?;
                Ok(form.encode(&values))
            };
            let workers: Vec<_> = starts.iter().map(|&start| scope.spawn(move || run(start))).collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for part in parts {
            let part = part?;
            out.write(&part.codes)?;
            scales.extend(part.scales);
            biases.extend(part.biases);
        }
        input.release_rows(first..last);
        let share = input.bytes() as u128 * (last - first) as u128 / rows.max(1) as u128;
        if counter.add(share as u64).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    out.write(&scales)?;
    out.write(&biases)?;
    input.release();
    Ok(ControlFlow::Continue(()))
}
