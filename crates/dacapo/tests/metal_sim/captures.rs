//! Captures for Xcode.

use std::path::Path;

use dacapo::{Error, MetalReplay, Result};
use dacapo_metal_sim::classes::{allow_captures, captured, end_capture};
use dacapo_metal_sim::{gpu, objc};

use super::{Chain, REPLAYS, Turn, assert_silent};

/// Captures are allowed as long as this lives.
struct Allowed;

impl Allowed {
    fn take() -> Allowed {
        allow_captures(true);
        Allowed
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        allow_captures(false);
    }
}

fn content(file: &Path) -> Vec<String> {
    captured(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Why a capture was refused.
fn refusal(chain: &Chain, file: &Path) -> String {
    let error = chain.device.capture_to(file).expect_err("refused");
    assert!(matches!(error, Error::Capture { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_capture_holds_what_is_submitted_while_it_goes_on() -> Result<()> {
    let _turn = Turn::take();
    let _allowed = Allowed::take();
    let folder = tempfile::tempdir().expect("a folder");
    for (replay, name) in REPLAYS.into_iter().zip(["auto.gputrace", "anew.gputrace"]) {
        let chain = Chain::new(replay)?;
        let compiled = chain.compile()?;
        // The next one is encoded before the capture begins.
        compiled.replay()?.wait()?;
        gpu::settle();
        while replay == MetalReplay::Reencode && !objc::count().contains_key("SimulatedCommandBuffer") {
            std::thread::yield_now();
        }
        let file = folder.path().join(name);
        let capture = chain.device.capture_to(&file)?;
        let mut empty = chain.device.encoder("other")?;
        empty.dispatch(chain.dispatches()[0].clone())?;
        compiled.replay()?;
        empty.commit()?;
        compiled.replay()?.wait()?;
        assert!(!file.exists(), "written at the end");
        capture.finish()?;
        assert_eq!(content(&file), ["chain", "other", "chain"], "{replay:?}");
        compiled.replay()?.wait()?;
        assert!(chain.is_right(4)?);
        drop((compiled, chain));
        gpu::settle();
        assert_eq!(content(&file).len(), 3, "nothing comes later");
    }
    assert_silent();
    Ok(())
}

#[test]
fn a_capture_that_is_dropped_ends() -> Result<()> {
    let _turn = Turn::take();
    let _allowed = Allowed::take();
    let folder = tempfile::tempdir().expect("a folder");
    let chain = Chain::new(MetalReplay::Auto)?;
    let [first, second] = ["first.gputrace", "second.gputrace"].map(|name| folder.path().join(name));
    let capture = chain.device.capture_to(&first)?;
    chain.commit()?.wait()?;
    assert!(refusal(&chain, &second).ends_with("another capture is going on in this program"));
    drop(capture);
    assert_eq!(content(&first), ["chain"]);
    chain.device.capture_to(&second)?.finish()?;
    assert_eq!(content(&second), [""; 0]);
    assert_silent();
    Ok(())
}

#[test]
fn what_cannot_be_captured_says_why() -> Result<()> {
    let _turn = Turn::take();
    let folder = tempfile::tempdir().expect("a folder");
    let chain = Chain::new(MetalReplay::Auto)?;
    let there = folder.path().join("there.gputrace");
    std::fs::write(&there, "").expect("written");
    let file = folder.path().join("file.gputrace");
    for (file, says) in [
        (file.as_path(), "MTL_CAPTURE_ENABLED=1"),
        (&there, "it exists already"),
        (&folder.path().join("no/file.gputrace"), "its folder does not exist"),
        (&folder.path().join("file.trace"), "the name has to end in .gputrace"),
        (Path::new("/nul\0.gputrace"), "nul byte"),
    ] {
        let error = refusal(&chain, file);
        assert!(error.starts_with("cannot capture to ") && error.contains(says), "{says:?} not in {error}");
    }
    assert!(!file.exists());
    // A capture that the system loses.
    let _allowed = Allowed::take();
    let capture = chain.device.capture_to(&file)?;
    objc::plant("stopCapture", 1, objc::Plant::Lost);
    let error = capture.finish().expect_err("nothing is there");
    assert!(error.to_string().ends_with("the system wrote nothing"), "{error}");
    // The simulation's is still going on.
    assert!(refusal(&chain, &file).contains("another capture"));
    end_capture();
    assert_silent();
    Ok(())
}
