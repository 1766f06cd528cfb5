use super::*;
use crate::cpu::CpuPlan;
use crate::gpu::{GpuPlan, GpuTwin};
use crate::hal::kernel::{CpuTwin, OpKind};
use crate::hal::signature::Binding;

const TEXT: &str = "
override N: u32 = 4u;
struct Params { scale: f32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> y: F32s;
var<workgroup> part: array<f32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) at: u32) {
    part[at] = x.v[p.o0 / 4u + id.x];
    subgroupBarrier();
    if id.x < N { y.v[p.o1 / 4u + id.x] = p.scale * part[at]; }
}";

const fn kernel(bindings: &'static [Binding], twin: &'static GpuTwin) -> Kernel {
    let cpu = CpuTwin { plan: |_| CpuPlan::new(0, 0), run: |_| {} };
    Kernel { name: "scale", kind: OpKind::Other, bindings, cpu, gpu: Some(twin) }
}

static TWIN: GpuTwin =
    GpuTwin { variants: &[Wgsl::new("plain", &[TEXT])], plan: |_| GpuPlan::new([1, 1, 1]) };
static RIGHT: Kernel = kernel(&[Binding::read("x"), Binding::write("y")], &TWIN);

fn error(bindings: &[Binding], text: &'static str) -> String {
    let kernel = Box::leak(Box::new(kernel(Box::leak(bindings.into()), &TWIN)));
    let parts = Box::leak(Box::new([text]));
    Shader::new(kernel, &Wgsl::new("plain", parts)).expect_err("refused").to_string()
}

#[cfg(feature = "vulkan")]
#[test]
fn a_text_that_fits_its_signature_becomes_spirv() {
    let shader = Shader::new(&RIGHT, &TWIN.variants[0]).expect("fits");
    assert_eq!(shader.inline_bytes(), 12);
    let small = shader.specialize(&[("N", 7.0)]).and_then(|s| s.spirv("small")).expect("translates");
    let large = shader.specialize(&[("N", 9.0)]).and_then(|s| s.spirv("large")).expect("translates");
    assert_eq!(small[0], 0x0723_0203, "SPIR-V's magic number");
    assert_ne!(small, large, "the constant is in the module");
    assert!(shader.specialize(&[("M", 1.0)]).is_err(), "there is no such override");
}

#[cfg(feature = "vulkan")]
#[test]
fn arrays_in_workgroup_memory_lose_their_stride_and_barriers_order_memory() {
    let shader = Shader::new(&RIGHT, &TWIN.variants[0]).expect("fits");
    let words = shader.specialize(&[]).and_then(|s| s.spirv("scale")).expect("translates");
    let strides = words.windows(4).filter(|w| w[0] == (4 << 16 | 71) && w[2] == 6).count();
    assert_eq!(strides, 1, "only the storage array's type has one");
    let constant = |value: u32| words.windows(4).any(|w| w[0] == (4 << 16 | 43) && w[3] == value);
    assert!(constant(0x1c8));
}

#[test]
fn loops_are_unrolled_where_a_text_asks_for_it() {
    const TEXT: &str = "struct U32s { v: array<u32> }
        @group(0) @binding(0) var<storage, read_write> y: U32s;
        @compute @workgroup_size(1) fn main() { for (var i = 0u; i < 4u; i++) { y.v[i] = i; } }";
    static PLAIN: GpuTwin =
        GpuTwin { variants: &[Wgsl::new("plain", &[TEXT])], plan: |_| GpuPlan::linear(1) };
    static KERNEL: Kernel = kernel(&[Binding::write("y")], &PLAIN);
    let hints_of = |words: &[u32]| {
        words.windows(4).filter(|w| w[0] == (4 << 16 | 246)).map(|w| w[3]).collect::<Vec<_>>()
    };
    let hints = |text: &Wgsl| hints_of(&super::spirv::translate(&KERNEL, text, &[]).expect("translates"));
    assert_eq!(hints(&PLAIN.variants[0]), [0]);
    assert_eq!(hints(&PLAIN.variants[0].unrolled()), [1]);
    let rolled = |text: &Wgsl| {
        let special = Shader::new(&KERNEL, text).expect("fits").specialize(&[]).expect("has no overrides");
        hints_of(&special.rolled().spirv("software").expect("translates"))
    };
    assert_eq!(rolled(&PLAIN.variants[0]), [0]);
    assert_eq!(rolled(&PLAIN.variants[0].unrolled()), [2]);
}

