//! Attention against its formula, in double precision.

use half::f16;
use proptest::prelude::*;

use super::*;

/// One case: shape, queries `[T, H, D]`, caches `[KVH, CAP, ..]`, sinks.
#[derive(Debug, Clone)]
struct Case {
    shape: Shape,
    tokens: usize,
    kv_heads: usize,
    q: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    sinks: Option<Vec<f32>>,
}

impl Case {
    fn formula(&self) -> Vec<f64> {
        let s = &self.shape;
        let mut out = Vec::new();
        for t in 0..self.tokens {
            let own = s.position + t;
            for h in 0..s.heads {
                let q = &self.q[(t * s.heads + h) * s.key_dim..][..s.key_dim];
                let row = |all: &[f32], j: usize, dim: usize| -> Vec<f64> {
                    let at = ((h / s.group) * s.slots + j % s.slots) * dim;
                    all[at..][..dim].iter().map(|&v| f64::from(v)).collect()
                };
                let seen: Vec<usize> = (s.length.saturating_sub(s.slots)..s.length)
                    .filter(|&j| !s.causal || j <= own)
                    .filter(|&j| s.window.is_none_or(|w| own.abs_diff(j) < w))
                    .collect();
                let mut scores: Vec<f64> = seen
                    .iter()
                    .map(|&j| {
                        let dot: f64 =
                            q.iter().zip(row(&self.keys, j, s.key_dim)).map(|(&q, k)| f64::from(q) * k).sum();
                        let score = dot * f64::from(s.scale);
                        s.softcap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                    })
                    .collect();
                if let Some(sinks) = &self.sinks {
                    scores.push(f64::from(sinks[h]));
                }
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|v| (v - max).exp()).sum();
                let mut o = vec![0.0; s.value_dim];
                for (&j, score) in seen.iter().zip(&scores) {
                    for (o, v) in o.iter_mut().zip(row(&self.values, j, s.value_dim)) {
                        *o += (score - max).exp() / sum * v;
                    }
                }
                out.extend(o);
            }
        }
        out
    }

    /// The kernels' result, `queries` at a time.
    fn run<E: KvElement>(
        &self,
        level: Level,
        keys: &[E],
        values: &[E],
        queries: usize,
        many: bool,
    ) -> Vec<f32> {
        let s = &self.shape;
        let row = s.heads * s.value_dim;
        let mut out = vec![f32::NAN; self.tokens * row];
        for head in 0..self.kv_heads {
            let cache = Cache {
                keys: &keys[head * s.slots * s.key_dim..][..s.slots * s.key_dim],
                values: &values[head * s.slots * s.value_dim..][..s.slots * s.value_dim],
            };
            let first_head = head * s.group;
            let sinks = self.sinks.as_ref().map(|v| &v[first_head..][..s.group]);
            for first in (0..self.tokens).step_by(queries) {
                let count = queries.min(self.tokens - first);
                let q = Queries { q: &self.q, first_head, first, count, sinks };
                let at = |t: usize| (first + t) * row + first_head * s.value_dim;
                if many {
                    let mut scratch = vec![f32::NAN; many::scratch(count * s.group, s.key_dim, s.value_dim)];
                    E::many(level, s, q, cache, &mut scratch);
                    for t in 0..count {
                        many::store(s, count, t, &scratch, &mut out[at(t)..][..s.group * s.value_dim]);
                    }
                } else {
                    let mut scratch = vec![f32::NAN; one::scratch(s.group, s.key_dim, s.value_dim)];
                    E::one(level, s, q, cache, &mut scratch, &mut out[at(0)..][..s.group * s.value_dim]);
                }
            }
        }
        out
    }

    /// The result of one query, from parts that are computed apart from each other, at most `most` of them.
    fn in_parts<E: KvElement>(&self, level: Level, keys: &[E], values: &[E], most: usize) -> Vec<f32> {
        let s = &self.shape;
        let mut out = vec![f32::NAN; s.heads * s.value_dim];
        for (head, out) in out.chunks_exact_mut(s.group * s.value_dim).enumerate() {
            let cache = Cache::of_head((keys, values), s, head);
            let queries = Queries { q: &self.q, first_head: head * s.group, first: 0, count: 1, sinks: None };
            let mut found = vec![Vec::new(); s.group];
            for range in s.parts(0, most) {
                let mut scratch = vec![f32::NAN; one::scratch(s.group, s.key_dim, s.value_dim)];
                E::part(level, s, queries, cache, range, &mut scratch, &mut |g, state, values| {
                    found[g].push((state, values.to_vec()));
                });
            }
            for (g, (found, out)) in found.iter().zip(out.chunks_exact_mut(s.value_dim)).enumerate() {
                let sink = self.sinks.as_ref().map(|sinks| sinks[head * s.group + g]);
                let mut parts = found.iter().map(|(state, values)| (*state, &values[..]));
                one::combine(level, sink, &mut parts, out);
            }
        }
        out
    }
}

