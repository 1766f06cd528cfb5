//! Every row of the table of fusions: fused and unfused give the same bytes, and what must not be fused is not.

use std::sync::LazyLock;

use dacapo::{
    Buffer, CommandEncoder, DType, Device, DeviceOptions, FusePattern, FuseReport, GraphOptions, Refusal,
    Result,
};
use dacapo_ops::quant::{Float, Format};
use dacapo_ops::{
    Activation, ActivationFn, AttentionOptions, FUSIONS, Int8Buffers, RopeOptions, Weight, WeightSource,
};
use proptest::prelude::*;

fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() }).unwrap()
}

/// Values that look random, about -2 to 2, one in some far larger.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let value = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let x = (state >> 40) as f32 / (1 << 22) as f32 - 2.0;
        if state.is_multiple_of(61) { x * 300.0 } else { x }
    };
    std::iter::repeat_with(value).take(len).collect()
}

/// A program and the buffers in which its results are.
struct Case<'a> {
    device: &'a Device,
    encoder: CommandEncoder,
    outputs: Vec<Buffer>,
    seed: u64,
}

impl<'a> Case<'a> {
    fn new(device: &'a Device, seed: u64) -> Self {
        let mut encoder = device.encoder("case").unwrap();
        encoder.start_capture().unwrap();
        Case { device, encoder, outputs: Vec::new(), seed }
    }

    fn input(&mut self, shape: &[usize]) -> Buffer {
        self.seed += 1;
        self.device.upload(&values(self.seed, shape.iter().product()), shape).unwrap()
    }

    fn value(&self, shape: &[usize]) -> Buffer {
        self.device.transient(DType::F32, shape).unwrap()
    }

    /// A value of the graph with an input's contents: what a product before would have made.
    fn made(&mut self, shape: &[usize]) -> Buffer {
        let (input, value) = (self.input(shape), self.value(shape));
        dacapo_ops::copy(&mut self.encoder, &input, &value).unwrap();
        value
    }

    fn output(&mut self, dtype: DType, shape: &[usize]) -> Buffer {
        let output = self.device.alloc(dtype, shape).unwrap();
        self.outputs.push(output.clone());
        output
    }

    fn quantize(&mut self, x: &Buffer) {
        let codes = self.output(DType::I8, &[x.len()]);
        let meta = self.output(DType::F32, &[x.len() / 32, 4]);
        dacapo_ops::quantize_q8(&mut self.encoder, x, &codes, &meta).unwrap();
    }

    /// Runs the program with these fusions and without, and compares the bytes of all outputs.
    fn compare(mut self, patterns: &'static [FusePattern]) -> FuseReport {
        let graph = self.encoder.take_capture().unwrap();
        let run = |fuse: &'static [FusePattern]| {
            for output in &self.outputs {
                let bytes = output.reinterpret(0, DType::U8, &[output.byte_len()]).unwrap();
                bytes.copy_from(&vec![0_u8; bytes.len()]).unwrap();
            }
            let options = GraphOptions { fuse, ..GraphOptions::default() };
            graph.compile(self.device, "case", &options).unwrap().replay().unwrap().wait().unwrap();
            let bytes = |output: &Buffer| {
                output.reinterpret(0, DType::U8, &[output.byte_len()]).unwrap().to_vec::<u8>().unwrap()
            };
            self.outputs.iter().map(bytes).collect::<Vec<_>>()
        };
        assert!(run(&[]) == run(patterns), "other bytes");
        graph.fuse(self.device, patterns).1
    }
}

/// The table as if it were for every kind of device: also what only GPUs gain by computes the same bytes here.
static ANYWHERE: LazyLock<Vec<FusePattern>> =
    LazyLock::new(|| FUSIONS.iter().map(|pattern| FusePattern { gains: &[], ..*pattern }).collect());

fn fused(report: &FuseReport) -> Vec<&'static str> {
    report.fused.iter().map(|fused| fused.kernel).collect()
}

/// A gated activation of 128 values.
fn gated(case: &mut Case<'_>) -> Buffer {
    let [gate, up] = [(); 2].map(|()| case.input(&[2, 64]));
    let out = case.value(&[2, 64]);
    dacapo_ops::gated(&mut case.encoder, &gate, &up, &out, ActivationFn::Silu).unwrap();
    out
}

/// A position in the cache and its buffer.
fn step(case: &Case<'_>, position: u32) -> Buffer {
    case.device.upload(&[position], &[1]).unwrap()
}

