// Normalization of rows by mean and variance, a workgroup for each. The kernel brings `bias_of(j)`, what is added to the
// j-th element of a row, and `store(i, v)`.
override WORKGROUP: u32 = 256u;
// Elements of a row for each invocation.
override PER: u32 = 4u;
// How many of them are kept in registers; the others are loaded again.
const KEPT: u32 = 8u;

fn load(i: u32) -> f32 {
    return x.v[p.o0 / 4u + i];
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let first = linear_group(at) * p.dim;
    if first >= arrayLength(&x.v) - p.o0 / 4u {
        return;
    }
    var kept: array<f32, KEPT>;
    var sum = 0.0;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            let v = load(first + j);
            sum += v;
            if n < KEPT {
                kept[n] = v;
            }
        }
    }
    let mean = workgroup_sum(sum, at) / f32(p.dim);
    // In a second pass over the differences: a sum of squares would cancel.
    var squares = 0.0;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            var v = 0.0;
            if n < KEPT {
                v = kept[n];
            } else {
                v = load(first + j);
            }
            squares = fma(v - mean, v - mean, squares);
        }
    }
    let inverse = inverseSqrt(workgroup_sum(squares, at) / f32(p.dim) + p.eps);
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            var v = 0.0;
            if n < KEPT {
                v = kept[n];
            } else {
                v = load(first + j);
            }
            store(first + j, fma((v - mean) * inverse, weight.v[p.o1 / 4u + j], bias_of(j)));
        }
    }
}
