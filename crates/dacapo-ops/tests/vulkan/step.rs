//! Attention of one token in one dispatch with the norms and rotations before it: a graph that is fused on a GPU
//! against the same graph as it was recorded on the CPU.

use dacapo::{Buffer, CommandEncoder, DType, GraphOptions};
use dacapo_ops::{AttentionOptions, RopeOptions};
use half::f16;

use super::fused::{Quantized, made, near};
use super::{Bench, Rng, both_at, close, device};

/// A token on its way from products to codes.
#[derive(Debug, Clone, Copy)]
struct Token {
    kv_heads: usize,
    group: usize,
    key_dim: usize,
    value_dim: usize,
    pairs: usize,
    slots: usize,
    position: u32,
    window: Option<usize>,
    softcap: Option<f32>,
    half: bool,
    normed: bool,
    interleaved: bool,
}

/// Codes with what is about them, keys and values.
type Found = ((Vec<i8>, Vec<f32>), [Vec<f32>; 2]);

impl Token {
    fn upload_cache(&self, bench: &Bench, rng: &mut Rng, dim: usize) -> Buffer {
        let shape = [self.kv_heads, self.slots, dim];
        let values = rng.normals(shape.iter().product());
        let halves: Vec<_> = values.into_iter().map(f16::from_f32).collect();
        match self.half {
            true => bench.upload(&halves, &shape),
            false => bench.upload(&halves.into_iter().map(f16::to_f32).collect::<Vec<_>>(), &shape),
        }
    }

    fn run(&self, bench: &Bench) -> Found {
        let &Token { kv_heads, group, key_dim, value_dim, pairs, .. } = self;
        let (heads, mut rng) = (kv_heads * group, Rng(u64::from(self.position) + key_dim as u64));
        let [q, k, v] =
            [heads * key_dim, kv_heads * key_dim, kv_heads * value_dim].map(|len| rng.normals(len));
        let weights = [(); 2].map(|()| bench.upload(&rng.normals(key_dim), &[key_dim]));
        let inv_freq: Vec<f32> = (0..pairs).map(|i| 10_000_f32.powf(-(i as f32) / pairs as f32)).collect();
        let inv_freq = bench.upload(&inv_freq, &[pairs]);
        let step = bench.upload(&[self.position, 7], &[2]);
        let [k_cache, v_cache] = [key_dim, value_dim].map(|dim| self.upload_cache(bench, &mut rng, dim));
        let quantized = Quantized::new(bench, heads * value_dim);
        let record = |enc: &mut CommandEncoder| {
            let q = made(bench, enc, &q, &[1, heads, key_dim])?;
            let k = made(bench, enc, &k, &[1, kv_heads, key_dim])?;
            let v = made(bench, enc, &v, &[1, kv_heads, value_dim])?;
            if self.normed {
                dacapo_ops::rms_norm_in_place(enc, &q, Some(&weights[0]), 1e-6)?;
                dacapo_ops::rms_norm_in_place(enc, &k, Some(&weights[1]), 1e-5)?;
            }
            let options = RopeOptions { interleaved: self.interleaved, attention_factor: 1.25 };
            dacapo_ops::rope(enc, &q, &inv_freq, &step, options)?;
            dacapo_ops::rope(enc, &k, &inv_freq, &step, options)?;
            dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache)?;
            let out = bench.device.transient(DType::F32, &[1, heads, value_dim])?;
            let scale = 0.4 / (key_dim as f32).sqrt();
            let options =
                AttentionOptions { scale, causal: true, window: self.window, softcap: self.softcap };
            dacapo_ops::attention(enc, &q, &k_cache, &v_cache, &step, None, &out, options)?;
            quantized.record(enc, &out)
        };
        self.fuse(bench, record);
        let wide = |cache: &Buffer| match self.half {
            true => cache.to_vec::<f16>().unwrap().into_iter().map(f16::to_f32).collect(),
            false => cache.to_vec::<f32>().unwrap(),
        };
        (quantized.read(), [wide(&k_cache), wide(&v_cache)])
    }

    /// Runs it as a graph, fused if this is a GPU; there all that is left are three copies, attention and perhaps what puts
    /// splits together.
    fn fuse(&self, bench: &Bench, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
        let mut encoder = bench.device.encoder("test").expect("an encoder");
        encoder.start_capture().expect("captures");
        record(&mut encoder).expect("the arguments fit");
        let graph = encoder.take_capture().expect("captured");
        if !bench.is_gpu {
            let compiled = graph.compile(&bench.device, "test", &GraphOptions::default()).expect("compiles");
            compiled.replay().and_then(|replay| replay.wait()).expect("the kernels run");
        } else {
            let (fused, report) = device::run_fused(&bench.device, &graph);
            let left: Vec<_> = fused.nodes().iter().skip(3).map(|node| node.kernel().name).collect();
            let one = if self.normed { "rms_norm_rope_attention_q8" } else { "rope_attention_q8" };
            let part = if self.normed { "rms_norm_rope_attention_part" } else { "rope_attention_part" };
            // How many processors a device has decides whether positions are split.
            let expected = if left.len() == 1 { vec![one] } else { vec![part, "attention_combine_q8"] };
            assert_eq!(left, expected, "{self:?}: {:?}", report.refused);
        }
    }
}

