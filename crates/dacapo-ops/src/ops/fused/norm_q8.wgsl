// A norm to int8.
struct Params { dim: u32, eps: f32, o0: u32, o1: u32, o2: u32, o3: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read> weight: F32s;
@group(0) @binding(2) var<storage, read_write> codes: U32s;
@group(0) @binding(3) var<storage, read_write> about: U32s;

fn values() -> u32 {
    return arrayLength(&x.v) - p.o0 / 4u;
}

fn load(i: u32) -> f32 {
    return x.v[p.o0 / 4u + i];
}

fn keep(i: u32, v: f32) {}

fn weight_of(j: u32) -> f32 {
    return weight.v[p.o1 / 4u + j];
}

fn put_codes(i: u32, word: u32) {
    codes.v[p.o2 / 4u + i] = word;
}

fn put_about(i: u32, bits: u32) {
    about.v[p.o3 / 4u + i] = bits;
}
