//! Files that are read where they lie, and memory that the system keeps resident.

use dacapo::{
    DType, Device, DeviceOptions, DeviceSelect, Dispatch, MappedFile, MetalOptions, MetalReplay,
    ResidencySet, Result,
};

use super::kernels::ADD;
use super::{assert_silent, open};

#[test]
fn files_are_read_in_place_or_copied_wherever_a_part_begins() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weights");
    let values: Vec<f32> = (0..20_000).map(|i| i as f32).collect();
    std::fs::write(&path, bytemuck::cast_slice(&values)).expect("written");
    let (device, file) = (open(MetalReplay::Auto), MappedFile::open(&path)?);
    // On a page, within one, over several, at the file's end; the odd one is copied.
    for (start, len) in [(0, 100), (4, 1000), (4100, 12_000), (19_996, 4), (1, 50), (17, 0)] {
        let part = device.map(&file, 4 * start, DType::F32, &[len])?;
        let sum = device.upload(&vec![1.0_f32; len], &[len])?;
        let mut encoder = device.encoder("reads a file")?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&part).buffer(&sum))?;
        encoder.commit_and_wait()?;
        let expected: Vec<f32> = values[start..start + len].iter().map(|x| x + 1.0).collect();
        assert_eq!(*sum.read::<f32>()?, expected, "{len} from {start}");
        assert!(part.copy_from(&vec![0.0_f32; len]).is_err() || len == 0, "files are not written");
    }
    let mapped = device.memory_in_use();
    assert_eq!(mapped.blocks, 0, "{mapped:?}");
    assert_silent(&device);
    Ok(())
}

#[test]
fn members_of_residency_sets_come_and_go_with_submissions() -> Result<()> {
    let device = open(MetalReplay::Auto);
    let [x, y] = [8, 16].map(|len| device.alloc(DType::F32, &[len]));
    let (x, y, sum) = (x?, y?, device.alloc(DType::F32, &[8])?);
    let set = ResidencySet::new(&device);
    let work = || -> Result<()> {
        let mut encoder = device.encoder("work")?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&sum))?;
        encoder.commit_and_wait()
    };
    set.add(&x)?;
    set.add(&y)?;
    work()?;
    assert_eq!(set.stats().resident, 2);
    set.remove(&x)?;
    work()?;
    work()?;
    drop(y);
    work()?;
    assert_silent(&device);
    Ok(())
}

#[test]
fn command_buffers_that_keep_what_they_use_and_no_residency_sets_do_as_well() -> Result<()> {
    let metal = MetalOptions { retained: true, residency: false, ..MetalOptions::default() };
    let options = DeviceOptions { metal, ..DeviceOptions::metal(DeviceSelect::Auto) };
    let device = Device::open(options)?;
    let (x, y) = (device.upload(&[1.0_f32; 8], &[8])?, device.alloc(DType::F32, &[8])?);
    let set = ResidencySet::new(&device);
    set.add(&x)?;
    for _ in 0..10 {
        let mut encoder = device.encoder("adds twice")?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
        encoder.dispatch(Dispatch::new(&ADD).buffer(&x).buffer(&y))?;
        encoder.commit()?;
    }
    assert_eq!(*y.read::<f32>()?, [20.0; 8]);
    drop(set);
    assert_silent(&device);
    Ok(())
}
