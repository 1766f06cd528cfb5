struct Words { v: array<vec4<u32>> }
struct Floats { v: array<f32> }
struct U32s { v: array<u32> }
struct Params {
    kind: u32, detail: u32, n: u32, k: u32, rows: u32, per: u32, experts: u32, stride: u32, chosen: u32,
    o0: u32, o1: u32, o2: u32, o3: u32, o4: u32,
}
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> x: Floats;
@group(0) @binding(1) var<storage, read> weight: Words;
@group(0) @binding(2) var<storage, read> order: U32s;
@group(0) @binding(3) var<storage, read> starts: U32s;
@group(0) @binding(4) var<storage, read_write> y: Floats;

fn row_at(i: u32) -> u32 { return order.v[p.o2 / 4u + i]; }
fn start_of(expert: u32) -> u32 { return starts.v[p.o3 / 4u + expert]; }
fn one_at(i: u32) -> f32 { return x.v[p.o0 / 4u + i]; }
fn weight_start() -> u32 { return p.o1 / 16u + base; }
fn put(i: u32, column: u32, value: f32) { y.v[p.o4 / 4u + row_of(i) * p.n + column] = value; }
