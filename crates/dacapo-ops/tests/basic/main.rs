//! The operations other than matrix products, through a device.

mod behaviour;
mod fixture;

use dacapo::{Buffer, CommandEncoder, DType, Device, DeviceOptions};
use dacapo_ops::{ActivationFn, AttentionOptions, RopeOptions, RopeScaling};
use fixture::{Case, Tensor};

/// A device with this many threads.
pub fn device(threads: usize) -> Device {
    Device::open(DeviceOptions { threads: Some(threads), ..DeviceOptions::default() })
        .expect("the CPU is always there")
}

/// Records something and waits for it.
pub fn run(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
    let mut encoder = device.encoder("test").expect("an encoder");
    record(&mut encoder).expect("the arguments fit");
    encoder.commit_and_wait().expect("the kernels run");
}

fn upload(device: &Device, tensor: &Tensor) -> Buffer {
    device.upload(&tensor.data, &tensor.shape).expect("memory")
}

fn alloc(device: &Device, shape: &[usize]) -> Buffer {
    device.alloc(DType::F32, shape).expect("memory")
}

fn read(buffer: &Buffer) -> Vec<f32> {
    buffer.to_vec().expect("finished")
}

fn cases(op: &str) -> Vec<Case> {
    let mut cases = fixture::read(include_bytes!("../data/ops_basic.safetensors"));
    cases.retain(|case| case.params["op"] == op);
    assert!(!cases.is_empty(), "no case of {op}");
    cases
}

/// Runs every case of an operation whose result has the shape of its input `x`.
fn check_unary(
    op: &str,
    record: impl Fn(&mut CommandEncoder, &Case, &Device, &Buffer, &Buffer) -> dacapo::Result<()>,
) {
    let device = device(2);
    for case in cases(op) {
        let x = upload(&device, case.input("x"));
        let out = alloc(&device, x.shape());
        run(&device, |enc| record(enc, &case, &device, &x, &out));
        case.check(&read(&out));
    }
}

fn function(case: &Case) -> ActivationFn {
    match case.params["function"].as_str() {
        Some("silu") => ActivationFn::Silu,
        Some("gelu") => ActivationFn::Gelu,
        Some("gelu_tanh") => ActivationFn::GeluTanh,
        other => panic!("unknown function {other:?}"),
    }
}

#[test]
fn rms_norm_matches_the_fixture() {
    check_unary("rms_norm", |enc, case, device, x, out| {
        let weight = case.optional("weight").map(|w| upload(device, w));
        dacapo_ops::rms_norm(enc, x, weight.as_ref(), out, case.number("eps"))
    });
    let device = device(2);
    for case in cases("rms_norm") {
        let x = upload(&device, case.input("x"));
        let weight = case.optional("weight").map(|w| upload(&device, w));
        run(&device, |enc| dacapo_ops::rms_norm_in_place(enc, &x, weight.as_ref(), case.number("eps")));
        case.check(&read(&x));
    }
}

#[test]
fn layer_norm_matches_the_fixture() {
    check_unary("layer_norm", |enc, case, device, x, out| {
        let weight = upload(device, case.input("weight"));
        let bias = case.optional("bias").map(|b| upload(device, b));
        dacapo_ops::layer_norm(enc, x, &weight, bias.as_ref(), out, case.number("eps"))
    });
}

#[test]
fn activations_match_the_fixture() {
    check_unary("activate", |enc, case, _, x, out| dacapo_ops::activate(enc, x, out, function(case)));
    check_unary("gated", |enc, case, device, x, out| {
        dacapo_ops::gated(enc, x, &upload(device, case.input("up")), out, function(case))
    });
    check_unary("softcap", |enc, case, _, x, out| dacapo_ops::softcap(enc, x, out, case.number("cap")));
    check_unary("softmax", |enc, case, _, x, out| dacapo_ops::softmax(enc, x, out, case.number("scale")));
}

