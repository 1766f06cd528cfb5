// Blocks of 32 values to int8. Eight invocations share a block, four values each. The kernel brings `WORKGROUP`, a multiple
// of 8, and the functions of `float.wgsl`; `put_codes(i, word)`, which takes the i-th word of codes; and
// `put_about(i, bits)`, which takes the bits of the i-th of the values about blocks, four for each.

// The bits of 1e-35: blocks with a smaller magnitude become zeros.
const TINY: u32 = 0x0554ad2eu;

var<workgroup> magnitudes: array<u32, WORKGROUP>;
var<workgroup> code_sums: array<i32, WORKGROUP>;

// Quantizes the values 4i .. 4i+3. The whole workgroup comes here together, invocation number `index` with an `i` that
// leaves the same rest by 8; those that are not `taking` part bring no values, and blocks take part as a whole.
fn quantize_four(i: u32, values: vec4<f32>, taking: bool, index: u32) {
    let j = index % 8u;
    // Magnitudes order like their bits, and NaN above everything.
    let bits = bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
    magnitudes[index] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    workgroupBarrier();
    let base = index - j;
    var largest = 0u;
    for (var n = 0u; n < 8u; n++) {
        largest = max(largest, magnitudes[base + n]);
    }
    let usable = largest >= TINY && largest < 0x7f800000u;
    var scale = 0.0;
    var quantized = vec4<i32>(0);
    if usable {
        scale = divide(bitcast<f32>(largest), 127.0);
        let inverse = divide(127.0, bitcast<f32>(largest));
        quantized = clamp(vec4<i32>(round(values * inverse)), vec4<i32>(-127), vec4<i32>(127));
    }
    code_sums[index] = quantized.x + quantized.y + quantized.z + quantized.w;
    workgroupBarrier();
    if !taking {
        return;
    }
    let bytes = bitcast<vec4<u32>>(quantized) & vec4<u32>(0xffu);
    put_codes(i, bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u));
    if j < 4u {
        var sum = 0;
        for (var n = 0u; n < 4u; n++) {
            sum += select(0, code_sums[base + n], j != 3u) + select(0, code_sums[base + 4u + n], j != 2u);
        }
        let value = select(scale * f32(sum), scale, j == 0u);
        let not_finite = largest >= 0x7f800000u;
        put_about(i / 8u * 4u + j, select(bitcast<u32>(value), 0x7fc00000u, not_finite));
    }
}
