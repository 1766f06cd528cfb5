struct Params { width: u32, experts: u32, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> ids: U32s;
@group(0) @binding(1) var<storage, read> bias: F32s;
@group(0) @binding(2) var<storage, read_write> y: F32s;

fn length() -> u32 {
    return arrayLength(&y.v) - p.o2 / 4u;
}

fn apply(i: u32) {
    let expert = min(ids.v[p.o0 / 4u + i / p.width], p.experts - 1u);
    y.v[p.o2 / 4u + i] += bias.v[p.o1 / 4u + expert * p.width + i % p.width];
}
