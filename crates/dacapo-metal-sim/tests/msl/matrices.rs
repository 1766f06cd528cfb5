//! Matrices that a simdgroup holds together.

use std::sync::Arc;

use dacapo_metal_sim::msl::{Bound, Checks, Launch, Library};

use super::{BOTH, able};

/// A simdgroup, or several, that multiply two matrices of threadgroup memory, in the words of the translation: `a` is filled
/// with the values of `x`, `b` with those of `x` in steps of 3, and what `body` leaves in `out` becomes `y`.
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
    half inner[64];
}};
struct type_3 {{
    float inner[64];
}};
metal::simdgroup_half8x8 NagaCooperativeLoad(const threadgroup half* ptr, int stride, bool is_row_major) {{
    metal::simdgroup_half8x8 m;
    simdgroup_load(m, ptr, stride, 0, is_row_major);
    return m;
}}

metal::simdgroup_float8x8 NagaCooperativeLoad(const threadgroup float* ptr, int stride, bool is_row_major) {{
    metal::simdgroup_float8x8 m;
    simdgroup_load(m, ptr, stride, 0, is_row_major);
    return m;
}}

metal::simdgroup_float8x8 NagaCooperativeMultiplyAdd(const thread metal::simdgroup_half8x8& a, const thread metal::simdgroup_half8x8& b, const thread metal::simdgroup_float8x8& c) {{
    metal::simdgroup_float8x8 d;
    simdgroup_multiply_accumulate(d,a,b,c);
    return d;
}}

[[max_total_threads_per_threadgroup(64)]] kernel void main_(
  uint i [[thread_index_in_threadgroup]]
, device F32s const& x [[buffer(0)]]
, device F32s& y [[buffer(1)]]
, threadgroup type_2& a
, threadgroup type_2& b
, threadgroup type_3& out
) {{
    if (i < 32u) {{
        for (uint k = i; k < 64u; k += 32u) {{
            a.inner[k] = static_cast<half>(x.v[k]);
            b.inner[k] = static_cast<half>(x.v[k * 3u % 64u]);
            out.inner[k] = x.v[k];
        }}
    }}
{body}
}}
"
    )
}

const BARRIER: &str = "    metal::simdgroup_barrier(metal::mem_flags::mem_threadgroup);\n";
const LOADS: &str = "    metal::simdgroup_half8x8 ma = NagaCooperativeLoad(&a.inner[0], 8u, false);
    metal::simdgroup_half8x8 mb = NagaCooperativeLoad(&b.inner[0], 8u, true);
    metal::simdgroup_float8x8 mc = NagaCooperativeLoad(&out.inner[0], 8u, false);\n";
const PRODUCT: &str = "    mc = NagaCooperativeMultiplyAdd(ma, mb, mc);\n";
const STORE: &str = "    simdgroup_store(mc, &out.inner[0], 8u);\n";
const WRITE: &str = "    for (uint k = i; k < 64u; k += 32u) {\n        y.v[k] = out.inner[k];\n    }\n";

/// The whole way, with one part in the place of another.
fn whole(from: &str, to: &str) -> String {
    let right = [BARRIER, LOADS, PRODUCT, BARRIER, STORE, BARRIER, WRITE].concat();
    assert!(from.is_empty() || right.contains(from), "{from}");
    if from.is_empty() { right } else { right.replacen(from, to, 1) }
}

fn run(body: &str, threads: u32, checks: Checks, seed: u64) -> Result<Vec<f32>, String> {
    let library = Arc::new(Library::compile_with(&text(body), checks)?);
    let function = library.function("main_").expect("it is there");
    let (mut x, mut y) = (values(), vec![0.0_f32; 64]);
    let buffers = [
        Bound { index: 0, ptr: x.as_mut_ptr().cast(), len: 256 },
        Bound { index: 1, ptr: y.as_mut_ptr().cast(), len: 256 },
    ];
    let launch = Launch {
        buffers: &buffers,
        threadgroup_memory: &[128, 128, 256],
        threadgroups: [1; 3],
        threads: [threads, 1, 1],
        seed,
    };
    // SAFETY: the memory is this function's.
    unsafe { function.run(&launch) }?;
    Ok(y)
}

/// Small whole numbers, whose products are exact.
fn values() -> Vec<f32> {
    (0..64).map(|i| (i * 7 % 19) as f32 - 9.0).collect()
}

/// The product of the lines of `a` with those of `b`, which is loaded transposed, and `c`.
fn product() -> Vec<f32> {
    let x = values();
    let sum = |line: usize, column: usize| {
        (0..8).map(|k| x[line * 8 + k] * x[(column * 8 + k) * 3 % 64]).sum::<f32>() + x[line * 8 + column]
    };
    (0..64).map(|at| sum(at / 8, at % 8)).collect()
}

/// Fails unless the mistake is found, in the words given, in any order of threads.
fn planted(body: &str, threads: u32, checks: &[Checks], words: &str) {
    for &checks in checks.iter().filter(|_| able()) {
        for seed in 0..4 {
            let error = run(body, threads, checks, seed).expect_err(words);
            assert!(error.contains(words), "{checks:?}: {error}");
        }
    }
}

