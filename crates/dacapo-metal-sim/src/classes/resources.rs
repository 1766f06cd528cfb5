//! Buffers, what keeps them resident, and what orders their use.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use objc2::rc::Retained;
use objc2::{DefinedClass, Message};
use objc2_foundation::NSRange;

use super::foundation::{Data, Text, says};
use super::living;
use crate::gpu::{Event, Storage, uses};
use crate::{complain, lock};

class!(Buffer "SimulatedBuffer" { (Arc<Storage>, Mutex<String>) }
    #[unsafe(method(setLabel:))]
    fn set_label(&self, label: Option<&Text>) {
        *lock(&self.ivars().1) = says(label);
    }

    #[unsafe(method(contents))]
    fn contents(&self) -> NonNull<c_void> {
        NonNull::new(self.storage().ptr.cast()).expect("memory has an address")
    }

    #[unsafe(method(length))]
    fn length(&self) -> usize {
        self.storage().len
    }
);

impl Buffer {
    pub fn new(storage: Storage) -> Retained<Buffer> {
        Buffer::make((Arc::new(storage), Mutex::default()))
    }

    pub fn storage(&self) -> &Arc<Storage> {
        &living(self).ivars().0
    }

    fn id(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn named(&self) -> String {
        format!("buffer {:?} of {} bytes", lock(&self.ivars().1), self.storage().len)
    }
}

class!(Fence "SimulatedFence" { u8 });

class!(SharedEvent "SimulatedSharedEvent" { Arc<Event> }
    #[unsafe(method(signaledValue))]
    fn value(&self) -> u64 {
        self.event().value()
    }

    #[unsafe(method(waitUntilSignaledValue:timeoutMS:))]
    fn wait(&self, value: u64, milliseconds: u64) -> bool {
        self.event().wait(value, Duration::from_millis(milliseconds))
    }
);

impl SharedEvent {
    pub fn event(&self) -> &Arc<Event> {
        living(self).ivars()
    }

    /// Notes that a command buffer will signal it.
    pub fn promise(&self, value: u64) {
        let before = self.event().promised.fetch_max(value, Ordering::Relaxed);
        if value <= before {
            complain(format!(
                "a command buffer signals {value} where {before} comes before: events only rise"
            ));
        }
    }
}

/// Members of a set: as they are, and as they will be after the next commit.
#[derive(Default)]
pub(crate) struct Members {
    committed: Vec<Retained<Buffer>>,
    staged: Vec<Retained<Buffer>>,
    requested: bool,
}

/// All sets of the process, for tests.
static SETS: Mutex<Vec<(usize, Vec<usize>)>> = Mutex::new(Vec::new());

/// Bytes of each buffer that a committed set holds and for which residency was requested, over all sets, in order.
pub fn resident() -> Vec<usize> {
    let mut bytes: Vec<usize> = lock(&SETS).iter().flat_map(|(_, bytes)| bytes).copied().collect();
    bytes.sort_unstable();
    bytes
}

class!(ResidencySet "SimulatedResidencySet" { Mutex<Members> }
    #[unsafe(method(addAllocation:))]
    fn add(&self, buffer: &Buffer) {
        let mut members = self.members();
        if !members.staged.iter().any(|member| member.id() == buffer.id()) {
            members.staged.push(living(buffer).retain());
        }
    }

    #[unsafe(method(removeAllocation:))]
    fn remove(&self, buffer: &Buffer) {
        let mut members = self.members();
        let before = members.staged.len();
        members.staged.retain(|member| member.id() != buffer.id());
        if members.staged.len() == before {
            complain(format!("{} is removed from a residency set that does not hold it", buffer.named()));
        }
    }

    #[unsafe(method(removeAllAllocations))]
    fn remove_all(&self) {
        self.members().staged.clear();
    }

    #[unsafe(method(containsAllocation:))]
    fn contains(&self, buffer: &Buffer) -> bool {
        self.members().staged.iter().any(|member| member.id() == living(buffer).id())
    }

    #[unsafe(method(commit))]
    fn commit(&self) {
        let mut members = self.members();
        let staged = members.staged.clone();
        let gone = std::mem::replace(&mut members.committed, staged);
        self.publish(&members);
        for buffer in gone.iter().filter(|gone| !members.staged.iter().any(|kept| kept.id() == gone.id())) {
            if uses(buffer.id()) {
                complain(format!("{} loses its residency while the device uses it", buffer.named()));
            }
        }
    }

    #[unsafe(method(requestResidency))]
    fn request(&self) {
        let mut members = self.members();
        members.requested = true;
        self.publish(&members);
    }

    #[unsafe(method(endResidency))]
    fn end(&self) {
        let mut members = self.members();
        members.requested = false;
        self.publish(&members);
    }
);

impl ResidencySet {
    fn members(&self) -> std::sync::MutexGuard<'_, Members> {
        lock(living(self).ivars())
    }

    /// The buffers that are resident.
    pub fn resident(&self) -> Vec<usize> {
        self.members().committed.iter().map(|buffer| buffer.id()).collect()
    }

    fn publish(&self, members: &Members) {
        let own = std::ptr::from_ref(self).addr();
        let mut sets = lock(&SETS);
        sets.retain(|(set, _)| *set != own);
        if members.requested && !members.committed.is_empty() {
            sets.push((own, members.committed.iter().map(|buffer| buffer.storage().len).collect()));
        }
    }
}

class!(CounterSet "SimulatedCounterSet" { u8 }
    #[unsafe(method_id(name))]
    fn name(&self) -> Retained<Text> {
        Text::new("timestamp")
    }
);

class!(Counters "SimulatedCounterSampleBuffer" { Arc<Mutex<Vec<u64>>> }
    #[unsafe(method_id(resolveCounterRange:))]
    fn resolve(&self, range: NSRange) -> Option<Retained<Data>> {
        let values = lock(self.ivars());
        let found = values.get(range.location..range.end());
        if found.is_none() {
            complain(format!("counters {range:?} are resolved; there are {}", values.len()));
        }
        found.map(|found| Data::make(found.iter().flat_map(|value| value.to_ne_bytes()).collect()))
    }
);
