//! Activations of several tokens side by side, as the inner loops read them.
//!
//! Tokens form groups of 8 (or fewer where registers are few), then 4, 2 and 1 for the rest. A group's activations are
//! interleaved, so that a loop walks through one contiguous piece of memory: rows a power of two apart would all compete
//! for the same few lines of the first-level cache. A group of one token is as it was.

use super::vector::{Vector, of_level};
use crate::simd::Level;

/// Most tokens of a group at this level.
pub fn most(level: Level) -> usize {
    of_level!(level, V => V::TOKENS)
}

/// First token and size of each group.
pub fn groups(tokens: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let left = tokens - next;
        let size = (left > 0).then(|| most.min(1 << left.ilog2()))?;
        next += size;
        Some((next - size, size))
    })
}

/// `[tokens, count, LEN]` to, for each group of M tokens, `[count, M, LEN]`.
pub fn interleave<T: Copy, const LEN: usize>(rows: &[T], tokens: usize, most: usize, out: &mut [T]) {
    let row_len = rows.len() / tokens;
    for (token, size) in groups(tokens, most) {
        let range = token * row_len..(token + size) * row_len;
        let out = &mut out[range.clone()];
        for (m, row) in rows[range].chunks_exact(row_len).enumerate() {
            for (pieces, piece) in out.chunks_exact_mut(size * LEN).zip(row.chunks_exact(LEN)) {
                pieces[m * LEN..(m + 1) * LEN].copy_from_slice(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_shrink_towards_the_end() {
        assert_eq!(groups(15, 8).collect::<Vec<_>>(), [(0, 8), (8, 4), (12, 2), (14, 1)]);
        assert_eq!(groups(9, 4).collect::<Vec<_>>(), [(0, 4), (4, 4), (8, 1)]);
        assert_eq!(groups(0, 8).count(), 0);
    }

    #[test]
    fn pieces_of_a_group_alternate() {
        let rows = [1, 2, 3, 4, 11, 12, 13, 14, 21, 22, 23, 24];
        let mut out = [0; 12];
        interleave::<i32, 2>(&rows, 3, 8, &mut out);
        assert_eq!(out, [1, 2, 11, 12, 3, 4, 13, 14, 21, 22, 23, 24]);
        interleave::<i32, 1>(&rows, 3, 8, &mut out);
        assert_eq!(out, [1, 11, 2, 12, 3, 13, 4, 14, 21, 22, 23, 24]);
    }
}
