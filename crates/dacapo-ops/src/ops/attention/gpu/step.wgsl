// Attention of one token that takes its queries, its key and its value as products left them: workgroups normalize and rotate
// their query heads, and the one that sees the newest position does so with the key, and writes key and value into the caches.
// A workgroup for each `HEADS` query heads that share a head of the cache, and each split of the positions.
//
// `LANES` invocations of a subgroup are a row: together they take a position's key and value, each `PER` pieces of eight
// elements, for `AHEAD` positions at a time, with an online softmax in registers. Rows meet at the end alone. Sums are in an order
// fixed by shape and device.
//
// The text before brings HEADS, PER, AHEAD, NORMED, the parameters, weight_of and store.
@group(0) @binding(0) var<storage, read> q: F32s;
@group(0) @binding(1) var<storage, read> k: F32s;
@group(0) @binding(2) var<storage, read> v: F32s;
@group(0) @binding(3) var<storage, read_write> k_cache: Words4;
@group(0) @binding(4) var<storage, read_write> v_cache: Words4;
@group(0) @binding(5) var<storage, read> step: U32s;
@group(0) @binding(6) var<storage, read> inv_freq: F32s;

override WORKGROUP: u32 = 256u;
// Invocations of a subgroup.
override SUBGROUP: u32 = 32u;
// Invocations of a row: a power of two, at least HEADS and four, at most SUBGROUP.
override LANES: u32 = 16u;
// Groups of eight elements in a key and in a value: at most PER for each invocation of a row.
override KEY_PIECES: u32 = 16u;
override VALUE_PIECES: u32 = 16u;
// Pairs of a head's elements that are rotated.
override PAIRS: u32 = 64u;
// Heads that rows put together at a time in the end.
override MERGED: u32 = min(HEADS, 4u);
// Whether elements of caches are f16 rather than f32.
override HALF: bool = true;
override SUBGROUPS: u32 = WORKGROUP / SUBGROUP;
override ROWS: u32 = WORKGROUP / LANES;
override TILE: u32 = ROWS * AHEAD;

// Scores of a row's tile: `[HEADS, AHEAD]`.
const SCORES: u32 = HEADS * AHEAD;
// How many of them an invocation has for its own, and how many invocations have the same.
override OWN: u32 = max(SCORES / LANES, 1u);
override SAME: u32 = max(LANES / SCORES, 1u);
// Invocations whose scores are of the same head.
override HEAD_LANES: u32 = LANES / HEADS;

// The token's heads that a workgroup needs: its queries, then the new key and the new value.
const NEW_KEY: u32 = HEADS;
const NEW_VALUE: u32 = HEADS + 1u;
// Pairs of a head's elements for each invocation of a subgroup.
override KEY_SLOTS: u32 = (4u * KEY_PIECES + SUBGROUP - 1u) / SUBGROUP;
override VALUE_SLOTS: u32 = (4u * VALUE_PIECES + SUBGROUP - 1u) / SUBGROUP;
override SLOTS: u32 = max(KEY_SLOTS, VALUE_SLOTS);

// The token's heads, all first elements of pieces before all second ones: `[HEADS + 2, 8, pieces]`. Neighbours in a row read
// neighbours; and an invocation that reads back what it wrote touches nobody else's elements, as it would in a vector.
override MOST_PIECES: u32 = max(KEY_PIECES, VALUE_PIECES);
override HEADS_LEN: u32 = (HEADS + 2u) * 8u * MOST_PIECES;
var<workgroup> heads: array<f32, HEADS_LEN>;
// What subgroups found: `[MERGED, SUBGROUPS]` maxima and sums of weights, and sums of values, halves apart as above.
override STATES_LEN: u32 = MERGED * SUBGROUPS;
override SUMS_LEN: u32 = STATES_LEN * 2u * VALUE_PIECES;
var<workgroup> states: array<vec2<f32>, STATES_LEN>;
var<workgroup> sums: array<vec4<f32>, SUMS_LEN>;

