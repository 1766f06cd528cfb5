// Puts together what part.wgsl left: a workgroup for each token and head. Its invocations are a grid of `rows` splits by
// WIDTH groups of four elements; each row first joins splits of its own, then the rows are joined in order.
//
// The text before brings sink_of and put_four.
struct F32s4 { v: array<vec4<f32>> }
@group(0) @binding(0) var<storage, read> found: F32s4;
@group(0) @binding(1) var<storage, read> step: U32s;

override WORKGROUP: u32 = 256u;
// Groups of eight elements in a value.
override VALUE_PIECES: u32 = 16u;
override WIDTH: u32 = min(VALUE_PIECES * 2u, WORKGROUP);
// Splits that a row reads together.
const AHEAD: u32 = 4u;

var<workgroup> sums: array<vec4<f32>, WORKGROUP>;
// Maximum and sum of weights of each row.
var<workgroup> states: array<vec2<f32>, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let head = at.group.x;
    let token = at.group.y;
    let range = seen(token, step.v[p.o1 / 4u]);
    let count = used_splits(range);
    let stride = 1u + 2u * VALUE_PIECES;
    let base = p.o0 / 16u + (token * p.call.heads + head) * p.call.splits * stride;
    let rows = WORKGROUP / WIDTH;
    let row = at.index / WIDTH;
    for (var block = 0u; block < VALUE_PIECES * 2u; block += WIDTH) {
        let i = block + at.index % WIDTH;
        var state = vec2<f32>(LEAST, 0.0);
        var sum = vec4<f32>();
        if row < rows && i < VALUE_PIECES * 2u {
            for (var s = row; s < count; s += rows * AHEAD) {
                var states_found: array<vec2<f32>, AHEAD>;
                var values: array<vec4<f32>, AHEAD>;
                for (var n = 0u; n < AHEAD; n++) {
                    let source = base + min(s + n * rows, count - 1u) * stride;
                    states_found[n] = found.v[source].xy;
                    values[n] = found.v[source + 1u + i];
                }
                for (var n = 0u; n < AHEAD; n++) {
                    if s + n * rows < count {
                        let largest = max(state.x, states_found[n].x);
                        let before = decay(state.x - largest);
                        let weight = decay(states_found[n].x - largest);
                        sum = fma(vec4<f32>(weight), values[n], sum * before);
                        state = vec2<f32>(largest, fma(weight, states_found[n].y, state.y * before));
                    }
                }
            }
        }
        sums[at.index] = sum;
        if at.index % WIDTH == 0u {
            states[row] = state;
        }
        workgroupBarrier();
        let takes_part = row == 0u && i < VALUE_PIECES * 2u;
        var result = vec4<f32>();
        if takes_part {
            let sink = sink_of(head);
            var largest = sink.x;
            for (var r = 0u; r < rows; r++) {
                largest = max(largest, states[r].x);
            }
            var weights = sink.y * decay(sink.x - largest);
            var total = vec4<f32>();
            for (var r = 0u; r < rows; r++) {
                let weight = decay(states[r].x - largest);
                weights = fma(weight, states[r].y, weights);
                total = fma(vec4<f32>(weight), sums[r * WIDTH + at.index], total);
            }
            result = total / weights;
        }
        put_four(token * p.call.heads + head, i, result, takes_part, at.index);
        workgroupBarrier();
    }
}
