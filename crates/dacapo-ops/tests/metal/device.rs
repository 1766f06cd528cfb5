//! What stands for a Metal device: a CPU device that says it is Apple silicon. What operations record for it is planned as
//! there, and the texts run on the processor.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dacapo::gpu::{GpuCall, GpuCaps, GpuLimits, INLINE_BUFFER, Msl, SIZES_BUFFER, metal_limits, msl};
use dacapo::{
    BackendKind, Buffer, CommandEncoder, ComputeGraph, DType, Device, DeviceOptions, Dispatch, FusePattern,
    FuseReport,
};
use dacapo_metal_sim::msl::{Bound, Checks, Function, Launch, Library, available};
use dacapo_ops::FUSIONS;

use super::catalogue;

/// Cores of the GPU that is planned for.
pub const CORES: u32 = 8;
/// Whether cases are run only for the sake of their text.
pub const EVERY_TEXT: bool = true;
/// What lies around views in the bytes that are bound.
const FILL: u8 = 0xa5;

/// The device, held to these limits, whose memory the kernels work on; `None` where there is no compiler and there need not
/// be one.
pub fn open(caps: GpuCaps) -> Option<Device> {
    if let Err(why) = available() {
        eprintln!("skipped: {why}");
        assert!(std::env::var_os("DACAPO_REQUIRE_METAL_SIM").is_none(), "the compiler has to be there");
        return None;
    }
    let options =
        DeviceOptions { as_gpu: Some(metal_limits(CORES).capped(&caps)), ..DeviceOptions::default() };
    Some(Device::open(options).expect("the CPU is always there"))
}

/// The simulation says at once what it has to say.
pub fn assert_silent(_: &Device) {}

/// Records something and runs it.
pub fn run(mut encoder: CommandEncoder, record: impl FnOnce(&mut CommandEncoder) -> dacapo::Result<()>) {
    encoder.start_capture().expect("captures");
    record(&mut encoder).expect("the arguments fit");
    let graph = encoder.take_capture().expect("captured");
    let device = encoder.device().clone();
    encoder.commit_and_wait().expect("nothing is left");
    expect(run_graph(&device, &graph, &as_it_is, next_seed()));
}

/// Fuses a graph as on a GPU and runs it: as it is then, and how that came.
pub fn run_fused(device: &Device, graph: &ComputeGraph) -> (ComputeGraph, FuseReport) {
    let (graph, report) = graph.fuse(device, &fusions());
    expect(run_graph(device, &graph, &as_it_is, next_seed()));
    (graph, report)
}

/// The rows of the table that are for Metal. The device that stands for one is a CPU, so that they come without figures.
pub fn fusions() -> Vec<FusePattern> {
    let rows = FUSIONS.iter().filter(|pattern| pattern.applies_to(BackendKind::Metal));
    rows.map(|pattern| FusePattern { gains: &[], ..*pattern }).collect()
}

/// What the device says it offers.
fn limits_of(device: &Device) -> &GpuLimits {
    device.info().gpu.as_ref().expect("it was opened with limits")
}