/// A weight of 4 bits, with codes like numbers of a clock.
fn weight(case: &mut Case<'_>, n: usize, k: usize) -> Weight {
    case.seed += 1;
    let format = Format::Affine { bits: 4, group: 64, float: Float::F32 };
    let codes: Vec<u8> =
        (0..n * format.row_bytes(k)).map(|i| (i * 37 + case.seed as usize % 251) as u8).collect();
    let scales = [(); 2].map(|()| {
        case.seed += 1;
        let bytes: Vec<u8> = values(case.seed, n * k / 64).into_iter().flat_map(f32::to_le_bytes).collect();
        case.device.upload(&bytes, &[bytes.len()]).unwrap()
    });
    let [scale, bias] = scales;
    let codes = case.device.upload(&codes, &[codes.len()]).unwrap();
    Weight::load(case.device, &WeightSource { format, n, k, codes, scales: Some((scale, bias)) }).unwrap()
}

/// The norm of one token's `k` values, as products take it.
fn normed(case: &mut Case<'_>, k: usize) -> Activation {
    let (x, weight, out) = (case.made(&[1, k]), case.input(&[k]), case.value(&[1, k]));
    dacapo_ops::rms_norm(&mut case.encoder, &x, Some(&weight), &out, 1e-6).unwrap();
    let int8 = Int8Buffers::transient(case.device, k).unwrap();
    Activation::quantize(&mut case.encoder, &out, &int8).unwrap()
}

/// The norm stays where it is if one of its readers cannot take it over.
#[test]
fn a_norm_with_another_reader_is_not_spread() {
    let device = device(2);
    let mut case = Case::new(&device, 9);
    let [a, b] = [(); 2].map(|()| weight(&mut case, 16, 64));
    let x = normed(&mut case, 64);
    let outs = [(); 2].map(|()| case.output(DType::F32, &[1, 16]));
    dacapo_ops::matmul(&mut case.encoder, &x, &a, None, &outs[0]).unwrap();
    let copy = case.output(DType::I8, &[64]);
    dacapo_ops::copy(&mut case.encoder, x.int8_buffers().unwrap().0, &copy).unwrap();
    dacapo_ops::matmul(&mut case.encoder, &x, &b, None, &outs[1]).unwrap();
    let report = case.compare(&ANYWHERE);
    assert_eq!((fused(&report), report.refused.len()), (vec!["rms_norm_q8"], 0), "{report:?}");
}

/// A reader that comes after the norm's input has changed cannot norm it again.
#[test]
fn a_norm_of_what_changes_is_not_spread() {
    let device = device(2);
    let mut case = Case::new(&device, 10);
    let a = weight(&mut case, 16, 64);
    let (x, norm, out) = (case.made(&[1, 64]), case.input(&[64]), case.value(&[1, 64]));
    let added = case.input(&[1, 64]);
    dacapo_ops::rms_norm(&mut case.encoder, &x, Some(&norm), &out, 1e-6).unwrap();
    let int8 = Int8Buffers::transient(&device, 64).unwrap();
    let normed = Activation::quantize(&mut case.encoder, &out, &int8).unwrap();
    dacapo_ops::add_in_place(&mut case.encoder, &x, &added).unwrap();
    let y = case.output(DType::F32, &[1, 16]);
    dacapo_ops::matmul(&mut case.encoder, &normed, &a, None, &y).unwrap();
    let report = case.compare(&ANYWHERE);
    assert_eq!(fused(&report), ["rms_norm_q8"]);
    assert!(
        matches!(report.refused[..], [ref only] if matches!(only.why, Refusal::Between { node: 3 })),
        "{report:?}"
    );
}

#[derive(Debug, Clone)]
struct Heads {
    seed: u64,
    tokens: usize,
    kv_heads: usize,
    group: usize,
    dim: usize,
    position: u32,
    cache: DType,
    interleaved: bool,
    normed: bool,
    quantized: bool,
}

