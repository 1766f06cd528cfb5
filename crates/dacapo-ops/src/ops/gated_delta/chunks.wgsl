// The gated delta rule over chunks of tokens (Yang, Kautz and Hatamizadeh, 2024, section 3.3). A workgroup has some columns of a
// head's memory, an invocation some rows of one of them, in registers from the first chunk to the last. Behind the last token
// a chunk is filled with that token again, which writes nothing.
//
// With keys and queries of length one, l the logarithms of decays and f(i, j) = exp(l[j + 1] + .. + l[i]), what token i writes is
//   u[i] = share[i] (v[i] - f(i, -1) S^T k[i] - sum over j < i of f(i, j) (k[i] . k[j]) u[j])
// and what it reads, then what the memory is behind the chunk,
//   out[i] = f(i, -1) S^T q[i] + sum over j <= i of f(i, j) (q[i] . k[j]) u[j]
//   S' = f(last, -1) S + sum over j of f(last, j) k[j] u[j]^T
// so that a chunk needs as many barriers as two tokens one by one.
const MOST_CHUNK: u32 = 16u;
const MOST_QUADS: u32 = 8u;
// Tokens of a chunk, and vectors of four rows that an invocation has.
override CHUNK: u32 = 16u;
override QUADS: u32 = 8u;
// From a token's key to the next in workgroup memory: one vector more than it needs, so that keys begin in different banks.
override STRIDE: u32 = 33u;
override TILE: u32 = 528u;
override PARTIALS: u32 = 2048u;
override PAIRS: u32 = 256u;

var<workgroup> keys: array<vec4<f32>, TILE>;
var<workgroup> queries: array<vec4<f32>, TILE>;
// What each part of a column finds: of the memory recalled by the keys, then by the queries.
var<workgroup> partials: array<f32, PARTIALS>;
// Of two tokens: products of their keys, and of the query of the first with the key of the second; then these as factors of u.
var<workgroup> of_keys: array<f32, PAIRS>;
var<workgroup> of_queries: array<f32, PAIRS>;
var<workgroup> logs: array<f32, MOST_CHUNK>;
var<workgroup> shares: array<f32, MOST_CHUNK>;
// One over the lengths of keys and queries; the same times what is kept of the memory from before the chunk to the token, and from
// the token to the chunk's end.
var<workgroup> key_inverses: array<f32, MOST_CHUNK>;
var<workgroup> query_inverses: array<f32, MOST_CHUNK>;
var<workgroup> recall_factors: array<f32, MOST_CHUNK>;
var<workgroup> read_factors: array<f32, MOST_CHUNK>;
var<workgroup> write_factors: array<f32, MOST_CHUNK>;

// A row of a key or query, zero behind the last. What is there is loaded without asking, so that loads need not wait for each other.
fn row_at(start: u32, row: u32) -> f32 {
    return select(0.0, qkv.v[start + min(row, p.key_dim - 1u)], row < p.key_dim);
}

fn rows_at(start: u32, row: u32) -> vec4<f32> {
    return vec4<f32>(row_at(start, row), row_at(start, row + 1u), row_at(start, row + 2u), row_at(start, row + 3u));
}

// Brings keys, queries, decays and shares of `count` tokens; behind them those of the last one, which nobody asks for.
fn load_chunk(index: u32, head: u32, start: u32, count: u32) {
    let width = STRIDE - 1u;
    for (var i = index; i < CHUNK * width; i += WORKGROUP) {
        let token = i / width;
        let quad = i % width;
        let at = query_at(start + min(token, count - 1u), head);
        queries[token * STRIDE + quad] = rows_at(at, 4u * quad);
        keys[token * STRIDE + quad] = rows_at(at + p.key_heads * p.key_dim, 4u * quad);
    }
    for (var token = index; token < CHUNK; token += WORKGROUP) {
        let source = start + min(token, count - 1u);
        logs[token] = log_decay(source, head);
        shares[token] = swish(1.0, share_logit(source, head));
    }
}

// Products of the keys and queries of each two tokens, and inverse lengths of all.
fn multiply_pairs(index: u32, count: u32) {
    let quads = (p.key_dim + 3u) / 4u;
    for (var pair = index; pair < PAIRS; pair += WORKGROUP) {
        let i = pair / CHUNK;
        let j = pair % CHUNK;
        if j > i { continue; }
        var keys_product = vec4<f32>();
        var query_product = vec4<f32>();
        for (var quad = 0u; quad < quads; quad++) {
            let key = keys[j * STRIDE + quad];
            keys_product = fma(keys[i * STRIDE + quad], key, keys_product);
            query_product = fma(queries[i * STRIDE + quad], key, query_product);
        }
        let product = sum_of(keys_product);
        of_keys[pair] = product;
        of_queries[pair] = sum_of(query_product);
        if i == j {
            var square = vec4<f32>();
            for (var quad = 0u; quad < quads; quad++) {
                let query = queries[i * STRIDE + quad];
                square = fma(query, query, square);
            }
            let key_inverse = 1.0 / sqrt(product + 1e-6);
            let query_inverse = 1.0 / (sqrt(sum_of(square) + 1e-6) * sqrt(f32(p.key_dim)));
            let before = kept(0u, i + 1u);
            key_inverses[i] = key_inverse;
            query_inverses[i] = query_inverse;
            recall_factors[i] = before * key_inverse;
            read_factors[i] = before * query_inverse;
            // Nothing comes from behind the last token.
            write_factors[i] = select(0.0, kept(i + 1u, count) * key_inverse, i < count);
        }
    }
}

