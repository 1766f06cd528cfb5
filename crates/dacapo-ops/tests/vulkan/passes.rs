//! Graphs with every kernel of the catalogue, of models' widths and of others: for tests that plan them without running
//! them.

use dacapo::{
    Buffer, CommandEncoder, ComputeGraph, DType, Device, DeviceOptions, Dispatch, FusePattern, Result,
};
use dacapo_ops::quant::{Float, Format, Ggml};
use dacapo_ops::{
    Activation, ActivationFn, AttentionOptions, DeltaInputs, Experts, Int8Buffers, RopeOptions, RouteOptions,
    Routed, SampleParams, Scoring, Weight, WeightSource,
};

/// Widths of a model and its products: those of Qwen3 0.6B, Llama 3.1 8B, and heads of 256 as Gemma has them.
#[derive(Debug, Clone, Copy)]
struct Widths {
    hidden: usize,
    inner: usize,
    heads: [usize; 2],
    dim: usize,
}

const WIDTHS: [Widths; 3] = [
    Widths { hidden: 1024, inner: 3072, heads: [16, 8], dim: 128 },
    Widths { hidden: 4096, inner: 14_336, heads: [32, 8], dim: 128 },
    Widths { hidden: 2304, inner: 9216, heads: [8, 4], dim: 256 },
];

const FORMATS: [Format; 4] = [
    Format::Affine { bits: 4, group: 64, float: Float::F16 },
    Format::Ggml(Ggml::Q6_K),
    Format::Dense(Float::F16),
    Format::Dense(Float::F32),
];

/// A weight of zeros on the device.
fn weight(device: &Device, format: Format, n: usize, k: usize) -> Weight {
    let cpu = Device::open(DeviceOptions::default()).expect("the CPU is always there");
    let zeros = |len: usize| cpu.alloc(DType::U8, &[len]).expect("memory");
    let scales = matches!(format, Format::Affine { .. })
        .then(|| (zeros(n * format.row_scale_bytes(k)), zeros(n * format.row_scale_bytes(k))));
    let source = WeightSource { format, n, k, codes: zeros(n * format.row_bytes(k)), scales };
    Weight::load(&cpu, &source).expect("loads").to_device(device).expect("memory")
}

/// Records dispatches.
struct Recorder<'a> {
    device: &'a Device,
    enc: CommandEncoder,
}

impl<'a> Recorder<'a> {
    fn new(device: &'a Device) -> Self {
        let mut enc = device.encoder("plans").expect("an encoder");
        enc.start_capture().expect("nothing was encoded");
        Recorder { device, enc }
    }

    fn of(&self, dtype: DType, shape: &[usize]) -> Buffer {
        self.device.transient(dtype, shape).expect("small enough")
    }

    fn f32s(&self, shape: &[usize]) -> Buffer {
        self.of(DType::F32, shape)
    }

    fn finish(mut self) -> ComputeGraph {
        self.enc.take_capture().expect("was capturing")
    }
}

