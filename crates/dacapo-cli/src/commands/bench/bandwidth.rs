//! How fast this machine reads memory: the limit of generation, whose every token reads all weights.

use std::hint::black_box;
use std::time::Instant;

/// Bytes that the threads read together: far more than caches hold.
const BYTES: usize = 512 << 20;
/// Passes; the fastest counts, since disturbances only ever slow one down.
const PASSES: usize = 7;
/// Words that are added side by side, so that the additions do not wait for each other.
const LANES: usize = 64;

/// Bytes per second that `threads` threads read from memory together, each from a part of its own.
pub fn measure(threads: usize) -> f64 {
    let threads = threads.max(1);
    let words = BYTES / size_of::<u64>();
    // Written by nobody else and never zero, so that every page has memory of its own behind it.
    let memory = (0..words as u64).map(|i| i | 1).collect::<Vec<_>>();
    let part = words.div_ceil(threads);
    let pass = || {
        let started = Instant::now();
        std::thread::scope(|scope| {
            for part in memory.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        BYTES as f64 / started.elapsed().as_secs_f64()
    };
    (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
}

fn sum(words: &[u64]) -> u64 {
    let mut lanes = [0u64; LANES];
    for chunk in words.chunks_exact(LANES) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_word_is_read() {
        let words = (0..super::LANES as u64 * 3).collect::<Vec<_>>();
        assert_eq!(super::sum(&words), words.iter().sum::<u64>());
    }
}
