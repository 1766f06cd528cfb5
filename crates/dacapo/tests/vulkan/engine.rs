//! Memory, encoding, events and replay. Metal's tests take this file too.

use dacapo::gpu::GpuLimits;
use dacapo::{Buffer, DType, Device, DeviceKind, Dispatch, Error, GraphOptions, Result};

use super::kernels::{ADD, CPU_ONLY, LIAR, LINEAR};
use super::{assert_silent, device};

fn linear(x: &Buffer, y: &Buffer, a: f32, b: f32) -> Dispatch {
    Dispatch::new(&LINEAR).buffer(x).buffer(y).bytes(&[a, b])
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32).collect()
}

fn limits(device: &Device) -> GpuLimits {
    device.info().gpu.clone().expect("a GPU has limits")
}

#[test]
fn memory_is_zero_and_keeps_what_is_written() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    // Small and large blocks lie in different memory; the largest takes several turns of the staging ring.
    for len in [0, 1, 3, 1000, 100_000, 10_000_001] {
        let buffer = device.alloc(DType::F32, &[len])?;
        assert!(buffer.to_vec::<f32>()?.iter().all(|&x| x == 0.0));
        let written = values(len);
        buffer.copy_from(&written)?;
        assert_eq!(*buffer.read::<f32>()?, written);
        if len > 2 {
            assert_eq!(*buffer.slice_view(1, &[len - 2])?.read::<f32>()?, written[1..len - 1]);
        }
    }
    let in_use = device.memory_in_use();
    assert_eq!(in_use.blocks, 0, "{in_use:?}");
    assert_silent(&device);
    Ok(())
}

#[test]
fn dependent_dispatches_run_in_order_wherever_views_start() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let align = limits(&device).binding_align as usize / 4;
    for start in [0, 1, 7, align.max(1), 2 * align + 1] {
        let (all_x, all_y) = (device.upload(&values(5000), &[5000])?, device.alloc(DType::F32, &[5000])?);
        let (x, y) = (all_x.slice_view(start, &[1001])?, all_y.slice_view(start + 1, &[1001])?);
        let mut encoder = device.encoder("chain")?;
        encoder.dispatch(linear(&x, &y, 2.0, 1.0))?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
        assert_eq!(encoder.counters().barriers, 2);
        encoder.commit_and_wait()?;
        let found = all_y.to_vec::<f32>()?;
        for (i, &found) in found.iter().enumerate() {
            let inside = (start + 1..start + 1002).contains(&i);
            let expected = if inside { 4.0 * (i - 1) as f32 + 1.0 } else { 0.0 };
            assert_eq!(found, expected, "element {i} of views from {start}");
        }
    }
    assert_silent(&device);
    Ok(())
}

#[test]
fn submissions_see_each_other_without_waiting() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, y) = (device.upload(&[1.0_f32; 300], &[300])?, device.alloc(DType::F32, &[300])?);
    let mut last = None;
    for _ in 0..50 {
        let mut encoder = device.encoder("one of many")?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
        last = Some(encoder.commit()?);
    }
    assert_eq!(*y.read::<f32>()?, [50.0; 300], "reading waits");
    last.expect("submitted").wait()?;
    device.wait_idle()?;
    assert_silent(&device);
    Ok(())
}

#[test]
fn descriptor_sets_are_used_again_for_other_buffers() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let mut running = Vec::new();
    for round in 0..20 {
        // More dispatches than a pool has sets, on buffers that come and go, some of them while the last round runs.
        let sum = device.alloc(DType::F32, &[70])?;
        let mut encoder = device.encoder("round")?;
        for i in 0..150 {
            let x = device.upload(&[(round + i) as f32; 70], &[70])?;
            encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&sum))?;
        }
        running.push((round, encoder.commit()?, sum));
        if round % 3 == 2 {
            for (round, submission, sum) in running.drain(..) {
                submission.wait()?;
                assert_eq!(*sum.read::<f32>()?, [(150 * round + 149 * 75) as f32; 70]);
            }
        }
    }
    drop(running);
    device.wait_idle()?;
    assert_silent(&device);
    Ok(())
}

#[test]
fn memory_is_free_once_the_work_that_used_it_was_waited_for() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, y) = (device.upload(&values(100), &[100])?, device.alloc(DType::F32, &[100])?);
    let mut encoder = device.encoder("last use")?;
    encoder.dispatch(linear(&x, &y, 1.0, 0.0))?;
    let submission = encoder.commit()?;
    drop(x);
    submission.wait()?;
    assert_eq!(device.memory_in_use().blocks, 1, "only what is still held");
    Ok(())
}

#[test]
fn a_compiled_graph_gives_the_same_bytes_each_time() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, sum) = (device.upload(&values(777), &[777])?, device.alloc(DType::F32, &[777])?);
    let mut encoder = device.encoder("record")?;
    encoder.start_capture()?;
    for i in 0..20 {
        let part = device.transient(DType::F32, &[777])?;
        encoder.dispatch(linear(&x, &part, 1.0, i as f32))?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&part).buffer(&sum))?;
    }
    let graph = encoder.take_capture()?;
    let options = GraphOptions { timing: true, ..GraphOptions::default() };
    let compiled = graph.compile(&device, "twenty", &options)?;
    let mut replays = Vec::new();
    for _ in 0..5 {
        replays.push(compiled.replay()?);
    }
    replays.iter().try_for_each(|replay| replay.wait())?;
    let expected: Vec<f32> = values(777).iter().map(|x| 5.0 * (20.0 * x + 190.0)).collect();
    assert_eq!(*sum.read::<f32>()?, expected);
    let timed = compiled.replay_timed()?;
    let times = timed.times()?;
    let groups = compiled.reports().schedule.as_ref().expect("scheduled").groups;
    assert_eq!(times.groups.len(), groups);
    assert!(times.groups.windows(2).all(|pair| pair[0].span.end <= pair[1].span.start));
    assert_silent(&device);
    Ok(())
}

