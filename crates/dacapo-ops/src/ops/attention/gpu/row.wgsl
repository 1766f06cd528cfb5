// Attention of one query, a workgroup for each token, each `HEADS` query heads that share a head of the cache, and each
// split of the positions. Positions are visited in tiles with the online softmax. In a tile four invocations share a
// key, then the subgroups turn scores into weights, then every invocation sums its eight elements of the values of some
// positions. Sums are in f32 and in an order fixed by shape and device.
//
// The text before brings HEADS, sink_of and store.
@group(0) @binding(0) var<storage, read> q: F32s;
@group(0) @binding(3) var<storage, read> step: U32s;

// Eight elements of a row.
struct Eight { a: vec4<f32>, b: vec4<f32> }

override WORKGROUP: u32 = 256u;
// Groups of eight elements in a key and in a value, the last filled up. At most WORKGROUP in a value.
override KEY_PIECES: u32 = 16u;
override VALUE_PIECES: u32 = 16u;
// Loads of values that are under way together.
const AHEAD: u32 = 4u;
// Keys that four invocations take together.
const TOGETHER: u32 = 2u;
// Invocations that share a key.
const SHARERS: u32 = 4u;
// Rounds over a key's pieces, and positions in a tile.
override ROUNDS: u32 = (KEY_PIECES + SHARERS - 1u) / SHARERS;
override TILE: u32 = WORKGROUP / SHARERS * TOGETHER;
override QUERY_LEN: u32 = HEADS * ROUNDS * SHARERS * 2u;
override SCORES_LEN: u32 = HEADS * TILE;
override SUMS_LEN: u32 = WORKGROUP * 2u;

// Queries `[HEADS, pieces]`; pieces beyond a query's end are 0.
var<workgroup> queries: array<vec4<f32>, QUERY_LEN>;
// Scores of a tile, then weights: `[HEADS, TILE]`.
var<workgroup> scores: array<f32, SCORES_LEN>;
// What a tile's maximum makes of the sums before it.
var<workgroup> corrections: array<f32, HEADS>;
// Maximum and sum of weights of each head, in the end.
var<workgroup> states: array<vec2<f32>, HEADS>;
var<workgroup> sums: array<vec4<f32>, SUMS_LEN>;

fn query(token: u32, head: u32, d: u32) -> f32 {
    if d >= p.call.key_dim {
        return 0.0;
    }
    return q.v[p.o0 / 4u + (token * p.call.heads + head) * p.call.key_dim + d];
}

fn eight_dot(a: vec4<f32>, b: vec4<f32>, k: Eight, before: f32) -> f32 {
    let low = fma(a.w, k.a.w, fma(a.z, k.a.z, fma(a.y, k.a.y, fma(a.x, k.a.x, before))));
    return fma(b.w, k.b.w, fma(b.z, k.b.z, fma(b.y, k.b.y, fma(b.x, k.b.x, low))));
}

