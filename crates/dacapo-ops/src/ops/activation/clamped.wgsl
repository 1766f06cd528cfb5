struct Params { alpha: f32, limit: f32, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> gate: F32s;
@group(0) @binding(1) var<storage, read> up: F32s;
@group(0) @binding(2) var<storage, read_write> out: F32s;

fn length() -> u32 {
    return arrayLength(&gate.v) - p.o0 / 4u;
}

fn apply(i: u32) {
    let gate_value = gate.v[p.o0 / 4u + i];
    let up_value = up.v[p.o1 / 4u + i];
    let g = kept_if_nan(gate_value, min(gate_value, p.limit));
    let u = kept_if_nan(up_value, clamp(up_value, -p.limit, p.limit));
    out.v[p.o2 / 4u + i] = swish(g, p.alpha * g) * (u + 1.0);
}
