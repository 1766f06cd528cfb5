struct Params { experts: u32, chosen: u32, scale: f32, normalized: u32, scoring: u32, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> logits: F32s;
@group(0) @binding(1) var<storage, read_write> ids: U32s;
@group(0) @binding(2) var<storage, read_write> weights: F32s;

fn tokens() -> u32 { return (arrayLength(&logits.v) - p.o0 / 4u) / p.experts; }
fn put(i: u32, id: u32) { ids.v[p.o1 / 4u + i] = id; }
fn weight_place(i: u32) -> u32 { return p.o2 / 4u + i; }
// What an expert is chosen by: scores may be equal where logits are not.
fn choice(expert: u32, logit: f32, score: f32) -> f32 { return logit; }
