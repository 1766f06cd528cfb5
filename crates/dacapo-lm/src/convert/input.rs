//! The tensors of the source: what there is, and their values, some rows at a time.

use std::ops::Range;
use std::sync::Arc;

use dacapo_ops::quant::{Float, Format, Source};

use crate::checkpoint::{Checkpoint, LinearWeight, Tensor, TensorKind};
use crate::error::{Error, Result};
use crate::model::load::describe;

/// The order of a tensor's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the source.
    Same,
    /// From halves of a head of this many rows to neighbours: llama's rotary pairs of queries and keys are halves in Hugging
    /// Face's files, and neighbours in GGUF's.
    ToPairs(usize),
    /// From neighbours to halves.
    ToHalves(usize),
    /// The source's row for each row; there may be fewer.
    Listed(Arc<[usize]>),
}

impl Order {
    /// The source's row that becomes row `row`.
    pub(super) fn source(&self, row: usize) -> usize {
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
            Order::Listed(rows) => rows[row],
        }
    }
}

/// What becomes of each value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Map {
    Same,
    /// For norms that folders hold less 1.
    Add(f32),
    /// `-exp(x)`: the rate of a delta net's heads, of which folders hold the logarithm.
    MinusExp,
    /// `ln(-x)`, the reverse.
    LogOfMinus,
}

impl Map {
    fn apply(self, values: &mut [f32]) {
        let each = |values: &mut [f32], f: &dyn Fn(f32) -> f32| values.iter_mut().for_each(|v| *v = f(*v));
        match self {
            Map::Same => {}
            Map::Add(more) => each(values, &|v| v + more),
            Map::MinusExp => each(values, &|v| -v.exp()),
            Map::LogOfMinus => each(values, &|v| (-v).ln()),
        }
    }
}

/// A matrix as it is stored, or those of its rows that count.
#[derive(Debug, Clone)]
pub(super) struct Matrix {
    /// How the values are stored; `None` for whole numbers, which are carried over as they are.
    format: Option<Format>,
    /// Codes, or all; then scales and biases.
    parts: Vec<Tensor>,
    /// How many rows count.
    rows: usize,
    /// The first of them, and the steps from one to the next: all rows are so many times as many.
    stride: [usize; 2],
    /// Whether rows are stored as columns.
    turned: bool,
    /// Rows of the matrices before it.
    start: usize,
}

impl Matrix {
    /// All rows.
    pub(super) fn whole(format: Option<Format>, parts: Vec<Tensor>, rows: usize) -> Self {
        Matrix { format, parts, rows, stride: [0, 1], turned: false, start: 0 }
    }

    /// All rows of a weight.
    ///
    /// # Errors
    /// If it is stored in a way that cannot be read.
    pub(super) fn of_weight(weight: &LinearWeight<'_>, rows: usize) -> Result<Self> {
        let (format, parts) = describe(weight)?;
        Ok(Self::whole(Some(format), parts.into_iter().cloned().collect(), rows))
    }

    /// Those of every so many rows that the first begins.
    pub(super) fn every(self, first: usize, step: usize) -> Self {
        Matrix { stride: [first, step], ..self }
    }

    /// Columns as rows; only of floats.
    pub(super) fn turned(self) -> Self {
        Matrix { turned: true, ..self }
    }

    fn not_floats(&self) -> Error {
        let part = &self.parts[0];
        Error::WrongType {
            path: part.file.path().to_path_buf(),
            tensor: part.file_name.clone(),
            expected: "F32, F16 or BF16".into(),
            found: part.kind.to_string(),
        }
    }

    fn is_whole(&self) -> bool {
        self.stride == [0, 1] && !self.turned
    }

