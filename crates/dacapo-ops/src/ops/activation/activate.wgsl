struct Params { function: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> out: F32s;

fn length() -> u32 {
    return arrayLength(&x.v) - p.o0 / 4u;
}

fn apply(i: u32) {
    out.v[p.o1 / 4u + i] = activation(x.v[p.o0 / 4u + i]);
}
