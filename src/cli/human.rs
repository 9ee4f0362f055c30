//! Numbers, sizes and times as people read them.

use std::time::Duration;

/// A count: whole below a million, grouped; above it with three digits.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..1_000_000 => grouped(number),
        _ => scaled(number as f64, 1_000.0, &["", "k", "M", "G", "T", "P", "E"]),
    }
}

/// A size in bytes.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1_024 => format!("{number} B"),
        _ => {
            scaled(number as f64, 1_024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
        }
    }
}

/// A rate a second.
pub(crate) fn rate(per_second: f64) -> String {
    match per_second {
        0.0..100.0 => format!("{per_second:.1}"),
        _ => count(per_second.round() as u64),
    }
}

/// How long something took or has been: its two largest units.
pub(crate) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match seconds {
        0 if duration.is_zero() => "0s".to_owned(),
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m {}s", seconds % 60),
        3_600..86_400 => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

fn grouped(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

fn scaled(mut number: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // Three digits, so that 1,023.9 of a unit is not written as 1024 of it.
    while number >= base - 0.5 && unit + 1 < units.len() {
        (number, unit) = (number / base, unit + 1);
    }
    let digits = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (18_004, "18,004"),
            (999_999, "999,999"),
            (1_234_567, "1.23M"),
            (12_345_678_901, "12.3G"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.00 KiB"),
            (1_048_575, "1.00 MiB"),
            (98_566_144, "94.0 MiB"),
            (268_435_456, "256 MiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(
            (rate(0.0), rate(99.94), rate(12_000.4)),
            ("0.0".into(), "99.9".into(), "12,000".into())
        );
    }

    #[test]
    fn times_have_two_units() {
        for (ms, text) in [
            (0, "0s"),
            (999, "999ms"),
            (1_000, "1s"),
            (59_999, "59s"),
            (60_000, "1m 0s"),
            (3_599_999, "59m 59s"),
            (3_600_000, "1h 0m"),
            (86_399_000, "23h 59m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(age(Duration::from_millis(ms)), text);
        }
    }
}
