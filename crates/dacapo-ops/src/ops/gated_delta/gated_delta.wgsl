// The gated delta rule, token by token. A workgroup has some columns of a head's memory, an invocation some rows of one of them, in
// registers from the first token to the last.
const MOST_ROWS: u32 = 32u;
const WORKERS: u32 = 256u;

// What each part of a column finds: of the memory recalled by the key, and the squares of key and query; then what the query
// reads.
var<workgroup> recalls: array<f32, WORKERS>;
var<workgroup> key_squares: array<f32, WORKERS>;
var<workgroup> query_squares: array<f32, WORKERS>;
var<workgroup> reads: array<f32, WORKERS>;

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
    let rows = min(ROWS, p.key_dim - min(first, p.key_dim));
    let is_there = column < p.value_dim;
    let memory = p.o6 / 4u + head * p.key_dim * p.value_dim + column;
    let fresh = step.v[p.o5 / 4u] == 0u;
    var s: array<f32, MOST_ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        s[r] = 0.0;
        if r < rows && is_there && !fresh {
            s[r] = state.v[memory + (first + r) * p.value_dim];
        }
    }
    let tokens = token_count();
    let scale = 1.0 / sqrt(f32(p.key_dim));
    for (var t = 0u; t < tokens; t++) {
        let q = query_at(t, head) + first;
        let k = q + p.key_heads * p.key_dim;
        var recalled = 0.0;
        var key_square = 0.0;
        var query_square = 0.0;
        for (var r = 0u; r < ROWS; r++) {
            if r < rows {
                let key = qkv.v[k + r];
                let query = qkv.v[q + r];
                recalled = fma(s[r], key, recalled);
                key_square = fma(key, key, key_square);
                query_square = fma(query, query, query_square);
            }
        }
        recalls[at.index] = recalled;
        key_squares[at.index] = key_square;
        query_squares[at.index] = query_square;
        workgroupBarrier();
        recalled = 0.0;
        key_square = 0.0;
        query_square = 0.0;
        for (var i = 0u; i < PARTS; i++) {
            recalled += recalls[i * COLUMNS + in_block];
            key_square += key_squares[i * COLUMNS + in_block];
            query_square += query_squares[i * COLUMNS + in_block];
        }
        let decay = exp_of(log_decay(t, head));
        let inverse_key = 1.0 / sqrt(key_square + 1e-6);
        let inverse_query = 1.0 / sqrt(query_square + 1e-6);
        var change = 0.0;
        if is_there {
            let v = qkv.v[value_at(t, head) + column];
            change = swish(inverse_key, share_logit(t, head)) * (v - decay * inverse_key * recalled);
        }
        var read = 0.0;
        for (var r = 0u; r < ROWS; r++) {
            if r < rows {
                s[r] = fma(change, qkv.v[k + r], decay * s[r]);
                read = fma(s[r], qkv.v[q + r], read);
            }
        }
        reads[at.index] = read;
        workgroupBarrier();
        if part == 0u && is_there {
            read = 0.0;
            for (var i = 0u; i < PARTS; i++) {
                read += reads[i * COLUMNS + in_block];
            }
            out.v[p.o7 / 4u + (t * p.value_heads + head) * p.value_dim + column] = read * inverse_query * scale;
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        if r < rows && is_there {
            state.v[memory + (first + r) * p.value_dim] = s[r];
        }
    }
}
