// The gated half of an MLP for one token: of a block of 32 rows a workgroup has the products with both weights, then their
// gated activation, which it quantizes. A quarter of the subgroups takes 16 rows of one weight, a panel.

// Invocations of a workgroup, which has at least 4 subgroups, and of a subgroup, which has at least 4.
override THREADS: u32 = 64u;
override SUBGROUP: u32 = 8u;
override PAIRS: bool = true;

// Invocations that share a quad of rows, and rounds of two blocks for each of them, then of one.
override SLOTS: u32 = THREADS / 16u;
override PAIR_ROUNDS: u32 = select(0u, BLOCKS / (2u * SLOTS), PAIRS);
override ROUNDS: u32 = (BLOCKS - PAIR_ROUNDS * 2u * SLOTS + SLOTS - 1u) / SLOTS;
override EVEN: bool = BLOCKS % SLOTS == 0u;
override SUBGROUPS: u32 = THREADS / SUBGROUP;
// Subgroups that share a panel.
override SHARING: u32 = SUBGROUPS / 4u;
override PARTS: u32 = SUBGROUPS * 4u;

var<workgroup> parts: array<vec4<f32>, PARTS>;
var<workgroup> values: array<vec4<f32>, 8>;

fn sum_of(panel: u32, row: u32) -> f32 {
    var sum = 0.0;
    for (var s = 0u; s < SHARING; s++) { sum += parts[(panel * SHARING + s) * 4u + row / 4u][row % 4u]; }
    return sum;
}

// Quantizes the 32 values; invocation `j` of eight stores four codes, the first also what is known of them.
fn put_block(block: u32, j: u32) {
    var largest = 0u;
    for (var i = 0u; i < 8u; i++) {
        let bits = bitcast<vec4<u32>>(values[i]) & vec4<u32>(0x7fffffffu);
        largest = max(largest, max(max(bits.x, bits.y), max(bits.z, bits.w)));
    }
    // From 1e-35 on, and finite.
    let usable = largest >= 0x0554ad2eu && largest < 0x7f800000u;
    let scale = select(0.0, bitcast<f32>(largest) / 127.0, usable);
    let inverse = select(0.0, 127.0 / bitcast<f32>(largest), usable);
    var sums = vec2<i32>();
    var own = vec4<i32>();
    for (var i = 0u; i < 8u; i++) {
        // What is not finite must not become a code.
        let value = select(vec4<f32>(), values[i], usable);
        let four = clamp(vec4<i32>(round(value * inverse)), vec4<i32>(-127), vec4<i32>(127));
        if i == j { own = four; }
        sums[i / 4u] += four.x + four.y + four.z + four.w;
    }
    let bytes = bitcast<vec4<u32>>(own) & vec4<u32>(0xffu);
    codes.v[p.o4 / 4u + block * 8u + j] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    if j == 0u {
        let info = vec4<f32>(scale, scale * f32(sums.x + sums.y), scale * f32(sums.x), scale * f32(sums.y));
        infos.v[p.o5 / 16u + block] = select(info, bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u)), largest >= 0x7f800000u);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = id.x + id.y * groups.x;
    if group * 32u >= p.n { return; }
    let index = subgroup * SUBGROUP + lane;
    // Panels 0 and 1 are the gate's.
    let own = subgroup / SHARING;
    let panel = select(0u, UP, own >= 2u) + (group * 2u + own % 2u) * PANEL_VECS;
    let quad = lane % 4u;
    let slot = (subgroup % SHARING * SUBGROUP + lane) / 4u;

    // The first weights are on their way while activations are made ready.
    var x: Block;
    var z: Block;
    var s: Scale;
    var t: Scale;
    if PAIR_ROUNDS > 0u || EVEN || slot < BLOCKS {
        x = load_block(panel, quad, slot);
        s = load_scale(panel, quad, slot);
    }
    if PAIR_ROUNDS > 0u {
        z = load_block(panel, quad, slot + SLOTS);
        t = load_scale(panel, quad, slot + SLOTS);
    }
    prepare(index, subgroup);
    var sum = vec4<f32>();
    for (var round = 0u; round < PAIR_ROUNDS; round++) {
        let block = slot + round * 2u * SLOTS;
        let next = block + SLOTS;
        if round > 0u {
            x = load_block(panel, quad, block);
            z = load_block(panel, quad, next);
            s = load_scale(panel, quad, block);
            t = load_scale(panel, quad, next);
        }
        sum = product(z, t, next, 0u, product(x, s, block, 0u, sum));
    }
    for (var round = 0u; round < ROUNDS; round++) {
        let block = slot + (2u * PAIR_ROUNDS + round) * SLOTS;
        if !EVEN && block >= BLOCKS { break; }
        if round > 0u || PAIR_ROUNDS > 0u {
            x = load_block(panel, quad, block);
            s = load_scale(panel, quad, block);
        }
        sum = product(x, s, block, 0u, sum);
    }

    for (var mask = 4u; mask < SUBGROUP; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
    if lane < 4u { parts[subgroup * 4u + lane] = sum; }
    workgroupBarrier();
    for (var row = index; row < 32u; row += THREADS) {
        let value = activation(sum_of(row / 16u, row % 16u)) * sum_of(2u + row / 16u, row % 16u);
        values[row / 4u][row % 4u] = value;
    }
    workgroupBarrier();
    for (var j = index; j < 8u; j += THREADS) { put_block(group, j); }
}