/// Compares with the CPU, with views at whole groups of 16 bytes.
fn check(cases: impl IntoIterator<Item = Token>) {
    let compare = |case: &Token, want: Found, got: Found| {
        // Norms, angles, scores and sums each add some units in the last place.
        near(case, &want.0, &got.0, 5e-5);
        let share = if case.half { 1e-3 } else { 2e-6 };
        close(&(case, "keys"), &want.1[0], &got.1[0], share, 4e-6);
        assert!(want.1[1] == got.1[1], "{case:?}: values are copied");
    };
    both_at(&[0, 8], cases, |bench, case| case.run(bench), compare);
}

const PLAIN: Token = Token {
    kv_heads: 2,
    group: 2,
    key_dim: 64,
    value_dim: 64,
    pairs: 32,
    slots: 96,
    position: 40,
    window: None,
    softcap: None,
    half: true,
    normed: true,
    interleaved: false,
};

/// Each case is a program of its own, which a software device compiles for seconds: so few, and each with many properties.
#[test]
fn tokens_of_any_shape() {
    let shapes = [(1, 128, 64), (2, 128, 32), (4, 64, 32), (8, 64, 32), (12, 80, 20), (3, 256, 128)];
    check(shapes.into_iter().enumerate().map(|(i, (group, dim, pairs))| Token {
        kv_heads: 1 + i % 2,
        group,
        key_dim: dim,
        value_dim: if dim == 80 { 96 } else { dim },
        pairs,
        half: i % 4 != 1,
        normed: i % 3 != 2,
        interleaved: i % 2 == 0,
        ..PLAIN
    }));
}

/// What one program does for all positions, in one piece and in splits.
#[test]
fn positions_of_short_and_long_caches() {
    let positions = [0, 1, 63, 64, 65, 127, 128, 500, 1000];
    check(positions.into_iter().flat_map(|position| {
        let short = Token { position, slots: 1024, ..PLAIN };
        let exact = Token { slots: position as usize + 1, ..short };
        let long = Token { group: 4, key_dim: 128, value_dim: 128, pairs: 64, normed: false, ..short };
        [short, exact, long]
    }));
}

#[test]
fn windows_rings_and_caps_of_a_token() {
    let mut cases = Vec::new();
    for window in [1, 2, 7, 150, 700] {
        for position in [0, 6, 149, 150, 1000, 3001] {
            let base = Token { window: Some(window), position, slots: 3002, ..PLAIN };
            cases.push(base);
            // A ring without and with spare slots.
            cases.push(Token { slots: window, softcap: Some(5.0), ..base });
            cases.push(Token { slots: window + 3, half: false, normed: false, ..base });
        }
    }
    check(cases);
}

/// Every number of heads of a workgroup, in one piece and in splits, with and without norms.
#[test]
fn heads_that_share_a_cache() {
    if !device::EVERY_TEXT {
        return;
    }
    let heads = [1, 2, 4, 8].into_iter().flat_map(|group| [96, 512].map(|slots| (group, slots)));
    check(heads.flat_map(|(group, slots)| {
        let position = slots as u32 - 3;
        [true, false].map(|normed| Token { group, slots, position, normed, kv_heads: 1, ..PLAIN })
    }));
}