// Eight elements of a row, and as they lie in the cache; halves fill the first four words.
struct Eight { a: vec4<f32>, b: vec4<f32> }
struct Raw { a: vec4<u32>, b: vec4<u32> }

// Positions that a row takes, and where.
struct Row {
    // The first position of the row in a tile that begins at 0; and the invocation's number in the row.
    first: u32,
    lane: u32,
    // The slot of position 0 of the ring's turn, and the first row of the head's cache.
    turn: u32,
    base: u32,
    // Where positions that lie in the cache end, and where all end.
    cached: u32,
    end: u32,
}

fn wide(raw: Raw) -> Eight {
    if HALF {
        let a = vec4<f32>(unpack2x16float(raw.a.x), unpack2x16float(raw.a.y));
        let b = vec4<f32>(unpack2x16float(raw.a.z), unpack2x16float(raw.a.w));
        return Eight(a, b);
    }
    return Eight(bitcast<vec4<f32>>(raw.a), bitcast<vec4<f32>>(raw.b));
}

// The row of the cache in which a position lies.
fn cache_row(row: Row, position: u32) -> u32 {
    let slot = position - row.turn;
    return row.base + slot - select(0u, p.call.capacity, slot >= p.call.capacity);
}

// Keys of the tile from position `first` on; zeros for what is not in the cache.
fn load_keys(first: u32, row: Row, raw: ptr<function, array<Raw, AHEAD * PER>>) {
    for (var n = 0u; n < AHEAD; n++) {
        let position = first + row.first + n * ROWS;
        for (var c = 0u; c < PER; c++) {
            let piece = c * LANES + row.lane;
            var found = Raw();
            if position < row.cached && piece < KEY_PIECES {
                let i = cache_row(row, position) * KEY_PIECES + piece;
                if HALF {
                    found.a = k_cache.v[p.o3 / 16u + i];
                } else {
                    found.a = k_cache.v[p.o3 / 16u + 2u * i];
                    found.b = k_cache.v[p.o3 / 16u + 2u * i + 1u];
                }
            }
            (*raw)[n * PER + c] = found;
        }
    }
}

// Values likewise.
fn load_values(first: u32, row: Row, raw: ptr<function, array<Raw, AHEAD * PER>>) {
    for (var n = 0u; n < AHEAD; n++) {
        let position = first + row.first + n * ROWS;
        for (var c = 0u; c < PER; c++) {
            let piece = c * LANES + row.lane;
            var found = Raw();
            if position < row.cached && piece < VALUE_PIECES {
                let i = cache_row(row, position) * VALUE_PIECES + piece;
                if HALF {
                    found.a = v_cache.v[p.o4 / 16u + i];
                } else {
                    found.a = v_cache.v[p.o4 / 16u + 2u * i];
                    found.b = v_cache.v[p.o4 / 16u + 2u * i + 1u];
                }
            }
            (*raw)[n * PER + c] = found;
        }
    }
}

// A piece of one of the token's heads.
fn head_piece(head: u32, piece: u32) -> Eight {
    let i = head * 8u * MOST_PIECES + piece;
    let a = vec4<f32>(
        heads[i],
        heads[i + MOST_PIECES],
        heads[i + 2u * MOST_PIECES],
        heads[i + 3u * MOST_PIECES],
    );
    let b = vec4<f32>(
        heads[i + 4u * MOST_PIECES],
        heads[i + 5u * MOST_PIECES],
        heads[i + 6u * MOST_PIECES],
        heads[i + 7u * MOST_PIECES],
    );
    return Eight(a, b);
}

fn place_of(head: u32, d: u32) -> u32 {
    return (head * 8u + d % 8u) * MOST_PIECES + d / 8u;
}

fn put(head: u32, d: u32, value: f32) {
    heads[place_of(head, d)] = value;
}

fn head_element(head: u32, d: u32) -> f32 {
    return heads[place_of(head, d)];
}

fn head_dim(head: u32) -> u32 {
    return 8u * select(KEY_PIECES, VALUE_PIECES, head == NEW_VALUE);
}