    /// The values of a row.
    ///
    /// # Errors
    /// [`Error::WrongType`] for whole numbers.
    fn read(&self, row: usize, out: &mut [f32]) -> Result<()> {
        let Some(format) = self.format else { return Err(self.not_floats()) };
        let bytes = |index: usize| self.parts.get(index).map_or(&[][..], |part| part.bytes());
        let ([first, step], codes) = (self.stride, bytes(0));
        let (row, n) = (first + step * row, self.rows * step);
        match format {
            Format::Dense(float) if self.turned => {
                out.iter_mut().enumerate().for_each(|(i, out)| *out = float.read(codes, i * n + row));
            }
            _ => {
                let k = out.len();
                Source { format, n, k, codes, scales: bytes(1), biases: bytes(2) }.dequantize_row(row, out);
            }
        }
        Ok(())
    }
}

/// The type of a tensor's floats; `None` for whole numbers and blocks.
pub(super) fn dense(tensor: &Tensor) -> Option<Format> {
    tensor.kind.dtype().and_then(Float::from_dtype).map(Format::Dense)
}

/// A tensor to be written, and what it is made of.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// Hugging Face's name.
    pub name: String,
    /// The name in the source's file; of several tensors, the first's.
    pub file_name: String,
    /// Shape of the values.
    pub shape: Vec<usize>,
    /// Values in a row.
    width: usize,
    /// What it is made of, rows after rows.
    matrices: Vec<Matrix>,
    /// Which of their rows becomes which.
    order: Order,
    /// The source's column for each column, if they are moved.
    columns: Option<Arc<[usize]>>,
    /// What becomes of each value.
    pub map: Map,
}

impl Input {
    /// All tensors, scales and biases with the weights that they belong to.
    ///
    /// # Errors
    /// If a weight is stored in a way that cannot be read.
    pub(super) fn all(checkpoint: &Checkpoint) -> Result<Vec<Self>> {
        let mut inputs = Vec::with_capacity(checkpoint.tensors().len());
        for tensor in checkpoint.tensors() {
            if checkpoint.belongs_to_weight(&tensor.name) {
                continue;
            }
            let module = tensor.name.strip_suffix(".weight");
            let rows = |shape: &[usize]| shape[..shape.len().max(1) - 1].iter().product();
            let (shape, matrix) = match module.map(|m| checkpoint.stored(m)).transpose()? {
                Some((shape, weight)) => {
                    let rows = rows(&shape);
                    (shape, Matrix::of_weight(&weight, rows)?)
                }
                None => {
                    let rows = rows(&tensor.shape);
                    (tensor.shape.clone(), Matrix::whole(dense(tensor), vec![tensor.clone()], rows))
                }
            };
            inputs.push(Self::of(tensor.name.clone(), shape, vec![matrix]));
        }
        Ok(inputs)
    }

    /// A tensor of this shape, which these matrices, at least one, make up.
    pub(super) fn of(name: String, shape: Vec<usize>, mut matrices: Vec<Matrix>) -> Self {
        let mut start = 0;
        for matrix in &mut matrices {
            matrix.start = start;
            start += matrix.rows;
        }
        let file_name = matrices[0].parts[0].file_name.clone();
        let width = shape.last().copied().unwrap_or(1);
        Input { name, file_name, shape, width, matrices, order: Order::Same, columns: None, map: Map::Same }
    }

    /// The rows of the first, then those of the second.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if they are not as wide.
    pub(super) fn joined(name: String, first: Input, second: Input) -> Result<Self> {
        if first.width != second.width {
            return Err(second.wrong_shape(vec![second.rows(), first.width]));
        }
        let rows = first.rows() + second.rows();
        Ok(Self::of(name, vec![rows, first.width], [first.matrices, second.matrices].concat()))
    }

    /// How the values are stored, or those of the first matrix; `None` for whole numbers.
    pub(super) fn format(&self) -> Option<Format> {
        self.matrices[0].format
    }

    /// Type of the stored elements.
    pub(super) fn kind(&self) -> TensorKind {
        self.matrices[0].parts[0].kind
    }

    /// Whether what is to be written are the very bytes of the source, as far as the type goes.
    pub(super) fn is_same(&self) -> bool {
        let alike = |matrix: &Matrix| matrix.is_whole() && matrix.format == self.format();
        self.map == Map::Same
            && self.order == Order::Same
            && self.columns.is_none()
            && self.matrices.iter().all(alike)
    }