fn heads() -> impl Strategy<Value = Heads> {
    let shape = (
        prop_oneof![3 => Just(1_usize), 1 => 2..90_usize],
        1..4_usize,
        1..4_usize,
        prop_oneof![Just(8_usize), Just(32), Just(64), Just(80)],
    );
    let rest = (any::<u64>(), 0..70_u32, any::<bool>(), any::<bool>(), any::<bool>());
    (shape, rest).prop_map(|((tokens, kv_heads, group, dim), (seed, position, half, interleaved, normed))| {
        Heads {
            seed: seed >> 1,
            tokens,
            kv_heads,
            group,
            dim,
            position,
            cache: if half { DType::F16 } else { DType::F32 },
            interleaved,
            normed,
            quantized: false,
        }
    })
}

/// From queries, keys and values to attention. Returns the queries.
fn attend(case: &mut Case<'_>, shape: &Heads) -> Result<Buffer> {
    let Heads { tokens, kv_heads, group, dim, .. } = *shape;
    let slots = 192;
    let step = step(case, shape.position);
    let q = case.made(&[tokens, kv_heads * group, dim]);
    let [k, v] = [(); 2].map(|()| case.made(&[tokens, kv_heads, dim]));
    let inv_freq =
        case.device.upload(&(0..dim / 2).map(|i| 0.7_f32.powi(i as i32)).collect::<Vec<_>>(), &[dim / 2])?;
    let [k_cache, v_cache] = [(); 2].map(|()| case.output(shape.cache, &[kv_heads, slots, dim]));
    let [q_norm, k_norm] = [(); 2].map(|()| case.input(&[dim]));
    let enc = &mut case.encoder;
    if shape.normed {
        dacapo_ops::rms_norm_in_place(enc, &q, Some(&q_norm), 1e-6)?;
        dacapo_ops::rms_norm_in_place(enc, &k, Some(&k_norm), 1e-6)?;
    }
    let options = RopeOptions { interleaved: shape.interleaved, attention_factor: 1.25 };
    dacapo_ops::rope(enc, &q, &inv_freq, &step, options)?;
    dacapo_ops::rope(enc, &k, &inv_freq, &step, options)?;
    dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache)?;
    let options = AttentionOptions::causal(0.3);
    let shape_of_out = [tokens, kv_heads * group, dim];
    let out =
        if shape.quantized { case.value(&shape_of_out) } else { case.output(DType::F32, &shape_of_out) };
    dacapo_ops::attention(&mut case.encoder, &q, &k_cache, &v_cache, &step, None, &out, options)?;
    if shape.quantized {
        case.quantize(&out);
    }
    Ok(q)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn gated_activations(seed in 0..u64::MAX / 2, blocks in 1..300_usize, which in 0..4_usize, threads in 1..4_usize) {
        let device = device(threads);
        let mut case = Case::new(&device, seed);
        let [gate, up] = [(); 2].map(|()| case.input(&[32 * blocks]));
        let out = case.value(&[32 * blocks]);
        let function = [ActivationFn::Silu, ActivationFn::Gelu, ActivationFn::GeluTanh, ActivationFn::Sigmoid][which];
        dacapo_ops::gated(&mut case.encoder, &gate, &up, &out, function).unwrap();
        case.quantize(&out);
        prop_assert_eq!(fused(&case.compare(FUSIONS)), ["gated_q8"]);
    }

    #[test]
    fn norms_into_quantization(
        seed in 0..u64::MAX / 2,
        rows in 1..40_usize,
        blocks in 1..40_usize,
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let mut case = Case::new(&device, seed);
        let shape = [rows, 32 * blocks];
        let (x, residual, weight) = (case.input(&shape), case.made(&shape), case.input(&[32 * blocks]));
        let (out, sum, again) = (case.value(&shape), case.output(DType::F32, &shape), case.value(&shape));
        dacapo_ops::rms_norm(&mut case.encoder, &x, Some(&weight), &out, 1e-6).unwrap();
        case.quantize(&out);
        dacapo_ops::rms_norm_add(&mut case.encoder, &x, &residual, &weight, &sum, &again, 1e-6).unwrap();
        case.quantize(&again);
        prop_assert_eq!(fused(&case.compare(&ANYWHERE)), ["rms_norm_add_q8", "rms_norm_q8"]);
    }

    #[test]
    fn attention_of_a_token_into_quantization(
        seed in 0..u64::MAX / 2,
        (kv_heads, group, blocks) in (1..4_usize, 1..4_usize, 1..4_usize),
        position in 0..60_u32,
        half in any::<bool>(),
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let mut case = Case::new(&device, seed >> 1);
        let (step, dim) = (step(&case, position), 32 * blocks);
        let q = case.input(&[1, kv_heads * group, 24]);
        let [k_cache, v_cache] = [24, dim].map(|dim| {
            let (values, cache) = (case.input(&[1, kv_heads, dim]), if half { DType::F16 } else { DType::F32 });
            (values, device.alloc(cache, &[kv_heads, 64, dim]).unwrap())
        });
        let enc = &mut case.encoder;
        dacapo_ops::kv_write(enc, &k_cache.0, &v_cache.0, &step, &k_cache.1, &v_cache.1).unwrap();
        let out = device.transient(DType::F32, &[1, kv_heads * group, dim]).unwrap();
        let options = AttentionOptions::causal(0.3);
        dacapo_ops::attention(enc, &q, &k_cache.1, &v_cache.1, &step, None, &out, options).unwrap();
        case.quantize(&out);
        prop_assert_eq!(fused(&case.compare(&ANYWHERE)), ["attention_q8"]);
    }

    #[test]
    fn norms_and_sums_into_products(
        seed in 0..u64::MAX / 2,
        (n, blocks) in (1..120_usize, 1..20_usize),
        bias in any::<bool>(),
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let mut case = Case::new(&device, seed >> 1);
        let k = 64 * blocks;
        let weights = [(); 3].map(|()| weight(&mut case, n, k));
        let x = normed(&mut case, k);
        let residual = case.made(&[1, n]);
        let bias = bias.then(|| case.input(&[n]));
        let outs = [(); 3].map(|()| case.output(DType::F32, &[1, n]));
        let product = case.value(&[1, n]);
        let enc = &mut case.encoder;
        dacapo_ops::matmul(enc, &x, &weights[0], None, &outs[0]).unwrap();
        dacapo_ops::matmul(enc, &x, &weights[1], bias.as_ref(), &outs[1]).unwrap();
        dacapo_ops::matmul(enc, &x, &weights[2], None, &product).unwrap();
        dacapo_ops::add(enc, &residual, &product, &outs[2]).unwrap();
        let second = if bias.is_some() { "rms_norm_matmul_int8_bias" } else { "rms_norm_matmul_int8" };
        let expected =
            ["matmul_int8_bias", "rms_norm_q8", "rms_norm_matmul_int8", second, "rms_norm_matmul_int8_bias"];
        prop_assert_eq!(fused(&case.compare(&ANYWHERE)), expected);
    }

    #[test]
    fn gated_mlps_into_quantization(
        seed in 0..u64::MAX / 2,
        (rows, blocks) in (1..8_usize, 1..20_usize),
        swapped in any::<bool>(),
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let mut case = Case::new(&device, seed >> 1);
        let (n, k) = (32 * rows, 64 * blocks);
        let weights = [(); 2].map(|()| weight(&mut case, n, k));
        let x = normed(&mut case, k);
        let mut values = [(); 2].map(|()| case.value(&[1, n]));
        for (weight, value) in weights.iter().zip(&values) {
            dacapo_ops::matmul(&mut case.encoder, &x, weight, None, value).unwrap();
        }
        if swapped {
            values.reverse();
        }
        let out = case.value(&[1, n]);
        dacapo_ops::gated(&mut case.encoder, &values[0], &values[1], &out, ActivationFn::Silu).unwrap();
        case.quantize(&out);
        prop_assert_eq!(fused(&case.compare(&ANYWHERE)), ["gated_q8", "rms_norm_q8", "rms_norm_gated_int8"]);
    }

    /// Whatever of a layer's middle is fused.
    #[test]
    fn heads_into_cache_and_attention(shape in heads(), threads in 1..4_usize) {
        let device = device(threads);
        let mut case = Case::new(&device, shape.seed);
        attend(&mut case, &shape).unwrap();
        let expected = match (shape.normed, shape.tokens == 1) {
            (true, true) => vec!["rms_norm_rope_kv_write", "rms_norm_rope"],
            (false, true) => vec!["rope_kv_write"],
            (_, false) => vec![],
        };
        prop_assert_eq!(fused(&case.compare(FUSIONS)), expected);
    }

    /// The same with the quantization behind it: where keys are whole groups of 16 bytes, all of it is one dispatch in the end.
    #[test]
    fn a_token_on_its_way_through_attention(
        shape in heads(),
        dim in prop_oneof![Just(32_usize), Just(64), Just(96)],
        threads in 1..4_usize,
    ) {
        let device = device(threads);
        let shape = Heads { tokens: 1, dim, quantized: true, ..shape };
        let mut case = Case::new(&device, shape.seed);
        attend(&mut case, &shape).unwrap();
        let expected = if shape.normed { "rms_norm_rope_attention_q8" } else { "rope_attention_q8" };
        let report = case.compare(&ANYWHERE);
        prop_assert_eq!(report.fused.last().map(|fused| fused.kernel), Some(expected), "{:?}", report.refused);
        // Three copies stand for the products before.
        prop_assert_eq!(report.dispatches, 4);
    }
}

