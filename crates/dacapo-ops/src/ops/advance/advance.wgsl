struct Params { by: u32, o0: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
@group(0) @binding(0) var<storage, read_write> step: U32s;

@compute @workgroup_size(1)
fn main() {
    step.v[p.o0 / 4u] += p.by;
}
