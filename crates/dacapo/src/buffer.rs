//! Buffers: typed views of device memory.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use crate::hal::signature::Access;
use crate::hal::{Memory, ResolvedArg};
use crate::hazard::MemRange;
use crate::ledger::Entry;
use crate::state::DeviceState;
use crate::submission::Fate;
use crate::{DType, Element, Error, Result};

/// Takes a lock whose holders leave nothing half-done even if they panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block of memory. Who uses it is in the device's [`Ledger`](crate::ledger::Ledger).
pub(crate) struct Allocation {
    /// Never reused, so that a stale reference cannot meet a new owner.
    pub id: u64,
    /// The device it belongs to.
    pub device: u64,
    memory: Arc<dyn Memory>,
    state: Arc<DeviceState>,
    role: Role,
    /// Called with the memory and its last submission when the last view is gone.
    reclaim: Option<Reclaim>,
}

/// Who may touch an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Host and device.
    Shared,
    /// Nobody: it has no memory yet. It stands for a value inside a graph.
    Transient,
    /// Only the dispatches of the graph whose transient values live in it. The host never does, so that uses need
    /// not be registered.
    Arena,
}

/// Takes memory back together with the last submission that used it.
pub(crate) type Reclaim = Box<dyn Fn(Arc<dyn Memory>, Option<Arc<Fate>>) + Send + Sync>;

impl Allocation {
    pub fn new(
        device: u64,
        memory: Arc<dyn Memory>,
        state: Arc<DeviceState>,
        role: Role,
        reclaim: Option<Reclaim>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Allocation { id, device, memory, state, role, reclaim })
    }

    /// Bytes.
    pub fn byte_len(&self) -> usize {
        self.memory.len()
    }

    /// Whether submissions that use it have to be registered.
    pub fn is_tracked(&self) -> bool {
        self.role == Role::Shared
    }

    /// Whether no submission in flight uses the memory.
    pub fn is_idle(&self) -> bool {
        lock(&self.state.ledger).last_use(self.id).is_none_or(|fate| fate.is_done())
    }

    pub fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// Waits until the host may read these bytes, or write them if `write`, and registers it.
    fn enter(&self, bytes: Range<usize>, write: bool) -> Result<()> {
        loop {
            self.state.check()?;
            let entry = lock(&self.state.ledger).enter(self.id, self.byte_len(), &bytes, write)?;
            match entry {
                Entry::Granted => return Ok(()),
                Entry::After(fates) => fates.iter().for_each(|fate| fate.settle()),
                // What a failed submission wrote is no result; the answer is the same every time.
                Entry::Spoilt(fate) => fate.outcome(&self.state)?,
            }
        }
    }

    fn leave(&self, write: bool) {
        lock(&self.state.ledger).leave(self.id, write);
    }

    fn name(&self) -> String {
        crate::ledger::named(self.id, self.byte_len())
    }
}

impl std::fmt::Debug for Allocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if !self.is_tracked() {
            return;
        }
        let last = lock(&self.state.ledger).forget(self.id);
        if let Some(reclaim) = &self.reclaim {
            reclaim(self.memory.clone(), last);
        }
    }
}

/// A typed, contiguous, row-major view of device memory.
///
/// A buffer is a handle: clones and views share the memory, which lives as long as any of them and as long as the
/// device works on it.
#[derive(Debug, Clone)]
pub struct Buffer {
    allocation: Arc<Allocation>,
    /// First byte in the allocation.
    offset: usize,
    /// Elements.
    len: usize,
    dtype: DType,
    shape: SmallVec<[usize; 4]>,
}

