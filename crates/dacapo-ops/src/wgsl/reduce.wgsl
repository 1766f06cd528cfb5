// Reductions over a workgroup: first in each subgroup, then over what the subgroups found. All invocations get the
// result. A kernel has at most 1024 invocations, and a subgroup at least 4.
var<workgroup> parts: array<f32, 256>;
var<workgroup> whole_parts: array<u32, 256>;

fn workgroup_sum(value: f32, at: Invocation) -> f32 {
    let part = subgroupAdd(value);
    if at.subgroups == 1u {
        return part;
    }
    if at.lane == 0u {
        parts[at.subgroup] = part;
    }
    workgroupBarrier();
    var sum = 0.0;
    for (var i = at.lane; i < at.subgroups; i += at.lanes) {
        sum += parts[i];
    }
    // Not before everybody has read may the next reduction write.
    workgroupBarrier();
    return subgroupAdd(sum);
}

fn workgroup_max(value: f32, at: Invocation) -> f32 {
    let part = subgroupMax(value);
    if at.subgroups == 1u {
        return part;
    }
    if at.lane == 0u {
        parts[at.subgroup] = part;
    }
    workgroupBarrier();
    var largest = part;
    for (var i = at.lane; i < at.subgroups; i += at.lanes) {
        largest = max(largest, parts[i]);
    }
    workgroupBarrier();
    return subgroupMax(largest);
}

fn workgroup_max_u32(value: u32, at: Invocation) -> u32 {
    let part = subgroupMax(value);
    if at.subgroups == 1u {
        return part;
    }
    if at.lane == 0u {
        whole_parts[at.subgroup] = part;
    }
    workgroupBarrier();
    var largest = part;
    for (var i = at.lane; i < at.subgroups; i += at.lanes) {
        largest = max(largest, whole_parts[i]);
    }
    workgroupBarrier();
    return subgroupMax(largest);
}
