//! Mistakes that the backend could have: each is planted and found.

use dacapo::{Error, MetalReplay, Result};
use dacapo_metal_sim::objc::{Plant, count, plant};
use dacapo_metal_sim::{classes, forget_complaints, gpu};

use super::{Chain, Turn, assert_silent};

/// Tries of what is found by chance: the device takes the right order by luck in some of them.
const TRIES: usize = 30;

/// What came of work with a mistake in it.
fn committed(selector: &'static str, mistake: Plant) -> Result<(Chain, Result<()>)> {
    let chain = Chain::new(MetalReplay::Auto)?;
    chain.commit()?.wait()?;
    assert_silent();
    plant(selector, 1, mistake);
    let ended = chain.commit()?.wait();
    Ok((chain, ended))
}

/// Fails unless the simulation says this.
fn complained(says: &str) {
    let complaints = forget_complaints();
    assert!(complaints.iter().any(|complaint| complaint.contains(says)), "{says:?} not in {complaints:?}");
}

/// Fails unless the work failed and the simulation says why.
fn fails(selector: &'static str, mistake: Plant, says: &str) -> Result<()> {
    let _turn = Turn::take();
    let (_chain, ended) = committed(selector, mistake)?;
    let error = ended.expect_err("a mistake");
    complained(says);
    assert!(error.to_string().contains(says), "{error}");
    Ok(())
}

/// Whether some of many tries give wrong numbers: rounds that are committed together, one of them with a mistake.
fn is_wrong_at_times(replayed: bool, selector: &'static str, nth: usize) -> Result<bool> {
    for _ in 0..TRIES {
        let chain = Chain::new(if replayed { MetalReplay::Auto } else { MetalReplay::Reencode })?;
        plant(selector, nth, Plant::Lost);
        gpu::hold();
        let last = if replayed {
            // Indirect commands are written when the graph is compiled.
            let compiled = chain.compile()?;
            compiled.replay()?
        } else {
            chain.commit()?;
            chain.commit()?
        };
        gpu::resume();
        last.wait()?;
        if !chain.is_right(if replayed { 1 } else { 2 })? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_barrier_left_out() -> Result<()> {
    let _turn = Turn::take();
    for nth in [1, 2] {
        assert!(is_wrong_at_times(false, "memoryBarrierWithScope:", nth)?, "barrier {nth}");
    }
    assert_silent();
    Ok(())
}

#[test]
fn a_barrier_left_out_of_indirect_commands() -> Result<()> {
    let _turn = Turn::take();
    for nth in [1, 2] {
        assert!(is_wrong_at_times(true, "setBarrier", nth)?, "barrier {nth}");
    }
    assert_silent();
    Ok(())
}

#[test]
fn a_fence_that_is_not_waited_for_or_not_updated() -> Result<()> {
    let _turn = Turn::take();
    assert!(is_wrong_at_times(false, "waitForFence:", 2)?, "waited for by the second");
    assert!(is_wrong_at_times(false, "updateFence:", 1)?, "updated by the first");
    assert_silent();
    Ok(())
}

#[test]
fn an_encoder_that_is_not_ended() -> Result<()> {
    let _turn = Turn::take();
    let (chain, ended) = committed("endEncoding", Plant::Lost)?;
    assert!(ended.is_ok() && !chain.is_right(2)?, "what it encoded is lost");
    complained("committed while an encoder is open");
    Ok(())
}

#[test]
fn a_buffer_that_is_not_bound() -> Result<()> {
    fails("setBuffer:offset:atIndex:", Plant::Lost, "nothing is bound to buffer(0)")
}

#[test]
fn a_buffer_bound_at_a_wrong_place() -> Result<()> {
    let _turn = Turn::take();
    let (chain, ended) = committed("setBuffer:offset:atIndex:", Plant::Changed(16))?;
    assert!(ended.is_ok() && !chain.is_right(2)?);
    let (_chain, _) = committed("setBuffer:offset:atIndex:", Plant::Changed(3))?;
    complained("is bound at 3");
    Ok(())
}

#[test]
fn inline_bytes_that_are_missing_or_short() -> Result<()> {
    fails("setBytes:length:atIndex:", Plant::Lost, "nothing is bound to buffer(30)")?;
    fails("setBytes:length:atIndex:", Plant::Changed(-4), "buffer(30) has")
}

#[test]
fn a_pipeline_that_is_not_set() -> Result<()> {
    let _turn = Turn::take();
    let (chain, ended) = committed("setComputePipelineState:", Plant::Lost)?;
    assert!(ended.is_ok() && !chain.is_right(2)?);
    complained("a dispatch without a pipeline");
    Ok(())
}

#[test]
fn a_dispatch_that_is_lost() -> Result<()> {
    let _turn = Turn::take();
    let (chain, ended) = committed("dispatchThreadgroups:threadsPerThreadgroup:", Plant::Lost)?;
    assert!(ended.is_ok() && !chain.is_right(2)?);
    assert_silent();
    Ok(())
}

#[test]
fn resources_that_indirect_commands_do_not_declare() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let compiled = chain.compile()?;
    compiled.replay()?.wait()?;
    // First those that are only read, then those that are written.
    for nth in [1, 2] {
        plant("useResources:count:usage:", nth, Plant::Lost);
        assert!(compiled.replay()?.wait().is_err());
        complained("was not declared so");
        chain.reset()?;
    }
    Ok(())
}

#[test]
fn an_event_that_is_not_signalled() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let event = chain.device.event("done")?;
    plant("encodeSignalEvent:value:", 1, Plant::Lost);
    let mut encoder = chain.device.encoder("signals")?;
    encoder.signal_event(&event, 1)?;
    chain.dispatches().into_iter().try_for_each(|dispatch| encoder.dispatch(dispatch))?;
    encoder.commit_and_wait()?;
    assert_eq!(event.value(), 0);
    Ok(())
}

#[test]
fn a_handler_or_a_commit_that_is_lost() -> Result<()> {
    let _turn = Turn::take();
    for selector in ["addCompletedHandler:", "commit"] {
        let (_chain, ended) = committed(selector, Plant::Lost)?;
        assert!(matches!(ended, Err(Error::DeviceLost(_))), "{selector}");
    }
    Ok(())
}

#[test]
fn memory_that_stays_in_the_residency_set() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let set = dacapo::ResidencySet::new(&chain.device);
    set.add(&chain.x)?;
    chain.commit()?.wait()?;
    let before = count()["SimulatedBuffer"];
    plant("removeAllocation:", 1, Plant::Lost);
    let Chain { device, x, y, z } = chain;
    drop((set, x, y, z));
    device.encoder("nothing")?.commit_and_wait()?;
    gpu::settle();
    assert_eq!(classes::resident().len(), 1, "it is resident still");
    assert_eq!(count()["SimulatedBuffer"], before - 2, "and is kept");
    Ok(())
}

#[test]
fn a_reference_that_is_not_given_back() -> Result<()> {
    let _turn = Turn::take();
    gpu::settle();
    let before = count();
    let chain = Chain::new(MetalReplay::Auto)?;
    chain.commit()?.wait()?;
    plant("release", 1, Plant::Lost);
    chain.commit()?.wait()?;
    drop(chain);
    gpu::settle();
    assert_ne!(count(), before, "something is left");
    Ok(())
}
