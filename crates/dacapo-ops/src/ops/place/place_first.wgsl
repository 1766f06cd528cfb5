struct Params { columns: u32, width: u32, first: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> part: F32s;
@group(0) @binding(1) var<storage, read_write> out: F32s;

fn length() -> u32 {
    return arrayLength(&out.v) - p.o1 / 4u;
}

fn apply(i: u32) {
    let row = i / p.width;
    let column = i - row * p.width;
    var value = 0.0;
    if column < p.columns {
        value = part.v[p.o0 / 4u + row * p.columns + column];
    }
    out.v[p.o1 / 4u + i] = value;
}
