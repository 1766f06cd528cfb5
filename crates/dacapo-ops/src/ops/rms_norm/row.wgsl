// The root mean square of a row, which a workgroup has for itself. The kernel brings `load(i)`, element i of the input,
// and `keep(i, v)`, what is done with it besides.
override WORKGROUP: u32 = 256u;
// Elements of a row for each invocation: it has those with the numbers index + n * WORKGROUP.
override PER: u32 = 4u;
// How many of them are kept in registers; the others are loaded twice.
const KEPT: u32 = 8u;

// 1 / sqrt(mean(x^2) + eps) over the `dim` elements from `first` on.
fn inverse_rms(first: u32, dim: u32, eps: f32, at: Invocation, kept: ptr<function, array<f32, KEPT>>) -> f32 {
    var sum = 0.0;
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < dim {
            let v = load(first + j);
            keep(first + j, v);
            sum = fma(v, v, sum);
            if n < KEPT {
                (*kept)[n] = v;
            }
        }
    }
    return inverseSqrt(workgroup_sum(sum, at) / f32(dim) + eps);
}

// The n-th element of this invocation, element `i` of the input, again.
fn again(i: u32, n: u32, kept: ptr<function, array<f32, KEPT>>) -> f32 {
    if n < KEPT {
        return (*kept)[n];
    }
    return load(i);
}
