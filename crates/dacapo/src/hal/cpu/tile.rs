//! What a CPU kernel sees: its plan, and one tile of its work.
//!
//! Tiles of one dispatch run at the same time and write into the same buffers. That this is sound in safe code
//! rests on two facts. Each tile owns a block of every written binding ([`Split`]), blocks of different tiles
//! never share an element, and a tile is run exactly once. And nothing that is read by a group of concurrent
//! dispatches is written by one of them: the encoder puts a barrier between, and refuses a dispatch whose own
//! arguments overlap.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::hal::signature::Access;
use crate::{DType, Element};

/// Most bindings a kernel can have.
pub const MAX_BINDINGS: usize = 16;

/// How the elements of a written binding are divided among tiles.
///
/// The binding is seen as a matrix whose rows have `row_len` elements. Tile `(x, y)` owns the block of rows
/// `y*rows .. (y+1)*rows` and columns `x*cols .. (x+1)*cols`, cut off at the matrix's edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Elements in a row; 0 stands for all elements of the binding.
    pub row_len: usize,
    /// Rows a tile owns.
    pub rows: usize,
    /// Columns a tile owns.
    pub cols: usize,
}

impl Split {
    /// Tile `(x, 0)` owns elements `x*n .. (x+1)*n`.
    pub const fn chunks(n: usize) -> Self {
        Split { row_len: 0, rows: 1, cols: n }
    }

    /// Tile `(0, y)` owns `rows` whole rows of `row_len` elements.
    pub const fn rows(row_len: usize, rows: usize) -> Self {
        Split { row_len, rows, cols: row_len }
    }

    /// Tile `(x, y)` owns a block of `rows` by `cols` in a matrix with rows of `row_len` elements.
    pub const fn block(row_len: usize, rows: usize, cols: usize) -> Self {
        Split { row_len, rows, cols }
    }

    /// Tile `(0, 0)` owns everything.
    pub const fn whole() -> Self {
        Split { row_len: 0, rows: 1, cols: usize::MAX }
    }
}

/// How a dispatch is carried out on the CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuPlan {
    /// Tiles in x and y.
    pub tiles: [usize; 2],
    /// For each written binding, by its index in the signature: how it is divided.
    pub splits: smallvec::SmallVec<[(usize, Split); 2]>,
    /// Scratch that each tile needs, in `f32` elements.
    pub scratch: usize,
}

impl CpuPlan {
    /// A plan with this many tiles in x and y, no outputs yet.
    pub fn new(tiles_x: usize, tiles_y: usize) -> Self {
        CpuPlan { tiles: [tiles_x, tiles_y], splits: smallvec::SmallVec::new(), scratch: 0 }
    }

    /// Adds the division of the written binding with this index.
    pub fn split(mut self, binding: usize, split: Split) -> Self {
        self.splits.push((binding, split));
        self
    }

    /// Asks for scratch of `len` `f32` elements for each tile; see [`Tile::scratch`].
    pub fn scratch(mut self, len: usize) -> Self {
        self.scratch = len;
        self
    }
}

/// What a kernel's plan may depend on.
#[derive(Debug)]
pub struct PlanContext<'a> {
    pub(crate) args: &'a [BoundArg],
    pub(crate) params: &'a [u8],
    pub(crate) grid: [u32; 3],
    pub(crate) threads: usize,
}

impl PlanContext<'_> {
    /// Elements in a binding.
    pub fn len(&self, binding: usize) -> usize {
        self.args[binding].len
    }

    /// Element type of a binding.
    pub fn dtype(&self, binding: usize) -> DType {
        self.args[binding].dtype
    }

    /// The dispatch's inline bytes as a parameter struct. Panics if their size differs from the struct's.
    pub fn params<P: bytemuck::AnyBitPattern>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// The dispatch's grid.
    pub fn grid(&self) -> [u32; 3] {
        self.grid
    }

    /// Worker threads of the device. A result must never depend on it; the number of tiles may.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A tile size that divides `n` units of work so that each of the workers gets about `per_thread` tiles, as
    /// a multiple of `unit`.
    pub fn chunk(&self, n: usize, unit: usize, per_thread: usize) -> usize {
        let tiles = (self.threads * per_thread).max(1);
        n.div_ceil(tiles).max(1).next_multiple_of(unit.max(1))
    }
}

