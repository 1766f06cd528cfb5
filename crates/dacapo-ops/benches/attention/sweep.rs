//! The text of attention with the rotation before it with every way of dividing it: what `ops/attention/gpu/step.rs` is chosen
//! from.

use std::sync::Mutex;
use std::time::Instant;

use dacapo::gpu::{GpuPlan, GpuTwin, Wgsl};
use dacapo::{DType, Device, Dispatch, Kernel, Result};

use super::RUNS;
use super::step::{Shape, inv_freq};

/// Kernels made so far: each has a name of its own.
static NAMES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

static PLAN: Mutex<Option<GpuPlan>> = Mutex::new(None);

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("../../src/", $name))
    };
}

/// A kernel of the catalogue with a text for this many heads of a workgroup, pieces of an invocation and positions of a row,
/// planned by [`PLAN`]. It stays for good.
fn kernel(heads: u32, pieces: u32, ahead: u32) -> &'static Kernel {
    let name = "rope_attention_part";
    let kernel = dacapo_ops::catalogue::CATALOGUE.iter().find(|kernel| kernel.name == name);
    let head = format!(
        "const HEADS: u32 = {heads}u;\nconst PER: u32 = {pieces}u;\nconst AHEAD: u32 = {ahead}u;\n\
         const NORMED: bool = false;\nfn weight_of(head: u32, d: u32) -> f32 {{ return 1.0; }}\n\
         struct Rotation {{ interleaved: u32, attention_factor: f32, q_eps: f32, k_eps: f32 }}\n\
         struct Params {{ call: Call, rotation: Rotation, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32, o5: u32, \
         o6: u32, o7: u32 }}\nvar<immediate> p: Params;\n"
    );
    let parts: Vec<&'static str> = vec![
        head.leak(),
        text!("ops/attention/gpu/params.wgsl"),
        text!("ops/attention/gpu/step_part.wgsl"),
        text!("ops/attention/gpu/step.wgsl"),
        text!("ops/rope/pairs.wgsl"),
        text!("wgsl/invocation.wgsl"),
        text!("wgsl/math.wgsl"),
        text!("wgsl/float.wgsl"),
        text!("wgsl/wide.wgsl"),
        text!("wgsl/angle.wgsl"),
    ];
    let twin: &'static GpuTwin = Box::leak(Box::new(GpuTwin {
        variants: vec![Wgsl::new("sweep", parts.leak()).unrolled()].leak(),
        plan: |_| PLAN.lock().expect("nobody panics with it").clone().expect("set before dispatches"),
    }));
    let name: &'static str = format!(
        "sweep_{heads}_{pieces}_{ahead}_{}",
        NAMES.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    )
    .leak();
    Box::leak(Box::new(Kernel { name, gpu: Some(twin), ..**kernel.expect("it is there") }))
}

/// What `step.rs` has, for one token, F16 caches and rotation of halves.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    key_dim: u32,
    value_dim: u32,
    capacity: u32,
    scale: f32,
    softcap: f32,
    window: u32,
    causal: u32,
    splits: u32,
    interleaved: u32,
    attention_factor: f32,
    eps: [f32; 2],
}

/// A way of dividing attention.
#[derive(Clone, Copy)]
struct Way {
    pieces: u32,
    ahead: u32,
    subgroups: u32,
    splits: u32,
}

impl Way {
    /// The plan on subgroups of this size, if the device has the memory.
    fn plan(&self, shape: Shape, subgroup: u32, memory: u32) -> Option<GpuPlan> {
        let (group, pieces) = ((shape.heads / shape.kv_heads) as u32, (shape.dim / 8) as u32);
        let lanes = pieces.div_ceil(self.pieces).next_power_of_two().max(4);
        let merged = group.min(4);
        let bytes = (group + 2) * pieces * 32 + merged * self.subgroups * (pieces * 32 + 8);
        (lanes <= subgroup && group <= lanes && bytes <= memory).then_some(())?;
        Some(
            GpuPlan::new([shape.kv_heads as u32, 1, self.splits])
                .constant("WORKGROUP", self.subgroups * subgroup)
                .constant("SUBGROUP", subgroup)
                .constant("LANES", lanes)
                .constant("KEY_PIECES", pieces)
                .constant("VALUE_PIECES", pieces)
                .constant("PAIRS", 4 * pieces)
                .constant("MERGED", merged)
                .constant("HALF", 1),
        )
    }
}

