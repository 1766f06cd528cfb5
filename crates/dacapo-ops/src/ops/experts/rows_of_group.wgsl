// A workgroup multiplies some rows of one expert. Ranges come from a buffer, so that they are held to what there is.
var<private> base: u32;
var<private> group_start: u32;
var<private> group_rows: u32;

fn begin_tile(expert: u32, first: u32) -> bool {
    base = expert * p.stride;
    group_start = min(start_of(expert), p.rows);
    group_rows = min(start_of(expert + 1u), p.rows) - group_start;
    return first < group_rows;
}

fn tile_rows() -> u32 { return group_rows; }
fn row_of(i: u32) -> u32 { return min(row_at(group_start + i), p.rows - 1u); }
fn source_of(i: u32) -> u32 { return row_of(i) / p.per; }
fn weight_vec(i: u32) -> vec4<u32> { return weight.v[i]; }
