// Normalization of rows, a workgroup for each. The kernel brings `values()`, the number of elements of all rows;
// `load(i)`, element i of the input; `keep(i, v)`, what is done with it besides; `store(i, j, v)`, which takes the
// normalized element i, the j-th of its row.
override WORKGROUP: u32 = 256u;
// Elements of a row for each invocation.
override PER: u32 = 4u;
// How many of them are kept in registers; the others are loaded twice.
const KEPT: u32 = 8u;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let first = linear_group(at) * p.dim;
    if first >= values() {
        return;
    }
    var kept: array<f32, KEPT>;
    var sum = 0.0;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            let v = load(first + j);
            keep(first + j, v);
            sum = fma(v, v, sum);
            if n < KEPT {
                kept[n] = v;
            }
        }
    }
    let inverse = inverseSqrt(workgroup_sum(sum, at) / f32(p.dim) + p.eps);
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            var v = 0.0;
            if n < KEPT {
                v = kept[n];
            } else {
                v = load(first + j);
            }
            store(first + j, j, v * inverse);
        }
    }
}
