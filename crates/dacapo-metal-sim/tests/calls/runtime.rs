//! Objects: how they are counted, and what happens to freed ones.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dacapo_metal_sim::{complaints, objc};

use super::*;

#[test]
fn what_is_right_runs_in_silence_and_leaves_nothing() {
    let bench = Bench::new();
    let before = objc::count();
    for _ in 0..20 {
        assert_eq!(bench.run(|_| ()), MTLCommandBufferStatus::Completed);
        assert_eq!(bench.values(&bench.y), [3.0; 64]);
    }
    assert_eq!(objc::count(), before);
    assert_eq!(complaints(), Vec::<String>::new());
}

#[test]
fn a_message_to_a_freed_object_is_named() {
    let bench = Bench::new();
    let buffer = bench.device.newBufferWithLength_options(64, options()).unwrap();
    let freed = Retained::as_ptr(&buffer);
    drop(buffer);
    // SAFETY: none: this is the mistake. The simulation keeps the places of freed objects.
    let message = AssertUnwindSafe(|| unsafe { (*freed).length() });
    assert!(catch_unwind(message).is_err(), "it cannot be answered");
    complained("was sent to a freed SimulatedBuffer");
}

#[test]
fn a_reference_given_back_twice_is_named() {
    let bench = Bench::new();
    let buffer = bench.device.newBufferWithLength_options(64, options()).unwrap();
    let again = Retained::as_ptr(&buffer).cast_mut();
    drop(buffer);
    // SAFETY: none: this is the mistake.
    let release = AssertUnwindSafe(|| drop(unsafe { Retained::from_raw(again) }));
    assert!(catch_unwind(release).is_err(), "nothing can be given back");
    complained("release was sent to a freed SimulatedBuffer");
}

#[test]
fn an_object_that_is_kept_for_ever_is_counted() {
    let bench = Bench::new();
    let before = objc::count().get("SimulatedBuffer").copied();
    std::mem::forget(bench.device.newBufferWithLength_options(64, options()));
    assert_eq!(objc::count().get("SimulatedBuffer").copied(), before.map(|count| count + 1));
}

#[test]
fn an_object_autoreleased_without_a_pool_leaks() {
    let bench = Bench::new();
    // On a thread without a pool, as those of Rust are.
    let queue = std::thread::scope(|scope| {
        let queue = Sent(&bench.queue);
        scope.spawn(move || queue.get().commandBuffer().is_some()).join()
    });
    assert!(queue.expect("answered"));
    complained("a SimulatedCommandBuffer is autoreleased where there is no pool");
}

struct Sent<'a>(&'a Object<dyn MTLCommandQueue>);

// SAFETY: queues may be used by any thread.
unsafe impl Send for Sent<'_> {}

impl<'a> Sent<'a> {
    fn get(&self) -> &'a Object<dyn MTLCommandQueue> {
        self.0
    }
}

#[test]
fn a_message_that_no_class_answers_is_named() {
    let bench = Bench::new();
    let unknown = catch_unwind(AssertUnwindSafe(|| bench.device.isHeadless())).expect_err("not simulated");
    let text = unknown.downcast_ref::<String>().expect("it says what");
    assert!(text.contains("SimulatedDevice isHeadless"), "{text}");
}
