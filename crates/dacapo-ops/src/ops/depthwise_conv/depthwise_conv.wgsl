// A causal convolution of each channel. An invocation takes one channel over some tokens; that with the first ones, which alone
// reads the state, writes it too.
struct Params { taps: u32, channels: u32, o0: u32, o1: u32, o2: u32, o3: u32, o4: u32 }
var<immediate> p: Params;
struct U32s { v: array<u32> }
struct F32s { v: array<f32> }
@group(0) @binding(0) var<storage, read> x: F32s;
@group(0) @binding(1) var<storage, read> weight: F32s;
@group(0) @binding(2) var<storage, read> step: U32s;
@group(0) @binding(3) var<storage, read_write> state: F32s;
@group(0) @binding(4) var<storage, read_write> out: F32s;

// Tokens of an invocation: more than a state has.
const PART: u32 = 16u;

fn tokens() -> u32 {
    return (arrayLength(&x.v) - p.o0 / 4u) / p.channels;
}

fn length() -> u32 {
    return (tokens() + PART - 1u) / PART * p.channels;
}

// A channel of the state and then of the tokens, in the order of time.
fn seen(time: u32, channel: u32) -> f32 {
    if time + 1u >= p.taps {
        return x.v[p.o0 / 4u + (time + 1u - p.taps) * p.channels + channel];
    }
    if step.v[p.o2 / 4u] == 0u {
        return 0.0;
    }
    return state.v[p.o3 / 4u + time * p.channels + channel];
}

fn apply(i: u32) {
    let channel = i % p.channels;
    let first = i / p.channels * PART;
    let end = min(first + PART, tokens());
    for (var t = first; t < end; t++) {
        var sum = 0.0;
        for (var j = 0u; j < p.taps; j++) {
            sum = fma(weight.v[p.o1 / 4u + j * p.channels + channel], seen(t + j, channel), sum);
        }
        out.v[p.o4 / 4u + t * p.channels + channel] = swish(sum, sum);
    }
    if first == 0u {
        // What is read lies behind what was written.
        for (var j = 0u; j + 1u < p.taps; j++) {
            state.v[p.o3 / 4u + j * p.channels + channel] = seen(tokens() + j, channel);
        }
    }
}
