// Caches of any row length at any place. Elements beyond a row's end are 0.
@group(0) @binding(1) var<storage, read> k_cache: U32s;
@group(0) @binding(2) var<storage, read> v_cache: U32s;

// Whether elements are f16 rather than f32.
override HALF: bool = true;

fn half_of(word: u32, i: u32) -> f32 {
    return unpack2x16float(word >> (16u * (i % 2u))).x;
}

fn key(row: u32, d: u32) -> f32 {
    if d >= p.call.key_dim {
        return 0.0;
    }
    if HALF {
        let i = p.o1 / 2u + row * p.call.key_dim + d;
        return half_of(k_cache.v[i / 2u], i);
    }
    return bitcast<f32>(k_cache.v[p.o1 / 4u + row * p.call.key_dim + d]);
}

fn value(row: u32, d: u32) -> f32 {
    if d >= p.call.value_dim {
        return 0.0;
    }
    if HALF {
        let i = p.o2 / 2u + row * p.call.value_dim + d;
        return half_of(v_cache.v[i / 2u], i);
    }
    return bitcast<f32>(v_cache.v[p.o2 / 4u + row * p.call.value_dim + d]);
}

fn key_piece(row: u32, piece: u32) -> Eight {
    let d = 8u * piece;
    return Eight(
        vec4<f32>(key(row, d), key(row, d + 1u), key(row, d + 2u), key(row, d + 3u)),
        vec4<f32>(key(row, d + 4u), key(row, d + 5u), key(row, d + 6u), key(row, d + 7u)),
    );
}

fn value_piece(row: u32, piece: u32) -> Eight {
    let d = 8u * piece;
    return Eight(
        vec4<f32>(value(row, d), value(row, d + 1u), value(row, d + 2u), value(row, d + 3u)),
        vec4<f32>(value(row, d + 4u), value(row, d + 5u), value(row, d + 6u), value(row, d + 7u)),
    );
}
