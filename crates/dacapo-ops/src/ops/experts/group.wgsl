// Rows in the order of their experts. One workgroup: each invocation counts the rows of some experts, then places them.
struct Params { o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
@group(0) @binding(0) var<storage, read> ids: U32s;
@group(0) @binding(1) var<storage, read_write> order: U32s;
@group(0) @binding(2) var<storage, read_write> starts: U32s;

override WORKGROUP: u32 = 128u;
override EXPERTS: u32 = 128u;

var<workgroup> counts: array<u32, EXPERTS>;

// Ids that are no expert count as the last one.
fn expert_of(row: u32) -> u32 {
    return min(ids.v[p.o0 / 4u + row], EXPERTS - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) index: u32) {
    let rows = arrayLength(&ids.v) - p.o0 / 4u;
    for (var expert = index; expert < EXPERTS; expert += WORKGROUP) {
        var count = 0u;
        for (var row = 0u; row < rows; row++) { count += select(0u, 1u, expert_of(row) == expert); }
        counts[expert] = count;
    }
    workgroupBarrier();
    for (var expert = index; expert < EXPERTS; expert += WORKGROUP) {
        var at = 0u;
        for (var before = 0u; before < expert; before++) { at += counts[before]; }
        starts.v[p.o2 / 4u + expert] = at;
        if counts[expert] > 0u {
            for (var row = 0u; row < rows; row++) {
                if expert_of(row) == expert {
                    order.v[p.o1 / 4u + at] = row;
                    at++;
                }
            }
        }
        if expert == EXPERTS - 1u { starts.v[p.o2 / 4u + EXPERTS] = rows; }
    }
}
