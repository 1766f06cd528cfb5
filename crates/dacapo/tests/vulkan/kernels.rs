//! Kernels of the tests, each with both twins.

use dacapo::cpu::{CpuPlan, Split};
use dacapo::gpu::{GpuPlan, GpuTwin, Wgsl};
use dacapo::{Binding, CpuTwin, Kernel, OpKind};

/// `y = a x + b`, elementwise.
pub static LINEAR: Kernel = Kernel {
    name: "test_linear",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("x"), Binding::write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(1).div_ceil(256), 1).split(1, Split::chunks(256)),
        run: |tile| {
            let [a, b] = tile.params::<[f32; 2]>();
            let x = tile.read::<f32>(0);
            let mut y = tile.write::<f32>(1);
            let first = y.first_col();
            y.slice().iter_mut().enumerate().for_each(|(i, y)| *y = a.mul_add(x[first + i], b));
        },
    },
    gpu: Some(&LINEAR_GPU),
};

static LINEAR_GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("linear", &[include_str!("linear.wgsl")])],
    plan: |context| {
        let len = context.len(1);
        GpuPlan::linear(len.div_ceil(64)).constant("LEN", len as u32)
    },
};

/// `y += x`, elementwise.
pub static ADD: Kernel = Kernel {
    name: "test_add",
    kind: OpKind::Elementwise,
    bindings: &[Binding::read("x"), Binding::read_write("y")],
    cpu: CpuTwin {
        plan: |context| CpuPlan::new(context.len(1).div_ceil(256), 1).split(1, Split::chunks(256)),
        run: |tile| {
            let x = tile.read::<f32>(0);
            let mut y = tile.write::<f32>(1);
            let first = y.first_col();
            y.slice().iter_mut().enumerate().for_each(|(i, y)| *y += x[first + i]);
        },
    },
    gpu: Some(&ADD_GPU),
};

static ADD_GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("add", &[include_str!("add.wgsl")])],
    plan: |context| {
        let len = context.len(1);
        GpuPlan::linear(len.div_ceil(64)).constant("LEN", len as u32)
    },
};

/// As [`LINEAR`], without code for GPUs.
#[allow(dead_code, reason = "not every test program that takes this file has a use for it")]
pub static CPU_ONLY: Kernel = Kernel { name: "test_cpu_only", gpu: None, ..LINEAR };

/// Says that it only reads what it writes.
#[allow(dead_code, reason = "as above")]
pub static LIAR: Kernel =
    Kernel { name: "test_liar", bindings: &[Binding::read("x"), Binding::read("y")], ..LINEAR };
