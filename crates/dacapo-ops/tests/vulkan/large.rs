//! Weights that are larger than what a device binds at once.

use dacapo::gpu::GpuCaps;
use dacapo_ops::quant::{Float, Format, Ggml};

use super::matmul::{Case, near, product};
use super::weights::random_weight;
use super::{Bench, Rng, both, both_with, same};

/// Binds no more than 40 kB at once.
const SMALL: GpuCaps = GpuCaps { binding_bytes: 40_000, shared_memory: u32::MAX, workgroup_size: u32::MAX };

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
    both_with(SMALL, &[0, 3], cases, product, |case, want, got| near(case, &want, &got));
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
    both_with(SMALL, &[0, 3], formats, work, |case, want, got| same(case, &want, &got));
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
