// Attention of many queries (FlashAttention: Dao, Fu, Ermon, Rudra and Ré, 2022), a workgroup for each 4096 / DIM rows
// of a head of the cache. A row is a query of one of the heads that share that head: rows are counted through the heads
// of a token, then through the tokens. Keys and values are staged in workgroup memory, 32 positions at a time, as the
// halves they are; everything else is in f32 and in an order fixed by shape and device.
//
// The text before brings sink_of, store and caches whose rows are whole, aligned groups of 16 bytes.
@group(0) @binding(0) var<storage, read> q: F32s;
@group(0) @binding(3) var<storage, read> step: U32s;

// Eight elements of a row.
struct Eight { a: vec4<f32>, b: vec4<f32> }

// Groups of eight elements in a key and in a value, equally many: 8 or 16.
override KEY_PIECES: u32 = 16u;
override VALUE_PIECES: u32 = 16u;
override PIECES: u32 = KEY_PIECES;
override DIM: u32 = 8u * PIECES;
override ROWS: u32 = 4096u / DIM;
const WORKGROUP: u32 = 256u;
const COLUMNS: u32 = 32u;

// From one row to the next, so that neighbouring rows lie in different banks.
override QUERY_STRIDE: u32 = 2u * PIECES + 1u;
override CACHE_STRIDE: u32 = PIECES + 1u;
const SCORE_STRIDE: u32 = COLUMNS + 1u;
override QUERIES_LEN: u32 = ROWS * QUERY_STRIDE;
override CACHE_LEN: u32 = COLUMNS * CACHE_STRIDE;
override SCORES_LEN: u32 = ROWS * SCORE_STRIDE;

// Queries; in the end sums of values.
var<workgroup> queries: array<vec4<f32>, QUERIES_LEN>;
// Keys of a block, then its values.
var<workgroup> staged: array<vec4<u32>, CACHE_LEN>;
// Scores of a block, then weights.
var<workgroup> scores: array<f32, SCORES_LEN>;
// What a block's maximum makes of the sums before it.
var<workgroup> corrections: array<f32, 64>;
// Maximum and sum of weights of each row, in the end.
var<workgroup> states: array<vec2<f32>, 64>;

// What an invocation fetches of the keys or values of a block: two pieces, or one of short heads.
struct Two { a: vec4<u32>, b: vec4<u32> }

// Where a workgroup's positions are in the caches.
struct Place {
    // Row of the head's first slot.
    base: u32,
    // Position j lies in slot j - turn, or one turn of the ring before.
    turn: u32,
    // The last position.
    last: u32,
}

fn cache_row(place: Place, position: u32) -> u32 {
    // Beyond the end the last one once more; nobody takes its score, and its weight is 0.
    let slot = min(position, place.last) - place.turn;
    return place.base + slot - select(0u, p.call.capacity, slot >= p.call.capacity);
}

fn fetch_keys(place: Place, first: u32, index: u32) -> Two {
    var two: Two;
    let start = p.o1 / 16u + index % PIECES;
    two.a = k_cache.v[start + cache_row(place, first + index / PIECES) * PIECES];
    if PIECES > 8u {
        two.b = k_cache.v[start + cache_row(place, first + 16u + index / PIECES) * PIECES];
    }
    return two;
}

fn fetch_values(place: Place, first: u32, index: u32) -> Two {
    var two: Two;
    let start = p.o2 / 16u + index % PIECES;
    two.a = v_cache.v[start + cache_row(place, first + index / PIECES) * PIECES];
    if PIECES > 8u {
        two.b = v_cache.v[start + cache_row(place, first + 16u + index / PIECES) * PIECES];
    }
    return two;
}

fn stage(two: Two, index: u32) {
    let at = index / PIECES * CACHE_STRIDE + index % PIECES;
    staged[at] = two.a;
    if PIECES > 8u {
        staged[at + 16u * CACHE_STRIDE] = two.b;
    }
}

fn capped(score: f32) -> f32 {
    if p.call.softcap > 0.0 {
        return p.call.softcap * tanh_of(score / p.call.softcap);
    }
    return score;
}

fn four_dot(a: vec4<f32>, b: vec4<f32>, before: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, before))));
}

// Scores of the block at hand: each invocation takes every 16th row and two positions.
fn find_scores(index: u32) {
    let row = index / 16u;
    let column = index % 16u;
    var left: array<f32, 4>;
    var right: array<f32, 4>;
    for (var i = 0u; i < ROWS / 16u; i++) {
        left[i] = 0.0;
        right[i] = 0.0;
    }
    for (var piece = 0u; piece < PIECES; piece++) {
        let k = eight_of(staged[column * CACHE_STRIDE + piece]);
        let l = eight_of(staged[(column + 16u) * CACHE_STRIDE + piece]);
        for (var i = 0u; i < ROWS / 16u; i++) {
            let at = (row + 16u * i) * QUERY_STRIDE + 2u * piece;
            let a = queries[at];
            let b = queries[at + 1u];
            left[i] = four_dot(b, k.b, four_dot(a, k.a, left[i]));
            right[i] = four_dot(b, l.b, four_dot(a, l.a, right[i]));
        }
    }
    for (var i = 0u; i < ROWS / 16u; i++) {
        let at = (row + 16u * i) * SCORE_STRIDE + column;
        scores[at] = capped(left[i] * p.call.scale);
        scores[at + 16u] = capped(right[i] * p.call.scale);
    }
}