/// A buffer argument as the CPU backend sees it: resolved to an address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BoundArg {
    pub ptr: *mut u8,
    /// Elements.
    pub len: usize,
    pub dtype: DType,
    pub access: Access,
    /// Division among tiles; meaningful for written bindings.
    pub split: Split,
}

// SAFETY: the address is only followed inside tiles, under the rules at the top of this file.
unsafe impl Send for BoundArg {}
// SAFETY: as above; the struct itself is plain data.
unsafe impl Sync for BoundArg {}

/// One tile of a dispatch: what a kernel's code works on.
pub struct Tile<'a> {
    kernel: &'static str,
    args: &'a [BoundArg],
    params: &'a [u8],
    tile: [usize; 2],
    tiles: [usize; 2],
    scratch: Cell<Option<&'a mut [f32]>>,
    /// Bit i is set once binding i has been handed out for writing.
    taken: Cell<u32>,
}

impl std::fmt::Debug for Tile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tile {:?} of {:?} of {}", self.tile, self.tiles, self.kernel)
    }
}

impl<'a> Tile<'a> {
    /// A tile at position `tile` of `tiles`.
    ///
    /// # Safety
    /// The addresses in `args` must be valid for `'a`, initialized and aligned for their element types. No other
    /// `Tile` of the same dispatch with the same position may exist or have existed in this execution, every
    /// other position must use the same `args`, and for `'a` nothing else may write what `args` reads, nor touch
    /// what it writes.
    pub(crate) unsafe fn new(
        kernel: &'static str,
        args: &'a [BoundArg],
        params: &'a [u8],
        tile: [usize; 2],
        tiles: [usize; 2],
        scratch: &'a mut [f32],
    ) -> Self {
        Tile { kernel, args, params, tile, tiles, scratch: Cell::new(Some(scratch)), taken: Cell::new(0) }
    }

    /// Position in x.
    pub fn x(&self) -> usize {
        self.tile[0]
    }

    /// Position in y.
    pub fn y(&self) -> usize {
        self.tile[1]
    }

    /// Tiles in x and y.
    pub fn tiles(&self) -> [usize; 2] {
        self.tiles
    }

    /// The dispatch's inline bytes as a parameter struct. Panics if their size differs from the struct's.
    pub fn params<P: bytemuck::AnyBitPattern>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// Elements in a binding.
    pub fn len(&self, binding: usize) -> usize {
        self.args[binding].len
    }

    /// Element type of a binding.
    pub fn dtype(&self, binding: usize) -> DType {
        self.args[binding].dtype
    }

