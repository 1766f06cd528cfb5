//! Loading through a device.

use super::*;
use crate::testing::{Sample, device, upload};

#[test]
fn loaded_rows_are_those_of_the_source() {
    let device = device(2);
    for format in Format::all() {
        let sample = Sample::new(format, 35, 256, 21);
        let weight = Weight::load(&device, &upload(&device, &sample)).expect("loads");
        let expected = sample.dequantize();
        for (row, expected) in expected.chunks_exact(256).enumerate() {
            assert_eq!(weight.row_dequantize(row).expect("a row"), expected, "{format} row {row}");
        }
        assert!(weight.row_dequantize(35).is_err());
    }
}

#[test]
fn scales_that_are_not_finite_are_refused_by_name() {
    let device = device(2);
    // The scales of FP8 are those of many rows, and have their own test.
    let apart = |f: &Format| matches!(f, Format::Dense(_) | Format::Fp8 { .. });
    for format in Format::all().into_iter().filter(|f| !apart(f)) {
        let mut sample = Sample::new(format, 40, 512, 22);
        let group = sample.poison_scale(19, f32::NAN);
        let error = Weight::load(&device, &upload(&device, &sample)).expect_err("refused").to_string();
        assert!(error.contains(&format!("row 19, group {group}")), "{format}: {error}");
    }
}

#[test]
fn sources_that_do_not_fit_are_refused() {
    let device = device(1);
    let affine = Format::Affine { bits: 4, group: 64, float: crate::quant::Float::F16 };
    let good = upload(&device, &Sample::new(affine, 16, 128, 1));
    assert!(Weight::load(&device, &good).is_ok());
    let bad = [
        WeightSource { n: 17, ..good.clone() },
        WeightSource { k: 96, ..good.clone() },
        WeightSource { n: usize::MAX, ..good.clone() },
        WeightSource { scales: None, ..good.clone() },
        WeightSource { format: Format::Dense(crate::quant::Float::F16), ..good.clone() },
        WeightSource {
            format: Format::Affine { bits: 7, group: 64, float: crate::quant::Float::F16 },
            ..good
        },
    ];
    for source in &bad {
        assert!(matches!(Weight::load(&device, source), Err(Error::Argument { .. })), "{source:?}");
    }
}
