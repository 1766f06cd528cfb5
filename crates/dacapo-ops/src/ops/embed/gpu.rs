//! The GPU twin of the gather.

use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};

use super::Params;
use crate::quant::panel::PanelFormat;
use crate::wgsl::{FLOAT, INVOCATION, PANEL, with_format};

const TEXTS: &[Wgsl] = &[Wgsl::new("embed", &[include_str!("embed.wgsl"), INVOCATION, FLOAT, PANEL])];

pub(super) static TWIN: GpuTwin = GpuTwin { variants: TEXTS, plan };
pub(super) static MORE: GpuTwin = GpuTwin { variants: TEXTS, plan: plan_more };

fn plan_more(context: &GpuContext<'_>) -> GpuPlan {
    plan(context).constant("MORE", 1)
}

fn plan(context: &GpuContext<'_>) -> GpuPlan {
    const WORKGROUP: u32 = 64;
    let params: Params = context.params();
    let format = PanelFormat::decode(params.format).expect("the entry point encodes a format");
    let parts = params.k.div_ceil(4 * WORKGROUP);
    let tokens = context.len(0).min(32768) as u32;
    with_format(GpuPlan::new([parts, tokens, 1]).constant("WORKGROUP", WORKGROUP), format)
}