    /// Makes a row of each value, so that it can be moved; only where there is one matrix.
    ///
    /// # Errors
    /// [`Error::WrongType`] if they are no floats.
    pub(super) fn by_element(&mut self) -> Result<()> {
        if !matches!(self.format(), Some(Format::Dense(_))) {
            return Err(self.matrices[0].not_floats());
        }
        self.matrices.iter_mut().for_each(|matrix| matrix.rows *= self.width);
        self.width = 1;
        Ok(())
    }

    /// The same values in another shape; only of floats in one matrix.
    pub(super) fn reshape(&mut self, shape: Vec<usize>) {
        let (all, width) = (self.values(), shape.last().copied().unwrap_or(1).max(1));
        self.matrices.iter_mut().for_each(|matrix| matrix.rows = all / width);
        (self.shape, self.width) = (shape, width);
    }

    /// Changes the order of rows, which must be whole heads.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if they are not.
    pub(super) fn reorder(&mut self, order: Order) -> Result<()> {
        let rows = self.shape.first().copied().unwrap_or(0);
        let head = match order {
            Order::Same | Order::Listed(_) => 1,
            Order::ToPairs(head) | Order::ToHalves(head) => head,
        };
        if !rows.is_multiple_of(head) || self.shape.len() > 2 {
            let mut expected = self.shape.clone();
            expected.truncate(2);
            if let Some(rows) = expected.first_mut() {
                *rows = rows.next_multiple_of(head);
            }
            return Err(self.wrong_shape(expected));
        }
        if self.shape.len() == 1 {
            self.by_element()?;
        }
        self.order = order;
        Ok(())
    }

    /// Takes these rows of `of`, which must be all. They are listed once it is known that there are so many.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if there are not.
    pub(super) fn select(&mut self, of: usize, rows: impl FnOnce() -> Vec<usize>) -> Result<()> {
        self.check_first(of)?;
        let rows = rows();
        if self.shape.len() == 1 {
            self.by_element()?;
        }
        if let Some(first) = self.shape.first_mut() {
            *first = rows.len();
        }
        if rows.len() < of || !rows.iter().copied().eq(0..of) {
            self.order = Order::Listed(rows.into());
        }
        Ok(())
    }

    /// Moves columns, of which there must be so many: the source's for each.
    ///
    /// # Errors
    /// [`Error::WrongShape`] if there are not.
    pub(super) fn move_columns(&mut self, of: usize, columns: impl FnOnce() -> Vec<usize>) -> Result<()> {
        if self.width != of {
            let rows = self.rows();
            return Err(self.wrong_shape(vec![rows, of]));
        }
        let columns = columns();
        self.columns = (!columns.iter().copied().eq(0..columns.len())).then(|| columns.into());
        Ok(())
    }

    /// Checks the first dimension of a vector or matrix.
    ///
    /// # Errors
    /// [`Error::WrongShape`].
    pub(super) fn check_first(&self, expected: usize) -> Result<()> {
        match self.shape.first() {
            Some(&rows) if rows == expected && self.shape.len() <= 2 => Ok(()),
            _ => Err(self.wrong_shape([&[expected], self.shape.get(1..).unwrap_or_default()].concat())),
        }
    }

    pub(super) fn wrong_shape(&self, expected: Vec<usize>) -> Error {
        let part = &self.matrices[0].parts[0];
        Error::WrongShape {
            path: part.file.path().to_path_buf(),
            tensor: part.file_name.clone(),
            expected,
            found: self.shape.clone(),
        }
    }

    /// Whether this is the weight of a norm, other than those within delta nets.
    pub(super) fn is_norm(&self) -> bool {
        let of_net = self.name.ends_with(".linear_attn.norm.weight");
        self.shape.len() == 1 && self.name.ends_with("norm.weight") && !of_net
    }

