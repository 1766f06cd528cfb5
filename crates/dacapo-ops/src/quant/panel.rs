//! Panels: the layout in which kernels read weights.
//!
//! Sixteen rows form a *panel* (the last one of a matrix is filled up with rows of zeros). Inside a panel the rows
//! are interleaved, so that one 64-byte *line* holds one 32-bit word of each row and any vector width from 4 to 16
//! words computes that many rows side by side, without a horizontal sum.
//!
//! A quantized panel is all its codes, then all its scales. Codes come in blocks of 32 values along k, as *bit
//! planes*; a code's planes follow each other within the block, low bits first (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2):
//!
//! | plane | lines | sub-step j (values 4j .. 4j+3, one byte each) |
//! |---|---|---|
//! | 8 bits | 8 | line j |
//! | 4 bits | 4 | line j/2, shifted right by 4 (j % 2) |
//! | 2 bits | 2 | line j/4, shifted right by 2 (j % 4) |
//! | 1 bit | 1 | shifted right by j |
//!
//! So every format unpacks with a load, a shift and a mask for each plane, whatever the vector width.
//!
//! Every quantized value is `s * code + b` for an `s` and a `b` that are constant over 16 or 32 values (a *step*).
//! Scales are kept as the source has them, never rounded: see [`Scales`]. A dense panel is, for each k, one value of
//! each row.

use super::{Float, Format, Fp, Ggml, f16_at};

/// Rows in a panel.
pub const ROWS: usize = 16;

/// Values along k in a block of codes.
pub const BLOCK: usize = 32;

/// How a panel stores its scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scales {
    /// For each group: 16 scales s, 16 biases b.
    Affine {
        /// Values in a group, a multiple of 32.
        group: u16,
        /// Type of both.
        float: Float,
    },
    /// For each 32 values: 16 scales s; b = -zero * s.
    Symmetric {
        /// The code that stands for zero.
        zero: u8,
        /// Type of the scales: F16 or BF16.
        float: Float,
    },
    /// For each 256 values: 16 f16 d, 16 f16 dmin, then for each 32: 16 u8 sc, and again 16 u8 m for each 32.
    /// s = d * sc, b = -dmin * m.
    MinPer32,
    /// For each 256 values: 16 f16 d, 16 f16 dmin, then for each 16: 16 u8 of sc | m << 4.
    MinPer16,
    /// For each 256 values: 16 f16 d, then for each 16: 16 i8 sc. s = d * sc, b = -zero * s.
    SignedPer16 {
        /// The code that stands for zero.
        zero: u8,
    },
    /// As [`SignedPer16`](Self::SignedPer16) with f32 d; b = -twice_zero / 2 * s.
    WidePer16 {
        /// Twice the code that stands for zero, which may lie between two.
        twice_zero: u16,
    },
    /// For each 16 values: 16 f16 scales s; b = -zero * s.
    SymmetricPer16 {
        /// The code that stands for zero.
        zero: u8,
    },
}

impl Scales {
    /// Values after which the whole arrangement repeats.
    pub const fn unit(self) -> usize {
        match self {
            Scales::Affine { group, .. } => group as usize,
            Scales::Symmetric { .. } | Scales::SymmetricPer16 { .. } => 32,
            Scales::MinPer32 | Scales::MinPer16 | Scales::SignedPer16 { .. } | Scales::WidePer16 { .. } => {
                256
            }
        }
    }

    /// Bytes of one unit, for the 16 rows.
    pub const fn unit_bytes(self) -> usize {
        match self {
            Scales::Affine { float, .. } => 2 * ROWS * float.size(),
            Scales::Symmetric { .. } => ROWS * 2,
            Scales::SymmetricPer16 { .. } => ROWS * 4,
            Scales::MinPer32 | Scales::MinPer16 | Scales::WidePer16 { .. } => ROWS * (4 + 16),
            Scales::SignedPer16 { .. } => ROWS * (2 + 16),
        }
    }

    /// Bytes of the units before value `k`, the first of a unit or the end of a row.
    pub const fn bytes_before(self, k: usize) -> usize {
        k / self.unit() * self.unit_bytes()
    }

    /// Values that loops take as sharing one s and b: 16 or 32.
    pub const fn step(self) -> usize {
        match self {
            Scales::MinPer16 | Scales::SignedPer16 { .. } => 16,
            Scales::WidePer16 { .. } | Scales::SymmetricPer16 { .. } => 16,
            _ => 32,
        }
    }

