//! Kernels in Metal's shading language on the processor: what is right runs, what is planted is found.
#![cfg(not(target_vendor = "apple"))]

mod matrices;

use std::sync::Arc;

use dacapo_metal_sim::msl::{Bound, Checks, Launch, Library, available};

/// Whether the compiler is there. Without it tests do nothing, unless they have to.
fn able() -> bool {
    match available() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("skipped: {why}");
            assert!(std::env::var_os("DACAPO_REQUIRE_METAL_SIM").is_none(), "the compiler has to be there");
            false
        }
    }
}

/// A kernel over 128 floats in and out, with threadgroup memory for as many, in the words of the translation.
fn text(body: &str) -> String {
    format!(
        "#include <metal_stdlib>
#include <simd/simd.h>
using metal::uint;
typedef float type_1[1];
struct F32s {{
    type_1 v;
}};
struct type_2 {{
    float inner[64];
}};
struct Params {{
    uint n;
}};
[[max_total_threads_per_threadgroup(64)]] kernel void main_(
  uint i [[thread_index_in_threadgroup]]
, metal::uint3 group [[threadgroup_position_in_grid]]
, constant Params& p [[buffer(30)]]
, device F32s const& x [[buffer(0)]]
, device F32s& y [[buffer(1)]]
, threadgroup type_2& part
) {{
    uint at = group.x * 64u + i;
{body}
}}
"
    )
}

fn run(body: &str, checks: Checks, seed: u64) -> Result<Vec<f32>, String> {
    let library = Arc::new(Library::compile_with(&text(body), checks)?);
    assert_eq!(library.functions(), ["main_"]);
    let function = library.function("main_").expect("it is there");
    let mut x: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let (mut y, mut params) = (vec![0.0_f32; 128], [128u32]);
    let buffers = [
        Bound { index: 0, ptr: x.as_mut_ptr().cast(), len: 512 },
        Bound { index: 1, ptr: y.as_mut_ptr().cast(), len: 512 },
        Bound { index: 30, ptr: params.as_mut_ptr().cast(), len: 4 },
    ];
    let launch = Launch {
        buffers: &buffers,
        threadgroup_memory: &[256],
        threadgroups: [2, 1, 1],
        threads: [64, 1, 1],
        seed,
    };
    // SAFETY: the memory is this function's.
    unsafe { function.run(&launch) }?;
    Ok(y)
}

/// Fails unless the mistake is found, in the words given, with every seed of a few.
fn planted(body: &str, checks: &[Checks], words: &str) {
    for &checks in checks.iter().filter(|_| able()) {
        for seed in 0..4 {
            let error = run(body, checks, seed).expect_err("is found");
            assert!(error.contains(words), "{checks:?}: {error}");
        }
    }
}

const BOTH: [Checks; 2] = [Checks::Bounds, Checks::All];
const BARRIER: &str = "metal::threadgroup_barrier(metal::mem_flags::mem_threadgroup);";

#[test]
fn threads_exchange_values_through_threadgroup_memory_and_simdgroups() {
    if !able() {
        return;
    }
    let body = format!(
        "    part.inner[i] = x.v[at];
    {BARRIER}
    float other = part.inner[63u - i];
    float sum = metal::simd_sum(1.0);
    float swapped = metal::simd_shuffle_xor(x.v[at], 1u);
    float most = metal::simd_max(x.v[at]);
    metal::float4 both = metal::float4(metal::float2(other, sum), swapped, most);
    y.v[at] = both.x + 1000.0 * both.y + 0.5 * both.z + static_cast<float>(p.n) * both.w;"
    );
    let reference = |at: usize| {
        let (group, i) = (at / 64 * 64, at % 64);
        (group + 63 - i) as f32 + 32000.0 + 0.5 * (at ^ 1) as f32 + 128.0 * (at | 31) as f32
    };
    for checks in BOTH {
        for seed in 0..8 {
            let y = run(&body, checks, seed).expect("is right");
            assert!(
                y.iter().enumerate().all(|(at, &y)| y == reference(at)),
                "{checks:?}, seed {seed}: {y:?}"
            );
        }
    }
}

#[test]
fn a_missing_barrier_is_found() {
    let body = "    part.inner[i] = x.v[at];\n    y.v[at] = part.inner[63u - i];";
    planted(body, &[Checks::All], "race");
}

#[test]
fn a_barrier_for_other_memory_is_no_barrier() {
    let body = "    part.inner[i] = x.v[at];
    metal::threadgroup_barrier(metal::mem_flags::mem_device);
    y.v[at] = part.inner[63u - i];";
    planted(body, &[Checks::All], "race");
}

#[test]
fn a_barrier_of_a_simdgroup_does_not_order_the_others() {
    let body = "    part.inner[i] = x.v[at];
    metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);
    y.v[at] = part.inner[i ^ 1u];";
    if able() {
        let y = run(body, Checks::All, 1).expect("neighbours share a simdgroup");
        assert_eq!(y[..4], [1.0, 0.0, 3.0, 2.0]);
    }
    planted(&body.replace("i ^ 1u", "i ^ 32u"), &[Checks::All], "race");
}