/// What models do beside products and attention.
fn small_operations(device: &Device, widths: Widths, rows: usize) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    let vocabulary = 151_936;
    let shape = [rows, widths.hidden];
    let [x, y, z, out] = [(); 4].map(|()| it.f32s(&shape));
    let w = it.f32s(&[widths.hidden]);
    let [gate, up] = [(); 2].map(|()| it.f32s(&[rows, widths.inner]));
    let wide = it.f32s(&[rows, widths.inner]);
    let (logits, ids) = (it.f32s(&[1, vocabulary]), it.of(DType::U32, &[1, 40]));
    let (counts, params) = (it.of(DType::U32, &[vocabulary]), it.of(DType::U32, &[SampleParams::WORDS]));
    let (step, token, likeliest) = (it.of(DType::U32, &[1]), it.of(DType::U32, &[1]), it.f32s(&[1, 40]));
    let narrow = it.of(DType::F16, &[2 * x.len() + 1]);
    let enc = &mut it.enc;
    dacapo_ops::rms_norm(enc, &x, Some(&w), &out, 1e-6)?;
    dacapo_ops::rms_norm(enc, &x, None, &out, 1e-6)?;
    dacapo_ops::rms_norm_add(enc, &x, &y, &w, &z, &out, 1e-6)?;
    dacapo_ops::rms_norm_in_place(enc, &x, Some(&w), 1e-6)?;
    dacapo_ops::rms_norm_in_place(enc, &x, None, 1e-6)?;
    dacapo_ops::layer_norm(enc, &x, &w, Some(&w), &out, 1e-6)?;
    dacapo_ops::layer_norm(enc, &x, &w, None, &out, 1e-6)?;
    dacapo_ops::softmax(enc, &x, &out, 1.0)?;
    dacapo_ops::activate(enc, &gate, &wide, ActivationFn::Gelu)?;
    dacapo_ops::gated(enc, &gate, &up, &wide, ActivationFn::Silu)?;
    dacapo_ops::add(enc, &x, &y, &out)?;
    dacapo_ops::mul(enc, &x, &y, &out)?;
    dacapo_ops::add_in_place(enc, &x, &y)?;
    dacapo_ops::add_bias(enc, &x, &w)?;
    dacapo_ops::scale(enc, &x, &out, 2.0)?;
    dacapo_ops::scale_in_place(enc, &x, 2.0)?;
    dacapo_ops::softcap(enc, &x, &out, 2.0)?;
    dacapo_ops::softcap_in_place(enc, &x, 2.0)?;
    dacapo_ops::place(enc, &x, &wide, 3)?;
    dacapo_ops::place_first(enc, &x, &wide)?;
    dacapo_ops::copy(enc, &x, &out)?;
    dacapo_ops::copy(enc, &x, &narrow.slice_view(1, &[x.len()])?)?;
    dacapo_ops::softmax(enc, &logits, &it.device.transient(DType::F32, &[1, vocabulary])?, 1.0)?;
    dacapo_ops::argmax(enc, &logits, &token)?;
    dacapo_ops::top_k(enc, &logits, &likeliest, &ids)?;
    for bias in [None, Some(&logits)] {
        let logits = it.device.transient(DType::F32, &[1, vocabulary])?;
        dacapo_ops::sample(enc, &logits, &params, &step, bias, &counts, &token, 1)?;
    }
    dacapo_ops::advance(enc, &step, 1)?;
    Ok(it.finish())
}

/// Experts of these widths, chosen and weighted, with biases and without: those of Qwen3 30B and of gpt-oss, but fewer.
fn experts(device: &Device, [hidden, inner]: [usize; 2], tokens: usize) -> Result<ComputeGraph> {
    const COUNT: usize = 6;
    const CHOSEN: usize = 4;
    let mut it = Recorder::new(device);
    let options = RouteOptions { scoring: Scoring::Softmax, normalized: true, scale: 1.0 };
    let (x, logits) = (it.f32s(&[tokens, hidden]), it.f32s(&[tokens, COUNT]));
    for bias in [None, Some(it.f32s(&[COUNT]))] {
        let (ids, weights) = (it.of(DType::U32, &[tokens, CHOSEN]), it.f32s(&[tokens, CHOSEN]));
        dacapo_ops::route(&mut it.enc, &logits, bias.as_ref(), &ids, &weights, options)?;
        let routed = Routed::new(&mut it.enc, &ids, COUNT, true)?;
        for format in [FORMATS[0], FORMATS[2]] {
            let up = Experts::new(device, format, COUNT, inner, hidden)?;
            let down = Experts::new(device, format, COUNT, hidden, inner)?;
            let [gate, partner, inside] = [(); 3].map(|()| it.f32s(&[tokens * CHOSEN, inner]));
            let (given, sum) = (it.f32s(&[tokens * CHOSEN, hidden]), it.f32s(&[tokens, hidden]));
            let room = Int8Buffers::transient(device, x.len())?;
            let rounded = if up.takes_int8() {
                Activation::quantize(&mut it.enc, &x, &room)?
            } else {
                Activation::exact(&x)
            };
            dacapo_ops::matmul_experts(&mut it.enc, &rounded, &up, &routed, &gate)?;
            dacapo_ops::matmul_experts(&mut it.enc, &Activation::exact(&x), &up, &routed, &partner)?;
            let biases = it.f32s(&[COUNT, inner]);
            dacapo_ops::experts_bias(&mut it.enc, &gate, &biases, &routed)?;
            dacapo_ops::gated_clamped(&mut it.enc, &gate, &partner, &inside, 1.702, 7.0)?;
            dacapo_ops::matmul_experts(&mut it.enc, &Activation::exact(&inside), &down, &routed, &given)?;
            dacapo_ops::experts_sum(&mut it.enc, &given, &weights, None, &sum)?;
            let (always, share) = (it.f32s(&[tokens, hidden]), it.f32s(&[tokens, 1]));
            dacapo_ops::experts_sum(&mut it.enc, &given, &weights, Some((&always, &share)), &sum)?;
        }
    }
    Ok(it.finish())
}

