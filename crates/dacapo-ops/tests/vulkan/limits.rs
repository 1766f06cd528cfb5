//! What a device cannot hold or bind, and what is told of it: on a Vulkan device alone.

use dacapo::gpu::GpuCaps;
use dacapo::{DType, DeviceOptions};
use dacapo_ops::quant::{Float, Format};
use dacapo_ops::{Activation, Experts, Routed, Weight, WeightSource};

use super::matmul::{Case, near};
use super::weights::random_weight;
use super::{Bench, Rng, both, device, same};

/// A device that binds no more than so many bytes at once.
fn small(binding_bytes: u64) -> GpuCaps {
    GpuCaps { binding_bytes, ..GpuCaps::default() }
}

/// In a graph, where the result is a value that nobody has written before.
#[test]
fn products_in_parts_are_part_of_graphs() {
    let Some(device) = device::open(small(40_000)) else { return };
    let bench = Bench::new(&device, true, 0);
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
    let Some(device) = device::open(small(4096)) else { return };
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

#[test]
fn experts_that_cannot_be_bound_together_are_named() {
    let Some(device) = device::open(small(4096)) else { return };
    let experts = Experts::new(&device, Format::Dense(Float::F32), 3, 16, 64).unwrap();
    let x = Activation::exact(&device.alloc(DType::F32, &[1, 64]).unwrap());
    let (ids, out) =
        (device.alloc(DType::U32, &[1, 1]).unwrap(), device.alloc(DType::F32, &[1, 16]).unwrap());
    let mut encoder = device.encoder("refused").unwrap();
    let routed = Routed::new(&mut encoder, &ids, 3, false).unwrap();
    let error = dacapo_ops::matmul_experts(&mut encoder, &x, &experts, &routed, &out);
    let error = error.expect_err("refused").to_string();
    assert!(error.contains("3 experts of 4096 bytes") && error.contains("at most 4096 bytes"), "{error}");
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
    let Some(device) = device::open(gpu_caps) else { return };
    let [x, weight, out] = [(); 3].map(|()| device.alloc(DType::F32, &[1, 256]).unwrap());
    let weight = weight.reshape(&[256]).unwrap();
    let mut encoder = device.encoder("refused").unwrap();
    let error =
        dacapo_ops::rms_norm(&mut encoder, &x, Some(&weight), &out, 1e-6).expect_err("refused").to_string();
    assert!(error.contains("rms_norm") && error.contains("the device has 512"), "{error}");
}

#[test]
fn large_weights_tell_how_far_they_are() {
    let Some(device) = device::open(GpuCaps::default()) else { return };
    let cpu = dacapo::Device::open(dacapo::DeviceOptions::default()).expect("the CPU is always there");
    let (n, k, format) = (2560, 4096, Format::Dense(Float::F32));
    let bytes: Vec<u8> = (0..4 * n * k).map(|i| (i / 1000) as u8 & 0x3f).collect();
    let codes = cpu.upload(&bytes, &[bytes.len()]).unwrap();
    let weight = Weight::load(&cpu, &WeightSource { format, n, k, codes, scales: None }).unwrap();
    let mut heard = vec![];
    let there = weight.upload(&device, &mut |bytes| heard.push(bytes)).unwrap();
    assert_eq!(heard, [32 << 20, 40 << 20]);
    assert!(*weight.data().read::<u8>().unwrap() == *there.data().to_vec::<u8>().unwrap());
}
