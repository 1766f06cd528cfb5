// Products of dense panels with few tokens: bound by how fast weights arrive. A workgroup takes a panel; its
// invocations have 16 bytes of weights at a time, the values of some rows for one k, and add up at the end.

// Type of the weights: 0 f32, 1 f16, 2 bf16.
override FLOAT: u32 = 1u;
// Invocations of a workgroup, and of a subgroup.
override THREADS: u32 = 64u;
override SUBGROUP: u32 = 8u;
// Tokens, at most 8.
override TOKENS: u32 = 1u;

// Invocations that hold the 16 values of one k, and values of k that a workgroup holds at once.
override SHARE: u32 = select(2u, 4u, FLOAT == 0u);
override SLOTS: u32 = THREADS / SHARE;
override SUBGROUPS: u32 = THREADS / SUBGROUP;
override PARTS: u32 = SUBGROUPS * 4u * TOKENS;

// Sums of up to eight rows.
struct Eight {
    lo: vec4<f32>,
    hi: vec4<f32>,
}

var<workgroup> parts: array<vec4<f32>, PARTS>;

fn two_halves(a: u32, b: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(a), unpack2x16float(b));
}

fn two_bfloats(a: u32, b: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
}

// `sum` and the products of weights for one k with an activation.
fn product(w: vec4<u32>, a: f32, sum: Eight) -> Eight {
    var out = sum;
    if FLOAT == 0u {
        out.lo = fma(bitcast<vec4<f32>>(w), vec4<f32>(a), sum.lo);
    } else if FLOAT == 1u {
        out.lo = fma(two_halves(w.x, w.y), vec4<f32>(a), sum.lo);
        out.hi = fma(two_halves(w.z, w.w), vec4<f32>(a), sum.hi);
    } else {
        out.lo = fma(two_bfloats(w.x, w.y), vec4<f32>(a), sum.lo);
        out.hi = fma(two_bfloats(w.z, w.w), vec4<f32>(a), sum.hi);
    }
    return out;
}

// The weights of four values of k with a token's activations.
fn four_products(w: array<vec4<u32>, 4>, k: u32, token: u32, sum: Eight) -> Eight {
    let at = token * p.k + k;
    let first = product(w[1], one_at(at + SLOTS), product(w[0], one_at(at), sum));
    return product(w[3], one_at(at + 3u * SLOTS), product(w[2], one_at(at + 2u * SLOTS), first));
}

// Adds what a subgroup's invocations of the same rows have, and leaves it to the workgroup.
fn leave(token: u32, subgroup: u32, lane: u32, value: Eight) {
    var sum = value;
    for (var mask = SHARE; mask < SUBGROUP; mask *= 2u) {
        sum.lo += subgroupShuffleXor(sum.lo, mask);
        if SHARE == 2u { sum.hi += subgroupShuffleXor(sum.hi, mask); }
    }
    if lane < SHARE {
        let at = (token * SUBGROUPS + subgroup) * 4u + lane * (4u / SHARE);
        parts[at] = sum.lo;
        if SHARE == 2u { parts[at + 1u] = sum.hi; }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let panel = id.x + id.y * groups.x;
    if panel * 16u >= p.n { return; }
    let index = subgroup * SUBGROUP + lane;
    begin(id.z);
    // Lines of 64 bytes from one panel to the next.
    let lines = (p.k * SHARE + 3u) / 4u;
    let start = weight_start() + panel * lines * 4u + index;

    var a0 = Eight();
    var a1 = Eight();
    var a2 = Eight();
    var a3 = Eight();
    var a4 = Eight();
    var a5 = Eight();
    var a6 = Eight();
    var a7 = Eight();
    let slot = index / SHARE;
    var done = 0u;
    // Four loads in flight together.
    for (; done + 4u * SLOTS <= p.k; done += 4u * SLOTS) {
        let at = start + done * SHARE;
        let w = array(weight.v[at], weight.v[at + THREADS], weight.v[at + 2u * THREADS], weight.v[at + 3u * THREADS]);
        let k = done + slot;
        a0 = four_products(w, k, 0u, a0);
        if TOKENS > 1u { a1 = four_products(w, k, 1u, a1); }
        if TOKENS > 2u { a2 = four_products(w, k, 2u, a2); }
        if TOKENS > 3u { a3 = four_products(w, k, 3u, a3); }
        if TOKENS > 4u { a4 = four_products(w, k, 4u, a4); }
        if TOKENS > 5u { a5 = four_products(w, k, 5u, a5); }
        if TOKENS > 6u { a6 = four_products(w, k, 6u, a6); }
        if TOKENS > 7u { a7 = four_products(w, k, 7u, a7); }
    }
    for (var k = done + slot; k < p.k; k += SLOTS) {
        let w = weight.v[start + (k - slot) * SHARE];
        a0 = product(w, one_at(k), a0);
        if TOKENS > 1u { a1 = product(w, one_at(p.k + k), a1); }
        if TOKENS > 2u { a2 = product(w, one_at(2u * p.k + k), a2); }
        if TOKENS > 3u { a3 = product(w, one_at(3u * p.k + k), a3); }
        if TOKENS > 4u { a4 = product(w, one_at(4u * p.k + k), a4); }
        if TOKENS > 5u { a5 = product(w, one_at(5u * p.k + k), a5); }
        if TOKENS > 6u { a6 = product(w, one_at(6u * p.k + k), a6); }
        if TOKENS > 7u { a7 = product(w, one_at(7u * p.k + k), a7); }
    }

    leave(0u, subgroup, lane, a0);
    if TOKENS > 1u { leave(1u, subgroup, lane, a1); }
    if TOKENS > 2u { leave(2u, subgroup, lane, a2); }
    if TOKENS > 3u { leave(3u, subgroup, lane, a3); }
    if TOKENS > 4u { leave(4u, subgroup, lane, a4); }
    if TOKENS > 5u { leave(5u, subgroup, lane, a5); }
    if TOKENS > 6u { leave(6u, subgroup, lane, a6); }
    if TOKENS > 7u { leave(7u, subgroup, lane, a7); }
    workgroupBarrier();
    for (var i = index; i < 16u * TOKENS; i += THREADS) {
        let token = i / 16u;
        let row = i % 16u;
        var sum = 0.0;
        for (var s = 0u; s < SUBGROUPS; s++) {
            sum += parts[(token * SUBGROUPS + s) * 4u + row / 4u][row % 4u];
        }
        if panel * 16u + row < p.n { put(token, panel * 16u + row, sum); }
    }
}
