struct Params { o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> a: F32s;
@group(0) @binding(1) var<storage, read> b: F32s;
@group(0) @binding(2) var<storage, read_write> out: F32s;

// Multiplied, not added.
override PRODUCT: bool = false;

fn length() -> u32 {
    return arrayLength(&a.v) - p.o0 / 4u;
}

fn apply(i: u32) {
    let left = a.v[p.o0 / 4u + i];
    let right = b.v[p.o1 / 4u + i];
    out.v[p.o2 / 4u + i] = select(left + right, left * right, PRODUCT);
}