/// The only refusal of a pattern that ends in this kernel.
fn refusal(report: &FuseReport) -> &Refusal {
    assert_eq!((report.fused.len(), report.refused.len()), (0, 1), "{report:?}");
    &report.refused[0].why
}

#[test]
fn a_value_that_somebody_else_reads_stays() {
    let device = device(2);
    let mut case = Case::new(&device, 1);
    let (out, copy) = (gated(&mut case), case.output(DType::F32, &[2, 64]));
    case.quantize(&out);
    dacapo_ops::copy(&mut case.encoder, &out, &copy).unwrap();
    assert!(matches!(refusal(&case.compare(FUSIONS)), Refusal::OtherReader { reader: 2 }));
}

#[test]
fn a_part_of_a_value_is_not_the_value() {
    let device = device(2);
    let mut case = Case::new(&device, 2);
    let last = gated(&mut case).slice_view(64, &[1, 64]).unwrap();
    case.quantize(&last);
    assert!(matches!(refusal(&case.compare(FUSIONS)), Refusal::Declined));
}

#[test]
fn a_value_that_the_host_can_see_stays() {
    let device = device(2);
    let mut case = Case::new(&device, 3);
    let (gate, up, out) = (case.input(&[64]), case.input(&[64]), case.output(DType::F32, &[64]));
    dacapo_ops::gated(&mut case.encoder, &gate, &up, &out, ActivationFn::Silu).unwrap();
    case.quantize(&out);
    assert!(matches!(refusal(&case.compare(FUSIONS)), Refusal::Visible { writer: 0 }));
}