/// Times of all ways to attend to `depth` positions, the quickest `best` of them. What puts splits together is not in them.
pub fn all(device: &Device, shape: Shape, depth: usize, best: usize) -> Result<()> {
    let Some(limits) = device.info().gpu.clone() else { return Ok(()) };
    let Shape { heads, kv_heads, dim, layers } = shape;
    let value = |heads: usize| device.upload(&vec![0.5_f32; heads * dim], &[1, heads, dim]);
    let [q, k, v] = [value(heads)?, value(kv_heads)?, value(kv_heads)?];
    let (step, inv_freq) = (device.upload(&[depth as u32 - 1], &[1])?, inv_freq(device, dim)?);
    let cache = || device.alloc(DType::F16, &[kv_heads, depth, dim]);
    let caches = (0..layers).map(|_| Ok((cache()?, cache()?))).collect::<Result<Vec<_>>>()?;
    let most = (depth / 64).max(1) as u32;
    // Workgroups for each processor.
    let mut splits = [1, 2, 4].map(|n| (n * limits.processors).div_ceil(kv_heads as u32).min(most)).to_vec();
    splits.dedup();
    let mut found = Vec::new();
    for (pieces, ahead) in [1, 2, 4].into_iter().flat_map(|pieces| [1, 2, 4, 8].map(|ahead| (pieces, ahead)))
    {
        let kernel = kernel((heads / kv_heads) as u32, pieces, ahead);
        for (subgroups, &splits) in [2, 4, 8, 16]
            .into_iter()
            .flat_map(|subgroups| splits.iter().map(move |splits| (subgroups, splits)))
        {
            let way = Way { pieces, ahead, subgroups, splits };
            let Some(plan) = way.plan(shape, limits.subgroup_size, limits.shared_memory) else { continue };
            if subgroups * limits.subgroup_size > limits.workgroup_size || pieces * ahead > 8 {
                continue;
            }
            *PLAN.lock().expect("nobody panics with it") = Some(plan);
            let rows = device.alloc(DType::F32, &[heads * splits as usize, 4 + dim])?;
            let params = Params {
                tokens: 1,
                heads: heads as u32,
                kv_heads: kv_heads as u32,
                key_dim: dim as u32,
                value_dim: dim as u32,
                capacity: depth as u32,
                scale: 0.1,
                softcap: 0.0,
                window: 0,
                causal: 1,
                splits,
                interleaved: 0,
                attention_factor: 1.0,
                eps: [0.0; 2],
            };
            let mut quickest = f64::INFINITY;
            for _ in 0..=RUNS {
                let mut encoder = device.encoder("sweep")?;
                for (k_cache, v_cache) in &caches {
                    let inputs = [&q, &k, &v, k_cache, v_cache, &step, &inv_freq, &rows];
                    let dispatch = inputs.into_iter().fold(Dispatch::new(kernel), Dispatch::buffer);
                    encoder.dispatch(dispatch.bytes(&params))?;
                }
                let start = Instant::now();
                encoder.commit_and_wait()?;
                quickest = quickest.min(start.elapsed().as_secs_f64() / layers as f64);
            }
            found.push((quickest, way));
        }
    }
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let bytes = (depth * kv_heads * dim * 4) as f64;
    for (seconds, Way { pieces, ahead, subgroups, splits }) in found.into_iter().take(best) {
        let name = format!("pieces {pieces} ahead {ahead} subgroups {subgroups} splits {splits}");
        println!("    {name:<46} {:>9.2} {:>9.0}", seconds * 1e6, bytes / seconds / 1e9);
    }
    Ok(())
}
