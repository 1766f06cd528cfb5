//! Which vector instructions the processor has, found once at run time.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;

use std::sync::OnceLock;

/// A set of vector instructions for which kernels have a path of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Plain Rust.
    Scalar,
    /// AArch64 Advanced SIMD.
    Neon,
    /// Neon with dot products of bytes.
    NeonDot,
    /// All of that, with products of small matrices of bytes.
    NeonI8mm,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX2 with dot products of bytes.
    AvxVnni,
    /// AVX-512 F, BW, DQ, VL and VNNI, beside all of AVX2.
    Avx512,
    /// All of that, and AMX: tiles of bytes, of which the system lets this process make use.
    Amx,
}

impl Level {
    /// Every level that there is, from plain to best.
    pub const ALL: [Level; 8] = [
        Level::Scalar,
        Level::Neon,
        Level::NeonDot,
        Level::NeonI8mm,
        Level::Avx2,
        Level::AvxVnni,
        Level::Avx512,
        Level::Amx,
    ];

    /// The best level of this processor.
    pub fn best() -> Level {
        *Level::found().last().expect("scalar is always there")
    }

    /// What [`available`](Self::available) found the first time.
    fn found() -> &'static [Level] {
        static FOUND: OnceLock<Vec<Level>> = OnceLock::new();
        FOUND.get_or_init(Level::available)
    }

    /// All levels that this processor can run, from plain to best.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Scalar];
        #[cfg(target_arch = "aarch64")]
        {
            levels.push(Level::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                levels.push(Level::NeonDot);
                if std::arch::is_aarch64_feature_detected!("i8mm") {
                    levels.push(Level::NeonI8mm);
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                levels.push(Level::Avx2);
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                levels.push(Level::AvxVnni);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                levels.push(Level::Avx512);
                #[cfg(target_os = "linux")]
                if amx::permitted() {
                    levels.push(Level::Amx);
                }
            }
        }
        levels
    }

    /// Whether this processor can run the level. Cheap.
    pub fn is_available(self) -> bool {
        Level::found().contains(&self)
    }

    /// Lower-case name.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Neon => "neon",
            Level::NeonDot => "neon-dot",
            Level::NeonI8mm => "neon-i8mm",
            Level::Avx2 => "avx2",
            Level::AvxVnni => "avx-vnni",
            Level::Avx512 => "avx512",
            Level::Amx => "amx",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_is_among_the_available() {
        let levels = Level::available();
        assert_eq!(levels.first(), Some(&Level::Scalar));
        assert!(levels.contains(&Level::best()));
    }

    #[test]
    fn available_levels_say_so() {
        let levels = Level::available();
        for level in Level::ALL {
            assert_eq!(level.is_available(), levels.contains(&level), "{}", level.name());
            if !levels.contains(&level) {
                eprintln!("skipped: tests at level {}, which this processor lacks", level.name());
            }
        }
    }
}
