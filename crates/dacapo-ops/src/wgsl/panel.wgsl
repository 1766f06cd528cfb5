// Values of a weight in panels of 16 rows: see `quant/panel.rs`. The kernel brings `weight_word(i)`, the weight's i-th
// 32-bit word, and the functions of `float.wgsl`. Bytes, lines and steps are counted as there; a panel begins at the word
// `panel`, and `lane` is the row in it.

// 0 dense, 1 affine, 2 symmetric, 3 minimum for each 32, 4 minimum for each 16, 5 signed for each 16, 6 wide for each 16,
// 7 symmetric for each 16.
override KIND: u32 = 0u;
// Bits of a code.
override BITS: u32 = 4u;
// Affine: values in a group. Symmetric and signed: the code that stands for zero. Wide: twice that.
override DETAIL: u32 = 0u;
// Type of dense values, of affine scales and biases, or of symmetric scales: 0 f32, 1 f16, 2 bf16.
override FLOAT: u32 = 0u;

// Words from one panel to the next.
fn panel_words(k: u32) -> u32 {
    return (panel_code_words(k) + panel_scale_words(k) + 15u) / 16u * 16u;
}

// Words of a panel's codes, or of its values if it is dense.
fn panel_code_words(k: u32) -> u32 {
    if KIND == 0u {
        return select(8u, 16u, FLOAT == 0u) * k;
    }
    return k * BITS / 2u;
}

// Words of a panel's scales.
fn panel_scale_words(k: u32) -> u32 {
    switch KIND {
        case 0u: { return 0u; }
        case 1u: { return k / max(DETAIL, 1u) * select(16u, 32u, FLOAT == 0u); }
        case 2u: { return k / 32u * 8u; }
        case 5u: { return k / 256u * 72u; }
        case 7u: { return k / 32u * 16u; }
        default: { return k / 256u * 80u; }
    }
}

// Value number `i` of an array of 16-bit floats that begins at the word `first`.
fn panel_half(first: u32, i: u32, float: u32) -> f32 {
    let bits = (weight_word(first + i / 2u) >> (16u * (i % 2u))) & 0xffffu;
    if float == 2u {
        return bf16_value(bits);
    }
    return f16_value(bits);
}

// Value number `i` of an array of floats of the panel's type that begins at the word `first`.
fn panel_float(first: u32, i: u32) -> f32 {
    if FLOAT == 0u {
        return bitcast<f32>(weight_word(first + i));
    }
    return panel_half(first, i, FLOAT);
}

// Byte number `i` of an array that begins at the word `first`.
fn panel_byte(first: u32, i: u32) -> u32 {
    return (weight_word(first + i / 4u) >> (8u * (i % 4u))) & 0xffu;
}

// Scale and bias of a row over step number `step`, a step being 16 values for kinds from 4 on and 32 otherwise.
fn panel_scale(panel: u32, k: u32, lane: u32, step: u32) -> vec2<f32> {
    let scales = panel + panel_code_words(k);
    switch KIND {
        case 1u: {
            let unit = scales + step * 32u / max(DETAIL, 1u) * select(16u, 32u, FLOAT == 0u);
            return vec2<f32>(panel_float(unit, lane), panel_float(unit, 16u + lane));
        }
        case 2u: {
            let s = panel_half(scales + step * 8u, lane, FLOAT);
            return vec2<f32>(s, -f32(DETAIL) * s);
        }
        case 3u: {
            let unit = scales + step / 8u * 80u;
            let i = step % 8u;
            let sc = f32(panel_byte(unit, (4u + i) * 16u + lane));
            let m = f32(panel_byte(unit, (12u + i) * 16u + lane));
            let d = vec2<f32>(panel_half(unit, lane, 1u), -panel_half(unit, 16u + lane, 1u));
            return vec2<f32>(times(d.x, sc), times(d.y, m));
        }
        case 4u: {
            let unit = scales + step / 16u * 80u;
            let both = panel_byte(unit, (4u + step % 16u) * 16u + lane);
            let d = vec2<f32>(panel_half(unit, lane, 1u), -panel_half(unit, 16u + lane, 1u));
            return vec2<f32>(times(d.x, f32(both & 15u)), times(d.y, f32(both >> 4u)));
        }
        case 6u: {
            let unit = scales + step / 16u * 80u;
            let byte = panel_byte(unit, (4u + step % 16u) * 16u + lane);
            let s = times(bitcast<f32>(weight_word(unit + lane)), f32(i32(byte << 24u) >> 24u));
            return vec2<f32>(s, times(-0.5 * f32(DETAIL), s));
        }
        case 7u: {
            let s = panel_half(scales + step * 8u, lane, 1u);
            return vec2<f32>(s, times(-f32(DETAIL), s));
        }
        default: {
            let unit = scales + step / 16u * 72u;
            let byte = panel_byte(unit, (2u + step % 16u) * 16u + lane);
            let s = times(panel_half(unit, lane, 1u), f32(i32(byte << 24u) >> 24u));
            return vec2<f32>(s, times(-f32(DETAIL), s));
        }
    }
}

// A plane's bits of sub-step `j`, one byte for each of four values. `first` is the plane's first word.
fn panel_plane(first: u32, lane: u32, j: u32, width: u32) -> u32 {
    let per_line = 8u / width;
    let word = weight_word(first + j / per_line * 16u + lane);
    return (word >> (width * (j % per_line))) & (0x01010101u * ((1u << width) - 1u));
}

// The codes of a row's values 4j .. 4j+3 in block number `block` of 32 values, one byte each.
fn panel_codes(panel: u32, lane: u32, block: u32, j: u32) -> u32 {
    let first = panel + block * (16u * BITS);
    switch BITS {
        case 3u: { return panel_plane(first, lane, j, 2u) | (panel_plane(first + 32u, lane, j, 1u) << 2u); }
        case 5u: { return panel_plane(first, lane, j, 4u) | (panel_plane(first + 64u, lane, j, 1u) << 4u); }
        case 6u: { return panel_plane(first, lane, j, 4u) | (panel_plane(first + 64u, lane, j, 2u) << 4u); }
        default: { return panel_plane(first, lane, j, BITS); }
    }
}

// A row's values 4i .. 4i+3 of a quantized weight, bit for bit as the format defines them.
fn panel_values(panel: u32, k: u32, lane: u32, i: u32) -> vec4<f32> {
    let codes = vec4<f32>((vec4<u32>(panel_codes(panel, lane, i / 8u, i % 8u)) >> vec4<u32>(0u, 8u, 16u, 24u))
        & vec4<u32>(0xffu));
    let scale = panel_scale(panel, k, lane, select(i / 8u, i / 4u, KIND >= 4u));
    return vec4<f32>(
        times(scale.x, codes.x),
        times(scale.x, codes.y),
        times(scale.x, codes.z),
        times(scale.x, codes.w),
    ) + scale.y;
}

// A row's value number `i` of a dense weight.
fn panel_dense(panel: u32, lane: u32, i: u32) -> f32 {
    return panel_float(panel, i * 16u + lane);
}
