// The activation functions.

// 0 SiLU, 1 GELU, 2 GELU approximated through tanh, 3 the logistic function: as `ActivationFn`.
override FUNCTION: u32 = 0u;

fn activation(x: f32) -> f32 {
    switch FUNCTION {
        case 0u: { return swish(x, x); }
        case 1u: { return x * 0.5 * one_plus_erf(x * 0.70710677); }
        case 3u: { return swish(1.0, x); }
        // (1 + tanh u) / 2 = 1 / (1 + e^-2u).
        default: { return swish(x, x * fma(x * x, 0.071354814, 1.595769)); }
    }
}
