//! Weights: matrices in panels, ready for products.

use dacapo::{Buffer, DType, Device, Dispatch, Error, Result};

use crate::ops::repack::{Params, REPACK, REPACK_AFFINE, encode, first_non_finite};
use crate::quant::Format;
use crate::quant::panel::{PanelFormat, Panels, ROWS};

/// The arrays of a weight `[n, k]` in a checkpoint, as buffers of raw bytes (U8), mapped from a file or not, at any
/// alignment.
#[derive(Debug, Clone)]
pub struct WeightSource {
    /// Format of the bytes.
    pub format: Format,
    /// Rows (outputs).
    pub n: usize,
    /// Values in a row (inputs).
    pub k: usize,
    /// Codes; for GGML formats blocks, for dense ones values.
    pub codes: Buffer,
    /// Scales and biases where they are arrays of their own, biases empty if the format has none.
    pub scales: Option<(Buffer, Buffer)>,
}

/// A weight matrix `[n, k]`, repacked into panels.
#[derive(Debug, Clone)]
pub struct Weight {
    source: Format,
    format: PanelFormat,
    n: usize,
    k: usize,
    data: Buffer,
}

impl Weight {
    /// Repacks a weight, with all workers of the device, which is a processor, and waits. Afterwards the source is no
    /// longer needed: the caller may [release](dacapo::MappedFile::release) its part of the file.
    ///
    /// # Errors
    /// [`Error::Argument`] if format, shape and byte counts do not fit each other, or if a scale is infinite or NaN; the
    /// message names its row and group. Whatever allocation or submission find.
    pub fn load(device: &Device, source: &WeightSource) -> Result<Weight> {
        check(source)?;
        let (n, k, format) = (source.n, source.k, PanelFormat::of(source.format));
        let panels = n.div_ceil(ROWS);
        let data = device.alloc(DType::U8, &[panels, format.panel_bytes(k)])?;
        let weight = Weight { source: source.format, format, n, k, data };
        if weight.data.is_empty() {
            return Ok(weight);
        }
        let status = device.alloc(DType::U32, &[panels])?;
        let params = Params { format: encode(source.format), n: n as u32, k: k as u32 };
        let dispatch = match &source.scales {
            None => Dispatch::new(&REPACK).buffer(&source.codes),
            Some((scales, biases)) => {
                Dispatch::new(&REPACK_AFFINE).buffer(&source.codes).buffer(scales).buffer(biases)
            }
        };
        let dispatch = dispatch.buffer(&weight.data).buffer(&status).bytes(&params);
        let mut encoder = device.encoder("load weight")?;
        encoder.dispatch(dispatch.grid([panels as u32, 1, 1]))?;
        encoder.commit_and_wait()?;
        match first_non_finite(&status.read::<u32>()?) {
            None => Ok(weight),
            Some(bad) => {
                let found = format!("infinity or NaN in row {}, group {}", bad.row, bad.group);
                Err(Error::argument("repack", "scales", "finite values", found))
            }
        }
    }

    /// The same panels on another device, and waits.
    ///
    /// Weights are repacked by the processor, which the files are near to, whatever device they are for.
    ///
    /// # Errors
    /// If the memory cannot be had or written.
    pub fn to_device(&self, device: &Device) -> Result<Weight> {
        self.upload(device, &mut |_| {})
    }

    /// As [`to_device`](Self::to_device). `progress` hears of the bytes that are there, of [`byte_len`](Self::byte_len), now
    /// and then.
    ///
    /// # Errors
    /// As [`to_device`](Self::to_device).
    pub fn upload(&self, device: &Device, progress: &mut dyn FnMut(usize)) -> Result<Weight> {
        // A device copies at gigabytes a second: a few reports in each.
        const PART: usize = 32 << 20;
        let data = device.alloc(DType::U8, self.data.shape())?;
        let panels = self.data.read::<u8>()?;
        for (i, part) in panels.chunks(PART).enumerate() {
            data.slice_view(i * PART, &[part.len()])?.copy_from(part)?;
            progress(i * PART + part.len());
        }
        Ok(Weight { data, ..self.clone() })
    }

    /// Rows (outputs).
    pub fn n(&self) -> usize {
        self.n
    }

    /// Values in a row (inputs).
    pub fn k(&self) -> usize {
        self.k
    }

    /// The format of the checkpoint's bytes.
    pub fn source_format(&self) -> Format {
        self.source
    }

