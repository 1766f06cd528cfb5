//! The device's side: what was committed, and the thread that runs it.
//!
//! One thread runs everything, one dispatch at a time, in an order that the backend must not rely on: of all dispatches that
//! nothing keeps apart it takes any. Dispatches of an encoder are kept apart by barriers, encoders by fences; command
//! buffers alone keep nothing apart, since the backend's buffers are not tracked. Command buffers of a queue end in order.

mod pass;
mod thread;

pub(crate) use pass::{Code, Item, Pass, Reference, Run, Samples, Slot, Storage};
pub(crate) use thread::{Event, Submitted, Work, clock, start, uses};
pub use thread::{Failure, fail_next, hold, is_idle, resume, settle};
