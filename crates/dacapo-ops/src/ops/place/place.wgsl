struct Params { columns: u32, width: u32, first: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> part: F32s;
@group(0) @binding(1) var<storage, read_write> out: F32s;

fn length() -> u32 {
    return arrayLength(&part.v) - p.o0 / 4u;
}

fn apply(i: u32) {
    let row = i / p.columns;
    let column = i - row * p.columns;
    out.v[p.o1 / 4u + row * p.width + p.first + column] = part.v[p.o0 / 4u + i];
}
