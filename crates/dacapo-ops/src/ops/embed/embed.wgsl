// Rows of a weight by token id. Workgroups: parts of a row in x, tokens in y; an invocation makes four values.
struct Params { format: u32, detail: u32, n: u32, k: u32, scale: f32, first: u32, o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> ids: U32s;
@group(0) @binding(1) var<storage, read> weight: U32s;
@group(0) @binding(2) var<storage, read_write> out: F32s;

fn weight_word(i: u32) -> u32 {
    return weight.v[p.o1 / 4u + i];
}

override WORKGROUP: u32 = 64u;
// Rows that the weight does not have stay as they are, instead of becoming zeros.
override MORE: bool = false;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let i = at.group.x * WORKGROUP + at.index;
    let tokens = arrayLength(&ids.v) - p.o0 / 4u;
    for (var token = at.group.y; token < tokens; token += at.groups.y) {
        if 4u * i >= p.k {
            continue;
        }
        // Ids below the first row become large.
        let id = ids.v[p.o0 / 4u + token] - p.first;
        let panel = id / 16u * panel_words(p.k);
        let lane = id % 16u;
        let first = p.o2 / 4u + token * p.k + 4u * i;
        let count = min(4u, p.k - 4u * i);
        if id >= p.n {
            if MORE { continue; }
            for (var j = 0u; j < count; j++) {
                out.v[first + j] = 0.0;
            }
        } else if KIND == 0u {
            for (var j = 0u; j < count; j++) {
                out.v[first + j] = panel_dense(panel, lane, 4u * i + j) * p.scale;
            }
        } else {
            let values = panel_values(panel, p.k, lane, i) * p.scale;
            out.v[first] = values.x;
            out.v[first + 1u] = values.y;
            out.v[first + 2u] = values.z;
            out.v[first + 3u] = values.w;
        }
    }
}
