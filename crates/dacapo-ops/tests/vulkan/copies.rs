//! Copies, writes into caches, and the step counter: exact.

use dacapo::{Buffer, DType};
use half::{bf16, f16};

use super::{Bench, Rng, both, same, same_words};

const LENGTHS: [usize; 9] = [1, 2, 3, 7, 33, 64, 255, 1000, 70_001];

#[test]
fn copies_of_any_type() {
    let work = |bench: &Bench, &len: &usize| {
        let mut rng = Rng(len as u64);
        let bytes: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8).collect();
        let halves: Vec<u16> = (0..len).map(|_| rng.next_u64() as u16).collect();
        let words: Vec<u32> = (0..len).map(|_| rng.next_u64() as u32).collect();
        let from =
            (bench.upload(&bytes, &[len]), bench.upload(&halves, &[len]), bench.upload(&words, &[len]));
        let to = (bench.alloc::<u8>(&[len]), bench.alloc::<u16>(&[len]), bench.alloc::<u32>(&[len]));
        bench.run(|enc| {
            dacapo_ops::copy(enc, &from.0, &to.0)?;
            dacapo_ops::copy(enc, &from.1, &to.1)?;
            dacapo_ops::copy(enc, &from.2, &to.2)
        });
        (to.0.to_vec::<u8>().unwrap(), to.1.to_vec::<u16>().unwrap(), to.2.to_vec::<u32>().unwrap())
    };
    both(LENGTHS.into_iter().chain(LENGTHS), work, |len, want, got| {
        same_words(len, &want.0, &got.0);
        same_words(len, &want.1, &got.1);
        same_words(len, &want.2, &got.2);
    });
}

#[test]
fn copies_between_places_of_different_alignment() {
    let work = |bench: &Bench, &(from, to, len): &(usize, usize, usize)| {
        let values: Vec<u8> = (0..100).collect();
        let (x, out) = (bench.upload(&values, &[100]), bench.alloc::<u8>(&[100]));
        let (from, part) = (x.slice_view(from, &[len]).unwrap(), out.slice_view(to, &[len]).unwrap());
        bench.run(|enc| dacapo_ops::copy(enc, &from, &part));
        out.to_vec::<u8>().unwrap()
    };
    let places = [(0, 1, 3), (1, 0, 4), (3, 2, 9), (2, 3, 1), (5, 7, 61), (8, 4, 16)];
    both(places, work, |case, want, got| same_words(case, &want, &got));
}

/// Every half, and floats around every kind of edge.
fn floats() -> Vec<f32> {
    let mut all: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).collect();
    // Halfway between two halves, and next to it.
    let middles: Vec<f32> = all
        .iter()
        .filter(|x| x.is_finite())
        .flat_map(|x| {
            let step = f16::from_f32(x.abs()).to_bits() + 1;
            let next = f16::from_bits(step).to_f32().copysign(*x);
            let middle = x + (next - x) / 2.0;
            [middle, f32::from_bits(middle.to_bits() + 1), f32::from_bits(middle.to_bits().saturating_sub(1))]
        })
        .collect();
    all.extend(middles);
    let mut rng = Rng(5);
    all.extend((0..60_000).map(|_| f32::from_bits(rng.next_u64() as u32)));
    all.extend([f32::MAX, f32::MIN, f32::INFINITY, 65504.0, 65519.99, 65520.0, 1e-45, 3e-8, 2.98e-8, 5.9e-8]);
    all
}

fn converted(bench: &Bench, x: &Buffer, to: DType) -> Buffer {
    let out = match to {
        DType::F32 => bench.alloc::<f32>(&[x.len()]),
        DType::F16 => bench.alloc::<f16>(&[x.len()]),
        _ => bench.alloc::<bf16>(&[x.len()]),
    };
    bench.run(|enc| dacapo_ops::copy(enc, x, &out));
    out
}

#[test]
fn conversions_round_to_nearest_even() {
    // NaN may keep another payload.
    let f16s = |x: Vec<f16>| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() };
    let bf16s = |x: Vec<bf16>| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() };
    let work = |bench: &Bench, _: &usize| {
        let values = floats();
        let x = bench.upload(&values, &[values.len()]);
        let (half, brain) = (converted(bench, &x, DType::F16), converted(bench, &x, DType::BF16));
        [
            f16s(half.to_vec().unwrap()),
            bf16s(brain.to_vec().unwrap()),
            converted(bench, &half, DType::F32).to_vec().unwrap(),
            converted(bench, &brain, DType::F32).to_vec().unwrap(),
            bf16s(converted(bench, &half, DType::BF16).to_vec().unwrap()),
            f16s(converted(bench, &brain, DType::F16).to_vec().unwrap()),
        ]
    };
    both([0, 1], work, |case, want, got| {
        for (which, (want, got)) in want.iter().zip(&got).enumerate() {
            same(&(case, which), want, got);
        }
    });
}

#[derive(Debug, Clone, Copy)]
struct Cache {
    tokens: usize,
    heads: usize,
    slots: usize,
    dims: (usize, usize),
    position: u32,
    half: bool,
}

#[test]
fn caches_take_new_keys_and_values() {
    let mut cases = Vec::new();
    for (i, tokens) in [1, 2, 7, 33, 33, 1, 2, 5].into_iter().enumerate() {
        for (heads, dims) in [(1, (4, 4)), (2, (128, 128)), (3, (5, 3)), (8, (64, 62)), (2, (7, 8))] {
            for half in [false, true] {
                let position = [0, 1, 31, 1000][i % 4];
                cases.push(Cache { tokens, heads, slots: tokens + i, dims, position, half });
            }
        }
    }
    let work = |bench: &Bench, case: &Cache| {
        let (k_dim, v_dim) = case.dims;
        let mut rng = Rng(u64::from(case.position) + case.tokens as u64);
        let k = rng.normals(case.tokens * case.heads * k_dim);
        let v = rng.normals(case.tokens * case.heads * v_dim);
        let k = bench.upload(&k, &[case.tokens, case.heads, k_dim]);
        let v = bench.upload(&v, &[case.tokens, case.heads, v_dim]);
        let step = bench.upload(&[case.position, 9], &[2]);
        let shape = |dim| [case.heads, case.slots, dim];
        let cache = |dim| if case.half { bench.alloc::<f16>(&shape(dim)) } else { bench.f32s(&shape(dim)) };
        let (k_cache, v_cache) = (cache(k_dim), cache(v_dim));
        bench.run(|enc| dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache));
        let bits = |cache: Buffer| -> Vec<u32> {
            if case.half {
                cache.to_vec::<f16>().unwrap().iter().map(|x| u32::from(x.to_bits())).collect()
            } else {
                cache.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
            }
        };
        [bits(k_cache), bits(v_cache)].concat()
    };
    both(cases, work, |case, want, got| same_words(case, &want, &got));
}

#[test]
fn positions_add_up() {
    let work = |bench: &Bench, &by: &usize| {
        let step = bench.upload(&[7_u32, 99], &[2]);
        bench.run(|enc| {
            dacapo_ops::advance(enc, &step, by)?;
            dacapo_ops::advance(enc, &step, 1)
        });
        step.to_vec::<u32>().unwrap()
    };
    both([0, 1, 512, u32::MAX as usize], work, |case, want, got| same_words(case, &want, &got));
}
