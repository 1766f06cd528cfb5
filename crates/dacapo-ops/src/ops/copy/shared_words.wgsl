// A copy whose first and last words may belong to others as well.
struct Params { len: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct Words { v: array<atomic<u32>> }
@group(0) @binding(0) var<storage, read> x: U32s;
@group(0) @binding(1) var<storage, read_write> out: Words;

fn apply(i: u32) {
    let found = content(i);
    if found.y == 0xffffffffu {
        atomicStore(&out.v[p.o1 / 4u + i], found.x);
    } else {
        // Others may write the other bytes at the same time: cleared and set by themselves, both are kept.
        atomicAnd(&out.v[p.o1 / 4u + i], ~found.y);
        atomicOr(&out.v[p.o1 / 4u + i], found.x);
    }
}