/// A gated delta net behind its projections, in the widths of Qwen3.5 9B and in others.
fn delta_net(device: &Device, rows: usize) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    for (key_heads, heads, dim) in [(16, 32, 128), (2, 4, 256), (3, 3, 20)] {
        let width = (2 * key_heads + heads) * dim;
        let [x, qkv] = [(); 2].map(|()| it.f32s(&[rows, width]));
        let [a, b] = [(); 2].map(|()| it.f32s(&[rows, heads]));
        let [rate, dt_bias] = [(); 2].map(|()| it.f32s(&[heads]));
        let (weight, step) = (it.f32s(&[4, width]), it.of(DType::U32, &[1]));
        let (before, state) = (it.f32s(&[3, width]), it.f32s(&[heads, dim, dim]));
        let out = it.f32s(&[rows, heads * dim]);
        dacapo_ops::depthwise_conv(&mut it.enc, &x, &weight, &step, &before, &qkv)?;
        let inputs =
            DeltaInputs { qkv: &qkv, a: &a, b: &b, rate: &rate, dt_bias: &dt_bias, key_heads, tiled: false };
        dacapo_ops::gated_delta(&mut it.enc, &inputs, &step, &state, &out)?;
    }
    Ok(it.finish())
}

/// An MLP behind a norm, and the sum behind it.
fn mlp(device: &Device, widths: Widths, format: Format, tokens: usize, bias: bool) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    let Widths { hidden, inner, .. } = widths;
    // As many rows as tell large weights from small ones; how long rows are is what counts.
    let rows = (6 << 20) / hidden / 32 * 32;
    let [gate, up, down] =
        [(rows, hidden), (rows, hidden), (512, inner)].map(|(n, k)| weight(device, format, n, k));
    let (x, residual, sum) = (it.f32s(&[tokens, hidden]), it.f32s(&[tokens, 512]), it.f32s(&[tokens, 512]));
    let (w, [out, other]) = (it.f32s(&[hidden]), [(); 2].map(|()| it.f32s(&[tokens, hidden])));
    let bias = bias.then(|| it.f32s(&[rows]));
    let [a, b, c, d, gated] = [(); 5].map(|()| it.f32s(&[tokens, rows]));
    let (long, product) = (it.f32s(&[tokens, inner]), it.f32s(&[tokens, 512]));
    let ids = it.of(DType::U32, &[tokens]);
    let int8 = gate.takes_int8();
    let quantize = |enc: &mut CommandEncoder, x: &Buffer| {
        if !int8 {
            return Ok(Activation::exact(x));
        }
        Activation::quantize(enc, x, &Int8Buffers::transient(device, x.len())?)
    };
    let enc = &mut it.enc;
    dacapo_ops::embed(enc, &ids, &gate, &x, 1.0)?;
    dacapo_ops::rms_norm(enc, &x, Some(&w), &out, 1e-6)?;
    let normed = quantize(enc, &out)?;
    dacapo_ops::matmul(enc, &normed, &gate, bias.as_ref(), &a)?;
    dacapo_ops::matmul(enc, &normed, &up, bias.as_ref(), &b)?;
    dacapo_ops::gated(enc, &a, &b, &gated, ActivationFn::Silu)?;
    quantize(enc, &gated)?;
    let long = quantize(enc, &long)?;
    dacapo_ops::matmul(enc, &long, &down, None, &product)?;
    dacapo_ops::add(enc, &residual, &product, &sum)?;
    // Activations as they are, whatever the weight; and a product that is not half of a gated MLP.
    dacapo_ops::matmul(enc, &Activation::exact(&x), &gate, bias.as_ref(), &c)?;
    dacapo_ops::rms_norm(enc, &x, Some(&w), &other, 1e-6)?;
    let normed = quantize(enc, &other)?;
    dacapo_ops::matmul(enc, &normed, &up, bias.as_ref(), &d)?;
    Ok(it.finish())
}

/// A norm of a sum before quantization.
pub fn norms(device: &Device, dim: usize) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    let [x, y, sum, out] = [(); 4].map(|()| it.f32s(&[1, dim]));
    let w = it.f32s(&[dim]);
    dacapo_ops::rms_norm_add(&mut it.enc, &x, &y, &w, &sum, &out, 1e-6)?;
    Activation::quantize(&mut it.enc, &out, &Int8Buffers::transient(device, dim)?)?;
    Ok(it.finish())
}

