//! Command buffers as the engine sees them: dispatches and barriers, submitted once or recorded.

use std::sync::Arc;

use super::job::Job;
use super::node::Node;
use super::queue::Queue;
use super::recording::Source;
use super::work::Work;
use crate::Result;
use crate::hal::event::Order;
use crate::hal::{CommandBuffer, Completion, Pipeline, Recording, ResolvedArg};
use crate::profile::Span;

/// A command buffer being recorded. It becomes Metal's when it is submitted, all at once.
pub(super) struct MetalCommandBuffer {
    queue: Arc<Queue>,
    work: Work,
    /// The first dispatch since the last barrier.
    group: usize,
}

impl MetalCommandBuffer {
    pub fn new(queue: &Arc<Queue>, label: &str) -> MetalCommandBuffer {
        let work = Work { label: label.to_owned(), nodes: Vec::new(), groups: Vec::new(), timed: false };
        MetalCommandBuffer { queue: queue.clone(), work, group: 0 }
    }
}

impl CommandBuffer for MetalCommandBuffer {
    fn dispatch(
        &mut self,
        pipeline: &dyn Pipeline,
        args: &[ResolvedArg],
        params: &[u8],
        grid: [u32; 3],
    ) -> Result<()> {
        let node = Node::new(self.queue.context(), pipeline, args, params, grid)?;
        self.work.nodes.extend(node);
        Ok(())
    }

    fn barrier(&mut self) {
        self.work.groups.push(self.group..self.work.nodes.len());
        self.group = self.work.nodes.len();
    }

    fn time_groups(&mut self) {
        self.work.timed = true;
    }

    fn submit(mut self: Box<Self>, order: Order) -> Result<Arc<dyn Completion>> {
        self.barrier();
        submit(&self.queue, &Source::once(self.work), order)
    }

    fn finish(mut self: Box<Self>) -> Result<Arc<dyn Recording>> {
        self.barrier();
        let source = Source::replayed(self.queue.context(), self.work)?;
        Ok(Arc::new(MetalRecording { queue: self.queue, source }))
    }
}

/// Work to be submitted any number of times.
struct MetalRecording {
    queue: Arc<Queue>,
    source: Arc<Source>,
}

impl std::fmt::Debug for MetalRecording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recording of {:?}", self.source.work.label)
    }
}

impl Recording for MetalRecording {
    fn submit(&self, order: Order) -> Result<Arc<dyn Completion>> {
        submit(&self.queue, &self.source, order)
    }
}

fn submit(queue: &Arc<Queue>, source: &Arc<Source>, order: Order) -> Result<Arc<dyn Completion>> {
    let job = queue.submit(source, order)?;
    Ok(Arc::new(MetalCompletion { queue: queue.clone(), job }))
}

/// The fate of a submission.
struct MetalCompletion {
    queue: Arc<Queue>,
    job: Arc<Job>,
}

impl std::fmt::Debug for MetalCompletion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "completion of {:?}", self.job.order.label)
    }
}

impl Completion for MetalCompletion {
    fn is_done(&self) -> bool {
        self.job.is_done()
    }

    fn wait(&self) -> Result<()> {
        self.job.wait(&self.queue)
    }

    fn group_times(&self) -> Vec<Vec<Option<Span>>> {
        vec![self.job.group_times()]
    }

    fn times(&self) -> Vec<Option<Span>> {
        vec![self.job.time()]
    }
}
