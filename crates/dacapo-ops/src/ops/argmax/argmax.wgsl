// Index of the largest element of rows, a workgroup for each.
struct Params { dim: u32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> out: U32s;

override WORKGROUP: u32 = 256u;
// Loads that are under way together.
const AHEAD: u32 = 8u;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let row = linear_group(at);
    if row >= arrayLength(&out.v) - p.o1 / 4u {
        return;
    }
    let first = p.o0 / 4u + row * p.dim;
    var best = 0u;
    var index = 0xffffffffu;
    for (var i = at.index; i < p.dim; i += WORKGROUP * AHEAD) {
        var values: array<f32, AHEAD>;
        for (var j = 0u; j < AHEAD; j++) {
            // Beyond the end the last element once more, which changes nothing.
            values[j] = x.v[first + min(i + j * WORKGROUP, p.dim - 1u)];
        }
        for (var j = 0u; j < AHEAD; j++) {
            let order = order_of(values[j]);
            if order > best {
                best = order;
                index = min(i + j * WORKGROUP, p.dim - 1u);
            }
        }
    }
    let largest = workgroup_max_u32(best, at);
    // Of equal elements the first: the largest complement. None at all, where everything is NaN, is index 0.
    let mine = select(0u, ~index, best == largest && best != 0u);
    let found = workgroup_max_u32(mine, at);
    if at.index == 0u {
        out.v[p.o1 / 4u + row] = select(0u, ~found, largest != 0u);
    }
}
