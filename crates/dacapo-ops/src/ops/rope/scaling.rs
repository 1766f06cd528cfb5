//! Frequencies of rotary embeddings, and the ways to stretch them over longer contexts.

use std::f32::consts::PI;

/// How a model's rotary frequencies are stretched beyond the context it was first trained with.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    None,
    /// Positions divided by a factor (Chen et al., 2023).
    Linear {
        /// The factor.
        factor: f32,
    },
    /// Low frequencies divided, high ones kept, a smooth passage between (Llama 3.1, 2024).
    Llama3 {
        /// What low frequencies are divided by.
        factor: f32,
        /// Frequencies with a wavelength above the original context divided by this are low.
        low_freq_factor: f32,
        /// Frequencies with a wavelength below the original context divided by this are high.
        high_freq_factor: f32,
        /// Context of the first training, in positions.
        original_context: usize,
    },
    /// YaRN (Peng et al., 2023).
    Yarn {
        /// What low frequencies are divided by.
        factor: f32,
        /// Context of the first training, in positions.
        original_context: usize,
        /// Frequencies with more turns than this in the original context are kept; usually 32.
        beta_fast: f32,
        /// Frequencies with fewer turns than this are divided; usually 1.
        beta_slow: f32,
        /// Whether the bounds of the passage are rounded outwards to whole pairs; usually true.
        truncate: bool,
        /// The attention factor if it is given; otherwise it is computed from `factor`.
        attention_factor: Option<f32>,
        /// Scale in the computation of the attention factor: 0.1 `mscale` ln `factor` + 1.
        mscale: Option<f32>,
        /// If this is given too, the attention factor is the quotient of both computations.
        mscale_all_dim: Option<f32>,
    },
    /// A divisor for each frequency (the tensor `rope_freqs.weight` of GGUF).
    Factors(Vec<f32>),
}

/// What [`rope`](super::rope) needs to know of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeFrequencies {
    /// Radians per position, one for each rotated pair.
    pub inv_freq: Vec<f32>,
    /// What cosine and sine are multiplied by.
    pub attention_factor: f32,
}

impl RopeScaling {
    /// The frequencies of `dims / 2` pairs for the base `theta`: `theta^(-2i/dims)`, scaled.
    ///
    /// With [`RopeScaling::Factors`], pairs beyond the end of the list keep their frequency; whoever reads the
    /// list from a file checks its length.
    pub fn frequencies(&self, theta: f32, dims: usize) -> RopeFrequencies {
        let periods: Vec<f32> = (0..dims / 2).map(|i| theta.powf((2 * i) as f32 / dims as f32)).collect();
        let mut inv_freq: Vec<f32> = periods.iter().map(|p| 1.0 / p).collect();
        let mut attention_factor = 1.0;
        match self {
            RopeScaling::None => {}
            RopeScaling::Linear { factor } => inv_freq.iter_mut().for_each(|f| *f /= factor),
            &RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let context = original_context as f32;
                for f in &mut inv_freq {
                    *f = llama3(*f, factor, low_freq_factor, high_freq_factor, context);
                }
            }
            &RopeScaling::Yarn { factor, original_context, beta_fast, beta_slow, truncate, .. } => {
                let pair = |turns: f32| yarn_pair(turns, dims, theta, original_context);
                let (mut low, mut high) = (pair(beta_fast), pair(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                low = low.max(0.0);
                high = high.min(dims as f64 - 1.0);
                if low == high {
                    high += 0.001;
                }
                for (i, (f, period)) in inv_freq.iter_mut().zip(&periods).enumerate() {
                    let keep = 1.0 - ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                    *f = 1.0 / (factor * period) * (1.0 - keep) + *f * keep;
                }
                attention_factor = self.yarn_attention_factor();
            }
            RopeScaling::Factors(factors) => {
                inv_freq.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
            }
        }
        RopeFrequencies { inv_freq, attention_factor }
    }

    fn yarn_attention_factor(&self) -> f32 {
        let &RopeScaling::Yarn { factor, attention_factor, mscale, mscale_all_dim, .. } = self else {
            return 1.0;
        };
        let computed = |mscale: f32| if factor <= 1.0 { 1.0 } else { 0.1 * mscale * factor.ln() + 1.0 };
        match (attention_factor, mscale, mscale_all_dim) {
            (Some(given), ..) => given,
            (None, Some(a), Some(b)) if a != 0.0 && b != 0.0 => computed(a) / computed(b),
            _ => computed(1.0),
        }
    }
}

fn llama3(f: f32, factor: f32, low: f32, high: f32, context: f32) -> f32 {
    let wavelength = 2.0 * PI / f;
    if wavelength < context / high {
        f
    } else if wavelength > context / low {
        f / factor
    } else {
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 - smooth) * f / factor + smooth * f
    }
}

/// The (fractional) pair whose frequency makes this many turns in the original context.
fn yarn_pair(turns: f32, dims: usize, theta: f32, context: usize) -> f64 {
    let wavelength = context as f64 / (f64::from(turns) * 2.0 * std::f64::consts::PI);
    dims as f64 * wavelength.ln() / (2.0 * f64::from(theta).ln())
}
