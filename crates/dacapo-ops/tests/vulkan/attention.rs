//! Attention. Weights and sums are in f32 on both sides, in different orders: results, which are averages of values of
//! about 1, agree to 4e-6.

use dacapo_ops::AttentionOptions;
use half::f16;

use super::{Bench, Rng, both, both_at, close, device};

#[derive(Debug, Clone, Copy)]
struct Case {
    tokens: usize,
    kv_heads: usize,
    group: usize,
    dims: (usize, usize),
    position: usize,
    slots: usize,
    half: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    sinks: bool,
    causal: bool,
}

/// Causal attention of one query for each head, over an F16 cache without spare slots.
const PLAIN: Case = Case {
    tokens: 1,
    kv_heads: 2,
    group: 1,
    dims: (64, 64),
    position: 0,
    slots: 1,
    half: true,
    window: None,
    softcap: None,
    sinks: false,
    causal: true,
};

impl Case {
    fn at(position: usize, tokens: usize) -> Case {
        Case { tokens, position, slots: position + tokens, ..PLAIN }
    }

    fn run(&self, bench: &Bench) -> Vec<f32> {
        let heads = self.kv_heads * self.group;
        let (key_dim, value_dim) = self.dims;
        let mut rng = Rng(7 * self.position as u64 + self.tokens as u64);
        let q: Vec<f32> = rng.normals(self.tokens * heads * key_dim).iter().map(|x| 2.0 * x).collect();
        let mut cache = |dim: usize| {
            let shape = [self.kv_heads, self.slots, dim];
            let values = rng.normals(shape.iter().product());
            let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            if self.half { bench.upload(&halves, &shape) } else { bench.upload(&values, &shape) }
        };
        let (k, v) = (cache(key_dim), cache(value_dim));
        let q = bench.upload(&q, &[self.tokens, heads, key_dim]);
        let sinks = self.sinks.then(|| bench.upload(&rng.normals(heads), &[heads]));
        let step = bench.upload(&[self.position as u32, 3], &[2]);
        let out = bench.f32s(&[self.tokens, heads, value_dim]);
        let options = AttentionOptions {
            scale: 1.0 / (key_dim as f32).sqrt(),
            causal: self.causal,
            window: self.window,
            softcap: self.softcap,
        };
        bench.run(|enc| dacapo_ops::attention(enc, &q, &k, &v, &step, sinks.as_ref(), &out, options));
        out.to_vec().unwrap()
    }
}

/// Compares with the CPU. Views begin at 16 bytes for every fourth case only.
fn check(cases: impl IntoIterator<Item = Case>) {
    both(cases, |bench, case| case.run(bench), |case, want, got| close(case, &want, &got, 4e-6, 4e-6));
}

#[test]
fn one_query_of_any_size() {
    let dims = [(128, 128), (64, 64), (5, 3), (80, 80), (33, 47), (192, 128)];
    check(dims.into_iter().enumerate().flat_map(|(i, dims)| {
        let position = [0, 63, 64, 127, 128, 300][i];
        let base =
            Case { dims, half: i != 1, sinks: i == 2, group: [4, 1, 3, 8, 2, 1][i], ..Case::at(position, 1) };
        [base, Case { position: 140, slots: 141, ..base }]
    }));
}

#[test]
fn large_heads() {
    let dims = [(96, 96), (256, 256), (576, 512), (256, 256)];
    check(dims.into_iter().enumerate().map(|(i, dims)| Case {
        dims,
        group: [5, 2, 12, 8][i],
        half: i % 2 == 1,
        ..Case::at(150, 1)
    }));
}

#[test]
fn several_queries() {
    check([2, 3, 7, 9, 33, 70].into_iter().enumerate().map(|(i, tokens)| Case {
        group: 1 + i % 2,
        half: i % 3 == 0,
        sinks: i % 2 == 0,
        ..Case::at([0, 5, 130][i % 3], tokens)
    }));
}

#[test]
fn windows_rings_and_caps() {
    let mut cases = Vec::new();
    for (i, tokens) in [1, 2, 9].into_iter().enumerate() {
        for window in [1, 7, 100] {
            for position in [50, 1000] {
                let softcap = (i != 1).then_some(5.0);
                let base =
                    Case { window: Some(window), softcap, sinks: i == 1, ..Case::at(position, tokens) };
                cases.push(base);
                // A ring without and with spare slots.
                cases.push(Case { slots: window + tokens - 1, ..base });
                cases.push(Case { slots: window + tokens + 3, ..base });
            }
        }
    }
    check(cases);
}

