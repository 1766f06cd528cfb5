// Normalization of rows to int8, a workgroup for each row. The text before brings `values()`, `weight_of(j)` and what
// `row.wgsl` and `block.wgsl` ask for.

// Elements that each invocation hands over at once: it gets as many neighbours back.
const ROUND: u32 = 4u;
override STAGED: u32 = WORKGROUP * ROUND;

var<workgroup> staged: array<f32, STAGED>;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let first = linear_group(at) * p.dim;
    if first >= values() {
        return;
    }
    var kept: array<f32, KEPT>;
    let inverse = inverse_rms(first, p.dim, p.eps, at, &kept);
    for (var start = 0u; start < PER; start += ROUND) {
        for (var m = 0u; m < ROUND; m++) {
            let j = (start + m) * WORKGROUP + at.index;
            var v = 0.0;
            if j < p.dim {
                v = again(first + j, start + m, &kept) * inverse * weight_of(j);
            }
            staged[m * WORKGROUP + at.index] = v;
        }
        workgroupBarrier();
        let mine = 4u * at.index;
        let four = vec4<f32>(staged[mine], staged[mine + 1u], staged[mine + 2u], staged[mine + 3u]);
        let j = start * WORKGROUP + mine;
        quantize_four((first + j) / 4u, four, j < p.dim, at.index);
    }
}
