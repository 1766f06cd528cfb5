//! A seeded generator and the damage that it does.

/// The SplitMix64 generator (Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; the same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next_u64() % limit as u64) as usize }
    }
}

/// Values at the edges of what lengths and counts can be.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Pieces that mean something in JSON or Jinja.
const WORDS: [&str; 20] = [
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "\"\"",
    "[]",
    "{}",
    "{{",
    "}}",
    "{%",
    "%}",
    "'",
    "\\u0000",
    "\u{2581}",
    "[[[[[[[[",
    "for x in range(9999999)",
    "'x' * 9999",
    "%",
];

/// Damages `bytes` in one to four ways.
pub fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        damage_once(bytes, random);
    }
}

fn damage_once(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len());
    let span = random.below(16).min(bytes.len() - at);
    match random.below(8) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next_u64() as u8;
            }
        }
        3 => {
            let value = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)];
            for (byte, new) in bytes[at..].iter_mut().zip(&value[..width]) {
                *byte = *new;
            }
        }
        4 => {
            // Lengths lie on multiples of eight in tightly packed headers more often than elsewhere.
            let at = at / 8 * 8;
            let value = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
            for (byte, new) in bytes[at..].iter_mut().zip(&value) {
                *byte = *new;
            }
        }
        5 => drop(bytes.drain(at..at + span)),
        6 => {
            let copy = bytes[at..at + span].to_vec();
            let to = random.below(bytes.len());
            bytes.splice(to..to, copy);
        }
        _ => {
            let word = WORDS[random.below(WORDS.len())].bytes();
            bytes.splice(at..at + span, word);
        }
    }
}
