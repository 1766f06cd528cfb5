// Blocks of 32 values in workgroup memory at a time.
const BATCH: u32 = 2u;

// Codes of weights and of activations, for each block and sub-step a word of each row and of each token.
const ROW_WORDS: u32 = 256u;
override TOKEN_WORDS: u32 = BATCH * 8u * TOKEN_QUADS;
override TOKEN_BLOCKS: u32 = BATCH * TILE_TOKENS;
var<workgroup> rows: array<vec4<u32>, ROW_WORDS>;
var<workgroup> tokens: array<vec4<u32>, TOKEN_WORDS>;
// Scales and biases of quads, and what describes blocks of activations.
var<workgroup> scales: array<Scale, 32>;
var<workgroup> token_infos: array<vec4<f32>, TOKEN_BLOCKS>;

fn stage_tokens(index: u32, first: u32, block: u32) {
    for (var i = index; i < TOKEN_BLOCKS; i += THREADS) {
        let token = i % TILE_TOKENS;
        let within = i / TILE_TOKENS;
        var lo = vec4<u32>();
        var hi = vec4<u32>();
        var info = vec4<f32>();
        if block + within < BLOCKS {
            let at = token_of(first, token) * BLOCKS + block + within;
            lo = codes.v[codes_start() + 2u * at];
            hi = codes.v[codes_start() + 2u * at + 1u];
            info = infos.v[infos_start() + at];
        }
        token_infos[i] = info;
        for (var j = 0u; j < 4u; j++) {
            tokens[(within * 8u + j) * TOKEN_QUADS + token / 4u][token % 4u] = lo[j];
            tokens[(within * 8u + 4u + j) * TOKEN_QUADS + token / 4u][token % 4u] = hi[j];
        }
    }
}

fn stage_rows(index: u32, first_row: u32, block: u32) {
    for (var i = index; i < ROW_WORDS; i += THREADS) {
        let j = i / QUADS % 8u;
        let quad = i % QUADS;
        let within = i / (8u * QUADS);
        let panel = panel_of(first_row, quad, PANEL_VECS);
        // Past the end the last block once more: activations are zero there.
        let at = min(block + within, BLOCKS - 1u);
        rows[i] = load_codes(panel, quad % 4u, at, j);
        if j == 0u { scales[within * QUADS + quad] = load_scale(panel, quad % 4u, at); }
    }
}

fn dots(codes: vec4<u32>, activations: u32) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(codes.x, activations),
        dot4I8Packed(codes.y, activations),
        dot4I8Packed(codes.z, activations),
        dot4I8Packed(codes.w, activations),
    );
}

fn scaled(dot: vec4<i32>, scale: vec4<f32>, bias: vec4<f32>, info: f32, all: f32, sum: vec4<f32>) -> vec4<f32> {
    return fma(bias, vec4<f32>(all), fma(vec4<f32>(dot), scale * info, sum));
}

// The products of one step, whose sub-steps are `start .. end`. `which` is the part of the infos with the step's sum.
fn add_step(at: u32, x: u32, z: u32, start: u32, end: u32, which: u32, scale: vec4<f32>, bias: vec4<f32>, sums: Sums) -> Sums {
    var a = vec4<i32>();
    var b = vec4<i32>();
    var c = vec4<i32>();
    var d = vec4<i32>();
    for (var j = start; j < end; j++) {
        let w = rows[(at * 8u + j) * QUADS + x];
        let t = tokens[(at * 8u + j) * TOKEN_QUADS + z];
        a += dots(w, t.x);
        b += dots(w, t.y);
        c += dots(w, t.z);
        d += dots(w, t.w);
    }
    let first = at * TILE_TOKENS + 4u * z;
    var out: Sums;
    out.a = scaled(a, scale, bias, token_infos[first].x, token_infos[first][which], sums.a);
    out.b = scaled(b, scale, bias, token_infos[first + 1u].x, token_infos[first + 1u][which], sums.b);
    out.c = scaled(c, scale, bias, token_infos[first + 2u].x, token_infos[first + 2u][which], sums.c);
    out.d = scaled(d, scale, bias, token_infos[first + 3u].x, token_infos[first + 3u][which], sums.d);
    return out;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = id.x * TILE_TOKENS;
    if !begin_tile(id.z, first) { return; }
    let first_row = id.y * TILE_ROWS;
    let x = index % QUADS;
    let z = index / QUADS;
    var sums = Sums();
    for (var block = 0u; block < BLOCKS; block += BATCH) {
        stage_tokens(index, first, block);
        stage_rows(index, first_row, block);
        workgroupBarrier();
        for (var at = 0u; at < BATCH; at++) {
            let s = scales[at * QUADS + x];
            if HALVES {
                sums = add_step(at, x, z, 0u, 4u, 2u, s.s, s.b, sums);
                sums = add_step(at, x, z, 4u, 8u, 3u, s.s_last, s.b_last, sums);
            } else {
                sums = add_step(at, x, z, 0u, 8u, 1u, s.s, s.b, sums);
            }
        }
        workgroupBarrier();
    }
    put_sums(first + 4u * z, first_row + 4u * x, sums);
}
