//! Numbers for people.

use std::time::Duration;

/// Bytes with a decimal prefix and three digits: "3.42 MB".
pub fn bytes(count: u64) -> String {
    scaled(count as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"])
}

/// A count with a decimal prefix and three digits: "3.42 M".
pub fn count(count: u64) -> String {
    scaled(count as f64, 1000.0, &["", "k", "M", "G", "T"]).trim_end().to_string()
}

fn scaled(value: f64, step: f64, prefixes: &[&str]) -> String {
    let mut value = value;
    let mut prefix = 0;
    // 999.5 would be written as 1000 of the smaller unit.
    while value >= step - 0.5 && prefix + 1 < prefixes.len() {
        value /= step;
        prefix += 1;
    }
    if prefix == 0 {
        format!("{value} {}", prefixes[0])
    } else {
        format!("{} {}", digits(value), prefixes[prefix])
    }
}

/// A positive number with three digits, or as many as it has before its point.
pub fn digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// Tokens per second; `None` if no time passed.
pub fn rate(tokens: usize, time: Duration) -> Option<f64> {
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_prefix() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.00 kB");
        assert_eq!(bytes(3_424_242), "3.42 MB");
        assert_eq!(bytes(999_700), "1.00 MB");
        assert_eq!(bytes(34_700_000_000), "34.7 GB");
        assert_eq!(bytes(u64::MAX), "18447 PB");
        assert_eq!(count(596_049_920), "596 M");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn no_rate_without_time() {
        assert_eq!(rate(3, Duration::ZERO), None);
        assert_eq!(rate(3, Duration::from_millis(1500)), Some(2.0));
    }
}
