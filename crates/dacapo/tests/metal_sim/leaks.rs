//! What is left behind: nothing.

use dacapo::Result;
use dacapo_metal_sim::{gpu, objc};

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
