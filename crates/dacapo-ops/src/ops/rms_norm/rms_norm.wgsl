// Normalization of rows, a workgroup for each. The kernel brings `values()`, the number of elements of all rows; what
// `row.wgsl` asks for; and `store(i, j, v)`, which takes the normalized element i, the j-th of its row.
@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let first = linear_group(at) * p.dim;
    if first >= values() {
        return;
    }
    var kept: array<f32, KEPT>;
    let inverse = inverse_rms(first, p.dim, p.eps, at, &kept);
    for (var n = 0u; n < PER; n++) {
        let j = n * WORKGROUP + at.index;
        if j < p.dim {
            store(first + j, j, again(first + j, n, &kept) * inverse);
        }
    }
}
