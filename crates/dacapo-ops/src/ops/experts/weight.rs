//! The weights of a layer's experts: as many matrices of one shape and format, in panels.

use dacapo::{Buffer, DType, Device, Error, Result};

use crate::quant::Format;
use crate::quant::panel::{PanelFormat, Panels, ROWS};
use crate::weight::Weight;

/// Matrices `[n, k]` of `count` experts, one after the other, each in whole panels of 16 rows.
#[derive(Debug, Clone)]
pub struct Experts {
    source: Format,
    count: usize,
    n: usize,
    k: usize,
    /// U8 `[count, bytes of an expert]`.
    data: Buffer,
}

impl Experts {
    /// Room for the experts on a device; [`put`](Self::put) brings them, one by one.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are none, or rows cannot have `k` values in this format; if the memory cannot be had.
    pub fn new(device: &Device, format: Format, count: usize, n: usize, k: usize) -> Result<Experts> {
        let panels = PanelFormat::of(format);
        let fail = |argument, expected: String, found: usize| {
            Err(Error::argument("experts", argument, expected, found))
        };
        if count == 0 || u32::try_from(count).is_err() {
            return fail("count", "at least one expert".into(), count);
        }
        if !panels.fits(k) {
            return fail("k", format!("rows that {format} can have"), k);
        }
        let bytes = n.checked_next_multiple_of(ROWS).and_then(|rows| rows.checked_mul(count));
        if bytes.and_then(|rows| format.checked_matrix_bytes(rows, k)).is_none() {
            return fail("shape", "matrices that can be addressed".into(), n);
        }
        let data = device.alloc(DType::U8, &[count, panels.matrix_bytes(n, k)])?;
        Ok(Experts { source: format, count, n, k, data })
    }

    /// Puts the weight of an expert, which may be on another device, in its place, and waits.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no such expert, or its weight has another format or shape than the others; if its
    /// panels cannot be read.
    pub fn put(&self, expert: usize, weight: &Weight) -> Result<()> {
        let found = (weight.source_format(), weight.n(), weight.k());
        if found != (self.source, self.n, self.k) {
            let text = |(format, n, k): (Format, usize, usize)| format!("{format} [{n}, {k}]");
            let expected = text((self.source, self.n, self.k));
            return Err(Error::argument("experts", "weight", expected, text(found)));
        }
        if expert >= self.count {
            return Err(Error::argument("experts", "expert", format!("less than {}", self.count), expert));
        }
        let bytes = self.expert_bytes();
        self.data.slice_view(expert * bytes, &[bytes])?.copy_from(&weight.data().read::<u8>()?)
    }

    /// How many experts there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Rows (outputs) of an expert.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Values in a row (inputs).
    pub fn k(&self) -> usize {
        self.k
    }

    /// What the panels hold.
    pub fn format(&self) -> PanelFormat {
        PanelFormat::of(self.source)
    }

    /// Bytes of one expert's panels.
    pub fn expert_bytes(&self) -> usize {
        self.format().matrix_bytes(self.n, self.k)
    }

    /// Bytes of all panels.
    pub fn byte_len(&self) -> usize {
        self.data.byte_len()
    }

    /// Whether products can take int8 activations; dense weights multiply F32.
    pub fn takes_int8(&self) -> bool {
        matches!(self.format(), PanelFormat::Quantized { .. })
    }

    /// All panels, U8 `[count, bytes of an expert]`.
    pub fn data(&self) -> &Buffer {
        &self.data
    }
}

/// The panels of one expert among the bytes of all.
pub(super) fn panels_of(
    format: PanelFormat,
    n: usize,
    k: usize,
    expert: usize,
    all: &[u8],
) -> Option<Panels<'_>> {
    let bytes = format.matrix_bytes(n, k);
    Panels::new(format, n, k, all.get(expert * bytes..(expert + 1) * bytes)?)
}