    /// All elements of a binding that the kernel reads.
    ///
    /// Panics, which fails the submission, if the signature does not say `Read` or the element type differs.
    pub fn read<T: Element>(&self, binding: usize) -> &'a [T] {
        let arg = self.arg::<T>(binding);
        assert!(arg.access == Access::Read, "binding {binding} of {} is not read-only", self.kernel);
        // SAFETY: `new`'s contract: valid, initialized, aligned for the element type just checked, and not
        // written by anybody for 'a.
        unsafe { std::slice::from_raw_parts(arg.ptr.cast::<T>(), arg.len) }
    }

    /// All bytes of a binding that the kernel reads, whatever its element type.
    pub fn read_bytes(&self, binding: usize) -> &'a [u8] {
        let arg = &self.args[binding];
        assert!(arg.access == Access::Read, "binding {binding} of {} is not read-only", self.kernel);
        // SAFETY: as in `read`; every element type is plain bytes.
        unsafe { std::slice::from_raw_parts(arg.ptr, arg.len * arg.dtype.size()) }
    }

    /// This tile's own block of a binding that the kernel writes. Each binding can be taken once.
    ///
    /// Panics, which fails the submission, if the signature says `Read`, the element type differs, or the block
    /// was already taken.
    pub fn write<T: Element>(&self, binding: usize) -> TileMut<'a, T> {
        let arg = self.arg::<T>(binding);
        assert!(arg.access.writes(), "binding {binding} of {} is read-only", self.kernel);
        let bit = 1 << binding;
        assert!(self.taken.get() & bit == 0, "binding {binding} of {} taken twice", self.kernel);
        self.taken.set(self.taken.get() | bit);
        TileMut::new(arg, self.tile)
    }

    /// This tile's scratch, at least as long as the plan asked for, aligned to 64 bytes, contents arbitrary.
    /// Can be taken once.
    pub fn scratch(&self) -> &'a mut [f32] {
        self.scratch.take().expect("scratch taken twice")
    }

    fn arg<T: Element>(&self, binding: usize) -> &'a BoundArg {
        let arg = &self.args[binding];
        assert!(
            arg.dtype == T::DTYPE,
            "binding {binding} of {} holds {}, not {}",
            self.kernel,
            arg.dtype,
            T::DTYPE
        );
        arg
    }
}

/// The block of a written binding that one tile owns.
#[derive(Debug)]
pub struct TileMut<'a, T> {
    /// First element of the binding.
    base: *mut T,
    row_len: usize,
    row0: usize,
    rows: usize,
    col0: usize,
    cols: usize,
    /// Elements in the binding.
    len: usize,
    _owns: PhantomData<&'a mut [T]>,
}

impl<'a, T: Element> TileMut<'a, T> {
    fn new(arg: &BoundArg, [x, y]: [usize; 2]) -> Self {
        let Split { row_len, rows, cols } = arg.split;
        let row_len = if row_len == 0 { arg.len } else { row_len };
        let total = if row_len == 0 { 0 } else { arg.len.div_ceil(row_len) };
        let row0 = y.saturating_mul(rows).min(total);
        let col0 = x.saturating_mul(cols).min(row_len);
        TileMut {
            base: arg.ptr.cast(),
            row_len,
            row0,
            rows: rows.min(total - row0),
            col0,
            cols: cols.min(row_len - col0),
            len: arg.len,
            _owns: PhantomData,
        }
    }

    /// Rows in the block.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns in the block.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// First row, counted in the whole binding.
    pub fn first_row(&self) -> usize {
        self.row0
    }

    /// First column, counted in the whole binding.
    pub fn first_col(&self) -> usize {
        self.col0
    }

    /// The block's part of a row, counted from the block's first.
    pub fn row(&mut self, row: usize) -> &mut [T] {
        assert!(row < self.rows, "row {row} of a block of {}", self.rows);
        let start = ((self.row0 + row) * self.row_len + self.col0).min(self.len);
        let len = self.cols.min(self.len - start);
        // SAFETY: inside the binding (cut off at its end), inside this tile's block, which no other tile
        // touches, and borrowed from `self` so that rows of this block cannot overlap either.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) }
    }

    /// The whole block as one slice. Panics unless it is contiguous: a single row, or full rows.
    pub fn slice(&mut self) -> &mut [T] {
        if self.rows == 0 || self.cols == 0 {
            return &mut [];
        }
        assert!(self.rows == 1 || self.cols == self.row_len, "the block is not contiguous");
        let start = (self.row0 * self.row_len + self.col0).min(self.len);
        let end = start + ((self.rows - 1) * self.row_len + self.cols).min(self.len - start);
        // SAFETY: as in `row`; with full rows the block's elements are exactly these.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), end - start) }
    }
}
