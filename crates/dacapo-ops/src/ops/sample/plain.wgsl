struct Params { advance: u32, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> logits: F32s;
@group(0) @binding(1) var<storage, read> params: U32s;
@group(0) @binding(2) var<storage, read> step: U32s;
@group(0) @binding(3) var<storage, read_write> counts: U32s;
@group(0) @binding(4) var<storage, read_write> token: U32s;

fn elements() -> u32 {
    return arrayLength(&logits.v) - p.o0 / 4u;
}

fn logit(i: u32) -> f32 {
    return logits.v[p.o0 / 4u + i];
}

fn count(i: u32) -> u32 {
    return counts.v[p.o3 / 4u + i];
}

fn choose(i: u32) {
    let before = counts.v[p.o3 / 4u + i];
    counts.v[p.o3 / 4u + i] = before + select(0u, 1u, before != 0xffffffffu);
    token.v[p.o4 / 4u] = i;
}
