//! Pipelines made ahead, several at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::translator::Key;
use crate::hal::gpu::GpuPlan;
use crate::hal::{Pipeline, Upcoming};

/// Has `make` make the pipelines that upcoming dispatches need, each once, on all processors. `plan` is a dispatch's plan, if it
/// can be encoded at all. What fails to be made fails again when it is needed, and is told then.
pub(crate) fn prepare(
    upcoming: &mut dyn Iterator<Item = Upcoming>,
    plan: impl Fn(&Upcoming) -> Option<GpuPlan>,
    make: impl Fn(&dyn Pipeline, &GpuPlan) + Sync,
) {
    let mut known = HashSet::new();
    let mut wanted: Vec<(Arc<dyn Pipeline>, GpuPlan)> = Vec::new();
    for upcoming in upcoming {
        let Some(plan) = plan(&upcoming).filter(|plan| !plan.workgroups.contains(&0)) else { continue };
        // The same for dispatches that need the same pipeline.
        if known.insert((Arc::as_ptr(&upcoming.pipeline).cast::<()>() as usize, Key::of(&plan))) {
            wanted.push((upcoming.pipeline, plan));
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(wanted.len()) {
            scope.spawn(|| {
                while let Some((pipeline, plan)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    make(&**pipeline, plan);
                }
            });
        }
    });
}