    /// What the panels hold.
    pub fn format(&self) -> PanelFormat {
        self.format
    }

    /// Bytes of the panels.
    pub fn byte_len(&self) -> usize {
        self.data.byte_len()
    }

    /// Whether products can take int8 activations; dense weights multiply F32.
    pub fn takes_int8(&self) -> bool {
        matches!(self.format, PanelFormat::Quantized { .. })
    }

    /// The panels, U8 `[panels, bytes of a panel]`.
    pub fn data(&self) -> &Buffer {
        &self.data
    }

    /// Rows that a kernel of the device can be given at once, whole panels: all of them, unless the panels are larger than
    /// the device's largest binding.
    ///
    /// # Errors
    /// [`Error::Argument`] if not even one panel can be bound.
    pub(crate) fn bindable_rows(&self, device: &Device) -> Result<usize> {
        let Some(limits) = &device.info().gpu else { return Ok(self.n) };
        if self.byte_len() as u64 <= limits.binding_bytes {
            return Ok(self.n);
        }
        // A binding may have to begin a little before its panels.
        let room = limits.binding_bytes.saturating_sub(limits.binding_align);
        match room / self.format.panel_bytes(self.k) as u64 {
            0 => {
                let expected =
                    format!("rows of at most {} bytes on {}", room / ROWS as u64, device.info().name);
                let found = format!(
                    "{} values of {}, {} bytes",
                    self.k,
                    self.source,
                    self.format.panel_bytes(self.k) / ROWS
                );
                Err(Error::argument("weight", "k", expected, found))
            }
            panels => Ok(panels as usize * ROWS),
        }
    }

    /// Rows `first .. first + rows`, or as many as there are, as a weight of its own. `first` is a multiple of 16.
    ///
    /// # Errors
    /// If there are no such rows.
    pub(crate) fn rows(&self, first: usize, rows: usize) -> Result<Weight> {
        let (n, bytes) = (rows.min(self.n.saturating_sub(first)), self.format.panel_bytes(self.k));
        let data = self.data.slice_view(first / ROWS * bytes, &[n.div_ceil(ROWS), bytes])?;
        Ok(Weight { n, data, ..self.clone() })
    }

    /// The values of one row, on the host: for tests and tools.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such row; if the panels cannot be read.
    pub fn row_dequantize(&self, row: usize) -> Result<Vec<f32>> {
        let guard = self.data.read::<u8>()?;
        let panels = Panels::new(self.format, self.n, self.k, &guard).filter(|panels| row < panels.n());
        let Some(panels) = panels else {
            return Err(Error::argument("weight", "row", format!("less than {}", self.n), row));
        };
        let mut values = vec![0.0; self.k];
        panels.dequantize_row(row, &mut values);
        Ok(values)
    }
}

/// Checks that format, shape and bytes fit each other.
fn check(source: &WeightSource) -> Result<()> {
    let (format, n, k) = (source.format, source.n, source.k);
    let fail =
        |argument, expected: String, found: String| Err(Error::argument("repack", argument, expected, found));
    if !format.is_valid() {
        return fail("format", "a supported format".into(), format.name());
    }
    if n > u32::MAX as usize || k > u32::MAX as usize || format.checked_matrix_bytes(n, k).is_none() {
        return fail("shape", "a matrix that can be addressed".into(), format!("[{n}, {k}]"));
    }
    if !k.is_multiple_of(format.block_len()) {
        return fail("k", format!("a multiple of {} for {format}", format.block_len()), k.to_string());
    }
    let bytes = |argument, buffer: &Buffer, expected: usize| {
        if buffer.dtype() == DType::U8 && buffer.len() == expected {
            return Ok(());
        }
        let expected = format!("{expected} bytes for {format} [{n}, {k}]");
        fail(argument, expected, format!("{} {}", buffer.len(), buffer.dtype()))
    };
    bytes("codes", &source.codes, n * format.row_bytes(k))?;
    let apart = matches!(format, Format::Affine { .. } | Format::Fp(_) | Format::Fp8 { .. });
    match &source.scales {
        Some((scales, biases)) if apart => {
            bytes("scales", scales, format.scale_bytes(n, k))?;
            bytes("biases", biases, format.bias_bytes(n, k))
        }
        None if apart => fail("scales", "scales and biases".into(), "none".into()),
        Some(_) => fail("scales", format!("none for {format}"), "scales".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
