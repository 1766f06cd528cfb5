// What a copy puts into a word.

// Types of source and destination: 0 f32, 1 f16, 2 bf16, 3 anything, the same in both.
override FROM: u32 = 3u;
override TO: u32 = 3u;
// Bytes of an element in source and destination.
override FROM_SIZE: u32 = 4u;
override TO_SIZE: u32 = 4u;

// Words that the destination has a part in.
fn length() -> u32 {
    return (p.o1 % 4u + p.len * TO_SIZE + 3u) / 4u;
}

// The bits of an element of the source.
fn bits_of(i: u32) -> u32 {
    let byte = p.o0 + i * FROM_SIZE;
    return x.v[byte / 4u] >> (8u * (byte % 4u));
}

// The bits of an element of the destination; those above its size mean nothing.
fn converted(i: u32) -> u32 {
    let bits = bits_of(i);
    if FROM == TO {
        return bits;
    }
    var value = bitcast<f32>(bits);
    switch FROM {
        case 1u: { value = f16_value(bits & 0xffffu); }
        case 2u: { value = bf16_value(bits & 0xffffu); }
        default: {}
    }
    switch TO {
        case 1u: { return f16_bits(value); }
        case 2u: { return bf16_bits(value); }
        default: { return bitcast<u32>(value); }
    }
}

// The bits of word number `i`, and which of them are the destination's.
fn content(i: u32) -> vec2<u32> {
    if TO_SIZE == 4u {
        return vec2<u32>(converted(i), 0xffffffffu);
    }
    let mask = 0xffffffffu >> (32u - 8u * TO_SIZE);
    let first = i32(4u * i / TO_SIZE) - i32(p.o1 % 4u / TO_SIZE);
    var found = vec2<u32>(0u);
    for (var j = 0u; j < 4u / TO_SIZE; j++) {
        let element = first + i32(j);
        if element >= 0 && element < i32(p.len) {
            let shift = 8u * TO_SIZE * j;
            found |= vec2<u32>((converted(u32(element)) & mask) << shift, mask << shift);
        }
    }
    return found;
}
