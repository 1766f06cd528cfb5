// Rows in the order of their experts, a workgroup for each expert. An invocation has some rows, one behind the other: it counts
// those of experts before and those of this one, then places the latter.
struct Params { o0: u32, o1: u32, o2: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
@group(0) @binding(0) var<storage, read> ids: U32s;
@group(0) @binding(1) var<storage, read_write> order: U32s;
@group(0) @binding(2) var<storage, read_write> starts: U32s;

override WORKGROUP: u32 = 128u;
override EXPERTS: u32 = 128u;

var<workgroup> counts_before: array<u32, WORKGROUP>;
var<workgroup> counts: array<u32, WORKGROUP>;

// Ids that are no expert count as the last one.
fn expert_of(row: u32) -> u32 {
    return min(ids.v[p.o0 / 4u + row], EXPERTS - 1u);
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let expert = linear_group(at);
    if expert >= EXPERTS { return; }
    let rows = arrayLength(&ids.v) - p.o0 / 4u;
    let each = (rows + WORKGROUP - 1u) / WORKGROUP;
    let first = min(at.index * each, rows);
    let end = min(first + each, rows);
    var before = 0u;
    var own = 0u;
    for (var row = first; row < end; row++) {
        let found = expert_of(row);
        before += select(0u, 1u, found < expert);
        own += select(0u, 1u, found == expert);
    }
    counts_before[at.index] = before;
    counts[at.index] = own;
    workgroupBarrier();
    var start = 0u;
    var place = 0u;
    for (var i = 0u; i < WORKGROUP; i++) {
        start += counts_before[i];
        place += select(0u, counts[i], i < at.index);
    }
    place += start;
    for (var row = first; row < end; row++) {
        if expert_of(row) == expert {
            order.v[p.o1 / 4u + place] = row;
            place++;
        }
    }
    if at.index == 0u {
        starts.v[p.o2 / 4u + expert] = start;
        if expert == EXPERTS - 1u { starts.v[p.o2 / 4u + EXPERTS] = rows; }
    }
}
