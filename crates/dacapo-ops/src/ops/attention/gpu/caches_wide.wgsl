// Caches whose rows are whole, aligned groups of 16 bytes.
@group(0) @binding(1) var<storage, read> k_cache: Words4;
@group(0) @binding(2) var<storage, read> v_cache: Words4;

// Whether elements are f16 rather than f32.
override HALF: bool = true;

fn eight_of(words: vec4<u32>) -> Eight {
    let a = vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
    let b = vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w));
    return Eight(a, b);
}

fn key_piece(row: u32, piece: u32) -> Eight {
    if HALF {
        return eight_of(k_cache.v[p.o1 / 16u + row * KEY_PIECES + piece]);
    }
    let i = p.o1 / 16u + (row * KEY_PIECES + piece) * 2u;
    return Eight(bitcast<vec4<f32>>(k_cache.v[i]), bitcast<vec4<f32>>(k_cache.v[i + 1u]));
}

fn value_piece(row: u32, piece: u32) -> Eight {
    if HALF {
        return eight_of(v_cache.v[p.o2 / 16u + row * VALUE_PIECES + piece]);
    }
    let i = p.o2 / 16u + (row * VALUE_PIECES + piece) * 2u;
    return Eight(bitcast<vec4<f32>>(v_cache.v[i]), bitcast<vec4<f32>>(v_cache.v[i + 1u]));
}
