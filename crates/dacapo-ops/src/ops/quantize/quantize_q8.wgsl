// Activations to int8, in blocks of 32 values. Eight invocations share a block, four values each.
struct Params { o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read_write> codes: U32s;
// As bits, since NaN is among them.
@group(0) @binding(2) var<storage, read_write> about: U32s;

const WORKGROUP: u32 = 64u;
// The bits of 1e-35: blocks with a smaller magnitude become zeros.
const TINY: u32 = 0x0554ad2eu;

var<workgroup> magnitudes: array<u32, WORKGROUP>;
var<workgroup> sums: array<i32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let blocks = (arrayLength(&x.v) - p.o0 / 4u) / 32u;
    let block = linear_group(at) * (WORKGROUP / 8u) + at.index / 8u;
    let j = at.index % 8u;
    var values = vec4<f32>(0.0);
    if block < blocks {
        let first = p.o0 / 4u + block * 32u + 4u * j;
        values = vec4<f32>(x.v[first], x.v[first + 1u], x.v[first + 2u], x.v[first + 3u]);
    }
    // Magnitudes order like their bits, and NaN above everything.
    let bits = bitcast<vec4<u32>>(values) & vec4<u32>(0x7fffffffu);
    magnitudes[at.index] = max(max(bits.x, bits.y), max(bits.z, bits.w));
    workgroupBarrier();
    let base = at.index - j;
    var largest = 0u;
    for (var i = 0u; i < 8u; i++) {
        largest = max(largest, magnitudes[base + i]);
    }
    let usable = largest >= TINY && largest < 0x7f800000u;
    var scale = 0.0;
    var quantized = vec4<i32>(0);
    if usable {
        scale = divide(bitcast<f32>(largest), 127.0);
        let inverse = divide(127.0, bitcast<f32>(largest));
        quantized = clamp(vec4<i32>(round(values * inverse)), vec4<i32>(-127), vec4<i32>(127));
    }
    sums[at.index] = quantized.x + quantized.y + quantized.z + quantized.w;
    workgroupBarrier();
    if block >= blocks {
        return;
    }
    let bytes = bitcast<vec4<u32>>(quantized) & vec4<u32>(0xffu);
    codes.v[p.o1 / 4u + block * 8u + j] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    if j < 4u {
        var sum = 0;
        for (var i = 0u; i < 4u; i++) {
            sum += select(0, sums[base + i], j != 3u) + select(0, sums[base + 4u + i], j != 2u);
        }
        let value = select(scale * f32(sum), scale, j == 0u);
        let not_finite = largest >= 0x7f800000u;
        about.v[p.o2 / 4u + block * 4u + j] = select(bitcast<u32>(value), 0x7fc00000u, not_finite);
    }
}
