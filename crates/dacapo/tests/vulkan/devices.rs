//! Which device is meant, and what is kept between runs.

use dacapo::{DType, Device, DeviceOptions, DeviceSelect, Dispatch, Error, Result};
use dacapo_testkit::{open, vulkan_options};

use super::device;
use super::kernels::LINEAR;

#[test]
fn devices_are_found_by_index_and_name() -> Result<()> {
    let Some(device) = device() else { return Ok(()) };
    let info = device.info();
    assert!(Device::enumerate().contains(info));
    let by_index = DeviceOptions::vulkan(DeviceSelect::Index(info.index));
    assert_eq!(open(by_index).expect("is there").info(), info);
    for missing in [DeviceSelect::Index(99), DeviceSelect::Name("no such thing".into())] {
        let error = Device::open(DeviceOptions::vulkan(missing)).expect_err("is not there");
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
    }
    Ok(())
}

#[test]
fn compiled_kernels_are_kept_on_disk_and_damage_is_tolerated() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let run = || -> Result<Option<()>> {
        let options = DeviceOptions { cache: Some(folder.path().into()), ..vulkan_options() };
        let Some(device) = open(options) else {
            return Ok(None);
        };
        let (x, y) = (device.upload(&[2.0_f32; 8], &[8])?, device.alloc(DType::F32, &[8])?);
        let mut encoder = device.encoder("cached")?;
        encoder.dispatch(Dispatch::new(&LINEAR).buffer(&x).buffer(&y).bytes(&[3.0_f32, 0.0]))?;
        encoder.commit_and_wait()?;
        assert_eq!(*y.read::<f32>()?, [6.0; 8]);
        Ok(Some(()))
    };
    if run()?.is_none() {
        return Ok(());
    }
    let files: Vec<_> = std::fs::read_dir(folder.path()).expect("listed").flatten().collect();
    let [file] = &files[..] else { panic!("one file, not {files:?}") };
    run()?;
    let bytes = std::fs::read(file.path()).expect("read");
    std::fs::write(file.path(), &bytes[..bytes.len() / 2]).expect("written");
    run()?;
    Ok(())
}
