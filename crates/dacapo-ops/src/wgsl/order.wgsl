// A number that orders as floats do: NaN is least, 0 and -0 are equal.
fn order_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    if (bits & 0x7fffffffu) > 0x7f800000u {
        return 0u;
    }
    if bits >= 0x80000000u {
        return select(~bits, 0x80000000u, bits == 0x80000000u);
    }
    return bits | 0x80000000u;
}

// The bits of the float for which `order_of` gave this; of a NaN for 0.
fn bits_of_order(order: u32) -> u32 {
    return select(~order, order & 0x7fffffffu, order >= 0x80000000u);
}
