// Products with few tokens: bound by how fast weights arrive. A workgroup takes QUADS quads of rows; its invocations
// share them with blocks of 32 values along k between them, and add up at the end, in an order that depends on the
// shape and the device alone.

// Invocations of a workgroup, and of a subgroup.
override THREADS: u32 = 64u;
override SUBGROUP: u32 = 8u;
// Quads of rows of a workgroup: 1, 2 or 4.
override QUADS: u32 = 4u;
// Tokens, at most 8.
override TOKENS: u32 = 1u;
// Whether an invocation takes two blocks at a time, so that all their loads are in flight together.
override PAIRS: bool = true;

// Invocations that share a quad, and what subgroups leave for the end.
override SLOTS: u32 = THREADS / QUADS;
override PARTS: u32 = THREADS / SUBGROUP * QUADS * TOKENS;
// Rounds of two blocks for each invocation, then of one, all of them known when the pipeline is made: what has but one
// round is straight code, whose loads are all in flight together.
override PAIR_ROUNDS: u32 = select(0u, BLOCKS / (2u * SLOTS), PAIRS);
override ROUNDS: u32 = (BLOCKS - PAIR_ROUNDS * 2u * SLOTS + SLOTS - 1u) / SLOTS;
override EVEN: bool = BLOCKS % SLOTS == 0u;

var<workgroup> parts: array<vec4<f32>, PARTS>;

fn put_quad(token: u32, quad: u32, sum: vec4<f32>, wanted: bool) {
    for (var r = 0u; r < 4u; r++) {
        if wanted && quad * 4u + r < p.n { put(token, quad * 4u + r, sum[r]); }
    }
}

// Adds what a subgroup's invocations of the same quad have, and leaves it to the workgroup.
fn leave(token: u32, first: u32, subgroup: u32, lane: u32, value: vec4<f32>) {
    var sum = value;
    for (var mask = QUADS; mask < SUBGROUP; mask *= 2u) {
        sum += subgroupShuffleXor(sum, mask);
    }
    if THREADS == SUBGROUP {
        // Nobody else has anything to add.
        put_quad(token, first + lane, sum, lane < QUADS);
    } else if lane < QUADS {
        parts[(token * (THREADS / SUBGROUP) + subgroup) * QUADS + lane] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = (id.x + id.y * groups.x) * QUADS;
    if first * 4u >= p.n { return; }
    let index = subgroup * SUBGROUP + lane;
    begin(id.z);
    let quad = first % 4u + index % QUADS;
    let panel = weight_start() + first / 4u * PANEL_VECS;

    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var a4 = vec4<f32>();
    var a5 = vec4<f32>();
    var a6 = vec4<f32>();
    var a7 = vec4<f32>();
    let slot = index / QUADS;
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
    for (var round = 0u; round < PAIR_ROUNDS; round++) {
        let block = slot + round * 2u * SLOTS;
        let next = block + SLOTS;
        if round > 0u {
            x = load_block(panel, quad, block);
            z = load_block(panel, quad, next);
            s = load_scale(panel, quad, block);
            t = load_scale(panel, quad, next);
        }
        a0 = product(z, t, next, 0u, product(x, s, block, 0u, a0));
        if TOKENS > 1u { a1 = product(z, t, next, 1u, product(x, s, block, 1u, a1)); }
        if TOKENS > 2u { a2 = product(z, t, next, 2u, product(x, s, block, 2u, a2)); }
        if TOKENS > 3u { a3 = product(z, t, next, 3u, product(x, s, block, 3u, a3)); }
        if TOKENS > 4u { a4 = product(z, t, next, 4u, product(x, s, block, 4u, a4)); }
        if TOKENS > 5u { a5 = product(z, t, next, 5u, product(x, s, block, 5u, a5)); }
        if TOKENS > 6u { a6 = product(z, t, next, 6u, product(x, s, block, 6u, a6)); }
        if TOKENS > 7u { a7 = product(z, t, next, 7u, product(x, s, block, 7u, a7)); }
    }
    for (var round = 0u; round < ROUNDS; round++) {
        let block = slot + (2u * PAIR_ROUNDS + round) * SLOTS;
        if !EVEN && block >= BLOCKS { break; }
        if round > 0u || PAIR_ROUNDS > 0u {
            x = load_block(panel, quad, block);
            s = load_scale(panel, quad, block);
        }
        a0 = product(x, s, block, 0u, a0);
        if TOKENS > 1u { a1 = product(x, s, block, 1u, a1); }
        if TOKENS > 2u { a2 = product(x, s, block, 2u, a2); }
        if TOKENS > 3u { a3 = product(x, s, block, 3u, a3); }
        if TOKENS > 4u { a4 = product(x, s, block, 4u, a4); }
        if TOKENS > 5u { a5 = product(x, s, block, 5u, a5); }
        if TOKENS > 6u { a6 = product(x, s, block, 6u, a6); }
        if TOKENS > 7u { a7 = product(x, s, block, 7u, a7); }
    }

    leave(0u, first, subgroup, lane, a0);
    if TOKENS > 1u { leave(1u, first, subgroup, lane, a1); }
    if TOKENS > 2u { leave(2u, first, subgroup, lane, a2); }
    if TOKENS > 3u { leave(3u, first, subgroup, lane, a3); }
    if TOKENS > 4u { leave(4u, first, subgroup, lane, a4); }
    if TOKENS > 5u { leave(5u, first, subgroup, lane, a5); }
    if TOKENS > 6u { leave(6u, first, subgroup, lane, a6); }
    if TOKENS > 7u { leave(7u, first, subgroup, lane, a7); }
    if THREADS == SUBGROUP { return; }
    workgroupBarrier();
    for (var i = index; i < 4u * QUADS * TOKENS; i += THREADS) {
        let token = i / (4u * QUADS);
        let row = i % (4u * QUADS);
        var sum = 0.0;
        for (var s = 0u; s < THREADS / SUBGROUP; s++) {
            sum += parts[(token * (THREADS / SUBGROUP) + s) * QUADS + row / 4u][row % 4u];
        }
        if first * 4u + row < p.n { put(token, first * 4u + row, sum); }
    }
}
