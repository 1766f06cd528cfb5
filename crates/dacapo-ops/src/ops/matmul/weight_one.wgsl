// The panels are one binding, of one weight: no dispatch has several of which workgroups choose.
fn weight_vec(i: u32) -> vec4<u32> { return weight.v[i]; }
fn begin(row: u32) {}

// All tokens of the product go to the same weight: see `tile.wgsl`.
fn begin_tile(which: u32, first: u32) -> bool { return true; }
fn tile_rows() -> u32 { return p.tokens; }
fn source_of(row: u32) -> u32 { return row; }