// Where the two elements of a slot lie: those of a pair, or those behind the pairs as they come.
fn places(head: u32, slot: u32) -> vec2<u32> {
    if head != NEW_VALUE && slot < PAIRS {
        return pair_places(slot, PAIRS, p.rotation.interleaved);
    }
    return vec2<u32>(2u * slot, 2u * slot + 1u);
}

// The elements of the slots of this lane, as products left them, all under way together. Nobody else touches them before the workgroup's barrier.
fn bring(head: u32, first_head: u32, kv_head: u32, lane: u32) {
    if head < HEADS {
        let group = p.call.heads / p.call.kv_heads;
        // Beyond the end the last head once more; nobody takes what comes of it.
        let i = p.o0 / 4u + (kv_head * group + min(first_head + head, group - 1u)) * p.call.key_dim;
        for (var n = 0u; n < KEY_SLOTS; n++) {
            let at = places(head, n * SUBGROUP + lane);
            if n * SUBGROUP + lane < 4u * KEY_PIECES {
                put(head, at.x, q.v[i + at.x]);
                put(head, at.y, q.v[i + at.y]);
            }
        }
    } else if head == NEW_KEY {
        let i = p.o1 / 4u + kv_head * p.call.key_dim;
        for (var n = 0u; n < KEY_SLOTS; n++) {
            let at = places(head, n * SUBGROUP + lane);
            if n * SUBGROUP + lane < 4u * KEY_PIECES {
                put(head, at.x, k.v[i + at.x]);
                put(head, at.y, k.v[i + at.y]);
            }
        }
    } else {
        let i = p.o2 / 4u + kv_head * p.call.value_dim;
        for (var n = 0u; n < VALUE_SLOTS; n++) {
            let at = places(head, n * SUBGROUP + lane);
            if n * SUBGROUP + lane < 4u * VALUE_PIECES {
                put(head, at.x, v.v[i + at.x]);
                put(head, at.y, v.v[i + at.y]);
            }
        }
    }
}

// Norm, rotation and rounding of the slots of this lane.
fn prepare(head: u32, position: u32, lane: u32) {
    let dim = head_dim(head);
    let rotated = head != NEW_VALUE;
    var inverse = 1.0;
    if NORMED {
        var sum = 0.0;
        for (var n = 0u; n < SLOTS; n++) {
            let slot = n * SUBGROUP + lane;
            if slot < dim / 2u {
                let to = places(head, slot);
                let pair = vec2<f32>(head_element(head, to.x), head_element(head, to.y));
                sum = fma(pair.x, pair.x, fma(pair.y, pair.y, sum));
            }
        }
        inverse = inverseSqrt(subgroupAdd(sum) / f32(dim) + select(p.rotation.q_eps, p.rotation.k_eps, head == NEW_KEY));
    }
    for (var n = 0u; n < SLOTS; n++) {
        let slot = n * SUBGROUP + lane;
        if slot >= dim / 2u {
            break;
        }
        let to = places(head, slot);
        var pair = vec2<f32>(head_element(head, to.x), head_element(head, to.y));
        if NORMED && rotated {
            pair = pair * inverse * vec2<f32>(weight_of(head, to.x), weight_of(head, to.y));
        }
        if rotated && slot < PAIRS {
            let angle = cosine_and_sine(f32(position) * inv_freq.v[p.o6 / 4u + slot]) * p.rotation.attention_factor;
            pair = turned(pair, angle);
        }
        if HALF && head >= NEW_KEY {
            // As it will come from the cache.
            pair = unpack2x16float(halves(pair));
        }
        put(head, to.x, pair.x);
        put(head, to.y, pair.y);
    }
}

fn halves(pair: vec2<f32>) -> u32 {
    return f16_bits(pair.x) | (f16_bits(pair.y) << 16u);
}

