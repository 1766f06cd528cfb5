// Value `column` of the weighted sum of a token's rows.
fn add_up(token: u32, column: u32) -> f32 {
    var sum = 0.0;
    for (var j = 0u; j < p.chosen; j++) {
        let row = token * p.chosen + j;
        sum = fma(weights.v[p.o1 / 4u + row], y.v[p.o0 / 4u + row * p.width + column], sum);
    }
    return sum;
}
