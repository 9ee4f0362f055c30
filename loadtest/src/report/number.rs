//! Numbers for people: three digits that count, thousands apart.

/// A value in a table.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".into()
    } else if size >= 99.95 || value == 0.0 {
        grouped(value)
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.9995 {
        format!("{value:.2}")
    } else {
        // Three digits that count, however small, within reason.
        let zeros = ((-size.log10()).ceil() - 1.0).clamp(0.0, 9.0) as usize;
        format!("{value:.*}", zeros + 3)
    }
}

/// A value on an axis: as short as it can be without being rounded.
pub(crate) fn tick(value: f64) -> String {
    let size = value.abs();
    if size >= 1e9 {
        format!("{} G", trimmed(value / 1e9))
    } else if size >= 1e6 {
        format!("{} M", trimmed(value / 1e6))
    } else if size >= 1_000.0 {
        grouped(value)
    } else {
        trimmed(value)
    }
}

/// A ratio: `×1.05`.
pub(crate) fn ratio(value: f64) -> String {
    let digits = match value.abs() {
        size if size < 0.0995 => 3,
        size if size < 9.995 => 2,
        size => usize::from(size < 99.95),
    };
    if value.is_finite() { format!("×{value:.digits$}") } else { "–".into() }
}

/// A whole number, thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (value, expected) in [
            (0.0, "0"),
            (0.000_123_4, "0.000123"),
            (0.2345, "0.234"),
            (0.01, "0.0100"),
            (0.1, "0.100"),
            (0.99996, "1.00"),
            (3.7, "3.70"),
            (9.999, "10.0"),
            (17.04, "17.0"),
            (99.96, "100"),
            (964.4, "964"),
            (45_000.4, "45,000"),
            (10_900_000.0, "10,900,000"),
            (-1_234.0, "-1,234"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn ratios_have_three_digits() {
        for (value, expected) in
            [(0.012_3, "×0.012"), (1.0, "×1.00"), (72.13, "×72.1"), (148.4, "×148")]
        {
            assert_eq!(ratio(value), expected);
        }
    }

    #[test]
    fn ticks_are_short_and_exact() {
        for (value, expected) in [
            (0.0, "0"),
            (0.05, "0.05"),
            (2.5, "2.5"),
            (500.0, "500"),
            (18_000.0, "18,000"),
            (1_000_000.0, "1 M"),
            (2_500_000.0, "2.5 M"),
        ] {
            assert_eq!(tick(value), expected);
        }
    }
}
