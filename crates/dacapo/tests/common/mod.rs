//! Kernels for the engine's own tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use dacapo::cpu::{CpuPlan, Split};
use dacapo::{Binding, CpuTwin, Device, DeviceOptions, Dispatch, Kernel, OpKind};

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
};

pub fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() }).unwrap()
}

/// `y` from `a` and `b` by [`MIX`].
pub fn mixed(a: &dacapo::Buffer, b: &dacapo::Buffer, y: &dacapo::Buffer) -> Dispatch {
    Dispatch::new(&MIX).buffer(a).buffer(b).buffer(y)
}

/// Fails; what it wrote is no result.
pub fn crash(y: &dacapo::Buffer) -> Dispatch {
    Dispatch::new(&CRASH).buffer(y)
}

pub fn increment(x: &dacapo::Buffer, n: u32) -> Dispatch {
    Dispatch::new(&INCREMENT).buffer(x).bytes(&n)
}
