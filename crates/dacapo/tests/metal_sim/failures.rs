//! What the backend does when Metal fails.

use dacapo::{Error, MetalReplay, Result};
use dacapo_metal_sim::gpu::{self, Failure};

use super::{Chain, REPLAYS, Turn, assert_silent};

#[test]
fn a_command_buffer_that_fails_says_why_and_leaves_the_device_usable() -> Result<()> {
    let _turn = Turn::take();
    for replay in REPLAYS {
        let chain = Chain::new(replay)?;
        let compiled = chain.compile()?;
        let timeout = || Failure { code: 2, reason: "Caused GPU Timeout Error".into() };
        gpu::fail_next(timeout());
        let error = chain.commit()?.wait().expect_err("failed");
        let text = error.to_string();
        for part in ["chain", "status 5", "Caused GPU Timeout Error", "code 2", "MTLCommandBufferErrorDomain"]
        {
            assert!(text.contains(part), "{part:?} not in {text}");
        }
        // What it wrote counts as lost; what is written anew does not.
        chain.reset()?;
        gpu::fail_next(timeout());
        assert!(compiled.replay()?.wait().is_err());
        chain.reset()?;
        compiled.replay()?.wait()?;
        chain.commit()?.wait()?;
        assert!(chain.is_right(2)?);
    }
    assert_silent();
    Ok(())
}

#[test]
fn events_of_a_command_buffer_that_fails_are_poisoned() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let event = chain.device.event("done")?;
    gpu::fail_next(Failure { code: 1, reason: "broken".into() });
    let mut encoder = chain.device.encoder("signals")?;
    encoder.signal_event(&event, 1)?;
    chain.dispatches().into_iter().try_for_each(|dispatch| encoder.dispatch(dispatch))?;
    assert!(encoder.commit_and_wait().is_err());
    let error = event.wait(1).expect_err("nobody signals");
    assert!(error.to_string().contains("signals"), "{error}");
    assert_silent();
    Ok(())
}

#[test]
fn a_device_that_does_not_answer_counts_as_lost() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    gpu::hold();
    let submission = chain.commit()?;
    let error = submission.wait().expect_err("nothing runs");
    assert!(
        matches!(&error, Error::DeviceLost(cause) if cause.contains("has not ended after 3 seconds")),
        "{error}"
    );
    assert!(matches!(chain.commit(), Err(Error::DeviceLost(_))));
    gpu::resume();
    gpu::settle();
    assert_silent();
    Ok(())
}
