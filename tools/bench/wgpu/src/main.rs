//! What the host pays for 500 dispatches, each of which reads what the one before it wrote: wgpu and Dacapo on the same
//! Vulkan device, in turn, medians.
//!
//! `cargo run --release -- NAME`, NAME being a part of the device's name; by default Mesa's software device.

use std::time::{Duration, Instant};

use dacapo::cpu::CpuPlan;
use dacapo::gpu::{GpuPlan, GpuTwin, Wgsl};
use dacapo::{
    Binding, CpuTwin, DType, Device, DeviceOptions, DeviceSelect, Dispatch, GraphOptions, Kernel, OpKind,
};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

const DISPATCHES: usize = 500;
const ELEMENTS: usize = 1024;
const RUNS: usize = 101;

/// `y = 2 x`; the offsets are Dacapo's.
const DACAPO_TEXT: &str = "
struct Params { o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> y: F32s;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y.v[p.o1 / 4u + id.x] = 2.0 * x.v[p.o0 / 4u + id.x];
}";

const WGPU_TEXT: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    y[id.x] = 2.0 * x[id.x];
}";

static DOUBLE: Kernel = Kernel {
    name: "double",
    kind: OpKind::Other,
    bindings: &[Binding::read("x"), Binding::write("y")],
    cpu: CpuTwin { plan: |_| CpuPlan::new(0, 0), run: |_| {} },
    gpu: Some(&DOUBLE_GPU),
};

static DOUBLE_GPU: GpuTwin = GpuTwin {
    variants: &[Wgsl::new("double", &[DACAPO_TEXT])],
    plan: |_| GpuPlan::new([ELEMENTS as u32 / 64, 1, 1]),
};

fn main() -> Result {
    let name = std::env::args().nth(1).unwrap_or_else(|| "llvmpipe".into());
    let mut rows = dacapo_rows(&name)?;
    rows.push(("wgpu, encode and submit", wgpu_row(&name)?));
    println!("host time of {DISPATCHES} dependent dispatches, medians of {RUNS} runs");
    for (label, time) in rows {
        let each = time.as_secs_f64() * 1e6 / DISPATCHES as f64;
        println!("  {label:<36} {time:>10.1?}  {each:>7.3} us a dispatch");
    }
    Ok(())
}

/// Median of what `work` says that it took.
fn median(mut work: impl FnMut() -> Result<Duration>) -> Result<Duration> {
    let mut times = (0..RUNS).map(|_| work()).collect::<Result<Vec<_>>>()?;
    times.sort();
    Ok(times[RUNS / 2])
}

fn dacapo_rows(name: &str) -> Result<Vec<(&'static str, Duration)>> {
    let device = Device::open(DeviceOptions::vulkan(DeviceSelect::Name(name.into())))?;
    println!("{}", device.info().name);
    let buffers = [device.alloc(DType::F32, &[ELEMENTS])?, device.alloc(DType::F32, &[ELEMENTS])?];
    let record = |encoder: &mut dacapo::CommandEncoder| -> Result {
        for i in 0..DISPATCHES {
            let [x, y] = [&buffers[i % 2], &buffers[1 - i % 2]];
            encoder.dispatch(Dispatch::new(&DOUBLE).buffer(x).buffer(y))?;
        }
        Ok(())
    };
    let encode = median(|| {
        let start = Instant::now();
        let mut encoder = device.encoder("live")?;
        record(&mut encoder)?;
        let submission = encoder.commit()?;
        let time = start.elapsed();
        submission.wait()?;
        Ok(time)
    })?;
    let mut encoder = device.encoder("record")?;
    encoder.start_capture()?;
    record(&mut encoder)?;
    let graph = encoder.take_capture()?.compile(&device, "replayed", &GraphOptions::default())?;
    let replay = median(|| {
        let start = Instant::now();
        let submission = graph.replay()?;
        let time = start.elapsed();
        submission.wait()?;
        Ok(time)
    })?;
    Ok(vec![("Dacapo, replay", replay), ("Dacapo, encode and submit", encode)])
}

fn wgpu_row(name: &str) -> Result<Duration> {
    let instance = wgpu::Instance::default();
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let wanted = |adapter: &&wgpu::Adapter| adapter.get_info().name.contains(name);
    let adapter = adapters.iter().find(wanted).ok_or("wgpu does not list the device")?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(WGPU_TEXT.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let buffers = [(); 2].map(|()| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * ELEMENTS as u64,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        })
    });
    let groups = [0, 1].map(|i| {
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[
                wgpu::BindGroupEntry { binding: 0, resource: buffers[i].as_entire_binding() },
                wgpu::BindGroupEntry { binding: 1, resource: buffers[1 - i].as_entire_binding() },
            ],
        })
    });
    median(|| {
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        for i in 0..DISPATCHES {
            pass.set_bind_group(0, &groups[i % 2], &[]);
            pass.dispatch_workgroups(ELEMENTS as u32 / 64, 1, 1);
        }
        drop(pass);
        queue.submit([encoder.finish()]);
        let time = start.elapsed();
        device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(time)
    })
}