#[test]
fn what_a_text_does_must_be_what_the_signature_says() {
    let wrong: &[&[Binding]] = &[
        &[Binding::write("x"), Binding::write("y")],
        &[Binding::read("x"), Binding::read("y")],
        &[Binding::read_write("x"), Binding::write("y")],
    ];
    for bindings in wrong {
        let error = error(bindings, TEXT);
        assert!(error.contains("the signature says"), "{error}");
    }
    let error = error(&[Binding::read("x"), Binding::write("y"), Binding::read("z")], TEXT);
    assert!(error.contains("\"z\" is not declared"), "{error}");
}

#[test]
fn texts_that_do_not_compile_say_where() {
    let error = error(&[], "@compute @workgroup_size(1) fn main() { let x = unknown; }");
    assert!(error.contains("scale/plain") && error.contains("unknown"), "{error}");
    let error = self::error(&[], "@compute @workgroup_size(1) fn other() {}");
    assert!(error.contains("entry point"), "{error}");
}

#[cfg(feature = "metal")]
#[test]
fn a_text_that_fits_its_signature_becomes_msl() {
    use super::msl::{INLINE_BUFFER, SIZES_BUFFER, translate};
    let msl = translate(&RIGHT, &TWIN.variants[0], &[("N", 7.0)]).expect("translates");
    assert_eq!((msl.workgroup, msl.inline_bytes), ([64, 1, 1], 12));
    assert_eq!((&msl.sizes[..], &msl.threadgroup[..]), (&[0, 1][..], &[256][..]));
    let (start, body) = msl.source.split_once(&format!("void {}(", msl.entry)).expect("the entry point");
    assert!(start.contains("metal_stdlib"), "{start}");
    for argument in ["[[buffer(0)]]", "[[buffer(1)]]", "threadgroup type", "[[thread_position_in_grid]]"] {
        assert!(body.contains(argument), "{argument} in {body}");
    }
    assert!(body.contains(&format!("[[buffer({INLINE_BUFFER})]]")), "{body}");
    assert!(body.contains(&format!("[[buffer({SIZES_BUFFER})]]")), "{body}");
    let other = translate(&RIGHT, &TWIN.variants[0], &[]).expect("translates");
    assert_ne!(msl.source, other.source, "the constant is in the text");
    assert!(translate(&RIGHT, &TWIN.variants[0], &[("M", 1.0)]).is_err(), "there is no such override");
}

#[cfg(feature = "metal")]
#[test]
fn operands_of_several_dot_products_are_declared_once_in_msl() {
    const DOTS: &str = "
struct Words { v: array<u32> }
struct Numbers { v: array<i32> }
@group(0) @binding(0) var<storage, read> x: Words;
@group(0) @binding(1) var<storage, read_write> y: Numbers;
@compute @workgroup_size(1)
fn main() {
    let a = x.v[0];
    y.v[0] = dot4I8Packed(a, x.v[1]) + dot4I8Packed(a, x.v[2]);
    if x.v[3] == 0u { y.v[1] = dot4I8Packed(a, x.v[1]); }
    if x.v[3] == 1u { y.v[1] = dot4I8Packed(x.v[4], x.v[1]); }
}";
    let msl = super::msl::translate(&RIGHT, &Wgsl::new("dots", &[DOTS]), &[]).expect("translates");
    let mut lines: Vec<_> = msl.source.lines().filter(|line| line.contains("packed_char4 rein")).collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!((all, lines.len()), (6, 6), "{}", msl.source);
}
