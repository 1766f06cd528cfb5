// Where an invocation is.
struct Invocation {
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
}

// Number of the workgroup, as GpuPlan::linear counts.
fn linear_group(at: Invocation) -> u32 {
    return at.group.x + at.group.y * at.groups.x;
}