#[test]
fn argmax_matches_the_fixture() {
    let device = device(2);
    for case in cases("argmax") {
        let x = upload(&device, case.input("x"));
        let out = device.alloc(DType::U32, &[x.shape()[0]]).expect("memory");
        run(&device, |enc| dacapo_ops::argmax(enc, &x, &out));
        let got: Vec<f32> = out.to_vec::<u32>().expect("finished").iter().map(|&i| i as f32).collect();
        case.check(&got);
    }
}

#[test]
fn rope_matches_the_fixture() {
    let device = device(2);
    for case in cases("rope") {
        let x = upload(&device, case.input("x"));
        let inv_freq = upload(&device, case.input("inv_freq"));
        let step = device.upload(&[case.number("offset") as u32], &[1]).expect("memory");
        let interleaved = case.params["interleaved"] == true;
        let options = RopeOptions { interleaved, ..RopeOptions::default() };
        run(&device, |enc| dacapo_ops::rope(enc, &x, &inv_freq, &step, options));
        case.check(&read(&x));
    }
}

fn scaling(case: &Case) -> RopeScaling {
    let optional = |name: &str| case.params[name].as_f64().map(|v| v as f32);
    let context = || case.number("original_max_position_embeddings") as usize;
    match case.params["kind"].as_str() {
        Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: case.number("factor") },
        Some("llama3") => RopeScaling::Llama3 {
            factor: case.number("factor"),
            low_freq_factor: case.number("low_freq_factor"),
            high_freq_factor: case.number("high_freq_factor"),
            original_context: context(),
        },
        Some("yarn") => RopeScaling::Yarn {
            factor: case.number("factor"),
            original_context: context(),
            beta_fast: optional("beta_fast").unwrap_or(32.0),
            beta_slow: optional("beta_slow").unwrap_or(1.0),
            truncate: case.params["truncate"] != false,
            attention_factor: optional("attention_factor"),
            mscale: optional("mscale"),
            mscale_all_dim: optional("mscale_all_dim"),
        },
        other => panic!("unknown scaling {other:?}"),
    }
}

#[test]
fn rope_frequencies_match_transformers() {
    for case in cases("frequencies") {
        let got = scaling(&case).frequencies(case.number("theta"), case.number("dims") as usize);
        let mut all = got.inv_freq;
        all.push(got.attention_factor);
        case.check(&all);
    }
}

#[test]
fn frequency_factors_divide() {
    let plain = RopeScaling::None.frequencies(1e4, 8).inv_freq;
    let scaled = RopeScaling::Factors(vec![1.0, 2.0, 4.0]).frequencies(1e4, 8);
    let want: Vec<f32> = plain.iter().zip([1.0, 2.0, 4.0, 1.0]).map(|(f, by)| f / by).collect();
    assert_eq!(scaled.inv_freq, want);
    assert_eq!(scaled.attention_factor, 1.0);
}

#[test]
fn attention_matches_the_fixture() {
    for (threads, cache_type) in [(1, DType::F32), (2, DType::F16)] {
        let device = device(threads);
        for case in cases("attention") {
            let q = upload(&device, case.input("q"));
            let cache = |name: &str| {
                let wide = upload(&device, case.input(name));
                let cache = device.alloc(cache_type, wide.shape()).expect("memory");
                run(&device, |enc| dacapo_ops::copy(enc, &wide, &cache));
                cache
            };
            let (k, v) = (cache("k"), cache("v"));
            let sinks = case.optional("sinks").map(|s| upload(&device, s));
            let out = alloc(&device, &case.expected().shape);
            let position = k.shape()[1] - q.shape()[0];
            let step = device.upload(&[position as u32], &[1]).expect("memory");
            let options = AttentionOptions {
                scale: case.number("scale"),
                causal: case.params["causal"] == true,
                window: case.params["window"].as_u64().map(|w| w as usize),
                softcap: case.params["softcap"].as_f64().map(|c| c as f32),
            };
            run(&device, |enc| dacapo_ops::attention(enc, &q, &k, &v, &step, sinks.as_ref(), &out, options));
            case.check(&read(&out));
        }
    }
}