/// The position of the keys' rotation is another than that of their slot.
#[test]
fn keys_are_rotated_for_their_own_slot() {
    let device = device(1);
    let mut case = Case::new(&device, 5);
    let (k, v, inv_freq) = (case.made(&[1, 2, 32]), case.made(&[1, 2, 32]), case.input(&[16]));
    let [k_cache, v_cache] = [(); 2].map(|()| case.output(DType::F16, &[2, 8, 32]));
    let (here, there) = (step(&case, 3), step(&case, 4));
    dacapo_ops::rope(&mut case.encoder, &k, &inv_freq, &here, RopeOptions::default()).unwrap();
    dacapo_ops::kv_write(&mut case.encoder, &k, &v, &there, &k_cache, &v_cache).unwrap();
    assert!(matches!(refusal(&case.compare(FUSIONS)), Refusal::Declined));
}

/// An activation that a dense product reads as it is keeps its F32 values.
#[test]
fn quantization_beside_other_use_is_not_fused() {
    let device = device(2);
    let mut case = Case::new(&device, 6);
    let out = gated(&mut case);
    let int8 = Int8Buffers::new(&device, 128).unwrap();
    let activation = Activation::quantize(&mut case.encoder, &out, &int8).unwrap();
    let copy = case.output(DType::F32, &[2, 64]);
    dacapo_ops::copy(&mut case.encoder, activation.exact_buffer(), &copy).unwrap();
    assert!(matches!(refusal(&case.compare(FUSIONS)), Refusal::OtherReader { reader: 2 }));
}

/// Blocks of 32 values that reach over rows are not those of a row.
#[test]
fn norms_of_odd_rows_are_not_fused_with_quantization() {
    let device = device(1);
    let mut case = Case::new(&device, 7);
    let (x, weight, out) = (case.input(&[2, 48]), case.input(&[48]), case.value(&[2, 48]));
    dacapo_ops::rms_norm(&mut case.encoder, &x, Some(&weight), &out, 1e-6).unwrap();
    case.quantize(&out);
    assert!(matches!(refusal(&case.compare(&ANYWHERE)), Refusal::Declined));
}