#[test]
fn matrices_are_loaded_multiplied_and_stored() {
    if !able() {
        return;
    }
    let stored_transposed = whole(STORE, "    simdgroup_store(mc, &out.inner[0], 8u, 0, true);\n");
    for checks in BOTH {
        for seed in 0..8 {
            assert_eq!(run(&whole("", ""), 32, checks, seed), Ok(product()), "{checks:?}, seed {seed}");
            let turned = run(&stored_transposed, 32, checks, seed).expect("is right");
            assert!((0..64).all(|at| turned[at] == product()[at % 8 * 8 + at / 8]), "{checks:?}: {turned:?}");
        }
    }
}

#[test]
fn what_other_threads_wrote_needs_a_barrier() {
    planted(&whole(BARRIER, ""), 32, &[Checks::All], "race");
    planted(&whole(&[BARRIER, WRITE].concat(), WRITE), 32, &[Checks::All], "race");
    // What one simdgroup writes another reads: the barrier of the one does not order the other.
    planted(&whole("", ""), 64, &[Checks::All], "race");
    planted(&whole("mem_threadgroup", "mem_device"), 32, &[Checks::All], "race");
}

#[test]
fn a_simdgroup_goes_together() {
    for (part, name) in [
        ("    simdgroup_store", "simdgroup_store"),
        ("    mc = NagaCooperativeMultiplyAdd", "simdgroup_multiply_accumulate"),
    ] {
        planted(&whole(part, &format!("    if (i < 16u) {part}")), 32, &BOTH, "divergent simdgroup");
        let end = [LOADS, &format!("    if (i < 16u) {}", part.trim_start())].concat();
        let rest = if part.contains("store") { "(mc, &out.inner[0], 8u);" } else { "(ma, mb, mc);" };
        planted(&[BARRIER, &end, rest].concat(), 32, &BOTH, name);
    }
    planted(&whole(LOADS, &format!("    if (i != 5u) {{ return; }}\n{LOADS}")), 32, &BOTH, "divergent");
}

#[test]
fn a_simdgroup_names_one_place() {
    let words = "different places";
    planted(&whole("&a.inner[0]", "&a.inner[i < 16u ? 0u : 1u]"), 32, &BOTH, words);
    planted(&whole("&a.inner[0], 8u", "&a.inner[0], i < 16u ? 8u : 4u"), 32, &BOTH, words);
    planted(&whole("8u, true", "8u, i == 3u"), 32, &BOTH, words);
    planted(&whole("(mc, &out.inner[0]", "(mc, &out.inner[i / 31u]"), 32, &BOTH, words);
}

#[test]
fn parts_of_different_matrices_are_none() {
    let mixed = [LOADS, "    if (i % 2u == 0u) { ma = mb; }\n"].concat();
    planted(&whole(LOADS, &mixed), 32, &BOTH, "parts of different matrices");
    let product = [
        PRODUCT,
        "    metal::simdgroup_float8x8 other = NagaCooperativeMultiplyAdd(ma, mb, mc);
    if (i == 9u) { mc = other; }\n",
    ]
    .concat();
    planted(&whole(PRODUCT, &product), 32, &BOTH, "parts of different matrices");
}

#[test]
fn what_was_never_loaded_is_not_used() {
    let nothing = "    metal::simdgroup_float8x8 mc = metal::simdgroup_float8x8 {};\n";
    let loaded = "    metal::simdgroup_float8x8 mc = NagaCooperativeLoad(&out.inner[0], 8u, false);\n";
    planted(&whole(loaded, nothing), 32, &BOTH, "nothing was loaded into");
    let stored = whole(&[loaded, PRODUCT].concat(), nothing);
    planted(&stored, 32, &BOTH, "nothing was loaded into");
}

#[test]
fn matrices_lie_inside_of_what_is_there() {
    let words = "out of bounds";
    planted(&whole("&a.inner[0]", "&a.inner[8]"), 32, &[Checks::All], words);
    planted(&whole("&a.inner[0], 8u", "&a.inner[0], 9u"), 32, &[Checks::All], words);
    planted(&whole("(mc, &out.inner[0]", "(mc, &out.inner[1]"), 32, &[Checks::All], words);
    planted(&whole(STORE, "    simdgroup_store(mc, &y.v[56], 8u);\n"), 32, &[Checks::All], words);
}

#[test]
fn matrices_need_a_whole_simdgroup() {
    let half = whole("", "").replace("+= 32u", "+= 16u");
    planted(&half, 16, &BOTH, "a matrix in a simdgroup of 16 threads");
}

#[test]
fn matrices_have_their_spaces_types_and_sizes() {
    for (from, to) in [
        (
            "    metal::simdgroup_half8x8 ma = NagaCooperativeLoad(&a.inner[0]",
            "    float own[64] = {};\n    metal::simdgroup_float8x8 me;\n    simdgroup_load(me, &own[0], 8u);\n    metal::simdgroup_half8x8 ma = NagaCooperativeLoad(&a.inner[0]",
        ),
        ("NagaCooperativeLoad(&a.inner[0]", "NagaCooperativeLoad(&x.v[0]"),
        ("metal::simdgroup_half8x8 ma", "metal::simdgroup_float8x8 ma"),
        ("    simdgroup_store(mc, &out", "    simdgroup_store(mc, &a"),
        ("    simdgroup_store(mc, &out.inner[0]", "    simdgroup_store(mc, &x.v[0]"),
        (PRODUCT, "    metal::simdgroup_matrix<half, 16, 16> large;\n"),
    ] {
        planted(&whole(from, to), 32, &BOTH, "error:");
    }
}