    /// Values that share one s and b: a step, or a whole group.
    pub const fn span(self) -> usize {
        match self {
            Scales::Affine { group, .. } => group as usize,
            _ => self.step(),
        }
    }

    /// The code that stands for zero, where b = -zero * s.
    pub const fn zero(self) -> Option<u8> {
        match self {
            Scales::Symmetric { zero, .. } => Some(zero),
            Scales::SignedPer16 { zero } | Scales::SymmetricPer16 { zero } => Some(zero),
            _ => None,
        }
    }

    /// s and b of row `lane` for the `step`-th step, from a panel's scale bytes.
    pub fn at(self, bytes: &[u8], lane: usize, step: usize) -> (f32, f32) {
        let per_unit = self.unit() / self.step();
        let unit = &bytes[step / per_unit * self.unit_bytes()..];
        let i = step % per_unit;
        match self {
            Scales::Affine { float, .. } => (float.read(unit, lane), float.read(unit, ROWS + lane)),
            Scales::Symmetric { zero, float } => {
                let s = float.read(unit, lane);
                (s, -(zero as f32) * s)
            }
            Scales::SymmetricPer16 { zero } => {
                let s = f16_at(unit, 2 * (i * ROWS + lane));
                (s, -(zero as f32) * s)
            }
            Scales::WidePer16 { twice_zero } => {
                let s = Float::F32.read(unit, lane) * (unit[(4 + i) * ROWS + lane] as i8) as f32;
                (s, -0.5 * twice_zero as f32 * s)
            }
            Scales::MinPer32 => {
                let (d, dmin) = (f16_at(unit, 2 * lane), f16_at(unit, 2 * (ROWS + lane)));
                let (sc, m) = (unit[(4 + i) * ROWS + lane], unit[(12 + i) * ROWS + lane]);
                (d * sc as f32, -dmin * m as f32)
            }
            Scales::MinPer16 => {
                let (d, dmin) = (f16_at(unit, 2 * lane), f16_at(unit, 2 * (ROWS + lane)));
                let both = unit[(4 + i) * ROWS + lane];
                (d * (both & 15) as f32, -dmin * (both >> 4) as f32)
            }
            Scales::SignedPer16 { zero } => {
                let s = f16_at(unit, 2 * lane) * (unit[(2 + i) * ROWS + lane] as i8) as f32;
                (s, -(zero as f32) * s)
            }
        }
    }
}

/// What a panel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PanelFormat {
    /// Plain values.
    Dense(Float),
    /// Codes and scales.
    Quantized {
        /// Bits of a code: 2, 3, 4, 5, 6 or 8.
        bits: u8,
        /// What turns codes into values.
        scales: Scales,
    },
}

