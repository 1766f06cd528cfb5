//! GPU twins: the texts of `ops/matmul`, with workgroups in z for each row, or for each expert.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::ops::matmul::gpu::{
    self as matmul, MATVEC, MATVEC_DENSE, MATVEC_EXACT, MATVEC_INT8, MATVEC_SMALL, PANEL, STORED, TILE,
    TILE_EXACT, TILE_INT8, TILE_ROWS, TILE_ROWS_DENSE, panel_constants, tiles,
};
use crate::quant::panel::PanelFormat;

const ROW: &str = include_str!("row.wgsl");
const GROUP: &str = include_str!("rows_of_group.wgsl");
const BIND_ROW_INT8: &str = include_str!("bind_row_int8.wgsl");
const BIND_ROW_EXACT: &str = include_str!("bind_row_exact.wgsl");
const BIND_GROUP_INT8: &str = include_str!("bind_group_int8.wgsl");
const BIND_GROUP_EXACT: &str = include_str!("bind_group_exact.wgsl");

pub(super) static FEW_INT8: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[BIND_ROW_INT8, ROW, STORED, PANEL, MATVEC_INT8, MATVEC]),
        Wgsl::new("matvec_small", &[BIND_ROW_INT8, ROW, STORED, PANEL, MATVEC_INT8, MATVEC_SMALL]),
    ],
    plan: plan_few_int8,
};

pub(super) static FEW_EXACT: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("matvec", &[BIND_ROW_EXACT, ROW, PANEL, MATVEC_EXACT, MATVEC]),
        Wgsl::new("matvec_dense", &[BIND_ROW_EXACT, ROW, MATVEC_DENSE]),
    ],
    plan: plan_few_exact,
};

pub(super) static GROUPED_INT8: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("tile", &[BIND_GROUP_INT8, GROUP, PANEL, TILE, TILE_INT8])],
    plan: plan_grouped,
};

pub(super) static GROUPED_EXACT: GpuTwin = GpuTwin {
    variants: &[
        Wgsl::new("tile", &[BIND_GROUP_EXACT, GROUP, PANEL, TILE, TILE_EXACT, TILE_ROWS]),
        Wgsl::new("tile_dense", &[BIND_GROUP_EXACT, GROUP, TILE, TILE_EXACT, TILE_ROWS_DENSE]),
    ],
    plan: plan_grouped,
};

/// The parameters, and the format that they name.
fn shape(context: &GpuContext<'_>) -> (Params, PanelFormat) {
    let params: Params = context.params();
    (params, PanelFormat::decode(params.format).expect("the entry point encodes a format"))
}

/// The plan for as many times in z.
fn times(mut plan: GpuPlan, count: u32) -> GpuPlan {
    plan.workgroups[2] = count;
    plan
}

fn plan_few_int8(context: &GpuContext<'_>) -> GpuPlan {
    let (params, format) = shape(context);
    let limits = context.limits();
    let plan = matmul::few(limits, format, params.n as usize, params.k as usize, 1, limits.subgroup_size);
    let small = plan.variant == matmul::SMALL;
    times(plan.variant(usize::from(small)), params.rows)
}

fn plan_few_exact(context: &GpuContext<'_>) -> GpuPlan {
    let (params, format) = shape(context);
    let (limits, n, k) = (context.limits(), params.n as usize, params.k as usize);
    let plan = match format {
        PanelFormat::Dense(float) => matmul::matvec_dense(limits, float, n, k, 1).variant(1),
        _ => matmul::matvec(limits, format, n, k, 1, limits.subgroup_size),
    };
    times(plan, params.rows)
}

fn plan_grouped(context: &GpuContext<'_>) -> GpuPlan {
    let (params, format) = shape(context);
    // No expert has more rows than there are tokens.
    let plan = tiles(context.limits(), params.n as usize, (params.rows / params.chosen) as usize);
    let plan = match format {
        PanelFormat::Dense(float) => plan.variant(1).constant("FLOAT", float as u32),
        _ => panel_constants(plan, format, params.k as usize),
    };
    times(plan, params.experts)
}
