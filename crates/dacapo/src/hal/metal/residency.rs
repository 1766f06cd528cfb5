//! Memory that the system is asked to keep resident, as a set that belongs to the queue.

use std::sync::Mutex;

use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSError, NSString};
use objc2_metal::{
    MTLAllocation, MTLBuffer, MTLCommandQueue, MTLDevice, MTLResidencySet, MTLResidencySetDescriptor,
};

use super::objects::{Object, Shared, lock};

/// A residency set. Changes are staged and take effect together, with the next submission.
pub(super) struct Residency {
    set: Shared<dyn MTLResidencySet>,
    state: Mutex<State>,
    /// Bytes that may be wired: what the system recommends for the device.
    most: u64,
}

#[derive(Default)]
struct State {
    /// Whether something changed since the last commit.
    changed: bool,
    /// Bytes of the members, staged ones included.
    bytes: u64,
}

impl Residency {
    /// An empty set, made resident with everything that the queue runs.
    pub fn new(
        device: &Object<dyn MTLDevice>,
        queue: &Object<dyn MTLCommandQueue>,
    ) -> Result<Residency, Retained<NSError>> {
        let describe = MTLResidencySetDescriptor::new();
        describe.setLabel(Some(&NSString::from_str("dacapo")));
        let set = device.newResidencySetWithDescriptor_error(&describe)?;
        queue.addResidencySet(&set);
        let most = device.recommendedMaxWorkingSetSize();
        Ok(Residency { set: Shared(set), state: Mutex::default(), most })
    }

    /// Stages an add. What would wire more memory than the system recommends is left to the system.
    pub fn add(&self, buffer: &ProtocolObject<dyn MTLBuffer>) {
        let (mut state, allocation) = (lock(&self.state), allocation(buffer));
        let bytes = state.bytes.saturating_add(buffer.length() as u64);
        if bytes <= self.most && !self.set.containsAllocation(allocation) {
            self.set.addAllocation(allocation);
            *state = State { changed: true, bytes };
        }
    }

    /// Stages a removal. No submission uses the memory any more. Returns whether it was a member.
    pub fn remove(&self, buffer: &ProtocolObject<dyn MTLBuffer>) -> bool {
        let (mut state, allocation) = (lock(&self.state), allocation(buffer));
        let member = self.set.containsAllocation(allocation);
        if member {
            self.set.removeAllocation(allocation);
            *state = State { changed: true, bytes: state.bytes.saturating_sub(buffer.length() as u64) };
        }
        member
    }

    /// Makes staged changes count, if there are any.
    pub fn flush(&self) {
        if std::mem::take(&mut lock(&self.state).changed) {
            self.set.commit();
            self.set.requestResidency();
        }
    }

    /// Gives everything up.
    pub fn close(&self, queue: &Object<dyn MTLCommandQueue>) {
        let mut state = lock(&self.state);
        self.set.endResidency();
        self.set.removeAllAllocations();
        self.set.commit();
        queue.removeResidencySet(&self.set);
        *state = State::default();
    }
}

fn allocation(buffer: &ProtocolObject<dyn MTLBuffer>) -> &ProtocolObject<dyn MTLAllocation> {
    ProtocolObject::from_ref(buffer)
}