    /// Adds to the weight of a norm what files of one kind hold it less by; nothing to other tensors.
    pub(super) fn add_to_norm(&mut self, offset: f32) {
        if self.is_norm() && offset != 0.0 {
            self.map = Map::Add(offset);
        }
    }

    /// The layer that it belongs to.
    pub(super) fn layer(&self) -> Option<usize> {
        self.name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
    }

    /// Number of values.
    pub(super) fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in the source.
    pub(super) fn bytes(&self) -> u64 {
        let stored = |matrix: &Matrix| {
            let bytes: usize = matrix.parts.iter().map(|part| part.len).sum();
            (bytes / matrix.stride[1]) as u128
        };
        let all: u128 = self.matrices.iter().map(stored).sum();
        let rows: usize = self.matrices.iter().map(|matrix| matrix.rows).sum();
        (all * self.rows() as u128 / rows.max(1) as u128) as u64
    }

    /// Values in a row: of the last dimension, or one if rows of a vector are to be moved.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.values() / self.width.max(1)
    }

    /// The matrix of a row, and its number there.
    fn locate(&self, row: usize) -> (&Matrix, usize) {
        let after = self.matrices.partition_point(|matrix| matrix.start <= row);
        let matrix = &self.matrices[after.max(1) - 1];
        (matrix, row - matrix.start)
    }

    /// The values of rows `first .. first + rows`, which must be there; every one must be finite.
    ///
    /// # Errors
    /// [`Error::BadWeight`] naming the first value that is not finite; [`Error::WrongType`] for whole numbers.
    pub(super) fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        let width = self.width.max(1);
        let mut unmoved = vec![0.0; if self.columns.is_some() { width } else { 0 }];
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let (matrix, row) = self.locate(self.order.source(first + i));
            match &self.columns {
                None => matrix.read(row, out)?,
                Some(columns) => {
                    matrix.read(row, &mut unmoved)?;
                    out.iter_mut().zip(columns.iter()).for_each(|(out, &column)| *out = unmoved[column]);
                }
            }
            self.map.apply(out);
        }
        match out.iter().position(|v| !v.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (matrix, row) = self.locate(self.order.source(first + at / width));
                Err(Error::BadWeight {
                    path: matrix.parts[0].file.path().to_path_buf(),
                    tensor: matrix.parts[0].file_name.clone(),
                    reason: format!("expected finite numbers, found {} in row {row}", out[at]),
                })
            }
        }
    }

    /// The tensors whose bytes it is, where it [is the same](Self::is_same).
    pub(super) fn parts(&self) -> impl Iterator<Item = &Tensor> {
        self.matrices.iter().flat_map(|matrix| &matrix.parts)
    }

    /// Gives back the pages of rows that have been read, as far as they lie in their order. Those that hold more are read again.
    pub(super) fn release_rows(&self, rows: Range<usize>) {
        if self.order != Order::Same {
            return;
        }
        for matrix in self.matrices.iter().filter(|matrix| !matrix.turned) {
            let share = |row: usize| row.clamp(matrix.start, matrix.start + matrix.rows) - matrix.start;
            let (first, last, all) = (share(rows.start), share(rows.end), matrix.rows.max(1));
            for part in &matrix.parts {
                let at = |row: usize| part.offset + (part.len as u128 * row as u128 / all as u128) as usize;
                if first < last {
                    part.file.release(at(first)..at(last));
                }
            }
        }
    }

    /// Gives the pages of the source's file back.
    pub(super) fn release(&self) {
        for part in self.parts() {
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

    #[test]
    fn maps_undo_each_other() {
        let mut values = [-7.0, -0.5, 0.0, 2.0];
        Map::MinusExp.apply(&mut values);
        assert_eq!(values[2], -1.0);
        Map::LogOfMinus.apply(&mut values);
        for (found, expected) in values.into_iter().zip([-7.0, -0.5, 0.0, 2.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
        Map::Add(1.0).apply(&mut values);
        assert_eq!(values[2], 1.0);
    }
}
