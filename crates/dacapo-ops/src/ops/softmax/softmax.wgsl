// Softmax of rows, a workgroup for each.
struct Params { dim: u32, scale: f32, o0: u32, o1: u32 }
var<immediate> p: Params;
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> out: F32s;

override WORKGROUP: u32 = 256u;
// Elements of a row for each invocation.
override PER: u32 = 4u;
// How many of them are kept in registers; the others are computed again.
const KEPT: u32 = 8u;

fn scaled(i: u32) -> f32 {
    return x.v[p.o0 / 4u + i] * p.scale;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let first = linear_group(at) * p.dim;
    if first >= arrayLength(&x.v) - p.o0 / 4u {
        return;
    }
    var kept: array<f32, KEPT>;
    var highest = -3.4028235e38;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            let v = scaled(first + j);
            if v > highest {
                highest = v;
            }
            if n < KEPT {
                kept[n] = v;
            }
        }
    }
    let largest = workgroup_max(highest, at);
    var sum = 0.0;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            var v = 0.0;
            if n < KEPT {
                v = kept[n];
            } else {
                v = scaled(first + j);
            }
            v = exp_of(v - largest);
            sum += v;
            if n < KEPT {
                kept[n] = v;
            }
        }
    }
    let inverse = 1.0 / workgroup_sum(sum, at);
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            var v = 0.0;
            if n < KEPT {
                v = kept[n];
            } else {
                v = exp_of(scaled(first + j) - largest);
            }
            out.v[p.o1 / 4u + first + j] = v * inverse;
        }
    }
}
