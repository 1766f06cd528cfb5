//! The tensors of the source: what there is, and their values, some rows at a time.

use dacapo_ops::quant::{Float, Format, Source};

use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::model::load::describe;

/// The order of the rows of llama's queries and keys, whose rotary pairs are halves of a head in Hugging Face's files and
/// neighbours in GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the source.
    Same,
    /// From halves of a head of this many rows to neighbours.
    ToPairs(usize),
    /// From neighbours to halves.
    ToHalves(usize),
}

impl Order {
    /// The source's row that becomes row `row`.
    pub(super) fn source(self, row: usize) -> usize {
        match self {
            Order::Same => row,
            Order::ToPairs(head) => {
                let (start, at) = (row / head * head, row % head);
                start + at % 2 * (head / 2) + at / 2
            }
            Order::ToHalves(head) => {
                let (start, at) = (row / head * head, row % head);
                start + at % (head / 2) * 2 + at / (head / 2)
            }
        }
    }
}

/// A tensor of the source.
#[derive(Debug, Clone)]
pub(super) struct Input<'a> {
    /// Hugging Face's name.
    pub name: String,
    /// The name in the source's file.
    pub file_name: &'a str,
    /// Shape of the values.
    pub shape: Vec<usize>,
    /// How the values are stored; `None` for whole numbers, which are carried over as they are.
    pub format: Option<Format>,
    /// Codes, or all; then scales and biases.
    pub parts: Vec<&'a Tensor>,
    /// Which of the source's rows becomes which.
    pub order: Order,
    /// Added to every value: norms that folders hold less 1.
    pub added: f32,
}

impl<'a> Input<'a> {
    /// All tensors, scales and biases with the weights that they belong to.
    ///
    /// # Errors
    /// If a weight is stored in a way that cannot be read.
    pub(super) fn all(checkpoint: &'a Checkpoint) -> Result<Vec<Self>> {
        let mut inputs = Vec::with_capacity(checkpoint.tensors().len());
        for tensor in checkpoint.tensors() {
            if checkpoint.belongs_to_weight(&tensor.name) {
                continue;
            }
            let module = tensor.name.strip_suffix(".weight");
            let (shape, format, parts) = match module.map(|m| checkpoint.stored(m)).transpose()? {
                Some((shape, weight)) => {
                    let (format, parts) = describe(&weight)?;
                    (shape, Some(format), parts)
                }
                None => {
                    let float = tensor.kind.dtype().and_then(Float::from_dtype);
                    (tensor.shape.clone(), float.map(Format::Dense), vec![tensor])
                }
            };
            let (name, file_name) = (tensor.name.clone(), tensor.file_name.as_str());
            inputs.push(Input { name, file_name, shape, format, parts, order: Order::Same, added: 0.0 });
        }
        Ok(inputs)
    }

    /// Changes the order of rows, which must be whole heads.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if they are not.
    pub(super) fn reorder(&mut self, order: Order) -> Result<()> {
        let rows = self.shape.first().copied().unwrap_or(0);
        let head = match order {
            Order::Same => 1,
            Order::ToPairs(head) | Order::ToHalves(head) => head,
        };
        if !rows.is_multiple_of(head) || self.shape.len() > 2 {
            let mut expected = self.shape.clone();
            expected.truncate(2);
            if let Some(rows) = expected.first_mut() {
                *rows = rows.next_multiple_of(head);
            }
            return Err(Error::WrongShape {
                path: self.parts[0].file.path().to_path_buf(),
                tensor: self.parts[0].file_name.clone(),
                expected,
                found: self.shape.clone(),
            });
        }
        self.order = order;
        Ok(())
    }

    /// Whether this is the weight of a norm.
    pub(super) fn is_norm(&self) -> bool {
        self.shape.len() == 1 && self.name.ends_with("norm.weight")
    }

    /// Number of values.
    pub(super) fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the source.
    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len as u64).sum()
    }

    /// Values in a row: of the last dimension, or one if rows of a vector are to be moved.
    pub(super) fn width(&self) -> usize {
        match (self.shape.as_slice(), self.order) {
            ([_], Order::ToPairs(_) | Order::ToHalves(_)) => 1,
            (shape, _) => shape.last().copied().unwrap_or(1),
        }
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.values() / self.width().max(1)
    }

    /// The values of rows `first .. first + rows`, which must be there; every one must be finite.
    ///
    /// # Errors
    /// [`Error::BadWeight`] naming the first value that is not finite; [`Error::WrongType`] for whole numbers.
    pub(super) fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        let (width, part) = (self.width(), self.parts[0]);
        let Some(format) = self.format else {
            return Err(Error::WrongType {
                path: part.file.path().to_path_buf(),
                tensor: part.file_name.clone(),
                expected: "floats".into(),
                found: part.kind.to_string(),
            });
        };
        let bytes = |index: usize| self.parts.get(index).map_or(&[][..], |part| part.bytes());
        let source =
            Source { format, n: self.rows(), k: width, codes: bytes(0), scales: bytes(1), biases: bytes(2) };
        for (i, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
            source.dequantize_row(self.order.source(first + i), out);
            if self.added != 0.0 {
                out.iter_mut().for_each(|value| *value += self.added);
            }
        }
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::BadWeight {
                path: part.file.path().to_path_buf(),
                tensor: part.file_name.clone(),
                reason: format!(
                    "expected finite numbers, found {} in row {}",
                    out[at],
                    self.order.source(first + at / width.max(1))
                ),
            }),
        }
    }

    /// Gives the pages of the source's file back.
    pub(super) fn release(&self) {
        for part in &self.parts {
            part.file.release(part.offset..part.offset + part.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_undo_each_other() {
        for head in [2, 8, 64] {
            let (pairs, halves) = (Order::ToPairs(head), Order::ToHalves(head));
            for row in 0..3 * head {
                assert_eq!(pairs.source(halves.source(row)), row);
                assert_eq!(halves.source(pairs.source(row)), row);
            }
        }
        assert_eq!([0, 1, 2, 3].map(|row| Order::ToPairs(4).source(row)), [0, 2, 1, 3]);
        assert_eq!(Order::ToPairs(4).source(5), 6);
    }
}
