struct Params { o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read_write> x: F32s;
@group(0) @binding(1) var<storage, read> b: F32s;

// The same `b` for every row of `x`.
override ROWS: bool = false;

fn length() -> u32 {
    return arrayLength(&x.v) - p.o0 / 4u;
}

fn apply(i: u32) {
    var j = i;
    if ROWS {
        j = i % (arrayLength(&b.v) - p.o1 / 4u);
    }
    x.v[p.o0 / 4u + i] += b.v[p.o1 / 4u + j];
}