impl PanelFormat {
    /// The panels into which a source format is repacked: without loss, but for [`Format::Fp8`], whose values are rounded to
    /// BF16, and values of [`Fp::MxFp8`] below 2^-126.
    pub const fn of(format: Format) -> PanelFormat {
        const fn quantized(bits: u8, scales: Scales) -> PanelFormat {
            PanelFormat::Quantized { bits, scales }
        }
        const WITH_MIN: Scales = Scales::Affine { group: 32, float: Float::F16 };
        const fn symmetric(zero: u8) -> Scales {
            Scales::Symmetric { zero, float: Float::F16 }
        }
        const MIDDLE: Scales = Scales::WidePer16 { twice_zero: 256 };
        match format {
            Format::Dense(float) => PanelFormat::Dense(float),
            Format::Affine { bits, group, float } => {
                quantized(bits, Scales::Affine { group: group as u16, float })
            }
            Format::Ggml(Ggml::Q4_0) => quantized(4, symmetric(8)),
            Format::Ggml(Ggml::Q4_1) => quantized(4, WITH_MIN),
            Format::Ggml(Ggml::Q5_0) => quantized(5, symmetric(16)),
            Format::Ggml(Ggml::Q5_1) => quantized(5, WITH_MIN),
            Format::Ggml(Ggml::Q8_0) => quantized(8, symmetric(128)),
            Format::Ggml(Ggml::Q2_K) => quantized(2, Scales::MinPer16),
            Format::Ggml(Ggml::Q3_K) => quantized(3, Scales::SignedPer16 { zero: 4 }),
            Format::Ggml(Ggml::Q4_K) => quantized(4, Scales::MinPer32),
            Format::Ggml(Ggml::Q5_K) => quantized(5, Scales::MinPer32),
            Format::Ggml(Ggml::Q6_K) => quantized(6, Scales::SignedPer16 { zero: 32 }),
            Format::Ggml(Ggml::IQ2_XXS | Ggml::IQ2_XS | Ggml::IQ2_S) => quantized(8, MIDDLE),
            Format::Ggml(Ggml::IQ3_XXS | Ggml::IQ4_XS) => quantized(8, MIDDLE),
            // Odd numbers from -15 to 15: twice the code, less 15.
            Format::Ggml(Ggml::IQ3_S) => quantized(4, Scales::WidePer16 { twice_zero: 15 }),
            Format::Ggml(Ggml::IQ4_NL) => quantized(8, symmetric(128)),
            Format::Ggml(Ggml::TQ1_0 | Ggml::TQ2_0) => {
                quantized(2, Scales::Affine { group: 256, float: Float::F16 })
            }
            // Twice a 4-bit float is a whole number from -12 to 12.
            Format::Ggml(Ggml::MXFP4) | Format::Fp(Fp::MxFp4) => {
                quantized(5, Scales::Symmetric { zero: 16, float: Float::BF16 })
            }
            Format::Fp(Fp::NvFp4) => quantized(5, Scales::SymmetricPer16 { zero: 16 }),
            // Four significant bits and a power of two: BF16 holds them.
            Format::Fp(Fp::MxFp8) | Format::Fp8 { .. } => PanelFormat::Dense(Float::BF16),
        }
    }

    /// Bytes of the codes (dense: values) of a panel with rows of `k` values.
    pub const fn code_bytes(self, k: usize) -> usize {
        match self {
            PanelFormat::Dense(float) => ROWS * k * float.size(),
            PanelFormat::Quantized { bits, .. } => ROWS * k / 8 * bits as usize,
        }
    }

    /// Bytes of the scales of a panel.
    pub const fn scale_bytes(self, k: usize) -> usize {
        match self {
            PanelFormat::Dense(_) => 0,
            PanelFormat::Quantized { scales, .. } => k / scales.unit() * scales.unit_bytes(),
        }
    }

    /// Bytes from one panel to the next: whole lines, so that codes are always aligned.
    pub const fn panel_bytes(self, k: usize) -> usize {
        (self.code_bytes(k) + self.scale_bytes(k)).next_multiple_of(64)
    }

    /// Bytes of a matrix `[n, k]`.
    pub const fn matrix_bytes(self, n: usize, k: usize) -> usize {
        n.div_ceil(ROWS) * self.panel_bytes(k)
    }

    /// Whether rows can have `k` values.
    pub const fn fits(self, k: usize) -> bool {
        match self {
            PanelFormat::Dense(_) => true,
            PanelFormat::Quantized { scales, .. } => k.is_multiple_of(scales.unit()),
        }
    }

    /// As words for a kernel's parameters; [`decode`](Self::decode) reverses it.
    pub const fn encode(self) -> [u32; 2] {
        let (kind, bits, detail, float) = match self {
            PanelFormat::Dense(float) => (0, 0, 0, float),
            PanelFormat::Quantized { bits, scales } => match scales {
                Scales::Affine { group, float } => (1, bits, group, float),
                Scales::Symmetric { zero, float } => (2, bits, zero as u16, float),
                Scales::MinPer32 => (3, bits, 0, Float::F16),
                Scales::MinPer16 => (4, bits, 0, Float::F16),
                Scales::SignedPer16 { zero } => (5, bits, zero as u16, Float::F16),
                Scales::WidePer16 { twice_zero } => (6, bits, twice_zero, Float::F32),
                Scales::SymmetricPer16 { zero } => (7, bits, zero as u16, Float::F16),
            },
        };
        [kind | (bits as u32) << 8 | (float as u32) << 16, detail as u32]
    }