impl Buffer {
    pub(crate) fn new(
        allocation: Arc<Allocation>,
        offset: usize,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Self> {
        let len = element_count(shape)?;
        let available = allocation.memory.len().saturating_sub(offset) / dtype.size();
        if len > available {
            return Err(Error::OutOfBounds { start: 0, len, limit: available, dtype });
        }
        Ok(Buffer { allocation, offset, len, dtype, shape: SmallVec::from_slice(shape) })
    }

    /// Extent of each dimension, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes.
    pub fn byte_len(&self) -> usize {
        self.len * self.dtype.size()
    }

    /// First byte of the view in its allocation.
    pub fn byte_offset(&self) -> usize {
        self.offset
    }

    /// Whether the memory can only be read, such as a mapped file.
    pub fn is_read_only(&self) -> bool {
        self.allocation.memory.read_only()
    }

    /// Whether both are the same elements: the same bytes of the same memory, as the same type.
    pub fn is_same_view(&self, other: &Buffer) -> bool {
        let place = |x: &Buffer| (x.allocation.id, x.offset, x.len, x.dtype);
        place(self) == place(other)
    }

    /// Whether this is a value inside a graph, without memory of its own ([`Device::transient`]).
    ///
    /// [`Device::transient`]: crate::Device::transient
    pub fn is_transient(&self) -> bool {
        self.allocation.role == Role::Transient
    }

    /// The same view of memory that lies at byte `base` of another allocation.
    pub(crate) fn moved_to(&self, allocation: &Arc<Allocation>, base: usize) -> Buffer {
        Buffer { allocation: allocation.clone(), offset: base + self.offset, ..self.clone() }
    }

    /// A view of part of this view: `shape` elements from element `start` on. Views of views compose.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] if it would reach past this view's end.
    pub fn slice_view(&self, start: usize, shape: &[usize]) -> Result<Buffer> {
        let len = element_count(shape)?;
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(Error::OutOfBounds { start, len, limit: self.len, dtype: self.dtype });
        }
        Ok(Buffer {
            allocation: self.allocation.clone(),
            offset: self.offset + start * self.dtype.size(),
            len,
            dtype: self.dtype,
            shape: SmallVec::from_slice(shape),
        })
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] if the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Buffer> {
        let len = element_count(shape)?;
        if len != self.len {
            return Err(Error::OutOfBounds { start: 0, len, limit: self.len, dtype: self.dtype });
        }
        self.slice_view(0, shape)
    }

    /// The same bytes, from byte `start` of this view on, as elements of another type.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`] if it would reach past this view's end.
    pub fn reinterpret(&self, start: usize, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let len = element_count(shape)?;
        let limit = self.byte_len().saturating_sub(start) / dtype.size();
        if start > self.byte_len() || len > limit {
            return Err(Error::OutOfBounds { start: start / dtype.size(), len, limit, dtype });
        }
        Ok(Buffer {
            allocation: self.allocation.clone(),
            offset: self.offset + start,
            len,
            dtype,
            shape: SmallVec::from_slice(shape),
        })
    }

    /// Reads on the host. Waits for submitted work that writes the memory; while the guard lives, work that
    /// would write it is refused. Memory that the host cannot reach is copied.
    ///
    /// # Errors
    /// If the type differs or the view is misaligned for it, if the host holds a write guard, or if the last work
    /// that wrote the memory failed.
    pub fn read<T: Element>(&self) -> Result<ReadGuard<T>> {
        if self.allocation.role == Role::Shared && self.allocation.memory.host_ptr().is_none() {
            let copy = self.enter_and_copy::<T>()?;
            let allocation = self.allocation.clone();
            return Ok(ReadGuard { ptr: copy.as_ptr(), len: copy.len(), allocation, _copy: Some(copy) });
        }
        let ptr = self.host_ptr::<T>()?;
        self.allocation.enter(self.bytes(), false)?;
        Ok(ReadGuard { ptr, len: self.len, allocation: self.allocation.clone(), _copy: None })
    }

    /// Writes on the host. Waits for submitted work that uses the memory; while the guard lives, work that would
    /// use it is refused. Works for memory that the host can reach; [`copy_from`](Self::copy_from) does for any.
    ///
    /// # Errors
    /// If the type differs or the view is misaligned for it, if the memory is read-only, or if the host holds
    /// another guard on it.
    pub fn write<T: Element>(&self) -> Result<WriteGuard<T>> {
        if self.is_read_only() {
            return Err(Error::ReadOnly { what: self.allocation.name() });
        }
        let ptr = self.host_ptr::<T>()?;
        self.allocation.enter(self.bytes(), true)?;
        Ok(WriteGuard { ptr, len: self.len, allocation: self.allocation.clone(), _holds: PhantomData })
    }

