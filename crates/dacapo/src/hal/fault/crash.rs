//! A submission that fails after its work was done: a kernel that fails, submitted behind it.

use std::sync::Arc;

use crate::Result;
use crate::cpu::CpuPlan;
use crate::hal::event::{Dependency, Order};
use crate::hal::kernel::{CpuTwin, Kernel, OpKind};
use crate::hal::{Backend, Completion};

static CRASH: Kernel = Kernel {
    name: "injected_fault",
    kind: OpKind::Other,
    bindings: &[],
    cpu: CpuTwin {
        plan: |_| CpuPlan::new(1, 1),
        // Unwinds as a panic does, without the report that a real one prints.
        run: |_| std::panic::resume_unwind(Box::new("failed on request".to_owned())),
    },
    gpu: None,
};

/// Submits the work, then the crash, which stands for the work's end: it waits for it and has its signals.
pub(super) fn after(
    backend: &dyn Backend,
    mut order: Order,
    submit: impl FnOnce(Order) -> Result<Arc<dyn Completion>>,
) -> Result<Arc<dyn Completion>> {
    let mut commands = backend.command_buffer(&order.label)?;
    commands.dispatch(&*backend.pipeline(&CRASH)?, &[], &[], [1, 1, 1])?;
    let (label, signals) = (order.label.clone(), std::mem::take(&mut order.signals));
    let completion = submit(order)?;
    let after = vec![Dependency { label: label.clone(), completion }];
    commands.submit(Order { label, signals, after, waits: Vec::new() })
}
