//! What is left behind: nothing.

use dacapo::{DType, MetalReplay, ResidencySet, Result};
use dacapo_metal_sim::{classes, gpu, objc};

use super::{Chain, REPLAYS, Turn, assert_silent};

#[test]
fn a_thousand_steps_leave_nothing() -> Result<()> {
    let _turn = Turn::take();
    for replay in REPLAYS {
        let start = objc::count();
        let chain = Chain::new(replay)?;
        let compiled = chain.compile()?;
        // The first steps make pipelines, and command buffers ahead.
        compiled.replay()?.wait()?;
        chain.commit()?.wait()?;
        let settled = || {
            gpu::settle();
            // What is encoded ahead comes and goes on a thread of its own; it is counted when that has ended.
            let ahead = ["SimulatedCommandBuffer", "SimulatedComputeCommandEncoder", "NSString"];
            let mut count = objc::count();
            count.retain(|class, _| !ahead.contains(&&**class));
            count
        };
        let before = settled();
        let mut last = None;
        for step in 0..1000 {
            last = Some(if step % 10 == 0 { chain.commit()? } else { compiled.replay()? });
            if step % 100 == 0 {
                chain.reset()?;
            }
        }
        last.expect("submitted").wait()?;
        assert_eq!(settled(), before, "{replay:?}");
        drop((compiled, chain));
        gpu::settle();
        assert_eq!(objc::count(), start, "{replay:?}: all is given back with the device");
    }
    assert_silent();
    Ok(())
}

#[test]
fn many_steps_in_flight_are_right_in_whatever_order_the_device_takes_them() -> Result<()> {
    let _turn = Turn::take();
    for replay in REPLAYS {
        let chain = Chain::new(replay)?;
        let compiled = chain.compile()?;
        for round in 0..4 {
            chain.reset()?;
            gpu::hold();
            let mut last = None;
            for step in 0..8 {
                last = Some(if (step + round) % 2 == 0 { chain.commit()? } else { compiled.replay()? });
            }
            gpu::resume();
            last.expect("submitted").wait()?;
            assert!(chain.is_right(8)?, "{replay:?}");
        }
    }
    assert_silent();
    Ok(())
}

#[test]
fn residency_is_exact() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    // A buffer has room to spare: its length rounded up to 256 bytes, and 256 more.
    let bytes = |len: usize| (4 * len).next_multiple_of(256) + 256;
    let large = chain.device.alloc(DType::F32, &[5000])?;
    let set = ResidencySet::new(&chain.device);
    set.add(&chain.x)?;
    set.add(&large)?;
    assert_eq!(classes::resident(), [], "staged");
    chain.commit()?.wait()?;
    assert_eq!(classes::resident(), [bytes(100), bytes(5000)]);
    set.remove(&chain.x)?;
    // Used by the submission that would flush it.
    chain.commit()?.wait()?;
    assert_eq!(classes::resident(), [bytes(100), bytes(5000)]);
    chain.device.encoder("nothing")?.commit_and_wait()?;
    assert_eq!(classes::resident(), [bytes(5000)]);
    drop((set, large));
    chain.device.encoder("nothing")?.commit_and_wait()?;
    assert_eq!(classes::resident(), []);
    drop(chain);
    assert_silent();
    Ok(())
}
