// A copy that fills whole words.
struct Params { len: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
@group(0) @binding(0) var<storage, read> x: U32s;
@group(0) @binding(1) var<storage, read_write> out: U32s;

fn apply(i: u32) {
    out.v[p.o1 / 4u + i] = content(i).x;
}
