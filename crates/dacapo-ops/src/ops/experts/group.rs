//! The rows of a pass by the experts that they go to.

use dacapo::cpu::{CpuPlan, PlanContext, Split, Tile};
use dacapo::gpu::{GpuContext, GpuPlan, GpuTwin, Wgsl};
use dacapo::{
    Binding, Buffer, CommandEncoder, CpuTwin, DType, Device, Dispatch, Error, Kernel, OpKind, Result,
};

use crate::check;
use crate::wgsl::INVOCATION;

/// Rows in the order of their experts, those of an expert in their own order, and where those of each begin.
pub static EXPERTS_GROUP: Kernel = Kernel {
    name: "experts_group",
    kind: OpKind::Other,
    bindings: &[Binding::read("ids"), Binding::write("order"), Binding::write("starts")],
    cpu: CpuTwin { plan, run },
    gpu: Some(&TWIN),
};

static TWIN: GpuTwin =
    GpuTwin { variants: &[Wgsl::new("group", &[include_str!("group.wgsl"), INVOCATION])], plan: plan_gpu };

/// Most invocations of a GPU's workgroup for an expert, each of which counts some rows.
const WORKGROUP: u32 = 128;

/// Most tokens whose rows are multiplied one by one on a GPU, where that is bound by reading weights.
const FEW: usize = 8;

/// Which experts each token goes to.
#[derive(Debug, Clone)]
pub struct Routed {
    ids: Buffer,
    experts: usize,
    /// Rows in the order of their experts, and where each expert's begin.
    groups: Option<(Buffer, Buffer)>,
}

impl Routed {
    /// Tokens with their experts' numbers, U32 `[T, k]`, among `experts`. Where there are many tokens, the encoder gets a
    /// dispatch that groups them, into values of a graph if `transient`.
    ///
    /// # Errors
    /// [`Error::Argument`] if a shape or type does not fit; if memory cannot be had.
    pub fn new(enc: &mut CommandEncoder, ids: &Buffer, experts: usize, transient: bool) -> Result<Self> {
        let name = EXPERTS_GROUP.name;
        check::dtype(name, "ids", ids, DType::U32)?;
        let &[tokens, chosen] = ids.shape() else {
            return Err(Error::argument(name, "ids", "shape [T, k]", format!("{:?}", ids.shape())));
        };
        if chosen == 0 || chosen > experts {
            return Err(Error::argument(name, "ids", format!("1 to {experts} experts of a token"), chosen));
        }
        let mut routed = Routed { ids: ids.clone(), experts, groups: None };
        let few = if enc.device().info().gpu.is_some() { FEW } else { 1 };
        if tokens <= few {
            return Ok(routed);
        }
        let device = enc.device().clone();
        let make = |len: usize| match transient {
            true => Device::transient(&device, DType::U32, &[len]),
            false => Device::alloc(&device, DType::U32, &[len]),
        };
        let (order, starts) = (make(ids.len())?, make(experts + 1)?);
        enc.dispatch(Dispatch::new(&EXPERTS_GROUP).buffer(ids).buffer(&order).buffer(&starts))?;
        routed.groups = Some((order, starts));
        Ok(routed)
    }

    /// U32 `[T, k]`.
    pub fn ids(&self) -> &Buffer {
        &self.ids
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.ids.shape()[0]
    }

    /// Experts that there are.
    pub fn experts(&self) -> usize {
        self.experts
    }

    /// Order and starts, where rows are grouped.
    pub(super) fn groups(&self) -> Option<(&Buffer, &Buffer)> {
        self.groups.as_ref().map(|(order, starts)| (order, starts))
    }
}

fn plan(_: &PlanContext<'_>) -> CpuPlan {
    CpuPlan::new(1, 1).split(1, Split::whole()).split(2, Split::whole())
}

/// Counts, then places (a counting sort).
fn run(tile: &Tile<'_>) {
    let (mut order, mut starts) = (tile.write::<u32>(1), tile.write::<u32>(2));
    let (order, starts) = (order.slice(), starts.slice());
    let last = starts.len() - 2;
    let expert = |id: u32| (id as usize).min(last);
    let ids = tile.read::<u32>(0);
    starts.fill(0);
    ids.iter().for_each(|&id| starts[expert(id) + 1] += 1);
    for i in 1..starts.len() {
        starts[i] += starts[i - 1];
    }
    // What is a start becomes an end while rows are placed: the start of the next.
    for (row, &id) in ids.iter().enumerate() {
        let at = &mut starts[expert(id)];
        order[*at as usize] = row as u32;
        *at += 1;
    }
    starts.copy_within(0..=last, 1);
    starts[0] = 0;
}

fn plan_gpu(context: &GpuContext<'_>) -> GpuPlan {
    let experts = context.len(2) as u32 - 1;
    let workgroup = context.limits().workgroup_size.min(WORKGROUP);
    GpuPlan::linear(experts as usize).constant("WORKGROUP", workgroup).constant("EXPERTS", experts)
}