// A piece of the new key or value, written into a row of the cache.
fn put_new(head: u32, piece: u32, row: u32) {
    let eight = head_piece(head, piece);
    let i = row * select(KEY_PIECES, VALUE_PIECES, head == NEW_VALUE) + piece;
    if HALF {
        let words = vec4<u32>(halves(eight.a.xy), halves(eight.a.zw), halves(eight.b.xy), halves(eight.b.zw));
        if head == NEW_KEY {
            k_cache.v[p.o3 / 16u + i] = words;
        } else {
            v_cache.v[p.o4 / 16u + i] = words;
        }
    } else if head == NEW_KEY {
        k_cache.v[p.o3 / 16u + 2u * i] = bitcast<vec4<u32>>(eight.a);
        k_cache.v[p.o3 / 16u + 2u * i + 1u] = bitcast<vec4<u32>>(eight.b);
    } else {
        v_cache.v[p.o4 / 16u + 2u * i] = bitcast<vec4<u32>>(eight.a);
        v_cache.v[p.o4 / 16u + 2u * i + 1u] = bitcast<vec4<u32>>(eight.b);
    }
}

fn eight_dot(a: Eight, b: Eight, before: f32) -> f32 {
    let low = fma(a.a.w, b.a.w, fma(a.a.z, b.a.z, fma(a.a.y, b.a.y, fma(a.a.x, b.a.x, before))));
    return fma(a.b.w, b.b.w, fma(a.b.z, b.b.z, fma(a.b.y, b.b.y, fma(a.b.x, b.b.x, low))));
}

fn capped(score: f32) -> f32 {
    if p.call.softcap > 0.0 {
        return p.call.softcap * tanh_of(score / p.call.softcap);
    }
    return score;
}

// A step of summing scores over a row: with the invocation `mask` away. While there are several sums left, each of both goes
// on with half of them: the upper ones where the number in the row has that bit.
fn sum_step(scores: ptr<function, array<f32, SCORES>>, left: u32, mask: u32, lane: u32) {
    if mask == 0u {
        return;
    }
    if left < 2u {
        (*scores)[0] += subgroupShuffleXor((*scores)[0], mask);
        return;
    }
    let upper = (lane & mask) != 0u;
    for (var i = 0u; i < left / 2u; i++) {
        let a = (*scores)[i];
        let b = (*scores)[i + left / 2u];
        (*scores)[i] = select(a, b, upper) + subgroupShuffleXor(select(b, a, upper), mask);
    }
}

// The largest of the numbers that the invocations of a head have.
fn head_max(value: f32) -> f32 {
    var largest = value;
    if HEAD_LANES > 1u { largest = max(largest, subgroupShuffleXor(largest, 1u)); }
    if HEAD_LANES > 2u { largest = max(largest, subgroupShuffleXor(largest, 2u)); }
    if HEAD_LANES > 4u { largest = max(largest, subgroupShuffleXor(largest, 4u)); }
    if HEAD_LANES > 8u { largest = max(largest, subgroupShuffleXor(largest, 8u)); }
    if HEAD_LANES > 16u { largest = max(largest, subgroupShuffleXor(largest, 16u)); }
    return largest;
}

