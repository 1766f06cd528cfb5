//! Searches for the scale of a few values, as ggml's reference quantizers do them: a handful of scales near the plain
//! one are tried, and for each the best scale for its codes follows by least squares.
//!
//! Sums run in the order of the values and nothing is fused, so that results are ggml's bit for bit.

/// Values whose magnitude is below this count as zero.
const TINY: f32 = 1e-15;

/// The whole number nearest to `x`, ties to even; beyond 22 bits the nearest with so many.
#[inline(always)]
pub(super) fn nearest(x: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the whole number in the low bits of the mantissa.
    let bits = (x.clamp(-4_194_303.0, 4_194_303.0) + 12_582_912.0).to_bits();
    (bits & 0x007f_ffff) as i32 - 0x0040_0000
}

/// The value of largest magnitude, the first of several; 0 for none.
fn extreme(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |most: f32, &v| if v.abs() > most.abs() { v } else { most })
}

/// A scale and a minimum for codes `0 ..= most` with `x` about `scale * code - minimum`, the minimum not negative.
pub(super) struct MinSearch {
    /// The largest code.
    pub most: i32,
    /// What is added to `most` in the first scale tried.
    pub first: f32,
    /// Scales tried.
    pub steps: i32,
    /// Whether errors count by magnitude, not squared.
    pub magnitude: bool,
}

impl MinSearch {
    /// Scale, minimum and `codes` for `x`, errors weighted with `weights`, each as long as `x`; at most 32 values.
    pub fn run(&self, x: &[f32], weights: &[f32], codes: &mut [u8]) -> (f32, f32) {
        let mut min = x.iter().copied().fold(x[0], |a, b| if b < a { b } else { a });
        let max = x.iter().copied().fold(x[0], |a, b| if b > a { b } else { a });
        let (mut sum_w, mut sum_x) = (0.0, 0.0);
        for (&x, &w) in x.iter().zip(weights) {
            sum_w += w;
            sum_x += w * x;
        }
        if min > 0.0 {
            min = 0.0;
        }
        codes.fill(0);
        if max == min {
            return (0.0, -min);
        }
        let most = self.most as f32;
        let mut tried = [0u8; 32];
        let mut scale = 1.0 / (most / (max - min));
        self.code(x, most / (max - min), min, codes);
        let mut best = self.error(x, weights, codes, scale, min);
        for step in 0..=self.steps {
            // From the best minimum so far, as the reference has it.
            self.code(x, (self.first + 0.1 * step as f32 + most) / (max - min), min, &mut tried);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((&x, &w), &l) in x.iter().zip(weights).zip(&tried) {
                let l = l as f32;
                sum_l += w * l;
                sum_l2 += w * l * l;
                sum_xl += w * l * x;
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            if determinant > 0.0 {
                let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
                let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
                if this_min > 0.0 {
                    this_min = 0.0;
                    this_scale = sum_xl / sum_l2;
                }
                let error = self.error(x, weights, &tried, this_scale, this_min);
                if error < best {
                    codes.copy_from_slice(&tried[..x.len()]);
                    (best, scale, min) = (error, this_scale, this_min);
                }
            }
        }
        (scale, -min)
    }

    fn code(&self, x: &[f32], inverse: f32, min: f32, codes: &mut [u8]) {
        for (&x, code) in x.iter().zip(codes) {
            *code = nearest(inverse * (x - min)).clamp(0, self.most) as u8;
        }
    }

    fn error(&self, x: &[f32], weights: &[f32], codes: &[u8], scale: f32, min: f32) -> f32 {
        let mut error = 0.0;
        for ((&x, &w), &code) in x.iter().zip(weights).zip(codes) {
            let difference = scale * code as f32 + min - x;
            error += w * if self.magnitude { difference.abs() } else { difference * difference };
        }
        error
    }
}

/// Sums of least squares: of `w x l` and of `w l l`, with the weight `w = x x`.
fn sums(x: &[f32], codes: &[i32]) -> (f32, f32) {
    let (mut with_x, mut squares) = (0.0, 0.0);
    for (&x, &l) in x.iter().zip(codes) {
        let (w, l) = (x * x, l as f32);
        with_x += w * x * l;
        squares += w * l * l;
    }
    (with_x, squares)
}

/// A scale for 16 values and their `codes`, from 0 for -half on, by trying 19 scales.
pub(super) fn symmetric(x: &[f32], half: i32, codes: &mut [u8]) -> f32 {
    codes.fill(0);
    let extreme = extreme(x);
    if extreme.abs() < TINY {
        return 0.0;
    }
    let mut tried = [0i32; 16];
    let mut keep = |tried: &[i32; 16]| {
        codes.iter_mut().zip(tried).for_each(|(code, tried)| *code = (tried + half) as u8);
    };
    let mut attempt = |inverse: f32| {
        for (&x, code) in x.iter().zip(&mut tried) {
            *code = nearest(inverse * x).clamp(-half, half - 1);
        }
        (sums(x, &tried), tried)
    };
    let ((with_x, squares), tried) = attempt(-half as f32 / extreme);
    keep(&tried);
    let mut scale = if squares != 0.0 { with_x / squares } else { 0.0 };
    let mut best = scale * with_x;
    for step in (-9..=9).filter(|&step| step != 0) {
        let ((with_x, squares), tried) = attempt(-(half as f32 + 0.1 * step as f32) / extreme);
        if squares > 0.0 && with_x * with_x > best * squares {
            scale = with_x / squares;
            best = scale * with_x;
            keep(&tried);
        }
    }
    scale
}

/// A scale for 16 values and their `codes`, from 0 for -half on, by moving one code after the other.
pub(super) fn refined(x: &[f32], half: i32, codes: &mut [i32]) -> f32 {
    let extreme = extreme(x);
    if extreme.abs() < TINY {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -half as f32 / extreme;
    for (&x, code) in x.iter().zip(codes.iter_mut()) {
        *code = nearest(inverse * x).clamp(-half, half - 1);
    }
    let (mut with_x, mut squares) = sums(x, codes);
    for _ in 0..5 {
        let mut changed = false;
        for (&x, code) in x.iter().zip(codes.iter_mut()) {
            let (w, old) = (x * x, *code as f32);
            let mut other_x = with_x - w * x * old;
            if other_x <= 0.0 {
                continue;
            }
            let mut other_squares = squares - w * old * old;
            let new = nearest(x * other_squares / other_x).clamp(-half, half - 1);
            if new == *code {
                continue;
            }
            let l = new as f32;
            other_x += w * x * l;
            other_squares += w * l * l;
            if other_squares > 0.0 && other_x * other_x * squares > with_x * with_x * other_squares {
                (*code, with_x, squares, changed) = (new, other_x, other_squares, true);
            }
        }
        if !changed {
            break;
        }
    }
    codes.iter_mut().for_each(|code| *code += half);
    if squares > 0.0 { with_x / squares } else { 0.0 }
}