    /// The format that [`encode`](Self::encode) made these words from; `None` for any others.
    pub fn decode([word, detail]: [u32; 2]) -> Option<PanelFormat> {
        let bits = (word >> 8) as u8;
        let float = *Float::ALL.get((word >> 16) as usize)?;
        let zero = detail as u8;
        let scales = match word & 0xff {
            0 => return Some(PanelFormat::Dense(float)),
            1 => Scales::Affine { group: detail as u16, float },
            2 => Scales::Symmetric { zero, float },
            3 => Scales::MinPer32,
            4 => Scales::MinPer16,
            5 => Scales::SignedPer16 { zero },
            6 => Scales::WidePer16 { twice_zero: detail as u16 },
            7 => Scales::SymmetricPer16 { zero },
            _ => return None,
        };
        Some(PanelFormat::Quantized { bits, scales })
    }
}

/// The planes of a code: width and position of each.
pub(crate) const fn planes(bits: u8) -> &'static [(u8, u8)] {
    match bits {
        2 => &[(2, 0)],
        3 => &[(2, 0), (1, 2)],
        4 => &[(4, 0)],
        5 => &[(4, 0), (1, 4)],
        6 => &[(4, 0), (2, 4)],
        8 => &[(8, 0)],
        _ => &[],
    }
}

/// A matrix `[n, k]` in panels.
#[derive(Debug, Clone, Copy)]
pub struct Panels<'a> {
    format: PanelFormat,
    n: usize,
    k: usize,
    data: &'a [u8],
}

impl<'a> Panels<'a> {
    /// A matrix of `n` rows of `k` values; `None` unless `data` has exactly the bytes of that and `k` fits the
    /// format.
    pub fn new(format: PanelFormat, n: usize, k: usize, data: &'a [u8]) -> Option<Self> {
        (format.fits(k) && data.len() == format.matrix_bytes(n, k)).then_some(Panels { format, n, k, data })
    }

    /// What the panels hold.
    pub fn format(&self) -> PanelFormat {
        self.format
    }

    /// Rows of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Values in a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Codes (dense: values) and scales of a panel.
    pub fn panel(&self, panel: usize) -> (&'a [u8], &'a [u8]) {
        let bytes = self.format.panel_bytes(self.k);
        let panel = &self.data[panel * bytes..(panel + 1) * bytes];
        let (codes, rest) = panel.split_at(self.format.code_bytes(self.k));
        (codes, &rest[..self.format.scale_bytes(self.k)])
    }

    /// The values of one row, bit for bit those of the source's definition. Panics if there is no such row or `out`
    /// is not `k` long.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k, "row {row} of {}, {} values", self.n, out.len());
        let (codes, scale_bytes) = self.panel(row / ROWS);
        let lane = row % ROWS;
        match self.format {
            PanelFormat::Dense(float) => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = float.read(codes, i * ROWS + lane);
                }
            }
            PanelFormat::Quantized { bits, scales } => {
                let blocks = codes.chunks_exact(ROWS * BLOCK / 8 * bits as usize);
                for (b, (block, out)) in blocks.zip(out.chunks_exact_mut(BLOCK)).enumerate() {
                    let codes = block_codes(block, bits, lane);
                    let per_block = BLOCK / scales.step();
                    for (i, out) in out.chunks_exact_mut(scales.step()).enumerate() {
                        let (s, bias) = scales.at(scale_bytes, lane, b * per_block + i);
                        for (out, code) in out.iter_mut().zip(&codes[i * scales.step()..]) {
                            *out = s * *code as f32 + bias;
                        }
                    }
                }
            }
        }
    }
}

/// The 32 codes of one row in one block.
fn block_codes(block: &[u8], bits: u8, lane: usize) -> [u8; BLOCK] {
    let mut words = [0u32; 8];
    let mut lines = block.chunks_exact(64);
    for &(width, position) in planes(bits) {
        let mask = 0x0101_0101 * ((1u32 << width) - 1);
        let per_line = 8 / width as usize;
        for j in (0..8).step_by(per_line) {
            let line = lines.next().unwrap_or(&[0; 64]);
            let at = 4 * lane;
            let word = u32::from_le_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]);
            for t in 0..per_line {
                words[j + t] |= ((word >> (width as usize * t)) & mask) << position;
            }
        }
    }
    let mut codes = [0; BLOCK];
    for (codes, word) in codes.chunks_exact_mut(4).zip(words) {
        codes.copy_from_slice(&word.to_le_bytes());
    }
    codes
}