// Turns the scores of a row into weights, four invocations for each row; `range` are the positions that the row sees.
fn find_weights(before: vec2<f32>, range: vec2<u32>, first: u32, index: u32) -> vec2<f32> {
    let start = index / 4u * SCORE_STRIDE;
    var largest = before.x;
    for (var j = index % 4u; j < COLUMNS; j += 4u) {
        if first + j >= range.x && first + j < range.y {
            largest = max(largest, scores[start + j]);
        }
    }
    largest = max(largest, subgroupShuffleXor(largest, 1u));
    largest = max(largest, subgroupShuffleXor(largest, 2u));
    var sum = 0.0;
    for (var j = index % 4u; j < COLUMNS; j += 4u) {
        var weight = 0.0;
        if first + j >= range.x && first + j < range.y {
            weight = decay(scores[start + j] - largest);
        }
        scores[start + j] = weight;
        sum += weight;
    }
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    let correction = decay(before.x - largest);
    if index % 4u == 0u {
        corrections[index / 4u] = correction;
    }
    return vec2<f32>(largest, fma(before.y, correction, sum));
}

@compute @workgroup_size(256)
fn main(at: Invocation) {
    // Neighbours in a subgroup are neighbours here.
    let index = at.subgroup * at.lanes + at.lane;
    let group = p.call.heads / p.call.kv_heads;
    let kv_head = at.group.x;
    // With causal masks the last rows take longest: they come first.
    let first_row = (at.groups.y - 1u - at.group.y) * ROWS;
    let rows = min(ROWS, p.call.tokens * group - first_row);
    let position = step.v[p.o3 / 4u];

    for (var i = index; i < ROWS * PIECES * 2u; i += WORKGROUP) {
        // Beyond the end the last row once more.
        let row = first_row + min(i / (2u * PIECES), rows - 1u);
        let head = row / group * p.call.heads + kv_head * group + row % group;
        let from_query = p.o0 / 4u + head * DIM + i % (2u * PIECES) * 4u;
        queries[i / (2u * PIECES) * QUERY_STRIDE + i % (2u * PIECES)] =
            vec4<f32>(q.v[from_query], q.v[from_query + 1u], q.v[from_query + 2u], q.v[from_query + 3u]);
    }

    // The row whose weights this invocation shares in.
    let own = first_row + min(index / 4u, rows - 1u);
    let range = seen(own / group, position);
    var state = sink_of(kv_head * group + own % group);

    // The first row sees the first position of all, the last the last.
    let begin = seen(first_row / group, position).x;
    let end = seen((first_row + rows - 1u) / group, position).y;
    let place = Place(kv_head * p.call.capacity, begin / p.call.capacity * p.call.capacity, end - 1u);

    // Eight elements of four rows, of every second position of a block.
    let parity = index / 128u;
    let piece = index % PIECES;
    let quad = index % 128u / PIECES * 4u;
    var low: array<vec4<f32>, 4>;
    var high: array<vec4<f32>, 4>;
    for (var i = 0u; i < 4u; i++) {
        low[i] = vec4<f32>();
        high[i] = vec4<f32>();
    }

    var keys = fetch_keys(place, begin, index);
    for (var first = begin; first < end; first += COLUMNS) {
        stage(keys, index);
        let values = fetch_values(place, first, index);
        workgroupBarrier();
        find_scores(index);
        workgroupBarrier();
        stage(values, index);
        if index < 4u * ROWS {
            state = find_weights(state, range, first, index);
        }
        workgroupBarrier();
        keys = fetch_keys(place, first + COLUMNS, index);
        for (var i = 0u; i < 4u; i++) {
            low[i] *= corrections[quad + i];
            high[i] *= corrections[quad + i];
        }
        for (var j = parity; j < COLUMNS; j += 2u) {
            let v = eight_of(staged[j * CACHE_STRIDE + piece]);
            for (var i = 0u; i < 4u; i++) {
                let weight = vec4<f32>(scores[(quad + i) * SCORE_STRIDE + j]);
                low[i] = fma(weight, v.a, low[i]);
                high[i] = fma(weight, v.b, high[i]);
            }
        }
        workgroupBarrier();
    }

    if index < 4u * ROWS && index % 4u == 0u {
        states[index / 4u] = state;
    }
    if parity == 1u {
        for (var i = 0u; i < 4u; i++) {
            queries[(quad + i) * QUERY_STRIDE + 2u * piece] = low[i];
            queries[(quad + i) * QUERY_STRIDE + 2u * piece + 1u] = high[i];
        }
    }
    workgroupBarrier();
    if parity == 0u {
        for (var i = 0u; i < 4u; i++) {
            if quad + i < rows {
                let row = first_row + quad + i;
                let head = kv_head * group + row % group;
                let from_sum = (quad + i) * QUERY_STRIDE + 2u * piece;
                let at = Part(row / group, head, 0u, quad + i);
                store(at, 2u * piece, low[i] + queries[from_sum], states[quad + i], true);
                store(at, 2u * piece + 1u, high[i] + queries[from_sum + 1u], states[quad + i], true);
            }
        }
    }
}
