// Products of small weights with one token: bound by how long a workgroup takes, whose instructions have to be fetched
// anew after every barrier. So an invocation does little: of a block of 32 values it takes a quarter, two sub-steps, and
// subgroups add up by halves, each invocation keeping half of the rows that it still has.

// Invocations of a workgroup, and of a subgroup, which has at least 4 QUADS.
override THREADS: u32 = 64u;
override SUBGROUP: u32 = 8u;
// Quads of rows of a workgroup: 1, 2 or 4.
override QUADS: u32 = 2u;

// Blocks that a workgroup takes at once, and rounds of that.
override SLOTS: u32 = THREADS / (4u * QUADS);
override ROUNDS: u32 = (BLOCKS + SLOTS - 1u) / SLOTS;
override EVEN: bool = BLOCKS % SLOTS == 0u;
override SUBGROUPS: u32 = THREADS / SUBGROUP;
override PARTS: u32 = SUBGROUPS * 4u * QUADS;

var<workgroup> parts: array<f32, PARTS>;

// Sub-steps 2 part and 2 part + 1 of a quad's block.
struct Quarter { even: vec4<u32>, odd: vec4<u32>, s: Scale }

fn load_quarter(panel: u32, quad: u32, block: u32, part: u32) -> Quarter {
    var x: Quarter;
    x.even = load_codes(panel, quad, block, 2u * part);
    x.odd = load_codes(panel, quad, block, 2u * part + 1u);
    x.s = load_scale(panel, quad, block);
    return x;
}

// `sum` and the products of a quarter.
fn quarter(x: Quarter, block: u32, part: u32, sum: vec4<f32>) -> vec4<f32> {
    let four = codes_vec(2u * block + part / 2u);
    let info = info_of(block);
    let s = x.s;
    let two = select(four.xy, four.zw, part % 2u == 1u);
    let dot = vec4<f32>(dots(x.even, two.x) + dots(x.odd, two.y));
    // The activations' sum counts once for each step.
    if HALVES {
        let all = select(0.0, select(info.z, info.w, part == 2u), part % 2u == 0u);
        let last = part >= 2u;
        let scale = select(s.s, s.s_last, last);
        return fma(select(s.b, s.b_last, last), vec4<f32>(all), fma(dot, scale * info.x, sum));
    }
    return fma(s.b, vec4<f32>(select(0.0, info.y, part == 0u)), fma(dot, s.s * info.x, sum));
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
    let part = index / QUADS % 4u;
    let slot = index / (4u * QUADS);
    let panel = weight_start() + first / 4u * PANEL_VECS;

    // The first weights are on their way while activations are made ready.
    var x: Quarter;
    if EVEN || slot < BLOCKS { x = load_quarter(panel, quad, slot, part); }
    prepare(index, subgroup);
    var sum = vec4<f32>();
    for (var round = 0u; round < ROUNDS; round++) {
        let block = slot + round * SLOTS;
        if EVEN || block < BLOCKS {
            if round > 0u { x = load_quarter(panel, quad, block, part); }
            sum = quarter(x, block, part, sum);
        }
    }

    let second = (lane & QUADS) != 0u;
    let two = select(sum.xy, sum.zw, second) + subgroupShuffleXor(select(sum.zw, sum.xy, second), QUADS);
    let odd = (lane & (2u * QUADS)) != 0u;
    var one = select(two.x, two.y, odd) + subgroupShuffleXor(select(two.y, two.x, odd), 2u * QUADS);
    for (var mask = 4u * QUADS; mask < SUBGROUP; mask *= 2u) { one += subgroupShuffleXor(one, mask); }
    let own = index % QUADS * 4u + select(0u, 2u, second) + select(0u, 1u, odd);
    if THREADS == SUBGROUP {
        if lane < 4u * QUADS && first * 4u + own < p.n { put(0u, first * 4u + own, one); }
        return;
    }
    if lane < 4u * QUADS { parts[subgroup * (4u * QUADS) + own] = one; }
    workgroupBarrier();
    if index < 4u * QUADS && first * 4u + index < p.n {
        var total = parts[index];
        for (var s = 1u; s < SUBGROUPS; s++) { total += parts[s * (4u * QUADS) + index]; }
        put(0u, first * 4u + index, total);
    }
}
