// Sums of 64 bits in bins that a workgroup shares, and the search for the bin where their running sum reaches a goal.
// The kernel brings `override WORKGROUP`, a power of two up to `BINS` and `SCAN`, and the functions of `wide.wgsl`. The numbers
// of bins and of places for running sums stand in `digits.wgsl` or `digits_small.wgsl`.

var<workgroup> bins_low: array<atomic<u32>, BINS>;
var<workgroup> bins_high: array<atomic<u32>, BINS>;
var<workgroup> scan_low: array<u32, SCAN>;
var<workgroup> scan_high: array<u32, SCAN>;
var<workgroup> found_bin: u32;
var<workgroup> found_rest: vec2<u32>;

fn clear_bins(at: Invocation) {
    workgroupBarrier();
    for (var i = at.index; i < BINS; i += WORKGROUP) {
        atomicStore(&bins_low[i], 0u);
        atomicStore(&bins_high[i], 0u);
    }
    workgroupBarrier();
}

fn add_to_bin(bin: u32, value: vec2<u32>) {
    let before = atomicAdd(&bins_low[bin], value.x);
    let high = value.y + select(0u, 1u, before + value.x < before);
    if high != 0u {
        atomicAdd(&bins_high[bin], high);
    }
}

fn bin_value(bin: u32) -> vec2<u32> {
    return vec2<u32>(atomicLoad(&bins_low[bin]), atomicLoad(&bins_high[bin]));
}

// The sum of the bins before those that this invocation looks after.
fn scan_bins(at: Invocation) -> vec2<u32> {
    let each = BINS / WORKGROUP;
    workgroupBarrier();
    var own = vec2<u32>(0u);
    for (var i = 0u; i < each; i++) {
        own = wide_sum(own, bin_value(at.index * each + i));
    }
    var all = own;
    scan_low[at.index] = all.x;
    scan_high[at.index] = all.y;
    workgroupBarrier();
    for (var distance = 1u; distance < WORKGROUP; distance *= 2u) {
        var other = vec2<u32>(0u);
        if at.index >= distance {
            other = vec2<u32>(scan_low[at.index - distance], scan_high[at.index - distance]);
        }
        workgroupBarrier();
        all = wide_sum(all, other);
        scan_low[at.index] = all.x;
        scan_high[at.index] = all.y;
        workgroupBarrier();
    }
    return wide_difference(all, own);
}

// The sum of all bins, after `scan_bins`.
fn bins_total() -> vec2<u32> {
    return vec2<u32>(scan_low[WORKGROUP - 1u], scan_high[WORKGROUP - 1u]);
}

// Finds the first bin with which the running sum reaches `goal`, which is not 0: `found_bin`, and in `found_rest` what
// of the goal falls to that bin. `before` is what `scan_bins` gave.
fn find_bin(at: Invocation, before: vec2<u32>, goal: vec2<u32>) {
    let each = BINS / WORKGROUP;
    var sum = before;
    for (var i = 0u; i < each; i++) {
        let next = wide_sum(sum, bin_value(at.index * each + i));
        if wide_less(sum, goal) && !wide_less(next, goal) {
            found_bin = at.index * each + i;
            found_rest = wide_difference(goal, sum);
        }
        sum = next;
    }
    workgroupBarrier();
}
