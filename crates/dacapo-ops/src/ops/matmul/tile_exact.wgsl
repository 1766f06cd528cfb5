// Values of k in workgroup memory at a time.
const DEPTH: u32 = 32u;

// For each k a value of each row, and of each token.
var<workgroup> rows: array<vec4<f32>, 512>;
override TOKEN_VALUES: u32 = DEPTH * TOKEN_QUADS;
var<workgroup> tokens: array<vec4<f32>, TOKEN_VALUES>;

fn stage_tokens(index: u32, first: u32, k: u32) {
    for (var i = index; i < TILE_TOKENS * DEPTH; i += THREADS) {
        let token = i / DEPTH;
        let within = i % DEPTH;
        var value = 0.0;
        if k + within < p.k { value = one_at(token_of(first, token) * p.k + k + within); }
        tokens[within * TOKEN_QUADS + token / 4u][token % 4u] = value;
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let first = id.x * TILE_TOKENS;
    if !begin_tile(id.z, first) { return; }
    let first_row = id.y * TILE_ROWS;
    let x = index % QUADS;
    let z = index / QUADS;
    var sums = Sums();
    for (var k = 0u; k < p.k; k += DEPTH) {
        stage_tokens(index, first, k);
        stage_rows(index, first_row, k);
        workgroupBarrier();
        var part = Sums();
        for (var i = 0u; i < DEPTH; i++) {
            let w = rows[i * QUADS + x];
            let t = tokens[i * TOKEN_QUADS + z];
            part.a = fma(w, vec4<f32>(t.x), part.a);
            part.b = fma(w, vec4<f32>(t.y), part.b);
            part.c = fma(w, vec4<f32>(t.z), part.c);
            part.d = fma(w, vec4<f32>(t.w), part.d);
        }
        sums.a += part.a;
        sums.b += part.b;
        sums.c += part.c;
        sums.d += part.d;
        workgroupBarrier();
    }
    put_sums(first + 4u * z, first_row + 4u * x, sums);
}
