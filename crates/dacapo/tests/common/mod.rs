//! Kernels for the engine's own tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use dacapo::cpu::{CpuPlan, Split};
use dacapo::{
    BackendKind, Binding, Buffer, ComputeGraph, CpuTwin, DType, Device, DeviceOptions, Dispatch, FusePattern,
    FuseStep, Gain, Kernel, Link, OpKind, Selector,
};

/// Elements of a tile: small, so that even small buffers are worked on by several workers.
const TILE: usize = 4;

/// `y[i] = 3 a[i] + b[n - 1 - i] + 1` in wrapping arithmetic: order matters, and every element of `b` is read by
/// another tile than the one that writes its place.
pub static MIX: Kernel = Kernel {
    name: "test_mix",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(2).div_ceil(TILE), 1).split(2, Split::chunks(TILE)),
        run: |tile| {
            let (a, b) = (tile.read::<u32>(0), tile.read::<u32>(1));
            let mut y = tile.write::<u32>(2);
            let first = y.first_col();
            for (i, y) in y.slice().iter_mut().enumerate() {
                let i = first + i;
                *y = mix(a[i], b[b.len() - 1 - i]);
            }
        },
    },
    gpu: None,
};

/// The arithmetic of [`MIX`].
pub fn mix(a: u32, b: u32) -> u32 {
    a.wrapping_mul(3).wrapping_add(b).wrapping_add(1)
}

/// `x[i] += n`, in place.
pub static INCREMENT: Kernel = Kernel {
    name: "test_increment",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read_write("x")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(0).div_ceil(TILE), 1).split(0, Split::chunks(TILE)),
        run: |tile| {
            let n: u32 = tile.params();
            tile.write::<u32>(0).slice().iter_mut().for_each(|x| *x = x.wrapping_add(n));
        },
    },
    gpu: None,
};

/// Panics in the tile that holds element `n`.
pub static PANIC: Kernel = Kernel {
    name: "test_panic",
    kind: OpKind::Other,
    bindings: &[Binding::write("x")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(0).div_ceil(TILE), 1).split(0, Split::chunks(TILE)),
        run: |tile| {
            let n: u32 = tile.params();
            let x = tile.write::<u32>(0);
            assert!(
                !(x.first_col()..x.first_col() + x.cols()).contains(&(n as usize)),
                "told to fail at {n}"
            );
        },
    },
    gpu: None,
};

/// Fails without a word, having written `y`.
pub static CRASH: Kernel = Kernel {
    name: "test_crash",
    kind: OpKind::Other,
    bindings: &[Binding::write("y")],
    cpu: CpuTwin {
        plan: |_| CpuPlan::new(1, 1).split(0, Split::whole()),
        run: |tile| {
            tile.write::<u32>(0).slice().fill(0xbad);
            std::panic::resume_unwind(Box::new("told to crash".to_owned()));
        },
    },
    gpu: None,
};

/// Sleeps for `n` milliseconds, then writes 7 everywhere.
pub static SLOW: Kernel = Kernel {
    name: "test_slow",
    kind: OpKind::Other,
    bindings: &[Binding::write("x")],
    cpu: CpuTwin {
        plan: |_| CpuPlan::new(1, 1).split(0, Split::whole()),
        run: |tile| {
            let n: u32 = tile.params();
            std::thread::sleep(std::time::Duration::from_millis(n.into()));
            tile.write::<u32>(0).slice().fill(7);
        },
    },
    gpu: None,
};

pub fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() }).unwrap()
}

/// `y` from `a` and `b` by [`MIX`].
pub fn mixed(a: &Buffer, b: &Buffer, y: &Buffer) -> Dispatch {
    Dispatch::new(&MIX).buffer(a).buffer(b).buffer(y)
}

/// [`MIX`] and [`INCREMENT`] of its result in one.
pub static MIX_INCREMENT: Kernel = Kernel {
    name: "test_mix_increment",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(2).div_ceil(TILE), 1).split(2, Split::chunks(TILE)),
        run: |tile| {
            let n: u32 = tile.params();
            let (a, b) = (tile.read::<u32>(0), tile.read::<u32>(1));
            let mut y = tile.write::<u32>(2);
            let first = y.first_col();
            for (i, y) in y.slice().iter_mut().enumerate() {
                let i = first + i;
                *y = mix(a[i], b[b.len() - 1 - i]).wrapping_add(n);
            }
        },
    },
    gpu: None,
};

/// `y = MIX(MIX(a, b), c)`: the value in the middle is never stored.
pub static MIX_MIX: Kernel = Kernel {
    name: "test_mix_mix",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::read("c"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(3).div_ceil(TILE), 1).split(3, Split::chunks(TILE)),
        run: |tile| {
            let (a, b, c) = (tile.read::<u32>(0), tile.read::<u32>(1), tile.read::<u32>(2));
            let mut y = tile.write::<u32>(3);
            let first = y.first_col();
            for (i, y) in y.slice().iter_mut().enumerate() {
                let i = first + i;
                *y = mix(mix(a[i], b[b.len() - 1 - i]), c[c.len() - 1 - i]);
            }
        },
    },
    gpu: None,
};