fn capped(score: f32) -> f32 {
    if p.call.softcap > 0.0 {
        return p.call.softcap * tanh_of(score / p.call.softcap);
    }
    return score;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    // Neighbours in a subgroup are neighbours here.
    let index = at.subgroup * at.lanes + at.lane;
    let group = p.call.heads / p.call.kv_heads;
    let chunks = (group + HEADS - 1u) / HEADS;
    let kv_head = at.group.x / chunks;
    let first_head = at.group.x % chunks * HEADS;
    let split = at.group.z % p.call.splits;
    let token = at.group.y + at.group.z / p.call.splits * at.groups.y;
    if token >= p.call.tokens {
        return;
    }
    let range = part_of(seen(token, step.v[p.o3 / 4u]), split);
    if p.call.splits > 1u && range.x >= range.y {
        return;
    }

    for (var i = index; i < QUERY_LEN; i += WORKGROUP) {
        let g = first_head + i / (ROUNDS * SHARERS * 2u);
        let d = i % (ROUNDS * SHARERS * 2u) * 4u;
        var part = vec4<f32>();
        if g < group {
            let head = kv_head * group + g;
            part = vec4<f32>(query(token, head, d), query(token, head, d + 1u), query(token, head, d + 2u),
                query(token, head, d + 3u));
        }
        queries[i] = part;
    }

    // The heads that this subgroup's weights are of: subgroup, subgroup + subgroups, ...
    var state: array<vec2<f32>, HEADS>;
    for (var n = 0u; n < HEADS; n++) {
        let g = at.subgroup + n * at.subgroups;
        state[n] = vec2<f32>(LEAST, 0.0);
        if g < HEADS && first_head + g < group {
            state[n] = sink_of(kv_head * group + first_head + g);
        }
    }
    var low: array<vec4<f32>, HEADS>;
    var high: array<vec4<f32>, HEADS>;
    for (var g = 0u; g < HEADS; g++) {
        low[g] = vec4<f32>();
        high[g] = vec4<f32>();
    }
    let rows = WORKGROUP / VALUE_PIECES;
    let row = index / VALUE_PIECES;
    let piece = index % VALUE_PIECES;
    // Position j lies in slot j - turn, or one turn of the ring before.
    let turn = range.x / p.call.capacity * p.call.capacity;
    let base = kv_head * p.call.capacity;
    workgroupBarrier();

    for (var first = range.x; first < range.y; first += TILE) {
        let count = min(TILE, range.y - first);
        let from_turn = first - turn;

        var dots: array<f32, HEADS * TOGETHER>;
        for (var i = 0u; i < HEADS * TOGETHER; i++) {
            dots[i] = 0.0;
        }
        var key_rows: array<u32, TOGETHER>;
        for (var n = 0u; n < TOGETHER; n++) {
            // Beyond the end the last key once more; nobody takes the score.
            let slot = from_turn + min(index / SHARERS + n * (WORKGROUP / SHARERS), count - 1u);
            key_rows[n] = base + slot - select(0u, p.call.capacity, slot >= p.call.capacity);
        }
        for (var round = 0u; round < ROUNDS; round++) {
            let at_piece = round * SHARERS + index % SHARERS;
            var k: array<Eight, TOGETHER>;
            for (var n = 0u; n < TOGETHER; n++) {
                k[n] = key_piece(key_rows[n], min(at_piece, KEY_PIECES - 1u));
            }
            for (var g = 0u; g < HEADS; g++) {
                let a = queries[(g * ROUNDS * SHARERS + at_piece) * 2u];
                let b = queries[(g * ROUNDS * SHARERS + at_piece) * 2u + 1u];
                for (var n = 0u; n < TOGETHER; n++) {
                    dots[g * TOGETHER + n] = eight_dot(a, b, k[n], dots[g * TOGETHER + n]);
                }
            }
        }
        for (var g = 0u; g < HEADS; g++) {
            for (var n = 0u; n < TOGETHER; n++) {
                var score = dots[g * TOGETHER + n];
                score += subgroupShuffleXor(score, 1u);
                score += subgroupShuffleXor(score, 2u);
                if index % SHARERS == 0u {
                    scores[g * TILE + index / SHARERS + n * (WORKGROUP / SHARERS)] = capped(score * p.call.scale);
                }
            }
        }
        workgroupBarrier();

        for (var n = 0u; n < HEADS; n++) {
            let g = at.subgroup + n * at.subgroups;
            if g < HEADS {
                var largest = state[n].x;
                for (var j = at.lane; j < count; j += at.lanes) {
                    largest = max(largest, scores[g * TILE + j]);
                }
                largest = subgroupMax(largest);
                var sum = 0.0;
                for (var j = at.lane; j < count; j += at.lanes) {
                    let weight = decay(scores[g * TILE + j] - largest);
                    scores[g * TILE + j] = weight;
                    sum += weight;
                }
                sum = subgroupAdd(sum);
                let correction = decay(state[n].x - largest);
                state[n] = vec2<f32>(largest, fma(state[n].y, correction, sum));
                if at.lane == 0u {
                    corrections[g] = correction;
                }
            }
        }
        workgroupBarrier();

        for (var g = 0u; g < HEADS; g++) {
            low[g] *= corrections[g];
            high[g] *= corrections[g];
        }
        if row < rows {
            for (var j = row; j < count; j += rows * AHEAD) {
                var v: array<Eight, AHEAD>;
                for (var n = 0u; n < AHEAD; n++) {
                    let slot = from_turn + min(j + n * rows, count - 1u);
                    v[n] = value_piece(base + slot - select(0u, p.call.capacity, slot >= p.call.capacity), piece);
                }
                for (var n = 0u; n < AHEAD; n++) {
                    let mine = j + n * rows;
                    if mine < count {
                        for (var g = 0u; g < HEADS; g++) {
                            let weight = vec4<f32>(scores[g * TILE + mine]);
                            low[g] = fma(weight, v[n].a, low[g]);
                            high[g] = fma(weight, v[n].b, high[g]);
                        }
                    }
                }
            }
        }
        workgroupBarrier();
    }

    for (var n = 0u; n < HEADS; n++) {
        let g = at.subgroup + n * at.subgroups;
        if g < HEADS && at.lane == 0u {
            states[g] = state[n];
        }
    }
    for (var g = 0u; g < HEADS; g++) {
        sums[index] = low[g];
        sums[WORKGROUP + index] = high[g];
        workgroupBarrier();
        let part = Part(token, kv_head * group + first_head + g, split, index);
        for (var start = 0u; start < VALUE_PIECES * 2u; start += WORKGROUP) {
            let i = start + index;
            let taking = first_head + g < group && i < VALUE_PIECES * 2u;
            var total = vec4<f32>();
            if taking {
                let source = i % 2u * WORKGROUP + i / 2u;
                total = sums[source];
                for (var r = 1u; r < rows; r++) {
                    total += sums[source + r * VALUE_PIECES];
                }
            }
            store(part, i, total, states[g], taking);
        }
        workgroupBarrier();
    }
}
