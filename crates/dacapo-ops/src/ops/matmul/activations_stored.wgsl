// Activations of a product that were quantized before: nothing has to be made ready.
fn prepare(index: u32, subgroup: u32) {}

// The i-th 16 codes, and what is known of the i-th block: see `ops/quantize`.
fn codes_vec(i: u32) -> vec4<u32> { return codes.v[codes_start() + i]; }
fn info_of(i: u32) -> vec4<f32> { return infos.v[infos_start() + i]; }