/// Two [`MIX`]es of the same two inputs, the second with its inputs exchanged.
pub static MIX_BOTH: Kernel = Kernel {
    name: "test_mix_both",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("a"), Binding::read("b"), Binding::write("y"), Binding::write("z")],
    cpu: CpuTwin {
        plan: |context| {
            let plan = CpuPlan::new(context.len(2).div_ceil(TILE), 1);
            plan.split(2, Split::chunks(TILE)).split(3, Split::chunks(TILE))
        },
        run: |tile| {
            let (a, b) = (tile.read::<u32>(0), tile.read::<u32>(1));
            let (mut y, mut z) = (tile.write::<u32>(2), tile.write::<u32>(3));
            let first = y.first_col();
            for (i, (y, z)) in y.slice().iter_mut().zip(z.slice()).enumerate() {
                let i = first + i;
                *y = mix(a[i], b[b.len() - 1 - i]);
                *z = mix(b[i], a[a.len() - 1 - i]);
            }
        },
    },
    gpu: None,
};

const fn step(name: &'static str, link: Link) -> FuseStep {
    FuseStep { select: Selector::Kernel(name), link }
}

/// The table of fusions for these kernels.
pub static PATTERNS: [FusePattern; 3] = [
    FusePattern {
        name: "mix, increment",
        steps: &[step("test_mix", Link::Reads), step("test_increment", Link::Reads)],
        build: |found| {
            let (a, b, y) = (found.buffer(0, 0)?, found.buffer(0, 1)?, found.buffer(0, 2)?);
            let n: u32 = found.params(1)?;
            Some(Dispatch::new(&MIX_INCREMENT).buffer(&a).buffer(&b).buffer(&y).bytes(&n))
        },
        spread: false,
        gains: &[Gain { backend: BackendKind::Cpu, figure: "one pass over y less", borrowed_by: &[] }],
    },
    FusePattern {
        name: "mix of mix",
        steps: &[step("test_mix", Link::Reads), step("test_mix", Link::Reads)],
        build: |found| {
            let (a, b) = (found.buffer(0, 0)?, found.buffer(0, 1)?);
            let (c, y) = (found.buffer(1, 1)?, found.buffer(1, 2)?);
            Some(Dispatch::new(&MIX_MIX).buffer(&a).buffer(&b).buffer(&c).buffer(&y))
        },
        spread: false,
        gains: &[Gain {
            backend: BackendKind::Cpu,
            figure: "the value between is not stored",
            borrowed_by: &[],
        }],
    },
    FusePattern {
        name: "mix both",
        steps: &[step("test_mix", Link::Reads), step("test_mix", Link::Beside)],
        build: |found| {
            let (a, b, y) = (found.buffer(0, 0)?, found.buffer(0, 1)?, found.buffer(0, 2)?);
            let (b2, a2, z) = (found.buffer(1, 0)?, found.buffer(1, 1)?, found.buffer(1, 2)?);
            // The engine proves that the memory is the same; which operand is which is the pattern's to know.
            (a.is_same_view(&a2) && b.is_same_view(&b2) && y.len() == z.len())
                .then(|| Dispatch::new(&MIX_BOTH).buffer(&a).buffer(&b).buffer(&y).buffer(&z))
        },
        spread: false,
        gains: &[Gain { backend: BackendKind::Cpu, figure: "the inputs are read once", borrowed_by: &[] }],
    },
];

/// Fails; what it wrote is no result.
pub fn crash(y: &Buffer) -> Dispatch {
    Dispatch::new(&CRASH).buffer(y)
}

pub fn increment(x: &Buffer, n: u32) -> Dispatch {
    Dispatch::new(&INCREMENT).buffer(x).bytes(&n)
}

/// Elements of the buffers that [`shared`] and [`transient`] make.
pub const LEN: usize = 16;

pub fn record(device: &Device, dispatches: impl IntoIterator<Item = Dispatch>) -> ComputeGraph {
    let mut encoder = device.encoder("test").unwrap();
    encoder.start_capture().unwrap();
    dispatches.into_iter().for_each(|dispatch| encoder.dispatch(dispatch).unwrap());
    encoder.take_capture().unwrap()
}

pub fn shared(device: &Device, n: u32) -> Buffer {
    device.upload(&(0..LEN as u32).map(|i| n * 100 + i).collect::<Vec<_>>(), &[LEN]).unwrap()
}

pub fn transient(device: &Device) -> Buffer {
    device.transient(DType::U32, &[LEN]).unwrap()
}
