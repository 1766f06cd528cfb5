//! Weights that are larger than what a device binds at once.

use dacapo::gpu::GpuCaps;
use dacapo::{DType, DeviceOptions};
use dacapo_ops::quant::{Float, Format, Ggml};
use dacapo_testkit::vulkan_options;

use super::matmul::{Case, near, product};
use super::weights::random_weight;
use super::{Bench, Rng, both, both_with, same};

/// A device that binds no more than so many bytes at once.
fn small(binding_bytes: u64) -> DeviceOptions {
    let gpu_caps = GpuCaps { binding_bytes, ..GpuCaps::default() };
    DeviceOptions { gpu_caps, ..vulkan_options() }
}

#[test]
fn products_in_parts_agree() {
    let four_bits = Format::Affine { bits: 4, group: 64, float: Float::F16 };
    let mut cases = vec![];
    for (format, int8) in [
        (four_bits, true),
        (four_bits, false),
        (Format::Ggml(Ggml::Q6_K), true),
        (Format::Dense(Float::F16), false),
        (Format::Dense(Float::F32), false),
    ] {
        // Parts of one panel, of several, and a last one that is not full.
        for (n, tokens, bias) in [(16, 1, false), (101, 1, true), (101, 5, true), (301, 33, false)] {
            cases.push(Case { format, n, k: 256, tokens, int8, bias });
        }
    }
    both_with(small(40_000), &[0, 3], cases, product, |case, want, got| near(case, &want, &got));
}

#[test]
fn rows_are_gathered_from_parts() {
    let formats = [Format::Dense(Float::BF16), Format::Affine { bits: 4, group: 64, float: Float::F16 }];
    let work = |bench: &Bench, &format: &Format| {
        let weight = random_weight(bench, format, 203, 512, 7);
        let ids = [0u32, 202, 203, 15, 16, u32::MAX, 100, 101, 31, 32, 47, 48, 202];
        let (ids, out) = (bench.upload(&ids, &[13]), bench.f32s(&[13, 512]));
        bench.run(|enc| dacapo_ops::embed(enc, &ids, &weight, &out, 0.5));
        out.to_vec::<f32>().unwrap()
    };
    both_with(small(40_000), &[0, 3], formats, work, |case, want, got| same(case, &want, &got));
}

#[test]
fn parts_are_put_in_their_place() {
    let work = |bench: &Bench, &(rows, columns, width, first): &(usize, usize, usize, usize)| {
        let part = bench.upload(&Rng(9).normals(rows * columns), &[rows, columns]);
        let out = bench.f32s(&[rows, width]);
        bench.run(|enc| dacapo_ops::place(enc, &part, &out, first));
        let alone = bench.f32s(&[rows, width]);
        bench.run(|enc| dacapo_ops::place_first(enc, &part, &alone));
        let alone = alone.to_vec::<f32>().unwrap();
        for (found, part) in alone.chunks(width).zip(part.to_vec::<f32>().unwrap().chunks(columns.max(1))) {
            assert!(found[..columns] == part[..columns] && found[columns..].iter().all(|&x| x == 0.0));
        }
        [out.to_vec::<f32>().unwrap(), alone].concat()
    };
    let cases = [(1, 1, 1, 0), (1, 5, 9, 4), (7, 3, 10, 0), (7, 3, 10, 7), (33, 129, 300, 100), (2, 0, 4, 1)];
    both(cases, work, |case, want, got| same(case, &want, &got));
}

