//! What only a simulated Metal can show: what is left behind, what the backend does when Metal fails, and that mistakes in
//! the backend would be found. For that one of its messages is lost or changed on the way.
//!
//! Needs `--cfg metal_sim`: `crates/dacapo-metal-sim/cargo test -p dacapo --test metal_sim`.

#![cfg(all(feature = "metal", metal_sim))]

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dacapo::{
    Buffer, CompiledGraph, DType, Device, DeviceOptions, DeviceSelect, Dispatch, GraphOptions, MetalOptions,
    MetalReplay, Result,
};
use dacapo_metal_sim::{complaints, forget_complaints, gpu};
use kernels::{ADD, LINEAR};

mod captures;
mod failures;
#[path = "../vulkan/kernels.rs"]
mod kernels;
mod leaks;
mod mistakes;
mod residency;
mod times;

/// The simulation is one for the process: tests take turns.
struct Turn(#[expect(dead_code, reason = "held until the test ends")] MutexGuard<'static, ()>);

impl Turn {
    fn take() -> Turn {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // The device of the test before may be on its way out.
        gpu::settle();
        forget_complaints();
        Turn(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        gpu::resume();
    }
}

/// Both ways of replay.
const REPLAYS: [MetalReplay; 2] = [MetalReplay::Auto, MetalReplay::Reencode];

fn open(replay: MetalReplay) -> Device {
    let metal = MetalOptions { replay, ..MetalOptions::default() };
    // A submission that does not end within seconds is a failure that some tests want to see.
    let patience = Duration::from_secs(3);
    let options = DeviceOptions { metal, patience, ..DeviceOptions::metal(DeviceSelect::Auto) };
    Device::open(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Fails if the simulation had something to say.
fn assert_silent() {
    assert_eq!(complaints(), Vec::<String>::new());
}

/// Work whose parts depend on each other: `y = 2 x + 1`, `z = 3 y`, `x += z`, each through kernels of its own.
struct Chain {
    device: Device,
    x: Buffer,
    y: Buffer,
    z: Buffer,
}

/// Elements of the buffers.
const LEN: usize = 100;

impl Chain {
    fn new(replay: MetalReplay) -> Result<Chain> {
        let device = open(replay);
        let (x, y, z) = {
            let zeros = || device.alloc(DType::F32, &[LEN]);
            (zeros()?, zeros()?, zeros()?)
        };
        Ok(Chain { device, x, y, z })
    }

    fn dispatches(&self) -> [Dispatch; 3] {
        let linear = |x: &Buffer, y: &Buffer, a: f32, b: f32| {
            Dispatch::new(&LINEAR).buffer(x).buffer(y).bytes(&[a, b])
        };
        [
            linear(&self.x, &self.y, 2.0, 1.0),
            linear(&self.y, &self.z, 3.0, 0.0),
            Dispatch::new(&ADD).buffer(&self.z).buffer(&self.x),
        ]
    }

    /// One round, encoded and committed.
    fn commit(&self) -> Result<dacapo::Submission> {
        let mut encoder = self.device.encoder("chain")?;
        self.dispatches().into_iter().try_for_each(|dispatch| encoder.dispatch(dispatch))?;
        encoder.commit()
    }

    /// One round as a compiled graph.
    fn compile(&self) -> Result<CompiledGraph> {
        self.compile_with(&GraphOptions::default())
    }

    fn compile_with(&self, options: &GraphOptions) -> Result<CompiledGraph> {
        let mut encoder = self.device.encoder("record")?;
        encoder.start_capture()?;
        self.dispatches().into_iter().try_for_each(|dispatch| encoder.dispatch(dispatch))?;
        encoder.take_capture()?.compile(&self.device, "chain", options)
    }

    /// Whether the buffers hold what they should after so many rounds from zero.
    fn is_right(&self, rounds: usize) -> Result<bool> {
        let x = (0..rounds).fold(0.0_f32, |x, _| x + 3.0 * 2.0_f32.mul_add(x, 1.0));
        Ok(self.x.read::<f32>()?.iter().all(|&found| found == x))
    }

    /// Back to zero.
    fn reset(&self) -> Result<()> {
        [&self.x, &self.y, &self.z].into_iter().try_for_each(|buffer| buffer.copy_from(&[0.0_f32; LEN]))
    }
}