fn sum_of(v: vec4<f32>) -> f32 {
    return (v.x + v.z) + (v.y + v.w);
}

// What tokens first .. end keep of what was there before. Sums of few logarithms are more exact than differences of long sums.
fn kept(first: u32, end: u32) -> f32 {
    var log = 0.0;
    for (var i = 0u; i < CHUNK; i++) { log += select(0.0, logs[i], i >= first && i < end); }
    return exp_of(log);
}

// Makes factors of the products.
fn weigh_pairs(index: u32) {
    for (var pair = index; pair < PAIRS; pair += WORKGROUP) {
        let i = pair / CHUNK;
        let j = pair % CHUNK;
        if j > i { continue; }
        let factor = kept(j + 1u, i + 1u) * key_inverses[j];
        of_keys[pair] *= factor * shares[i] * key_inverses[i];
        of_queries[pair] *= factor * query_inverses[i];
    }
}

// A row of a column of the memory, zero behind the last.
fn remembered(memory: u32, row: u32) -> f32 {
    if row < p.key_dim { return state.v[memory + row * p.value_dim]; }
    return 0.0;
}

fn remember(memory: u32, row: u32, value: f32) {
    if row < p.key_dim { state.v[memory + row * p.value_dim] = value; }
}

@compute @workgroup_size(WORKGROUP)
fn main(at: Invocation) {
    let blocks = (p.value_dim + COLUMNS - 1u) / COLUMNS;
    let group = linear_group(at);
    let head = group / blocks;
    if head >= p.value_heads {
        return;
    }
    let in_block = at.index % COLUMNS;
    let column = group % blocks * COLUMNS + in_block;
    let part = at.index / COLUMNS;
    let first = part * ROWS;
    let is_there = column < p.value_dim;
    let memory = p.o6 / 4u + head * p.key_dim * p.value_dim + column;
    // Those without a column go along with the values of the last one.
    let value = min(column, p.value_dim - 1u);
    let fresh = step.v[p.o5 / 4u] == 0u;
    var s: array<vec4<f32>, MOST_QUADS>;
    for (var quad = 0u; quad < QUADS; quad++) {
        s[quad] = vec4<f32>();
        if is_there && !fresh {
            let row = first + 4u * quad;
            s[quad] = vec4<f32>(
                remembered(memory, row), remembered(memory, row + 1u),
                remembered(memory, row + 2u), remembered(memory, row + 3u),
            );
        }
    }
    let tokens = token_count();
    for (var start = 0u; start < tokens; start += CHUNK) {
        let count = min(CHUNK, tokens - start);
        // What tokens write begins as their values, which are under way while keys are multiplied.
        var u: array<f32, MOST_CHUNK>;
        for (var i = 0u; i < CHUNK; i++) { u[i] = qkv.v[value_at(start + min(i, count - 1u), head) + value]; }
        workgroupBarrier();
        load_chunk(at.index, head, start, count);
        workgroupBarrier();
        multiply_pairs(at.index, count);
        for (var i = 0u; i < CHUNK; i++) {
            var sum = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                sum = fma(s[quad], keys[i * STRIDE + part * QUADS + quad], sum);
            }
            partials[i * WORKGROUP + at.index] = sum_of(sum);
        }
        workgroupBarrier();
        weigh_pairs(at.index);
        for (var i = 0u; i < CHUNK; i++) {
            var recalled = 0.0;
            for (var other = 0u; other < PARTS; other++) {
                recalled += partials[i * WORKGROUP + other * COLUMNS + in_block];
            }
            u[i] = shares[i] * fma(-recall_factors[i], recalled, u[i]);
        }
        workgroupBarrier();
        for (var i = 1u; i < CHUNK; i++) {
            var change = u[i];
            for (var j = 0u; j < CHUNK; j++) {
                if j < i { change = fma(-of_keys[i * CHUNK + j], u[j], change); }
            }
            u[i] = change;
        }
        for (var i = 0u; i < CHUNK; i++) {
            var sum = vec4<f32>();
            for (var quad = 0u; quad < QUADS; quad++) {
                sum = fma(s[quad], queries[i * STRIDE + part * QUADS + quad], sum);
            }
            partials[i * WORKGROUP + at.index] = sum_of(sum);
        }
        workgroupBarrier();
        for (var i = part; i < count; i += PARTS) {
            var read = 0.0;
            for (var other = 0u; other < PARTS; other++) {
                read += partials[i * WORKGROUP + other * COLUMNS + in_block];
            }
            read *= read_factors[i];
            for (var j = 0u; j < CHUNK; j++) {
                if j <= i { read = fma(of_queries[i * CHUNK + j], u[j], read); }
            }
            if is_there {
                out.v[p.o7 / 4u + ((start + i) * p.value_heads + head) * p.value_dim + column] = read;
            }
        }
        let decay = kept(0u, count);
        for (var quad = 0u; quad < QUADS; quad++) { s[quad] *= decay; }
        for (var j = 0u; j < CHUNK; j++) {
            let change = vec4<f32>(u[j] * write_factors[j]);
            for (var quad = 0u; quad < QUADS; quad++) {
                s[quad] = fma(change, keys[j * STRIDE + part * QUADS + quad], s[quad]);
            }
        }
    }
    for (var quad = 0u; quad < QUADS; quad++) {
        if is_there {
            let row = first + 4u * quad;
            remember(memory, row, s[quad].x);
            remember(memory, row + 1u, s[quad].y);
            remember(memory, row + 2u, s[quad].z);
            remember(memory, row + 3u, s[quad].w);
        }
    }
}