    /// Copies the elements to the host, whatever their alignment. Waits as [`read`](Self::read) does.
    ///
    /// # Errors
    /// As [`read`](Self::read), except for alignment.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let copy = self.enter_and_copy()?;
        self.allocation.leave(false);
        Ok(copy)
    }

    /// Enters as a reader and copies the elements to the host. The reader is still in afterwards, unless it failed.
    fn enter_and_copy<T: Element>(&self) -> Result<Vec<T>> {
        self.check_type::<T>()?;
        self.allocation.enter(self.bytes(), false)?;
        let mut out = vec![T::zeroed(); self.len];
        let read = self.allocation.memory.read(self.offset, bytemuck::cast_slice_mut(&mut out));
        read.map(|()| out).inspect_err(|_| self.allocation.leave(false))
    }

    /// Copies the elements from the host. Waits as [`write`](Self::write) does.
    ///
    /// # Errors
    /// As [`write`](Self::write), except for alignment; or if the number of elements differs.
    pub fn copy_from<T: Element>(&self, source: &[T]) -> Result<()> {
        self.check_type::<T>()?;
        if source.len() != self.len {
            return Err(Error::OutOfBounds {
                start: 0,
                len: source.len(),
                limit: self.len,
                dtype: self.dtype,
            });
        }
        if self.is_read_only() {
            return Err(Error::ReadOnly { what: self.allocation.name() });
        }
        self.allocation.enter(self.bytes(), true)?;
        let written = self.allocation.memory.write(self.offset, bytemuck::cast_slice(source));
        self.allocation.leave(true);
        written
    }

    /// The bytes this view covers in its allocation.
    fn bytes(&self) -> Range<usize> {
        self.offset..self.offset + self.byte_len()
    }

    /// The bytes this view covers, under this access.
    pub(crate) fn range(&self, access: Access) -> MemRange {
        let (start, end) = (self.offset, self.offset + self.byte_len());
        MemRange { allocation: self.allocation.id, start, end, access }
    }

    pub(crate) fn allocation(&self) -> &Arc<Allocation> {
        &self.allocation
    }

    pub(crate) fn resolve(&self, access: Access) -> ResolvedArg {
        let memory = self.allocation.memory.clone();
        ResolvedArg { memory, offset: self.offset, len: self.len, dtype: self.dtype, access }
    }

    /// Whether the host may touch the elements as this type.
    fn check_type<T: Element>(&self) -> Result<()> {
        if self.allocation.role != Role::Shared {
            return Err(Error::Transient { what: self.allocation.name() });
        }
        if self.dtype != T::DTYPE {
            let what = self.allocation.name();
            return Err(Error::WrongType { what, expected: T::DTYPE, found: self.dtype });
        }
        Ok(())
    }

    fn host_ptr<T: Element>(&self) -> Result<*mut T> {
        self.check_type::<T>()?;
        let base = self.allocation.memory.host_ptr();
        let base = base.ok_or_else(|| Error::NotHostVisible { what: self.allocation.name() })?;
        let ptr = base.as_ptr().wrapping_add(self.offset).cast::<T>();
        if !ptr.is_aligned() {
            let what = self.allocation.name();
            return Err(Error::Misaligned { what, offset: self.offset, dtype: T::DTYPE });
        }
        Ok(ptr)
    }
}

pub(crate) fn element_count(shape: &[usize]) -> Result<usize> {
    let count = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
    // Element sizes are at most 4, so that byte counts fit as well.
    count.filter(|&n| n <= isize::MAX as usize / 4).ok_or_else(|| Error::ShapeOverflow(shape.to_vec()))
}

/// Shared access of the host to a buffer's elements.
#[derive(Debug)]
pub struct ReadGuard<T> {
    ptr: *const T,
    len: usize,
    allocation: Arc<Allocation>,
    /// What `ptr` points to if the host cannot reach the memory itself.
    _copy: Option<Vec<T>>,
}

/// Exclusive access of the host to a buffer's elements.
#[derive(Debug)]
pub struct WriteGuard<T> {
    ptr: *mut T,
    len: usize,
    allocation: Arc<Allocation>,
    _holds: PhantomData<T>,
}

// SAFETY: a guard is a borrow of elements that may be sent and shared; its registration is under a lock.
unsafe impl<T: Send + Sync> Send for ReadGuard<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for ReadGuard<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for WriteGuard<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for WriteGuard<T> {}

impl<T> Deref for ReadGuard<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: checked for type, bounds and alignment when the guard was made; the allocation is alive; while
        // the guard is registered neither device nor host writes it.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T> Deref for WriteGuard<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: as for `ReadGuard`; while the guard is registered nobody else touches the allocation.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T> DerefMut for WriteGuard<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the guard itself is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

impl<T> Drop for ReadGuard<T> {
    fn drop(&mut self) {
        self.allocation.leave(false);
    }
}

impl<T> Drop for WriteGuard<T> {
    fn drop(&mut self) {
        self.allocation.leave(true);
    }
}