#[test]
fn threadgroups_that_write_one_place_are_found() {
    planted("    y.v[i] = x.v[at];", &[Checks::All], "threadgroups are not ordered");
}

#[test]
fn a_divergent_barrier_is_found() {
    planted(&format!("    if (i < 40u) {{ {BARRIER} }}\n    y.v[at] = 1.0;"), &BOTH, "divergent barrier");
    planted(
        &format!("    if (i == 7u) {{ return; }}\n    {BARRIER}\n    y.v[at] = 1.0;"),
        &BOTH,
        "divergent barrier",
    );
    let other = BARRIER.replace("mem_threadgroup", "mem_device");
    let apart =
        format!("    if (i < 32u) {{ {BARRIER} y.v[at] = 1.0; }} else {{ {other} y.v[at] = x.v[at]; }}");
    planted(&apart, &BOTH, "different calls of threadgroup_barrier");
}

#[test]
fn a_divergent_simdgroup_is_found() {
    planted("    if (i != 3u) { y.v[at] = metal::simd_sum(x.v[at]); }", &BOTH, "simdgroup");
    let body = "    if (i % 2u == 0u) { y.v[at] = metal::simd_sum(x.v[at]); } else { y.v[at] = metal::simd_shuffle(x.v[at], 3u); }";
    planted(body, &BOTH, "divergent simdgroup");
}

#[test]
fn indices_out_of_bounds_are_found() {
    planted("    y.v[at + 1u] = 1.0;", &BOTH, "out of bounds");
    planted("    y.v[at] = x.v[at - 1u];", &BOTH, "out of bounds");
    planted(
        "    part.inner[i + 1u] = 1.0;\n    y.v[at] = part.inner[i + 1u];",
        &[Checks::All],
        "out of bounds",
    );
}

#[test]
fn threads_without_end_are_found() {
    planted("    while (x.v[0] == 0.0) { y.v[at] = y.v[at] + 1.0; }", &[Checks::All], "endless");
}

#[test]
fn a_wrong_address_space_does_not_compile() {
    for body in [
        "    threadgroup float* p = &y.v[at];\n    *p = 1.0;",
        "    device float& p = part.inner[i];\n    p = 1.0;",
        "    device float* p = &x.v[at];\n    *p = 1.0;",
        "    x.v[at] = 1.0;",
        "    float own = 1.0;\n    device float* p = &own;\n    y.v[at] = *p;",
    ] {
        planted(body, &BOTH, "error:");
    }
}

#[test]
fn texts_are_metals_and_not_only_cpp() {
    planted(
        "    float4 v = float4(1.0, 2.0);\n    y.v[at] = v.x;",
        &[Checks::Bounds],
        "as many values as it has lanes",
    );
    planted("    y.v[at] = metal::no_such_function(1.0);", &[Checks::Bounds], "no_such_function");
}

#[test]
fn what_is_bound_has_to_fit() {
    if !able() {
        return;
    }
    let library =
        Library::compile_with(&text("    y.v[at] = part.inner[0];"), Checks::Bounds).expect("compiles");
    let function = Arc::new(library).function("main_").expect("it is there");
    let mut memory = vec![0u64; 64];
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let bound = |index, at: usize, len| Bound { index, ptr: start.wrapping_add(at), len };
    let all = [bound(0, 0, 256), bound(1, 0, 256), bound(30, 256, 4)];
    let fine = Launch {
        buffers: &all,
        threadgroup_memory: &[256],
        threadgroups: [1, 1, 1],
        threads: [64, 1, 1],
        seed: 0,
    };
    // SAFETY: the memory is this function's.
    let run = |launch: &Launch<'_>| unsafe { function.run(launch) };
    assert_eq!(run(&fine), Ok(()));
    let wrong = |launch: Launch<'_>, words: &str| {
        let error = run(&launch).expect_err("is refused");
        assert!(error.contains(words), "{error}");
    };
    wrong(Launch { buffers: &all[..2], ..fine }, "nothing is bound to buffer(30)");
    wrong(Launch { buffers: &[all[0], all[1], bound(30, 256, 2)], ..fine }, "buffer(30) has 2 bytes");
    wrong(Launch { buffers: &[all[0], bound(1, 2, 256), all[2]], ..fine }, "not aligned");
    wrong(Launch { threadgroup_memory: &[240], ..fine }, "threadgroup(0) has 240 bytes");
    wrong(Launch { threadgroup_memory: &[], ..fine }, "threadgroup(0) has 0 bytes");
    wrong(Launch { threadgroup_memory: &[33 << 10], ..fine }, "threadgroup memory");
    wrong(Launch { threads: [65, 1, 1], ..fine }, "65 threads");
}