/// What only GPUs gain by is left alone on the processor, without a word.
#[test]
fn rows_for_other_devices_are_left_out() {
    let device = device(1);
    let mut case = Case::new(&device, 8);
    let (x, weight, out) = (case.input(&[1, 64]), case.input(&[64]), case.value(&[1, 64]));
    dacapo_ops::rms_norm(&mut case.encoder, &x, Some(&weight), &out, 1e-6).unwrap();
    case.quantize(&out);
    let report = case.compare(FUSIONS);
    assert_eq!((report.fused.len(), report.refused.len()), (0, 0), "{report:?}");
}

/// What keeps the rotation of queries apart from attention.
#[derive(Debug, Clone, Copy)]
enum Apart {
    /// Keys are rotated by other angles.
    Angles,
    /// Queries are rotated as for another position.
    Position,
    /// Keys are rotated in other pairs.
    Pairs,
    /// Rows of the caches are not aligned.
    Place,
    /// Keys are too long.
    Long,
    /// Nothing does.
    Nothing,
}

/// The kernels left of a token's way through attention, after three copies.
fn left_of_attention(apart: Apart) -> (Vec<&'static str>, FuseReport) {
    let device = device(1);
    let mut case = Case::new(&device, 9);
    let dim = if matches!(apart, Apart::Long) { 288 } else { 64 };
    let (position, other) = (step(&case, 3), step(&case, 4));
    let [q, k, v] = [(); 3].map(|()| case.made(&[1, 2, dim]));
    let (angles, other_angles) = (case.input(&[dim / 2]), case.input(&[dim / 2]));
    let before = if matches!(apart, Apart::Place) { 4 } else { 0 };
    let [k_cache, v_cache] = [(); 2].map(|()| {
        let whole = case.output(DType::F16, &[2 * 8 * dim + 4]);
        whole.slice_view(before, &[2, 8, dim]).unwrap()
    });
    let enc = &mut case.encoder;
    let queries_at = if matches!(apart, Apart::Position) { &other } else { &position };
    let keys_by = if matches!(apart, Apart::Angles) { &other_angles } else { &angles };
    let options = RopeOptions { interleaved: matches!(apart, Apart::Pairs), ..RopeOptions::default() };
    dacapo_ops::rope(enc, &q, &angles, queries_at, RopeOptions::default()).unwrap();
    dacapo_ops::rope(enc, &k, keys_by, &position, options).unwrap();
    dacapo_ops::kv_write(enc, &k, &v, &position, &k_cache, &v_cache).unwrap();
    let out = device.transient(DType::F32, &[1, 2, dim]).unwrap();
    let options = AttentionOptions::causal(0.3);
    dacapo_ops::attention(enc, &q, &k_cache, &v_cache, &position, None, &out, options).unwrap();
    case.quantize(&out);
    let graph = case.encoder.take_capture().unwrap();
    let (graph, report) = graph.fuse(&device, &ANYWHERE);
    (graph.nodes().iter().skip(3).map(|node| node.kernel().name).collect(), report)
}

#[test]
fn queries_that_attention_cannot_rotate_are_left_alone() {
    assert_eq!(left_of_attention(Apart::Nothing).0, ["rope_attention_q8"]);
    for apart in [Apart::Angles, Apart::Position, Apart::Pairs, Apart::Place, Apart::Long] {
        let (left, report) = left_of_attention(apart);
        assert_eq!(left, ["rope", "rope_kv_write", "attention_q8"], "{apart:?}");
        assert!(report.refused.iter().any(|refused| refused.nodes.len() == 3), "{apart:?}: {report:?}");
    }
}

/// Queries that somebody else reads must be rotated where they can be read.
#[test]
fn queries_that_somebody_else_reads_stay() {
    let device = device(1);
    let mut case = Case::new(&device, 10);
    let shape = Heads {
        seed: 1,
        tokens: 1,
        kv_heads: 2,
        group: 2,
        dim: 32,
        position: 5,
        cache: DType::F16,
        interleaved: false,
        normed: false,
        quantized: true,
    };
    let q = attend(&mut case, &shape).unwrap();
    let copy = case.output(DType::F32, &[1, 4, 32]);
    dacapo_ops::copy(&mut case.encoder, &q, &copy).unwrap();
    let report = case.compare(&ANYWHERE);
    assert_eq!(fused(&report), ["rope_kv_write", "attention_q8"]);
    assert!(
        report.refused.iter().any(|refused| matches!(refused.why, Refusal::OtherReader { .. })),
        "{report:?}"
    );
}
