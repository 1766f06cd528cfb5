//! Times of whole command buffers, and of groups where the device has them.

use std::time::Instant;

use dacapo::{ChunkOptions, CompiledGraph, CostModel, GraphOptions, MetalReplay, ReplayTimes, Result, Span};
use dacapo_metal_sim::classes;
use dacapo_metal_sim::gpu::{self, Failure};

use super::{Chain, REPLAYS, Turn, assert_silent};

/// Devices that are opened meanwhile cannot time groups.
struct Coarse;

impl Coarse {
    fn take() -> Coarse {
        classes::set_stage_times(false);
        Coarse
    }
}

impl Drop for Coarse {
    fn drop(&mut self) {
        classes::set_stage_times(true);
        classes::set_clock_ahead(0);
    }
}

/// A round, timed, in one command buffer or in three.
fn timed(chain: &Chain, parts: usize) -> Result<CompiledGraph> {
    let each = ChunkOptions { first: 0, budget: 0, ..ChunkOptions::default() };
    let chunk = (parts > 1).then_some(each);
    let compiled = chain.compile_with(&GraphOptions { timing: true, chunk, ..GraphOptions::default() })?;
    assert_eq!(compiled.submissions(), parts);
    Ok(compiled)
}

/// Submission, first group and nodes of each entry.
fn entries(times: &ReplayTimes) -> Vec<(usize, usize, std::ops::Range<usize>)> {
    times.groups.iter().map(|group| (group.submission, group.group, group.nodes.clone())).collect()
}

fn assert_in_order(spans: &[Span]) {
    for pair in spans.windows(2) {
        assert!(pair[0].end <= pair[1].start, "{spans:?}");
    }
}

#[test]
fn a_device_that_cannot_time_groups_times_command_buffers() -> Result<()> {
    let _turn = Turn::take();
    let fine = Chain::new(MetalReplay::Auto)?;
    assert!(fine.device.info().features.contains(&"stage-times"));
    let grouped = timed(&fine, 1)?.replay_timed()?.times()?;
    assert_eq!(entries(&grouped), [(0, 0, 0..1), (0, 1, 1..2), (0, 2, 2..3)]);
    let _coarse = Coarse::take();
    for replay in REPLAYS {
        let chain = Chain::new(replay)?;
        assert!(!chain.device.info().features.contains(&"stage-times"));
        for parts in [1, 3] {
            let compiled = timed(&chain, parts)?;
            let replays = (0..4).map(|_| compiled.replay_timed()).collect::<Result<Vec<_>>>()?;
            let times = replays.iter().map(|replay| replay.times()).collect::<Result<Vec<_>>>()?;
            let whole = vec![(0, 0, 0..3)];
            let each = vec![(0, 0, 0..1), (1, 1, 1..2), (2, 2, 2..3)];
            let mut spans = Vec::new();
            for (times, replay) in times.iter().zip(&replays) {
                assert_eq!(&entries(times), if parts == 1 { &whole } else { &each });
                spans.extend(times.groups.iter().map(|group| group.span));
                let device = times.device().expect("there is work");
                assert!(times.submit.start <= device.start && device.end <= times.wait.end);
                assert_eq!(replay.submission().device_time(), Some(device));
            }
            assert_in_order(&spans);
            assert!(CostModel::measured(&compiled, &times).is_some());
        }
    }
    assert_silent();
    Ok(())
}

#[test]
fn every_submission_has_a_time() -> Result<()> {
    let _turn = Turn::take();
    for replay in REPLAYS {
        let chain = Chain::new(replay)?;
        let compiled = chain.compile()?;
        gpu::hold();
        let before = Instant::now();
        let submissions = [chain.commit()?, compiled.replay()?, compiled.replay()?];
        let held = Instant::now();
        assert_eq!(submissions[2].device_time(), None, "it has not ended");
        gpu::resume();
        submissions.iter().try_for_each(|submission| submission.wait())?;
        let after = Instant::now();
        let spans = submissions.each_ref().map(|submission| submission.device_time().expect("it ran"));
        assert_in_order(&spans);
        assert!(before <= held && held <= spans[0].start && spans[2].end <= after, "{replay:?}");
        assert!(spans.iter().all(|span| span.start < span.end));
    }
    assert_silent();
    Ok(())
}

#[test]
fn what_did_not_run_has_no_time() -> Result<()> {
    let _turn = Turn::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    gpu::fail_next(Failure { code: 1, reason: "broken".into() });
    let failed = chain.commit()?;
    assert!(failed.wait().is_err());
    assert_eq!(failed.device_time(), None);
    assert_silent();
    Ok(())
}

/// Should Metal's times be on another clock than they seem to be, they still lie where the work can have run.
#[test]
fn a_wrong_clock_puts_nothing_before_its_commit_or_after_its_end() -> Result<()> {
    let _turn = Turn::take();
    let _coarse = Coarse::take();
    let chain = Chain::new(MetalReplay::Auto)?;
    let compiled = timed(&chain, 1)?;
    for ahead in [-3_600_000_000_000, 3_600_000_000_000] {
        classes::set_clock_ahead(ahead);
        let mut spans = Vec::new();
        for _ in 0..3 {
            let times = compiled.replay_timed()?.times()?;
            let device = times.device().expect("there is work");
            assert!(times.submit.start <= device.start && device.start < device.end);
            assert!(device.end <= times.wait.end);
            spans.push(device);
        }
        assert_in_order(&spans);
    }
    assert_silent();
    Ok(())
}