/// A token's way through attention.
#[derive(Debug, Clone, Copy)]
struct Way {
    tokens: usize,
    slots: usize,
    cache: DType,
    normed: bool,
    sinks: bool,
}

fn attention(device: &Device, widths: Widths, way: Way) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    let (Way { tokens, slots, .. }, dim) = (way, widths.dim);
    let [heads, kv_heads] = widths.heads;
    let q = it.f32s(&[tokens, heads, dim]);
    let [k, v] = [(); 2].map(|()| it.f32s(&[tokens, kv_heads, dim]));
    let (inv_freq, step, w) = (it.f32s(&[dim / 2]), it.of(DType::U32, &[1]), it.f32s(&[dim]));
    let [k_cache, v_cache] = [(); 2].map(|()| it.of(way.cache, &[kv_heads, slots, dim]));
    let (out, sinks) = (it.f32s(&[tokens, heads, dim]), way.sinks.then(|| it.f32s(&[heads])));
    let enc = &mut it.enc;
    // What comes before: a fusion keeps what it cannot prove to be its own.
    for made in [&q, &k] {
        if way.normed {
            dacapo_ops::rms_norm_in_place(enc, made, Some(&w), 1e-6)?;
        }
        dacapo_ops::rope(
            enc,
            made,
            &inv_freq,
            &step,
            RopeOptions { interleaved: false, attention_factor: 1.0 },
        )?;
    }
    dacapo_ops::kv_write(enc, &k, &v, &step, &k_cache, &v_cache)?;
    let options = AttentionOptions::causal(0.1);
    dacapo_ops::attention(enc, &q, &k_cache, &v_cache, &step, sinks.as_ref(), &out, options)?;
    Activation::quantize(enc, &out, &Int8Buffers::transient(device, out.len())?)?;
    Ok(it.finish())
}

/// Every graph, as it is recorded.
pub fn graphs(device: &Device) -> Result<Vec<ComputeGraph>> {
    let mut graphs = vec![delta_net(device, 1)?, delta_net(device, 70)?];
    for (widths, tokens) in [([2048, 768], 1), ([2048, 768], 70), ([2880, 2880], 3)] {
        graphs.push(experts(device, widths, tokens)?);
    }
    for widths in WIDTHS {
        graphs.extend([small_operations(device, widths, 1)?, small_operations(device, widths, 70)?]);
        graphs.extend(
            [widths.hidden, widths.inner, 32]
                .map(|dim| norms(device, dim))
                .into_iter()
                .collect::<Result<Vec<_>>>()?,
        );
        for normed in [false, true] {
            for (tokens, slots) in [(1, 64), (1, 4096), (5, 4096), (100, 4096)] {
                for (cache, sinks) in [(DType::F16, false), (DType::F16, true), (DType::F32, false)] {
                    graphs.push(attention(device, widths, Way { tokens, slots, cache, normed, sinks })?);
                }
            }
        }
    }
    for (widths, format) in [(0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (0, 3)] {
        for (tokens, bias) in [(1, false), (1, true), (5, false), (100, true)] {
            graphs.push(mlp(device, WIDTHS[widths], FORMATS[format], tokens, bias)?);
        }
    }
    Ok(graphs)
}

/// All that the graphs come to: as recorded, with all fusions, and with the short ones alone, which otherwise are parts of
/// longer ones.
pub fn dispatches(device: &Device, graphs: &[ComputeGraph], fusions: &[FusePattern]) -> Vec<Dispatch> {
    let short: Vec<FusePattern> =
        fusions.iter().filter(|pattern| pattern.steps.len() <= 3 && !pattern.spread).copied().collect();
    let short: Vec<FusePattern> =
        short.into_iter().filter(|pattern| !pattern.name.contains("before it")).collect();
    let fused = graphs.iter().flat_map(|graph| [graph.fuse(device, fusions).0, graph.fuse(device, &short).0]);
    let all: Vec<ComputeGraph> = graphs.iter().cloned().chain(fused).collect();
    all.iter().flat_map(|graph| graph.nodes()).map(|node| node.dispatch().clone()).collect()
}

/// Reads of a weight in parts, on a device that binds no more than 40 kB.
pub fn in_parts(device: &Device) -> Result<ComputeGraph> {
    let mut it = Recorder::new(device);
    let weight = weight(device, FORMATS[0], 203, 512);
    let (ids, out) = (it.of(DType::U32, &[3]), it.f32s(&[3, 512]));
    dacapo_ops::embed(&mut it.enc, &ids, &weight, &out, 1.0)?;
    Ok(it.finish())
}
