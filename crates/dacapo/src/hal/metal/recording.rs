//! Recordings: work that is encoded once and run by one command, or encoded anew a step ahead of the device.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;

use super::context::{COMMAND_BUFFERS, Context};
use super::indirect::Indirect;
use super::objects::lock;
use super::timing::Samples;
use super::work::{Encoded, Work};
use crate::Result;
use crate::hal::info::MetalReplay;

/// Command buffers that wait, encoded, for their submission: a part of those that may exist.
const MOST_AHEAD: usize = COMMAND_BUFFERS / 4;

/// Work, and how it becomes command buffers.
pub(super) struct Source {
    pub work: Work,
    replay: Replay,
}

enum Replay {
    /// Submitted once.
    Once,
    /// Encoded once for good.
    Indirect(Indirect),
    /// Encoded ahead of each submission; here lies the next.
    Ahead(Mutex<Option<Ready>>),
}

/// A command buffer that was encoded ahead.
struct Ready {
    commands: Encoded,
    /// The device's, before it was made.
    epoch: u64,
    count: Arc<AtomicUsize>,
}

impl Ready {
    fn take(self) -> Encoded {
        let Ready { commands, count, .. } = self;
        count.fetch_sub(1, Ordering::Relaxed);
        commands
    }
}

impl Source {
    /// Work that is submitted once.
    pub fn once(work: Work) -> Arc<Source> {
        Arc::new(Source { work, replay: Replay::Once })
    }

    /// Work that is submitted again and again, as the options say.
    pub fn replayed(context: &Context, work: Work) -> Result<Arc<Source>> {
        let ahead = || Replay::Ahead(Mutex::new(None));
        // Times are noted by encoders, and an indirect command buffer is run by one.
        let replay = match context.options.replay {
            MetalReplay::Reencode => ahead(),
            MetalReplay::Auto if work.timed => ahead(),
            MetalReplay::Auto => Indirect::new(context, &work)?.map_or_else(ahead, Replay::Indirect),
        };
        Ok(Arc::new(Source { work, replay }))
    }

    /// Room for the times of a submission, if they are wanted.
    pub fn samples(&self, context: &Context) -> Option<Samples> {
        if !self.work.timed {
            return None;
        }
        Samples::new(context, self.work.busy().count())
    }

    /// A command buffer for a submission.
    pub fn encoded(&self, context: &Context, samples: Option<&Samples>) -> Result<Encoded> {
        match &self.replay {
            Replay::Indirect(indirect) => self.work.encode_indirect(context, indirect),
            Replay::Ahead(ready) if samples.is_none() => {
                let ready = lock(ready).take().map(|ready| (ready.epoch, ready.take()));
                match ready {
                    Some((epoch, commands)) if epoch == context.epoch() => Ok(commands),
                    _ => self.work.encode(context, None),
                }
            }
            Replay::Once | Replay::Ahead(_) => self.work.encode(context, samples),
        }
    }

    /// Encodes the next submission, if it is this kind of work and there is room.
    fn encode_ahead(&self, context: &Context, count: &Arc<AtomicUsize>) {
        let Replay::Ahead(ready) = &self.replay else { return };
        let mut ready = lock(ready);
        if ready.is_some() || count.load(Ordering::Relaxed) >= MOST_AHEAD {
            return;
        }
        let epoch = context.epoch();
        // What fails here fails again when it is submitted, and is told then.
        if let Ok(commands) = self.work.encode(context, None) {
            count.fetch_add(1, Ordering::Relaxed);
            *ready = Some(Ready { commands, epoch, count: count.clone() });
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Replay::Ahead(ready) = &self.replay {
            drop(lock(ready).take().map(Ready::take));
        }
    }
}

/// The thread that encodes recordings ahead, while there are any.
pub(super) struct Ahead {
    context: Arc<Context>,
    count: Arc<AtomicUsize>,
    worker: Mutex<Option<Worker>>,
}

struct Worker {
    queue: Sender<Weak<Source>>,
    thread: JoinHandle<()>,
}

impl Ahead {
    pub fn new(context: &Arc<Context>) -> Ahead {
        Ahead { context: context.clone(), count: Arc::default(), worker: Mutex::default() }
    }

    /// A recording was submitted: its next submission can be encoded.
    pub fn after(&self, source: &Arc<Source>) {
        if !matches!(source.replay, Replay::Ahead(_)) || source.work.timed {
            return;
        }
        let mut worker = lock(&self.worker);
        if worker.is_none() {
            let (send, receive) = mpsc::channel::<Weak<Source>>();
            let (context, count) = (self.context.clone(), self.count.clone());
            let thread = std::thread::Builder::new().name("dacapo-metal-ahead".into()).spawn(move || {
                for source in receive {
                    if let Some(source) = source.upgrade() {
                        source.encode_ahead(&context, &count);
                    }
                }
            });
            // Without the thread each submission is encoded when it is made.
            *worker = thread.ok().map(|thread| Worker { queue: send, thread });
        }
        if let Some(worker) = &*worker {
            // A thread that has ended encodes nothing more; submissions do it themselves.
            let _ = worker.queue.send(Arc::downgrade(source));
        }
    }

    /// Ends the thread.
    pub fn close(&self) {
        if let Some(Worker { queue, thread }) = lock(&self.worker).take() {
            drop(queue);
            // It never panics while it holds something that matters: whatever it encoded is dropped with its recording.
            let _ = thread.join();
        }
    }
}