/// Numbers between -2 and 2 from a seed.
fn noise(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 22) as f32 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

prop_compose! {
    fn cases()(
        tokens in prop_oneof![Just(1usize), 2usize..20, 60usize..90],
        kv_heads in 1usize..3,
        group in prop_oneof![1usize..5, 6usize..9],
        key_dim in prop_oneof![Just(64usize), 1usize..40],
        value_dim in prop_oneof![Just(64usize), 1usize..90],
        position in prop_oneof![Just(0usize), 1usize..150, 400usize..800],
        window in prop_oneof![Just(None), (1usize..80).prop_map(Some), (250usize..600).prop_map(Some)],
        softcap in prop_oneof![Just(None), (5f32..30.0).prop_map(Some)],
        causal in prop::bool::weighted(0.75),
        sinks in any::<bool>(),
        ring in any::<bool>(),
        spare in 0usize..40,
        seed in any::<u64>(),
    ) -> Case {
        let length = position + tokens;
        let slots = match window {
            Some(window) if ring && causal => window + tokens - 1 + spare,
            _ => length + spare,
        };
        let heads = kv_heads * group;
        let scale = 1.0 / (key_dim as f32).sqrt();
        let shape =
            Shape { heads, group, key_dim, value_dim, slots, scale, softcap, window, causal, position, length };
        Case {
            shape,
            tokens,
            kv_heads,
            q: noise(seed, tokens * heads * key_dim),
            // What a half can hold, so that both caches hold the same.
            keys: noise(seed ^ 1, kv_heads * slots * key_dim).iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
            values: noise(seed ^ 2, kv_heads * slots * value_dim).iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
            sinks: sinks.then(|| noise(seed ^ 3, heads)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn agrees_with_the_formula_at_every_level(case in cases()) {
        let half = |v: &[f32]| v.iter().map(|&v| f16::from_f32(v)).collect::<Vec<f16>>();
        let (half_keys, half_values) = (half(&case.keys), half(&case.values));
        let want = case.formula();
        let all = Shape::queries(case.shape.group);
        for (many, queries) in [(true, all), (false, 1)] {
            let scalar = case.run(Level::Scalar, &case.keys, &case.values, queries, many);
            for (&got, want) in scalar.iter().zip(&want) {
                prop_assert!((f64::from(got) - want).abs() <= 1e-5, "{got}, not {want}; many: {many}");
            }
            for level in Level::available() {
                prop_assert_eq!(&case.run(level, &case.keys, &case.values, queries, many), &scalar);
                prop_assert_eq!(&case.run(level, &half_keys, &half_values, queries, many), &scalar);
            }
        }
        if case.tokens == 1 {
            let whole = case.run(Level::Scalar, &case.keys, &case.values, 1, false);
            for level in Level::available() {
                prop_assert_eq!(&case.in_parts(level, &half_keys, &half_values, usize::MAX), &whole);
            }
            for (got, want) in case.in_parts(Level::best(), &case.keys, &case.values, 2).iter().zip(&want) {
                prop_assert!((f64::from(*got) - want).abs() <= 1e-5, "{got}, not {want}, in two parts");
            }
        }
        // Nor does a query's result depend on those beside it.
        let together = case.run(Level::best(), &case.keys, &case.values, all, true);
        for queries in [1, 3] {
            prop_assert_eq!(&case.run(Level::best(), &case.keys, &case.values, queries, true), &together);
        }
    }
}
