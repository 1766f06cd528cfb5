// The activations are the RMSNorm of `x`. The text before brings `x_at(i)` and `norm_at(i)`, groups of four, and p.eps.

// Groups of four that an invocation keeps; the others it loads again.
const KEPT: u32 = 4u;
override SUBGROUPS_HERE: u32 = THREADS / SUBGROUP;
var<workgroup> squares: array<f32, SUBGROUPS_HERE>;

fn prepare(index: u32, subgroup: u32) {
    var kept: array<vec4<f32>, KEPT>;
    var weights: array<vec4<f32>, KEPT>;
    var square = 0.0;
    for (var n = 0u; n < SHARE; n++) {
        let i = index + n * THREADS;
        if i < FOURS {
            let v = x_at(i);
            if n < KEPT {
                kept[n] = v;
                weights[n] = norm_at(i);
            }
            square += dot(v, v);
        }
    }
    var all = subgroupAdd(square);
    if THREADS > SUBGROUP {
        if index % SUBGROUP == 0u { squares[subgroup] = all; }
        workgroupBarrier();
        all = 0.0;
        for (var s = 0u; s < SUBGROUPS_HERE; s++) { all += squares[s]; }
    }
    let inverse = inverseSqrt(all / f32(BLOCKS * 32u) + p.eps);
    for (var n = 0u; n < SHARE; n++) {
        let i = index + n * THREADS;
        var v = vec4<f32>();
        if i < FOURS {
            if n < KEPT {
                v = kept[n] * inverse * weights[n];
            } else {
                v = x_at(i) * inverse * norm_at(i);
            }
        }
        quantize_own(i, v, index);
    }
    workgroupBarrier();
}
