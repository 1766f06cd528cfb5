// The panels are one binding.
fn weight_vec(i: u32) -> vec4<u32> { return weight.v[i]; }
