// Every element on its own. The kernel brings `length()`, the number of elements, and `apply(i)`.
override WORKGROUP: u32 = 256u;
override EACH: u32 = 1u;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let count = length();
    let first = linear_group(at) * (WORKGROUP * EACH) + at.index;
    for (var j = 0u; j < EACH; j++) {
        let i = first + j * WORKGROUP;
        if i < count {
            apply(i);
        }
    }
}