#[test]
fn encoders_see_what_comes_after() {
    let mut cases = Vec::new();
    for tokens in [1, 9, 70] {
        for window in [None, Some(20)] {
            cases.push(Case { causal: false, window, softcap: Some(9.0), ..Case::at(0, tokens) });
            cases.push(Case { causal: false, window, slots: 300, ..Case::at(11, tokens) });
        }
    }
    check(cases);
}

#[test]
fn long_caches_are_split() {
    let mut cases = Vec::new();
    for (i, position) in [0, 63, 64, 100, 700, 1999].into_iter().enumerate() {
        let base = Case { slots: 2000, position, sinks: i % 2 == 0, ..PLAIN };
        cases.push(base);
        cases.push(Case { tokens: 3, position: position.min(1997), ..base });
        // A ring, wrapped and not.
        cases.push(Case { window: Some(1100), slots: 1100, position: 3 * position, ..base });
    }
    check(cases);
}

/// Every text that takes a query's heads: as many at once as share a head of the cache, elements in groups of eight or
/// one by one, with sinks and without, short caches and those that are split.
#[test]
fn any_number_of_heads_share_a_cache() {
    let mut cases = Vec::new();
    let groups = if device::EVERY_TEXT { &[1, 2, 4, 8][..] } else { &[4] };
    for &group in groups {
        for (dims, sinks) in [((40, 40), false), ((40, 40), true), ((7, 5), false), ((7, 5), true)] {
            let base = Case { group, dims, sinks, kv_heads: 1, ..Case::at(70, 1) };
            cases.push(base);
            cases.push(Case { slots: 300, position: 250, ..base });
        }
    }
    both_at(
        &[0],
        cases,
        |bench, case| case.run(bench),
        |case, want, got| close(case, &want, &got, 4e-6, 4e-6),
    );
}

/// Compares with the CPU, with views at whole groups of 16 bytes, as texts for many queries want them. They sum a whole
/// key one product after the other, so that a score of about 8 is off by a few more units in the last place, and a
/// result by at most 1e-5.
fn check_whole(cases: impl IntoIterator<Item = Case>) {
    both_at(
        &[0, 8],
        cases,
        |bench, case| case.run(bench),
        |case, want, got| close(case, &want, &got, 1e-5, 1e-5),
    );
}

/// So many heads of the cache that a software device, which counts as 32 processors, gets the text for many queries even
/// for one tile.
const MANY: usize = 16;

#[test]
fn many_queries() {
    let mut cases = Vec::new();
    for (i, tokens) in [9, 31, 32, 33, 64, 100].into_iter().enumerate() {
        let dims = [(64, 64), (128, 128)];
        for (n, dims) in dims.into_iter().enumerate() {
            let group = [1, 4, 3, 8][(i + n) % 4];
            let base = Case { dims, group, kv_heads: MANY, ..Case::at([0, 5, 32, 130][i % 4], tokens) };
            cases.push(base);
            cases.push(Case { slots: base.slots + 37, sinks: true, ..base });
        }
    }
    check_whole(cases);
}

#[test]
fn long_prompts() {
    let base = Case { dims: (128, 128), group: 2, kv_heads: 1, ..Case::at(0, 512) };
    check_whole([
        base,
        Case { dims: (64, 64), ..base },
        Case { position: 300, slots: 815, tokens: 512, ..base },
        Case { causal: false, tokens: 129, slots: 129, kv_heads: 2, ..base },
    ]);
}

#[test]
fn many_queries_with_windows_rings_and_caps() {
    let mut cases = Vec::new();
    for (i, tokens) in [9, 33, 70].into_iter().enumerate() {
        for window in [1, 20, 100] {
            let dims = [(64, 64), (128, 128)][i % 2];
            let base = Case {
                dims,
                window: Some(window),
                group: 1 + i,
                kv_heads: MANY,
                ..Case::at(200 + i, tokens)
            };
            cases.push(Case { softcap: Some(5.0), ..base });
            // A ring without and with spare slots.
            cases.push(Case { slots: window + tokens - 1, ..base });
            cases.push(Case { slots: window + tokens + 3, sinks: true, ..base });
            cases.push(Case { causal: false, position: 0, slots: tokens, ..base });
        }
    }
    check_whole(cases);
}