fn expect(result: Result<(), String>) {
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// What is done to a text before it is compiled.
pub type Change<'a> = dyn Fn(&str) -> String + 'a;

/// Nothing.
fn as_it_is(text: &str) -> String {
    text.to_owned()
}

/// Another order of threads each time.
fn next_seed() -> u64 {
    static SEED: AtomicU64 = AtomicU64::new(1);
    SEED.fetch_add(1, Ordering::Relaxed)
}

/// The dispatches of a graph, one after the other as they were recorded; `seed` chooses the order of threads.
///
/// # Errors
/// What the run of a kernel says, with the kernel's name.
pub fn run_graph(
    device: &Device,
    graph: &ComputeGraph,
    change: &Change<'_>,
    seed: u64,
) -> Result<(), String> {
    let mut values = HashMap::new();
    for node in graph.nodes() {
        let dispatch = node.dispatch();
        run_dispatch(dispatch, limits_of(device), &mut values, change, seed)
            .map_err(|error| format!("{}: {error}", dispatch.kernel().name))?;
    }
    Ok(())
}

/// Bytes that are bound, at a place that is aligned as an allocation is. The view begins `start` bytes later.
struct Binding {
    words: Vec<u128>,
    start: usize,
    len: usize,
}

impl Binding {
    fn new(start: usize, view: &[u8]) -> Binding {
        // Kernels see words: a view of bytes that ends within one is bound to the word's end.
        let len = (start + view.len()).next_multiple_of(4).max(4);
        let mut words = vec![u128::from_ne_bytes([FILL; 16]); len.div_ceil(16)];
        bytemuck::cast_slice_mut::<u128, u8>(&mut words)[start..start + view.len()].copy_from_slice(view);
        Binding { words, start, len }
    }

    fn bound(&mut self, index: usize) -> Bound {
        Bound { index: index as u32, ptr: self.words.as_mut_ptr().cast(), len: self.len }
    }

    /// The view. What lies around it must be as it was.
    fn view(&self, len: usize) -> &[u8] {
        let all: &[u8] = bytemuck::cast_slice(&self.words);
        let (before, rest) = all.split_at(self.start);
        let (view, behind) = rest.split_at(len);
        assert!(
            before.iter().chain(behind).all(|&byte| byte == FILL),
            "something was written outside of a view"
        );
        view
    }
}

/// Values inside a graph, by allocation.
type Values = HashMap<u64, Vec<u8>>;

fn run_dispatch(
    dispatch: &Dispatch,
    limits: &GpuLimits,
    values: &mut Values,
    change: &Change<'_>,
    seed: u64,
) -> Result<(), String> {
    let said = |error: dacapo::Error| error.to_string();
    let call = dispatch.gpu_call(limits).map_err(said)?;
    if call.plan.workgroups.contains(&0) {
        return Ok(());
    }
    let compiled = compiled(dispatch, &call, change)?;
    let msl = &compiled.msl;
    if call.inline.len() != msl.inline_bytes {
        return Err(format!("{} inline bytes; the text has {}", call.inline.len(), msl.inline_bytes));
    }
    let (buffers, ranges) = (dispatch.buffers().map_err(said)?, dispatch.ranges().map_err(said)?);
    let mut bindings = Vec::new();
    for ((buffer, range), &start) in buffers.iter().zip(&ranges).zip(&call.misalignments) {
        let bytes = if buffer.is_transient() {
            let value = values.entry(range.allocation).or_default();
            value.resize(value.len().max(range.end), FILL);
            value[range.start..range.end].to_vec()
        } else {
            bytes(buffer)?.to_vec().map_err(said)?
        };
        bindings.push(Binding::new(start as usize, &bytes));
    }
    let mut inline = Binding::new(0, &call.inline);
    let sizes: Vec<u32> = msl.sizes.iter().map(|&i| bindings[i as usize].len as u32).collect();
    let mut sizes = Binding::new(0, bytemuck::cast_slice(&sizes));
    let mut bound: Vec<_> = bindings.iter_mut().enumerate().map(|(i, binding)| binding.bound(i)).collect();
    bound.push(inline.bound(INLINE_BUFFER as usize));
    bound.push(sizes.bound(SIZES_BUFFER as usize));
    let launch = Launch {
        buffers: &bound,
        threadgroup_memory: &msl.threadgroup.iter().map(|&bytes| bytes as usize).collect::<Vec<_>>(),
        threadgroups: call.plan.workgroups,
        threads: msl.workgroup,
        seed,
    };
    // SAFETY: the bound memory is this function's.
    unsafe { compiled.function.run(&launch) }?;
    for ((binding, buffer), range) in bindings.iter().zip(&buffers).zip(&ranges) {
        let view = binding.view(range.end - range.start);
        if !range.access.writes() {
            continue;
        }
        match values.get_mut(&range.allocation).filter(|_| buffer.is_transient()) {
            Some(value) => value[range.start..range.end].copy_from_slice(view),
            None => bytes(buffer)?.copy_from(view).map_err(said)?,
        }
    }
    Ok(())
}

/// A view as bytes.
pub fn bytes(buffer: &Buffer) -> Result<Buffer, String> {
    buffer.reinterpret(0, DType::U8, &[buffer.byte_len()]).map_err(|error| error.to_string())
}

struct Compiled {
    msl: Msl,
    function: Function,
}

/// What specializations differ in: the kernel, its variant, its constants.
type Key = (&'static str, usize, Vec<(&'static str, u64)>);

/// The text that a call chooses in Metal's language, and its variant's name.
///
/// # Errors
/// If it does not translate.
pub fn text(dispatch: &Dispatch, call: &GpuCall) -> Result<(Msl, &'static str), String> {
    let kernel = dispatch.kernel();
    let variant = &kernel.gpu.ok_or("it has no GPU code")?.variants[call.plan.variant];
    let msl = msl(kernel, variant, &call.plan.constants).map_err(|error| error.to_string())?;
    Ok((msl, variant.name))
}

/// The text of a graph's last dispatch, which has to be this variant of this kernel.
pub fn last_text(device: &Device, graph: &ComputeGraph, kernel: &str, variant: &str) -> String {
    let nodes = graph.nodes();
    let dispatch = nodes.last().expect("something is recorded").dispatch();
    let call = dispatch.gpu_call(limits_of(device)).expect("it has a plan");
    let (msl, chosen) = text(dispatch, &call).expect("it translates");
    assert_eq!((dispatch.kernel().name, chosen), (kernel, variant));
    msl.source
}

/// The text that a call chooses, compiled.
fn compiled(dispatch: &Dispatch, call: &GpuCall, change: &Change<'_>) -> Result<Arc<Compiled>, String> {
    static MADE: Mutex<Option<HashMap<Key, Arc<Compiled>>>> = Mutex::new(None);
    let constants = call.plan.constants.iter().map(|&(name, value)| (name, value.to_bits())).collect();
    let key = (dispatch.kernel().name, call.plan.variant, constants);
    let made = || MADE.lock().expect("no test panics here");
    let known = made().get_or_insert_default().get(&key).cloned();
    let (msl, variant) = match &known {
        Some(known) => (known.msl.clone(), None),
        None => text(dispatch, call).map(|(msl, name)| (msl, Some(name)))?,
    };
    let source = change(&msl.source);
    let changed = source != msl.source;
    if let Some(known) = known.filter(|_| !changed) {
        return Ok(known);
    }
    let library = Arc::new(Library::compile_with(&source, Checks::All)?);
    let function = library.function(&msl.entry).ok_or("there is no such function")?;
    let compiled = Arc::new(Compiled { msl, function });
    if let Some(variant) = variant.filter(|_| !changed) {
        catalogue::note(dispatch.kernel().name, variant);
        made().get_or_insert_default().insert(key, compiled.clone());
    }
    Ok(compiled)
}
