//! Running something on two devices and comparing what comes out.

use std::cell::RefCell;

use dacapo::gpu::GpuCaps;
use dacapo::{Buffer, CommandEncoder, DType, Device, DeviceOptions, Element};

use super::device;

/// A small deterministic generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }

    /// A value in 0..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// About normal, mean 0, variance 1.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0
    }

    /// `len` values, about normal.
    pub fn normals(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.normal()).collect()
    }
}

/// A device to work on. Its buffers are views into larger ones, at odd places; what lies around them must stay.
pub struct Bench {
    /// The device.
    pub device: Device,
    /// Whether it stands for the GPU under test.
    pub is_gpu: bool,
    /// Elements before each view.
    before: usize,
    made: RefCell<Vec<Margin>>,
}

/// What lies around a view.
struct Margin {
    whole: Buffer,
    before: usize,
    len: usize,
}

/// Elements behind each view.
const BEHIND: usize = 5;
/// The bytes around views.
const FILL: u8 = 0xa5;

impl Bench {
    /// For a device; views begin `before` elements into their allocations.
    pub fn new(device: &Device, is_gpu: bool, before: usize) -> Self {
        Bench { device: device.clone(), is_gpu, before, made: RefCell::default() }
    }

    /// A view with these elements.
    pub fn upload<T: Element>(&self, values: &[T], shape: &[usize]) -> Buffer {
        let fill: T = bytemuck::pod_read_unaligned(&[FILL; 8][..size_of::<T>()]);
        let len = values.len();
        let mut all = vec![fill; self.before + len + BEHIND];
        all[self.before..][..len].copy_from_slice(values);
        let whole = self.device.upload(&all, &[all.len()]).expect("memory");
        let view = whole.slice_view(self.before, shape).expect("is inside");
        assert_eq!(view.len(), len, "one value for each element of {shape:?}");
        self.made.borrow_mut().push(Margin { whole, before: self.before, len });
        view
    }

    /// A view of elements that nobody has written.
    pub fn alloc<T: Element>(&self, shape: &[usize]) -> Buffer {
        let fill: T = bytemuck::pod_read_unaligned(&[FILL; 8][..size_of::<T>()]);
        self.upload(&vec![fill; shape.iter().product()], shape)
    }

    /// A view of F32 that nobody has written.
    pub fn f32s(&self, shape: &[usize]) -> Buffer {
        self.alloc::<f32>(shape)
    }

    /// Records something and waits for it.
    pub fn run(&self, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
        let mut encoder = self.device.encoder("test").expect("an encoder");
        if self.is_gpu {
            return device::run(encoder, record);
        }
        record(&mut encoder).expect("the arguments fit");
        encoder.commit_and_wait().expect("the kernels run");
    }

    fn check_margins(&self) {
        for margin in self.made.borrow().iter() {
            margin.check(&bytes(&margin.whole));
        }
    }
}

/// The bytes of a whole buffer.
fn bytes(buffer: &Buffer) -> Vec<u8> {
    let view = buffer.reinterpret(0, DType::U8, &[buffer.byte_len()]).expect("bytes always fit");
    view.to_vec().expect("finished")
}

impl Margin {
    fn check(&self, bytes: &[u8]) {
        let size = self.whole.dtype().size();
        let (start, end) = (self.before * size, (self.before + self.len) * size);
        let mut around = bytes[..start].iter().chain(&bytes[end..]);
        assert!(around.all(|&byte| byte == FILL), "something was written outside of a view of {}", self.len);
    }
}

/// Runs each case on the CPU and on the device under test, with views at different places, and hands both results to `compare`:
/// first the CPU's. Fails if a kernel wrote outside of its views or a validation layer had something to say.
pub fn both<C: std::fmt::Debug, T>(
    cases: impl IntoIterator<Item = C>,
    work: impl Fn(&Bench, &C) -> T,
    compare: impl Fn(&C, T, T),
) {
    // Aligned as allocations are, then not even to 16 bytes.
    both_at(&[0, 1, 3, 70], cases, work, compare);
}

/// As [`both`], with views at these places in turn, in elements.
pub fn both_at<C: std::fmt::Debug, T>(
    places: &[usize],
    cases: impl IntoIterator<Item = C>,
    work: impl Fn(&Bench, &C) -> T,
    compare: impl Fn(&C, T, T),
) {
    both_with(GpuCaps::default(), places, cases, work, compare);
}

/// As [`both`], with a device that offers no more than Vulkan promises.
pub fn both_least<C: std::fmt::Debug, T>(
    cases: impl IntoIterator<Item = C>,
    work: impl Fn(&Bench, &C) -> T,
    compare: impl Fn(&C, T, T),
) {
    both_with(GpuCaps::LEAST, &[0, 3], cases, work, compare);
}

/// As [`both_at`], with a device held to these limits.
pub fn both_with<C: std::fmt::Debug, T>(
    caps: GpuCaps,
    places: &[usize],
    cases: impl IntoIterator<Item = C>,
    work: impl Fn(&Bench, &C) -> T,
    compare: impl Fn(&C, T, T),
) {
    let Some(gpu) = device::open(caps) else { return };
    let cpu = Device::open(DeviceOptions::default()).expect("the CPU is always there");
    for (i, case) in cases.into_iter().enumerate() {
        let want = work(&Bench::new(&cpu, false, 0), &case);
        let bench = Bench::new(&gpu, true, places[i % places.len()]);
        let got = work(&bench, &case);
        bench.check_margins();
        compare(&case, want, got);
    }
    device::assert_silent(&gpu);
}

/// Fails unless the elements are the same, bit for bit; NaN is NaN, and zeros are zeros.
pub fn same(case: &impl std::fmt::Debug, want: &[f32], got: &[f32]) {
    assert_eq!(want.len(), got.len(), "{case:?}");
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let equal = want == got || (want.is_nan() && got.is_nan());
        assert!(equal, "{case:?}: element {i} is {got:e}, not {want:e}");
    }
}

/// Fails unless the elements are the same.
pub fn same_words<T: PartialEq + std::fmt::Debug>(case: &impl std::fmt::Debug, want: &[T], got: &[T]) {
    assert_eq!(want.len(), got.len(), "{case:?}");
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        assert!(want == got, "{case:?}: element {i} is {got:?}, not {want:?}");
    }
}

/// Fails unless each element is within `relative` of the expected one's magnitude, plus `absolute`.
pub fn close(case: &impl std::fmt::Debug, want: &[f32], got: &[f32], relative: f32, absolute: f32) {
    assert_eq!(want.len(), got.len(), "{case:?}");
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        let near = (want - got).abs() <= relative * want.abs() + absolute;
        let equal = want == got || (want.is_nan() && got.is_nan());
        assert!(near || equal, "{case:?}: element {i} is {got:e}, not {want:e}");
    }
}
