// Activations of one token that every workgroup quantizes for itself, as `ops/quantize` does. The text behind brings
// `prepare(index, subgroup)`, which has `quantize_own` take them all.

// 16 codes each, and what is known of the blocks.
var<workgroup> own_codes: array<vec4<u32>, OWN_CODES>;
var<workgroup> own_infos: array<vec4<f32>, BLOCKS>;
override OWN_CODES: u32 = BLOCKS * 2u;
// Where subgroups of 4 meet: a block has 8 invocations.
override MEETING: u32 = select(1u, THREADS, SUBGROUP < 8u);
var<workgroup> meeting: array<vec2<u32>, MEETING>;

// Groups of four activations, and rounds in which the workgroup takes them.
override FOURS: u32 = BLOCKS * 8u;
override SHARE: u32 = (FOURS + THREADS - 1u) / THREADS;

fn codes_vec(i: u32) -> vec4<u32> { return own_codes[i]; }
fn info_of(i: u32) -> vec4<f32> { return own_infos[i]; }

// The largest of the magnitudes' bits in a block. The whole workgroup comes here together.
fn largest_of_block(bits: u32, index: u32) -> u32 {
    if SUBGROUP < 8u {
        meeting[index].x = bits;
        workgroupBarrier();
        var largest = 0u;
        for (var n = 0u; n < 8u; n++) { largest = max(largest, meeting[(index & ~7u) + n].x); }
        workgroupBarrier();
        return largest;
    }
    let two = max(bits, subgroupShuffleXor(bits, 1u));
    let four = max(two, subgroupShuffleXor(two, 2u));
    return max(four, subgroupShuffleXor(four, 4u));
}

// Sums over the four invocations of this half of a block, and of the other. The whole workgroup comes here together.
fn sums_of_halves(sum: i32, index: u32) -> vec2<i32> {
    var four: i32;
    var other: i32;
    if SUBGROUP < 8u {
        four = subgroupAdd(sum);
        meeting[index].y = bitcast<u32>(four);
        workgroupBarrier();
        other = bitcast<i32>(meeting[index ^ 4u].y);
        workgroupBarrier();
    } else {
        let two = sum + subgroupShuffleXor(sum, 1u);
        four = two + subgroupShuffleXor(two, 2u);
        other = subgroupShuffleXor(four, 4u);
    }
    return vec2<i32>(four, other);
}

// Quantizes the activations 4i .. 4i+3; eight invocations side by side take a block. Past the end there is nothing to
// take. The whole workgroup comes here together.
fn quantize_own(i: u32, values: vec4<f32>, index: u32) {
    let bits = bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
    let largest = largest_of_block(max(max(bits.x, bits.y), max(bits.z, bits.w)), index);
    var scale = 0.0;
    var quantized = vec4<i32>(0);
    // From 1e-35 on, and finite.
    if largest >= 0x0554ad2eu && largest < 0x7f800000u {
        scale = bitcast<f32>(largest) / 127.0;
        quantized = clamp(vec4<i32>(round(values * (127.0 / bitcast<f32>(largest)))), vec4<i32>(-127), vec4<i32>(127));
    }
    let sums = sums_of_halves(quantized.x + quantized.y + quantized.z + quantized.w, index);
    if i >= FOURS { return; }
    let bytes = bitcast<vec4<u32>>(quantized) & vec4<u32>(0xffu);
    own_codes[i / 4u][i % 4u] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    if i % 8u == 0u {
        let info = vec4<f32>(scale, scale * f32(sums.x + sums.y), scale * f32(sums.x), scale * f32(sums.y));
        // What is not finite stays visible.
        own_infos[i / 8u] = select(info, bitcast<vec4<f32>>(vec4<u32>(0x7fc00000u)), largest >= 0x7f800000u);
    }
}