// Their sum, without those that are the same.
fn head_sum(value: f32) -> f32 {
    var sum = value;
    if HEAD_LANES > 1u && SAME < 2u { sum += subgroupShuffleXor(sum, 1u); }
    if HEAD_LANES > 2u && SAME < 4u { sum += subgroupShuffleXor(sum, 2u); }
    if HEAD_LANES > 4u && SAME < 8u { sum += subgroupShuffleXor(sum, 4u); }
    if HEAD_LANES > 8u && SAME < 16u { sum += subgroupShuffleXor(sum, 8u); }
    if HEAD_LANES > 16u && SAME < 32u { sum += subgroupShuffleXor(sum, 16u); }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    // Neighbours in a subgroup are neighbours here.
    let index = at.subgroup * SUBGROUP + at.lane;
    let group = p.call.heads / p.call.kv_heads;
    let chunks = (group + HEADS - 1u) / HEADS;
    let kv_head = at.group.x / chunks;
    let first_head = at.group.x % chunks * HEADS;
    let split = at.group.z;
    let position = step.v[p.o5 / 4u];

    // Under way before the position is there: what the subgroup prepares.
    for (var head = at.subgroup; head < HEADS + 2u; head += SUBGROUPS) {
        bring(head, first_head, kv_head, at.lane);
    }
    let all = seen(0u, position);
    let range = part_of(all, split);
    if range.x >= range.y {
        return;
    }
    // The newest position is seen last; nobody else touches its slot.
    let newest = all.y - 1u;
    let has_newest = range.y == all.y;
    var row: Row;
    row.first = index / LANES;
    row.lane = index % LANES;
    row.turn = range.x / p.call.capacity * p.call.capacity;
    row.base = kv_head * p.call.capacity;
    row.cached = min(range.y, newest);
    row.end = range.y;
    // The invocation of the subgroup with which the row begins.
    let row_lane = at.lane - at.lane % LANES;
    var keys: array<Raw, AHEAD * PER>;
    var values: array<Raw, AHEAD * PER>;
    load_keys(range.x, row, &keys);
    load_values(range.x, row, &values);

    let count = HEADS + select(0u, 2u, has_newest);
    for (var head = at.subgroup; head < count; head += SUBGROUPS) {
        prepare(head, position, at.lane);
    }
    workgroupBarrier();
    if has_newest && first_head == 0u {
        let to = cache_row(row, newest);
        for (var i = index; i < KEY_PIECES + VALUE_PIECES; i += WORKGROUP) {
            let is_value = i >= KEY_PIECES;
            put_new(select(NEW_KEY, NEW_VALUE, is_value), select(i, i - KEY_PIECES, is_value), to);
        }
    }

    // Maximum and sum of weights of the head whose scores this invocation has, and sums of values of all heads.
    var state = vec2<f32>(LEAST, 0.0);
    var low: array<vec4<f32>, HEADS * PER>;
    var high: array<vec4<f32>, HEADS * PER>;
    for (var i = 0u; i < HEADS * PER; i++) {
        low[i] = vec4<f32>();
        high[i] = vec4<f32>();
    }
    for (var first = range.x; first < range.y; first += TILE) {
        var scores: array<f32, SCORES>;
        for (var i = 0u; i < SCORES; i++) {
            scores[i] = 0.0;
        }
        for (var c = 0u; c < PER; c++) {
            let piece = c * LANES + row.lane;
            let inside = min(piece, KEY_PIECES - 1u);
            var found: array<Eight, AHEAD>;
            for (var n = 0u; n < AHEAD; n++) {
                found[n] = wide(keys[n * PER + c]);
                if first + row.first + n * ROWS == newest && piece < KEY_PIECES {
                    found[n] = head_piece(NEW_KEY, piece);
                }
            }
            for (var g = 0u; g < HEADS; g++) {
                let query = head_piece(g, inside);
                for (var n = 0u; n < AHEAD; n++) {
                    scores[g * AHEAD + n] = eight_dot(query, found[n], scores[g * AHEAD + n]);
                }
            }
        }
        load_keys(first + TILE, row, &keys);
        sum_step(&scores, SCORES, LANES / 2u, row.lane);
        sum_step(&scores, SCORES / 2u, LANES / 4u, row.lane);
        sum_step(&scores, SCORES / 4u, LANES / 8u, row.lane);
        sum_step(&scores, SCORES / 8u, LANES / 16u, row.lane);
        sum_step(&scores, SCORES / 16u, LANES / 32u, row.lane);

        let mine = row.lane / SAME * OWN;
        var largest = state.x;
        for (var i = 0u; i < OWN; i++) {
            let seen_one = first + row.first + (mine + i) % AHEAD * ROWS < row.end;
            scores[i] = select(LEAST, capped(scores[i] * p.call.scale), seen_one);
            largest = max(largest, scores[i]);
        }
        largest = head_max(largest);
        var weights = 0.0;
        for (var i = 0u; i < OWN; i++) {
            let seen_one = first + row.first + (mine + i) % AHEAD * ROWS < row.end;
            scores[i] = select(0.0, decay(scores[i] - largest), seen_one);
            weights += scores[i];
        }
        let correction = decay(state.x - largest);
        state = vec2<f32>(largest, fma(state.y, correction, head_sum(weights)));
        for (var g = 0u; g < HEADS; g++) {
            let factor = subgroupShuffle(correction, row_lane + g * HEAD_LANES);
            for (var c = 0u; c < PER; c++) {
                low[g * PER + c] *= factor;
                high[g * PER + c] *= factor;
            }
        }
        for (var n = 0u; n < AHEAD; n++) {
            var weight: array<f32, HEADS>;
            for (var g = 0u; g < HEADS; g++) {
                let j = g * AHEAD + n;
                weight[g] = subgroupShuffle(scores[j % OWN], row_lane + j / OWN * SAME);
            }
            for (var c = 0u; c < PER; c++) {
                let piece = c * LANES + row.lane;
                var found = wide(values[n * PER + c]);
                if first + row.first + n * ROWS == newest && piece < VALUE_PIECES {
                    found = head_piece(NEW_VALUE, piece);
                }
                for (var g = 0u; g < HEADS; g++) {
                    low[g * PER + c] = fma(vec4<f32>(weight[g]), found.a, low[g * PER + c]);
                    high[g * PER + c] = fma(vec4<f32>(weight[g]), found.b, high[g * PER + c]);
                }
            }
        }
        load_values(first + TILE, row, &values);
    }

    // The rows of a subgroup come together, then the subgroups.
    for (var mask = LANES; mask < SUBGROUP; mask *= 2u) {
        let largest = max(state.x, subgroupShuffleXor(state.x, mask));
        let factor = decay(state.x - largest);
        let part = state.y * factor;
        state = vec2<f32>(largest, part + subgroupShuffleXor(part, mask));
        for (var g = 0u; g < HEADS; g++) {
            let of_head = subgroupShuffle(factor, row_lane + g * HEAD_LANES);
            for (var c = 0u; c < PER; c++) {
                let a = low[g * PER + c] * of_head;
                let b = high[g * PER + c] * of_head;
                low[g * PER + c] = a + subgroupShuffleXor(a, mask);
                high[g * PER + c] = b + subgroupShuffleXor(b, mask);
            }
        }
    }
    for (var g = 0u; g < HEADS; g++) {
        let place = g % MERGED * SUBGROUPS + at.subgroup;
        if at.lane == g * HEAD_LANES {
            states[place] = state;
        }
        for (var c = 0u; c < PER; c++) {
            let piece = c * LANES + row.lane;
            if at.lane < LANES && piece < VALUE_PIECES {
                sums[place * 2u * VALUE_PIECES + piece] = low[g * PER + c];
                sums[(place * 2u + 1u) * VALUE_PIECES + piece] = high[g * PER + c];
            }
        }
        if g % MERGED == MERGED - 1u {
            workgroupBarrier();
            finish(kv_head * group, first_head, g + 1u - MERGED, split, index);
            workgroupBarrier();
        }
    }
}

// Puts together what subgroups found for the heads from number `lowest` on.
fn finish(heads_before: u32, first_head: u32, lowest: u32, split: u32, index: u32) {
    let group = p.call.heads / p.call.kv_heads;
    for (var start = 0u; start < MERGED * VALUE_PIECES * 2u; start += WORKGROUP) {
        let place = (start + index) / (VALUE_PIECES * 2u);
        let i = (start + index) % (VALUE_PIECES * 2u);
        let head = first_head + lowest + place;
        let taking = place < MERGED && head < group;
        var state = vec2<f32>(LEAST, 0.0);
        var total = vec4<f32>();
        if taking {
            for (var s = 0u; s < SUBGROUPS; s++) {
                state.x = max(state.x, states[place * SUBGROUPS + s].x);
            }
            for (var s = 0u; s < SUBGROUPS; s++) {
                let found = states[place * SUBGROUPS + s];
                let weight = decay(found.x - state.x);
                state.y = fma(weight, found.y, state.y);
                let source = ((place * SUBGROUPS + s) * 2u + i % 2u) * VALUE_PIECES + i / 2u;
                total = fma(vec4<f32>(weight), sums[source], total);
            }
        }
        store(Part(0u, heads_before + head, split, index), i, total, state, taking);
    }
}
