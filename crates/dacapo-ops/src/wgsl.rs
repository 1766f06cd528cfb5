//! What WGSL texts and their plans share.

use dacapo::gpu::{GpuContext, GpuLimits, GpuPlan};

use crate::quant::panel::PanelFormat;

/// Where an invocation is; the entry point's argument.
pub(crate) const INVOCATION: &str = include_str!("wgsl/invocation.wgsl");
/// A kernel for every element on its own.
pub(crate) const EACH: &str = include_str!("wgsl/each.wgsl");
/// Reductions over a workgroup.
pub(crate) const REDUCE: &str = include_str!("wgsl/reduce.wgsl");
/// Exact arithmetic and conversions.
pub(crate) const FLOAT: &str = include_str!("wgsl/float.wgsl");
/// Exponential and its kin.
pub(crate) const MATH: &str = include_str!("wgsl/math.wgsl");
/// Blocks of 32 values to int8; needs [`FLOAT`].
pub(crate) const BLOCK_Q8: &str = include_str!("wgsl/block.wgsl");
/// Numbers of 64 bits.
pub(crate) const WIDE: &str = include_str!("wgsl/wide.wgsl");
/// Cosine and sine of large angles; needs [`WIDE`].
pub(crate) const ANGLE: &str = include_str!("wgsl/angle.wgsl");
/// Floats as numbers that order alike.
pub(crate) const ORDER: &str = include_str!("wgsl/order.wgsl");
/// Sums of 64 bits in bins, and the search for a goal among them; needs [`WIDE`].
pub(crate) const BINS: &str = include_str!("wgsl/bins.wgsl");
/// The largest elements of a list; needs [`BINS`], [`ORDER`] and [`DIGITS`] or [`DIGITS_SMALL`].
pub(crate) const SELECT: &str = include_str!("wgsl/select.wgsl");
/// What [`SELECT`] compares by: large digits, whose bins need much workgroup memory.
pub(crate) const DIGITS: &str = include_str!("wgsl/digits.wgsl");
/// The same in small digits.
pub(crate) const DIGITS_SMALL: &str = include_str!("wgsl/digits_small.wgsl");
/// Values of weights in panels; needs [`FLOAT`].
pub(crate) const PANEL: &str = include_str!("wgsl/panel.wgsl");

/// Elements that invocations of an [`EACH`] kernel take at most.
const MOST_EACH: usize = 4;

/// A plan for a kernel over [`EACH`] of `len` elements.
pub(crate) fn each(limits: &GpuLimits, len: usize) -> GpuPlan {
    let workgroup = limits.workgroup_size.min(256) as usize;
    // One element for each invocation until every processor has a few workgroups.
    let busy = workgroup * 4 * limits.processors.max(1) as usize;
    let each = (len / busy).clamp(1, MOST_EACH);
    GpuPlan::linear(len.div_ceil(workgroup * each))
        .constant("WORKGROUP", workgroup as u32)
        .constant("EACH", each as u32)
}

/// Invocations for a row of `len` elements: a power of two that leaves each about `per` of them, from 32 to what the
/// device has.
pub(crate) fn row_workgroup(limits: &GpuLimits, len: usize, per: usize) -> u32 {
    let most = limits.workgroup_size.clamp(1, 1024);
    let most = 1 << most.ilog2();
    (len.div_ceil(per).next_power_of_two().min(most as usize) as u32).max(most.min(32))
}

/// A plan for `count` workgroups of a kernel that [`SELECT`]s among `len` elements: the first variant has [`DIGITS`], the
/// second [`DIGITS_SMALL`].
pub(crate) fn selecting(limits: &GpuLimits, count: usize, len: usize) -> GpuPlan {
    // What the texts with large digits take at most, and the bins of small ones.
    const MEMORY: u32 = 31 << 10;
    const SMALL_BINS: u32 = 256;
    let workgroup = row_workgroup(limits, len, 8);
    let plan = GpuPlan::linear(count);
    if limits.shared_memory >= MEMORY {
        plan.constant("WORKGROUP", workgroup)
    } else {
        plan.variant(1).constant("WORKGROUP", workgroup.min(SMALL_BINS))
    }
}

/// The plan with the constants of a weight's format, as `panel.wgsl` names them.
pub(crate) fn with_format(plan: GpuPlan, format: PanelFormat) -> GpuPlan {
    let [word, detail] = format.encode();
    plan.constant("KIND", word & 0xff)
        .constant("BITS", (word >> 8) & 0xff)
        .constant("FLOAT", word >> 16)
        .constant("DETAIL", detail)
}

/// A plan for a kernel with a workgroup for each row of `dim` elements of a binding, which has the overrides `WORKGROUP`
/// and `PER`, the elements for each invocation.
pub(crate) fn plan_rows(context: &GpuContext<'_>, binding: usize, dim: usize) -> GpuPlan {
    let dim = dim.max(1);
    // Short rows, heads for instance, end soonest with an invocation for each element.
    let per = if dim <= 256 { 1 } else { 4 };
    let workgroup = row_workgroup(context.limits(), dim, per);
    GpuPlan::linear(context.len(binding) / dim)
        .constant("WORKGROUP", workgroup)
        .constant("PER", dim.div_ceil(workgroup as usize) as u32)
}