#[test]
fn a_graph_without_times_is_replayed_as_well() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, sum) = (device.upload(&[1.0_f32; 300], &[300])?, device.alloc(DType::F32, &[300])?);
    let mut encoder = device.encoder("record")?;
    encoder.start_capture()?;
    for _ in 0..3 {
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&sum))?;
    }
    let compiled = encoder.take_capture()?.compile(&device, "three", &GraphOptions::default())?;
    for _ in 0..50 {
        compiled.replay()?;
    }
    assert_eq!(*sum.read::<f32>()?, [150.0; 300]);
    assert_silent(&device);
    Ok(())
}

#[test]
fn work_waits_for_the_host_and_holds_back_what_is_behind_it() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, y) = (device.upload(&[1.0_f32; 8], &[8])?, device.alloc(DType::F32, &[8])?);
    let (go, done) = (device.event("go")?, device.event("done")?);
    let mut encoder = device.encoder("waits")?;
    encoder.wait_event(&go, 3)?;
    encoder.signal_event(&done, 1)?;
    encoder.dispatch(linear(&x, &y, 5.0, 0.0))?;
    let waits = encoder.commit()?;
    let mut encoder = device.encoder("behind")?;
    encoder.wait_event(&done, 1)?;
    encoder.signal_event(&done, 2)?;
    encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
    let behind = encoder.commit()?;
    assert!(!waits.is_done() && !behind.is_done());
    assert_eq!(done.value(), 0);
    go.signal(3)?;
    behind.wait()?;
    waits.wait()?;
    assert_eq!(done.value(), 2);
    assert_eq!(*y.read::<f32>()?, [6.0; 8]);
    assert_silent(&device);
    Ok(())
}

#[test]
fn a_device_that_goes_lets_go_of_what_waits_for_the_host() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let (x, y) = (device.upload(&[1.0_f32; 8], &[8])?, device.alloc(DType::F32, &[8])?);
    let go = device.event("go")?;
    let mut encoder = device.encoder("waits in vain")?;
    encoder.wait_event(&go, 1)?;
    encoder.dispatch(linear(&x, &y, 5.0, 0.0))?;
    let submission = encoder.commit()?;
    drop(device);
    let error = submission.wait().expect_err("nobody signalled");
    assert!(matches!(&error, Error::DeviceLost(cause) if cause.contains("waits in vain")), "{error}");
    assert!(dacapo_testkit::vulkan().is_some(), "the device can be opened again");
    Ok(())
}

#[test]
fn kernels_that_do_not_fit_are_refused_by_name() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let x = device.alloc(DType::F32, &[8])?;
    let y = device.alloc(DType::F32, &[8])?;
    let mut encoder = device.encoder("refused")?;
    for (kernel, says) in [(&CPU_ONLY, "no GPU code"), (&LIAR, "the signature says")] {
        let dispatch = Dispatch::new(kernel).buffer(&x).buffer(&y).bytes(&[1.0_f32, 0.0]);
        let error = encoder.dispatch(dispatch).expect_err("refused").to_string();
        assert!(error.contains(kernel.name) && error.contains(says), "{error}");
    }
    let short = Dispatch::new(&LINEAR).buffer(&x).buffer(&y).bytes(&[1.0_f32]);
    let error = encoder.dispatch(short).expect_err("refused").to_string();
    assert!(error.contains("inline bytes"), "{error}");
    // The encoder still works.
    encoder.dispatch(linear(&x, &y, 1.0, 4.0))?;
    encoder.commit_and_wait()?;
    assert_eq!(*y.read::<f32>()?, [4.0; 8]);
    assert_silent(&device);
    Ok(())
}

#[test]
fn bindings_past_the_devices_limit_are_refused_by_name() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let limit = limits(&device).binding_bytes as usize;
    if limit > 1 << 30 {
        return Ok(());
    }
    let (x, y) = (device.alloc(DType::F32, &[limit / 4 + 1])?, device.alloc(DType::F32, &[limit / 4 + 1])?);
    let error = device.encoder("large")?.dispatch(linear(&x, &y, 1.0, 0.0)).expect_err("refused");
    let text = error.to_string();
    assert!(text.contains("test_linear") && text.contains(&limit.to_string()), "{text}");
    Ok(())
}

#[test]
fn what_does_not_fit_says_how_much_there_is() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let error = device.alloc(DType::F32, &[1 << 45]).expect_err("more than any machine has");
    assert!(matches!(error, Error::OutOfMemory { requested, .. } if requested == 1 << 47), "{error}");
    let held = device.upload(&[0_u8; 1 << 20], &[1 << 20])?;
    let text = device.alloc(DType::F32, &[1 << 45]).expect_err("still more").to_string();
    assert!(text.contains("140737488355328 bytes") && text.contains("this program holds 1048576"), "{text}");
    // Software devices know what is free, as drivers for real ones do.
    let software = device.info().kind == DeviceKind::Software;
    assert!(!software || text.contains(" bytes are free, "), "{text}");
    drop(held);
    let _ = device.alloc(DType::F32, &[8])?;
    Ok(())
}
