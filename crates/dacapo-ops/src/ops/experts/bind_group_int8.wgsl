struct Words { v: array<vec4<u32>> }
struct Vectors { v: array<vec4<f32>> }
struct Floats { v: array<f32> }
struct U32s { v: array<u32> }
struct Params {
    kind: u32, detail: u32, n: u32, k: u32, rows: u32, per: u32, experts: u32, stride: u32, chosen: u32,
    o0: u32, o1: u32, o2: u32, o3: u32, o4: u32, o5: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> codes: Words;
@group(0) @binding(1) var<storage, read> infos: Vectors;
@group(0) @binding(2) var<storage, read> weight: Words;
@group(0) @binding(3) var<storage, read> order: U32s;
@group(0) @binding(4) var<storage, read> starts: U32s;
@group(0) @binding(5) var<storage, read_write> y: Floats;

fn row_at(i: u32) -> u32 { return order.v[p.o3 / 4u + i]; }
fn start_of(expert: u32) -> u32 { return starts.v[p.o4 / 4u + expert]; }
fn codes_start() -> u32 { return p.o0 / 16u; }
fn infos_start() -> u32 { return p.o1 / 16u; }
fn weight_start() -> u32 { return p.o2 / 16u + base; }
fn put(i: u32, column: u32, value: f32) { y.v[p.o5 / 4u + row_of(i) * p.n + column] = value; }
