//! Which device is meant.

use dacapo::{BackendKind, Device, DeviceOptions, DeviceSelect, Error, MetalReplay};

#[test]
fn devices_are_found_by_index_and_name() {
    let device = super::open(MetalReplay::Auto);
    let info = device.info();
    assert_eq!(info.backend, BackendKind::Metal);
    assert!(Device::enumerate().contains(info));
    for there in [DeviceSelect::Index(info.index), DeviceSelect::Name(info.name.to_uppercase())] {
        let found = Device::open(DeviceOptions::metal(there)).expect("is there");
        assert_eq!(found.info(), info);
    }
    for missing in [DeviceSelect::Index(99), DeviceSelect::Name("no such thing".into())] {
        let error = Device::open(DeviceOptions::metal(missing)).expect_err("is not there");
        assert!(matches!(error, Error::NoDevice(_)), "{error}");
    }
    super::assert_silent(&device);
}
