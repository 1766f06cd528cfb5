//! The canary: work that is wrong on purpose, which synchronization validation has to report. Without it nobody would
//! know whether the silence of the other tests means anything.

use dacapo::{DType, Device, DeviceOptions, Dispatch, FaultPlan, FaultPoint, Result};
use dacapo_testkit::{assert_silent, open, vulkan_options};

use super::kernels::LINEAR;

/// Whether the loader was told to load the layer.
fn validated() -> bool {
    let layers = std::env::var("VK_INSTANCE_LAYERS").unwrap_or_default();
    let on = layers.contains("VK_LAYER_KHRONOS_validation");
    if !on {
        eprintln!("skipped: VK_INSTANCE_LAYERS does not name the validation layer");
        assert!(std::env::var_os("DACAPO_REQUIRE_VALIDATION").is_none(), "it has to");
    }
    on
}

/// Writes, reads and overwrites a buffer: two barriers.
fn chain(device: &Device) -> Result<()> {
    let x = device.upload(&[1.0_f32; 100], &[100])?;
    let (y, z) = (device.alloc(DType::F32, &[100])?, device.alloc(DType::F32, &[100])?);
    let linear = |x, y, a: f32| Dispatch::new(&LINEAR).buffer(x).buffer(y).bytes(&[a, 1.0]);
    let mut encoder = device.encoder("canary")?;
    encoder.dispatch(linear(&x, &y, 2.0))?;
    encoder.dispatch(linear(&y, &z, 3.0))?;
    encoder.dispatch(linear(&x, &y, 4.0))?;
    encoder.commit_and_wait()
}

fn device(fault: Option<FaultPlan>) -> Option<Device> {
    open(DeviceOptions { fault, ..vulkan_options() })
}

#[test]
fn a_barrier_left_out_is_reported_and_none_too_many_are_needed() -> Result<()> {
    if !validated() {
        return Ok(());
    }
    let Some(sound) = device(None) else { return Ok(()) };
    chain(&sound)?;
    assert_silent(&sound);
    drop(sound);
    // Read after write, then write after read.
    for nth in [1, 2] {
        let broken = device(Some(FaultPlan { at: FaultPoint::Barrier, nth })).expect("was there before");
        chain(&broken)?;
        let messages = broken.messages();
        let hazard = |message: &&String| message.contains("SYNC-HAZARD");
        assert!(messages.iter().any(|message| hazard(&message)), "without barrier {nth}: {messages:?}");
    }
    Ok(())
}
