// Capped, not scaled.
override CAP: bool = false;

fn function(x: f32, value: f32) -> f32 {
    if CAP {
        return value * tanh_of(x / value);
    }
    return x * value;
}
