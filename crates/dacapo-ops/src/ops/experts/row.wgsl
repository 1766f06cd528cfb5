// A workgroup multiplies one row with the weight of its expert. The bindings before bring `expert_of(row)`.
var<private> row: u32;
var<private> base: u32;

fn begin(which: u32) {
    row = which;
    base = min(expert_of(which), p.experts - 1u) * p.stride;
}

fn weight_vec(i: u32) -> vec4<u32> { return weight.v[i]; }