/// In a graph, where the result is a value that nobody has written before.
#[test]
fn products_in_parts_are_part_of_graphs() {
    let Some(device) = dacapo_testkit::open(small(40_000)) else { return };
    let bench = Bench::on(&device);
    let weight = random_weight(&bench, Format::Affine { bits: 4, group: 64, float: Float::F16 }, 203, 256, 5);
    for tokens in [1, 5] {
        let x = bench.upload(&Rng(8).normals(tokens * 256), &[tokens, 256]);
        let run = |graph: bool| {
            let out = device.alloc(DType::F32, &[tokens, 203]).unwrap();
            let mut encoder = device.encoder("product").unwrap();
            if graph {
                encoder.start_capture().unwrap();
            }
            let value =
                if graph { device.transient(DType::F32, &[tokens, 203]) } else { Ok(out.clone()) }.unwrap();
            dacapo_ops::matmul(&mut encoder, &dacapo_ops::Activation::exact(&x), &weight, None, &value)
                .unwrap();
            if graph {
                dacapo_ops::copy(&mut encoder, &value, &out).unwrap();
                let graph = encoder.take_capture().unwrap();
                let options = dacapo::GraphOptions::default();
                graph.compile(&device, "product", &options).unwrap().replay().unwrap().wait().unwrap();
            } else {
                encoder.commit_and_wait().unwrap();
            }
            out.to_vec::<f32>().unwrap()
        };
        same(&tokens, &run(false), &run(true));
    }
}

#[test]
fn one_row_that_cannot_be_bound_is_named() {
    let Some(device) = dacapo_testkit::open(small(4096)) else { return };
    let bench_weight = {
        let cpu = dacapo::Device::open(DeviceOptions::default()).unwrap();
        let codes = cpu.upload(&vec![0_u8; 16 * 4096 * 4], &[16 * 4096 * 4]).unwrap();
        let format = Format::Dense(Float::F32);
        let source = dacapo_ops::WeightSource { format, n: 16, k: 4096, codes, scales: None };
        dacapo_ops::Weight::load(&cpu, &source).unwrap().to_device(&device).unwrap()
    };
    let (ids, out) = (device.upload(&[1_u32], &[1]).unwrap(), device.alloc(DType::F32, &[1, 4096]).unwrap());
    let mut encoder = device.encoder("refused").unwrap();
    let error =
        dacapo_ops::embed(&mut encoder, &ids, &bench_weight, &out, 1.0).expect_err("refused").to_string();
    assert!(error.contains("16384 bytes") && error.contains("4096 values"), "{error}");
}

/// The embedding of Llama 3.2 1B in 4 bits, which is also its head, has 148 MB; Mesa's software device binds 134.
#[test]
fn the_embedding_of_a_real_model_works() {
    let work = |bench: &Bench, &(n, k): &(usize, usize)| {
        let format = Format::Affine { bits: 4, group: 64, float: Float::F16 };
        let weight = random_weight(bench, format, n, k, 3);
        let ids = bench.upload(&[0, n as u32 - 1, n as u32 / 2, 116_000, 117_000], &[5]);
        let rows = bench.f32s(&[5, k]);
        let x = bench.upload(&Rng(4).normals(k), &[1, k]);
        let logits = bench.f32s(&[1, n]);
        bench.run(|enc| {
            dacapo_ops::embed(enc, &ids, &weight, &rows, 1.0)?;
            dacapo_ops::matmul(enc, &dacapo_ops::Activation::exact(&x), &weight, None, &logits)
        });
        (rows.to_vec::<f32>().unwrap(), logits.to_vec::<f32>().unwrap())
    };
    let case = Case {
        format: Format::Affine { bits: 4, group: 64, float: Float::F16 },
        n: 128_256,
        k: 2048,
        tokens: 1,
        int8: false,
        bias: false,
    };
    both([(case.n, case.k)], work, |shape, want, got| {
        same(shape, &want.0, &got.0);
        near(&case, &(want.1, 0.0), &(got.1, 1e-5));
    });
}

/// Workgroup memory past what a device has is an error that names kernel and bytes, not the driver's to find.
#[test]
fn a_kernel_that_needs_more_workgroup_memory_is_refused() {
    let gpu_caps = GpuCaps { shared_memory: 512, ..GpuCaps::default() };
    let Some(device) = dacapo_testkit::open(DeviceOptions { gpu_caps, ..vulkan_options() }) else { return };
    let [x, weight, out] = [(); 3].map(|()| device.alloc(DType::F32, &[1, 256]).unwrap());
    let weight = weight.reshape(&[256]).unwrap();
    let mut encoder = device.encoder("refused").unwrap();
    let error =
        dacapo_ops::rms_norm(&mut encoder, &x, Some(&weight), &out, 1e-6).expect_err("refused").to_string();
    assert!(error.contains("rms_norm") && error.contains("the device has 512"), "{error}");
}
